//! What goes over the wire, seen by a server that only records: what AWS checks and the test server does not.
#![cfg(test)]

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use md5::{Digest, Md5};
use sha2::Sha256;
use stonekeep_format::{
    Clock,
    genesis::LockBy,
    ids::{Nonce, SegmentId},
    key::ObjectKey,
    lock::{Class, Lock, LockMode},
};
use stonekeep_store::{AppendStore, ReadStore, S3Credentials, S3Options, S3Store, StoreError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[derive(Debug)]
struct HostClock;

impl Clock for HostClock {
    #[expect(clippy::disallowed_methods, reason = "any real time will do")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// A server that answers each request with the next of `answers`, the last one for ever, and keeps what it was asked.
struct Recorder {
    endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Recorder {
    async fn start(answers: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let n = kept.lock().unwrap().len().min(answers.len() - 1);
                if let Some(request) = serve(stream, answers[n]).await {
                    kept.lock().unwrap().push(request);
                }
            }
        });
        Self { endpoint, requests }
    }

    async fn store(&self) -> S3Store {
        let options = S3Options {
            bucket: "vault".parse().unwrap(),
            prefix: "keep".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: Some(self.endpoint.clone()),
            path_style: true,
            authorities: None,
            lock_by: LockBy::PerObject,
            credentials: S3Credentials::Static {
                access_key_id: "KEY".to_owned(),
                secret_access_key: "canary-secret".to_owned().into(),
                session_token: None,
            },
        };
        S3Store::open(options, Arc::new(HostClock)).await.unwrap()
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request for each connection: the answers say so.
async fn serve(mut stream: TcpStream, answer: &str) -> Option<Request> {
    let mut bytes = Vec::new();
    let (head, mut body) = loop {
        let read = stream.read_buf(&mut bytes).await.ok()?;
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes[end + 4..].to_vec());
        }
        if read == 0 {
            return None;
        }
    };
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        stream.read_buf(&mut body).await.ok()?;
    }
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()?;
    Some(Request { line, headers, body })
}

const STORED: &str = "HTTP/1.1 200 OK\r\nx-amz-version-id: v1\r\nETag: \"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BROKEN: &str =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const NOT_IMPLEMENTED: &str = "HTTP/1.1 501 Not Implemented\r\nContent-Length: 78\r\nConnection: close\r\n\r\n<Error><Code>NotImplemented</Code><Message>A header you provided</Message></Error>";

fn lock() -> Lock {
    let retain_until = "2027-01-01T00:00:00.5Z".parse().unwrap();
    Lock { mode: LockMode::Compliance, retain_until }
}

fn segment(n: u8) -> ObjectKey {
    let class = Class::of("2026-11-01T00:00:00Z".parse().unwrap(), lock().retain_until);
    ObjectKey::segment(class, SegmentId::from_bytes([n; 32]), Nonce::from_bytes([n; 16]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_put_carries_md5_signed_hash_and_lock_and_is_not_chunked() {
    let recorder = Recorder::start(vec![STORED]).await;
    let store = recorder.store().await;
    let body = Bytes::from(vec![7; 3 << 20]);
    let version = store.put(&ObjectKey::genesis(1), body.clone(), lock()).await.unwrap();
    assert_eq!(version.as_str(), "v1");
    let [request] = &recorder.requests()[..] else { panic!("one request") };
    assert_eq!(request.line, "PUT /vault/keep/genesis/1?x-id=PutObject HTTP/1.1");
    assert!(request.body == body, "the body is the object, unframed");
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    assert_eq!(header("content-md5"), Some(&*BASE64_STANDARD.encode(Md5::digest(&body))));
    assert_eq!(header("x-amz-content-sha256"), Some(&*hex(&Sha256::digest(&body))));
    assert_eq!(header("x-amz-object-lock-mode"), Some("COMPLIANCE"));
    assert_eq!(header("x-amz-object-lock-retain-until-date"), Some("2027-01-01T00:00:01Z"));
    assert_eq!(header("if-none-match"), None, "an object with a key of its own may be sent again");
    assert_eq!(header("content-length"), Some(&*body.len().to_string()));
    for absent in ["content-encoding", "transfer-encoding", "x-amz-trailer", "expect"] {
        assert_eq!(header(absent), None, "{absent}");
    }
    assert!(!request.headers.keys().any(|name| name.starts_with("x-amz-checksum")));
    let signed = header("authorization").unwrap();
    for name in ["content-md5", "x-amz-content-sha256", "x-amz-object-lock-mode"] {
        assert!(signed.contains(name), "{name} is signed: {signed}");
    }
    assert!(signed.contains("/eu-central-1/s3/aws4_request"), "{signed}");
}

#[tokio::test]
async fn a_put_is_one_attempt() {
    let recorder = Recorder::start(vec![BROKEN, STORED]).await;
    let store = recorder.store().await;
    let put = store.put(&ObjectKey::genesis(1), Bytes::from_static(b"x"), lock()).await;
    assert!(matches!(put, Err(StoreError::Unavailable { .. })), "{put:?}");
    assert_eq!(recorder.requests().len(), 1);
}

#[tokio::test]
async fn a_server_without_conditions_is_asked_without_them_from_then_on() {
    let recorder = Recorder::start(vec![NOT_IMPLEMENTED, STORED]).await;
    let store = recorder.store().await;
    for n in 1..=2 {
        store.put(&segment(n), Bytes::from_static(b"x"), lock()).await.unwrap();
    }
    let conditions: Vec<bool> = recorder
        .requests()
        .iter()
        .map(|request| request.headers.contains_key("if-none-match"))
        .collect();
    assert_eq!(conditions, [true, false, false]);
}

#[tokio::test]
async fn a_read_is_repeated_while_the_server_is_broken() {
    const FOUND: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhel";
    let recorder = Recorder::start(vec![BROKEN, CUT, FOUND]).await;
    let store = recorder.store().await;
    let bytes = store.get(&ObjectKey::genesis(1), &"v1".parse().unwrap(), 5).await.unwrap();
    assert_eq!(bytes, "hello");
    let requests = recorder.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0].line, "GET /vault/keep/genesis/1?x-id=GetObject&versionId=v1 HTTP/1.1");
}

#[tokio::test]
async fn a_body_without_announced_length_is_not_read_beyond_the_limit() {
    const ENDLESS: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789";
    let recorder = Recorder::start(vec![ENDLESS]).await;
    let store = recorder.store().await;
    let read = store.get(&ObjectKey::genesis(1), &"v1".parse().unwrap(), 9).await;
    assert!(matches!(read, Err(StoreError::TooLong { bytes_max: 9, .. })), "{read:?}");
    let read = store.get(&ObjectKey::genesis(1), &"v1".parse().unwrap(), 10).await;
    assert_eq!(read.unwrap(), "0123456789");
}

#[tokio::test]
async fn a_bucket_without_versions_is_no_vault() {
    const UNVERSIONED: &str =
        "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let recorder = Recorder::start(vec![UNVERSIONED]).await;
    let store = recorder.store().await;
    let put = store.put(&ObjectKey::genesis(1), Bytes::from_static(b"x"), lock()).await;
    assert!(matches!(put, Err(StoreError::NoObjectLock { .. })), "{put:?}");
}

#[tokio::test]
async fn what_is_no_s3_server_is_told() {
    const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<html>hi</html>";
    let recorder = Recorder::start(vec![PAGE]).await;
    let store = recorder.store().await;
    let outcomes = [
        store.bucket_lock().await.map(drop),
        store.server_time().await.map(drop),
        store.list_versions("", None).await.map(drop),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Err(StoreError::BadAnswer { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_host_are_unreachable() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for endpoint in [format!("http://{closed}"), "https://s3.invalid".to_owned()] {
        let recorder = Recorder { endpoint: endpoint.clone(), requests: Arc::default() };
        let store = recorder.store().await;
        let listed = store.list_versions("", None).await;
        let Err(StoreError::Unreachable { endpoint: told, .. }) = listed else {
            panic!("{listed:?}")
        };
        assert_eq!(told, endpoint);
    }
}

#[tokio::test]
async fn a_secret_is_in_no_message() {
    let recorder = Recorder::start(vec![BROKEN]).await;
    let store = recorder.store().await;
    let error = store.list_versions("", None).await.unwrap_err();
    for text in [format!("{store:?}"), format!("{error:?}"), error.to_string()] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn nothing_in_the_crate_but_the_attacks_of_prove_can_delete() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![source];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            // The attacks of `prove`, which can name their own canaries only.
            if path.ends_with("s3/probe.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for call in [
                "delete_object",
                "delete_bucket",
                "abort_multipart",
                "bypass_governance",
                "\"DELETE\"",
                "?delete",
            ] {
                assert!(!text.contains(call), "{call} in {}", path.display());
            }
            files += 1;
        }
    }
    assert!(files > 10, "the sources were read");
}

/// Who else held a probe could attack with it.
#[test]
fn nobody_but_prove_attacks() {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let crates = ["engine", "format", "postgres", "process"].map(|name| format!("crates/{name}"));
    let edges = ["config", "daemon", "restore-cli"].map(str::to_owned);
    let mut directories: Vec<_> =
        crates.iter().chain(&edges).map(|name| workspace.join(name).join("src")).collect();
    let mut attacks = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if std::fs::read_to_string(&path).unwrap().contains(".attack(") {
                assert!(path.to_string_lossy().contains("/engine/src/prove"), "{}", path.display());
                attacks += 1;
            }
        }
    }
    assert!(attacks > 1, "the sources were read");
}
