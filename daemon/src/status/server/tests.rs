//! Over real sockets, as whoever asks does.

use std::net::Ipv4Addr;

use stonekeep_config::StatusConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout},
};

use super::*;
use crate::board::{
    Look,
    fixture::{busy, planned},
};

/// A server on loopback, of a busy service.
async fn served() -> (SocketAddr, Arc<Board>) {
    let board = busy();
    (served_of(&board).await, board)
}

async fn served_of(board: &Arc<Board>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let app = routes::app(Arc::clone(board), &StatusConfig::default(), Some(at));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::spawn(async move { accept_all(&listener, &app, &room).await });
    at
}

/// Sends these bytes and returns all that comes, until the other side ends.
async fn send(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // Who is cut off may see it as a reset.
    let _outcome = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(at: SocketAddr, method: &str, path: &str) -> String {
    send(at, &format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("no answer")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn every_path_answers_and_nothing_else_does() {
    let (at, _board) = served().await;
    for (path, wanted) in [
        ("/", "200"),
        ("/metrics", "200"),
        ("/healthz", "200"),
        ("/readyz", "200"),
        ("/metrics/", "404"),
        ("/etc/passwd", "404"),
        ("/../../etc/passwd", "404"),
        ("//", "404"),
    ] {
        assert_eq!(status(&ask(at, "GET", path).await), wanted, "{path}");
    }
    assert!(ask(at, "GET", "/metrics").await.ends_with("# EOF\n"));
}

#[tokio::test]
async fn only_reading_is_answered() {
    let (at, _board) = served().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "NONSENSE"] {
        let answer = ask(at, method, "/").await;
        assert_eq!(status(&answer), "405", "{method}: {answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }
    let head = ask(at, "HEAD", "/").await;
    assert_eq!((status(&head), body(&head)), ("200", ""));
    let with_body = "GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(status(&send(at, with_body).await), "413");
    let chunked =
        "GET / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(status(&send(at, chunked).await), "413");
}

#[tokio::test]
async fn a_foreign_name_for_the_own_host_is_refused() {
    let (at, _board) = served().await;
    for (host, wanted) in [
        ("host: localhost:9620\r\n", "200"),
        ("host: [::1]\r\n", "200"),
        ("host: rebound.example\r\n", "421"),
        ("host: localhost\r\nhost: rebound.example\r\n", "421"),
        ("", "421"),
    ] {
        let answer = send(at, &format!("GET /metrics HTTP/1.1\r\n{host}\r\n")).await;
        assert_eq!(status(&answer), wanted, "{host}");
        assert!(wanted == "200" || !answer.contains("stonekeep_"), "{answer}");
    }
}

#[tokio::test]
async fn whoever_listens_elsewhere_is_called_what_he_likes() {
    let app = |at: &str| {
        let at = Some(at.parse().expect("an address"));
        routes::app(busy(), &StatusConfig::default(), at)
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let room = Arc::new(Semaphore::new(1));
    let public = app("0.0.0.0:1");
    tokio::spawn(async move { accept_all(&listener, &public, &room).await });
    let answer = send(at, "GET /healthz HTTP/1.1\r\nhost: status.internal\r\n\r\n").await;
    assert_eq!(status(&answer), "200");
}

#[tokio::test]
async fn a_browser_is_told_to_do_nothing_with_an_answer_but_show_it() {
    let (at, _board) = served().await;
    for path in ["/", "/metrics", "/nowhere"] {
        let answer = ask(at, "GET", path).await;
        for header in [
            "content-security-policy: default-src 'none'; style-src 'sha256-",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "cache-control: no-store\r\n",
            "cross-origin-resource-policy: same-origin\r\n",
        ] {
            assert!(answer.contains(header), "{path}: {header} is not in {answer}");
        }
        assert!(!answer.contains("set-cookie"));
    }
}

#[tokio::test]
async fn health_ends_with_the_loop_and_says_why() {
    let (at, board) = served().await;
    board.be_silent_for(Duration::from_secs(181));
    let answer = ask(at, "GET", "/healthz").await;
    assert_eq!(status(&answer), "503");
    assert_eq!(body(&answer), "the schedules were last looked at 3 min ago\n");
    board.beat();
    assert_eq!(status(&ask(at, "GET", "/healthz").await), "200");
}

#[tokio::test]
async fn a_service_is_ready_once_every_repository_was_tried() {
    let board = planned(&["bookings"]);
    let at = served_of(&board).await;
    assert_eq!(status(&ask(at, "GET", "/readyz").await), "503");
    board.looked("vault", Look::Denied);
    assert_eq!(status(&ask(at, "GET", "/readyz").await), "200");
}

#[tokio::test]
async fn whoever_sends_a_head_byte_by_byte_is_cut_off_and_holds_up_nobody() {
    let (at, _board) = served().await;
    let begun_at = Instant::now();
    let mut slow = TcpStream::connect(at).await.expect("connected");
    slow.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.expect("sent");
    let dripping = async {
        let mut answer = [0; 1];
        loop {
            // A byte each 200 ms keeps a timeout between two bytes from ever coming.
            if slow.write_all(b"x").await.is_err() {
                return;
            }
            let read = timeout(Duration::from_millis(200), slow.read(&mut answer)).await;
            if read.is_ok_and(|read| !matches!(read, Ok(1))) {
                return;
            }
        }
    };
    let other = async { assert_eq!(status(&ask(at, "GET", "/healthz").await), "200") };
    tokio::join!(timeout(HEAD_DURATION_MAX * 2, dripping), other).0.expect("cut off");
    assert!(begun_at.elapsed() < HEAD_DURATION_MAX + Duration::from_secs(3));
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused() {
    let (at, _board) = served().await;
    let long = "x".repeat(2 * HEAD_BYTES_MAX);
    let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-long: {long}\r\n\r\n");
    assert!(matches!(status(&send(at, &request).await), "431" | "no answer"));
    let many = "x: y\r\n".repeat(HEADERS_MAX + 1);
    let request = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    assert_eq!(status(&send(at, &request).await), "431");
}

#[tokio::test]
async fn an_address_that_is_taken_is_said_and_tried_again_and_a_reload_moves() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let at = taken.local_addr().expect("an address");
    let board = busy();
    assert!(listen(Some(at), &board).await.is_none());
    assert!(board.unserved().is_some_and(|why| why.contains("cannot be served at 127.0.0.1")));
    assert!(listen(None, &board).await.is_none(), "nowhere");
    drop(taken);
    assert!(listen(Some(at), &board).await.is_some());
    assert_eq!(board.unserved(), None);
}
