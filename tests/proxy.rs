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

/// What becomes of a request.
pub(crate) enum Fate {
    /// The server gets it and answers.
    Served,
    /// The server gets it, and the client is answered something else.
    Retold(fn(Answer) -> Answer),
    /// The server gets it, and the connection is cut before the client has the answer.
    Unanswered,
    /// The connection is cut, to both sides, when half of the body has come.
    Torn,
    /// The server never hears of it, and the client is asked to slow down.
    Refused,
}

/// What a test decides of a request by its first line.
type Decide = dyn Fn(&str) -> Fate + Send + Sync;

const SLOW_DOWN: &str = "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n\r\n";
const SLOW_DOWN_BODY: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";

/// Starts a proxy and returns its URL. It ends with the test's process.
pub(crate) fn start(decide: impl Fn(&str) -> Fate + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let upstream = server("STONEKEEP_TEST_S3_ENDPOINT");
    let upstream: SocketAddr = upstream.trim_start_matches("http://").parse().expect("an address");
    let decide: Arc<Decide> = Arc::new(decide);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let decide = Arc::clone(&decide);
            // A connection that breaks off is what some tests are about.
            thread::spawn(move || drop(serve(client, upstream, &*decide)));
        }
    });
    format!("http://{address}")
}

fn serve(client: TcpStream, upstream: SocketAddr, decide: &Decide) -> io::Result<()> {
    let mut requests = BufReader::new(client.try_clone()?);
    let mut client = client;
    loop {
        let head = head(&mut requests)?;
        let Some(line) = head.lines().next() else { return Ok(()) };
        let fate = decide(line);
        let announced = body_bytes(&head);
        let share = if matches!(fate, Fate::Torn) { announced / 2 } else { announced };
        let mut body = vec![0; share];
        requests.read_exact(&mut body)?;
        let answer = match fate {
            Fate::Refused => Answer { head: SLOW_DOWN.into(), body: SLOW_DOWN_BODY.into() },
            Fate::Served => forward(&head, &body, upstream)?,
            Fate::Retold(change) => change(forward(&head, &body, upstream)?),
            Fate::Unanswered => return forward(&head, &body, upstream).map(drop),
            Fate::Torn => return send(&head, &body, upstream).map(drop),
        };
        reply(&mut client, &answer)?;
    }
}

/// Reads the head of a request, up to the empty line; nothing if there is no further request.
fn head(reader: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while reader.read_line(&mut head)? > 0 && !head.ends_with("\r\n\r\n") {}
    Ok(head)
}

/// How many bytes of a body the head announces.
fn body_bytes(head: &str) -> usize {
    let announced = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    announced.unwrap_or(0)
}

fn send(head: &str, body: &[u8], upstream: SocketAddr) -> io::Result<TcpStream> {
    let mut server = TcpStream::connect(upstream)?;
    // One connection for each request: the end of the answer is then the end of the stream.
    let head = head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    server.write_all(head.as_bytes())?;
    server.write_all(body)?;
    Ok(server)
}

fn forward(head: &str, body: &[u8], upstream: SocketAddr) -> io::Result<Answer> {
    let mut answer = Vec::new();
    send(head, body, upstream)?.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
    let (head, body) = answer.split_at(end);
    let head = String::from_utf8_lossy(head).into_owned();
    let body = body.get(4..).unwrap_or_default();
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_vec() };
    Ok(Answer { head, body })
}

/// Sends an answer, whose body may have another length now, in one piece.
fn reply(client: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    let kept: Vec<&str> = answer
        .head
        .lines()
        .filter(|line| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            let is_framing = ["content-length", "connection", "transfer-encoding"];
            !line.is_empty() && !is_framing.contains(&name.as_str())
        })
        .collect();
    let head = kept.join("\r\n");
    write!(client, "{head}\r\nContent-Length: {}\r\n\r\n", answer.body.len())?;
    client.write_all(&answer.body)
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
