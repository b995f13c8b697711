//! A proxy before the S3 server, which breaks what a test tells it to. It hands every request on as it came, so signatures hold.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use crate::harness::server;

/// An answer of the server: status line and headers, and the body.
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What a test does to a request (its first line) and its answer; `None`: the connection is cut before the server sees it.
type Meddle = dyn Fn(&str, Answer) -> Option<Answer> + Send + Sync;

/// Starts a proxy and returns its URL. It ends with the test's process.
pub(crate) fn start(
    meddle: impl Fn(&str, Answer) -> Option<Answer> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let upstream = server("STONEKEEP_TEST_S3_ENDPOINT");
    let upstream: SocketAddr = upstream.trim_start_matches("http://").parse().expect("an address");
    let meddle: Arc<Meddle> = Arc::new(meddle);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let meddle = Arc::clone(&meddle);
            // A connection that breaks off is what some tests are about.
            thread::spawn(move || drop(serve(client, upstream, &*meddle)));
        }
    });
    format!("http://{address}")
}

fn serve(client: TcpStream, upstream: SocketAddr, meddle: &Meddle) -> io::Result<()> {
    let mut requests = BufReader::new(client.try_clone()?);
    let mut client = client;
    loop {
        let (head, body) = message(&mut requests)?;
        let line = head.lines().next().unwrap_or_default().to_owned();
        if line.is_empty() {
            return Ok(());
        }
        let mut server = TcpStream::connect(upstream)?;
        // One connection for each request: the end of the answer is then the end of the stream.
        let head = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        server.write_all(head.as_bytes())?;
        server.write_all(&body)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
        let (head, body) = answer.split_at(end);
        let head = String::from_utf8_lossy(head).into_owned();
        let body = body.get(4..).unwrap_or_default();
        let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunked(body) } else { body.to_vec() };
        let answer = Answer { head, body };
        let Some(Answer { head, body }) = meddle(&line, answer) else { return Ok(()) };
        // The body may have another length now, and is sent whole.
        let kept: Vec<&str> = head
            .lines()
            .filter(|line| {
                let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
                !["content-length", "connection", "transfer-encoding"].contains(&name.as_str())
            })
            .collect();
        let head = format!("{}\r\nContent-Length: {}\r\n\r\n", kept.join("\r\n"), body.len());
        client.write_all(head.as_bytes())?;
        client.write_all(&body)?;
    }
}

/// Reads the head of a request, up to the empty line, and as much of a body as it announces.
fn message(reader: &mut impl BufRead) -> io::Result<(String, Vec<u8>)> {
    let mut head = String::new();
    while reader.read_line(&mut head)? > 0 && !head.ends_with("\r\n\r\n") {}
    let announced = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; announced.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok((head, body))
}

/// Joins the chunks of a body: each has its length in a line before it, in hexadecimal; the last one is empty.
fn unchunked(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunks.windows(2).position(|two| two == b"\r\n") {
        let line = String::from_utf8_lossy(&chunks[..end]);
        let length = usize::from_str_radix(line.trim(), 16).expect("the length of a chunk");
        if length == 0 {
            break;
        }
        body.extend_from_slice(&chunks[end + 2..end + 2 + length]);
        chunks = &chunks[end + 2 + length + 2..];
    }
    body
}
