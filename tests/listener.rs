//! Somebody on loopback who is called over HTTP.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
};

/// Part of every URL.
pub(crate) const SECRET: &str = "s3cret-path";

/// Somebody who is called, and answers 200.
pub(crate) struct Listener {
    pub(crate) url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    pub(crate) fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/{SECRET}/{name}", listener.local_addr().expect("an address"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a call");
                let request = request(&mut stream);
                into.lock().expect("no panic").push(request);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).expect("answered");
            }
        });
        Self { url, heard }
    }

    /// What was heard since the last time.
    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().expect("no panic"))
    }
}

/// Reads a request to the end of its body.
fn request(stream: &mut std::net::TcpStream) -> String {
    let mut text = String::new();
    let mut bytes = [0; 65_536];
    loop {
        let length = stream.read(&mut bytes).expect("a request");
        text.push_str(&String::from_utf8_lossy(&bytes[..length]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length == 0 || body.len() >= wanted.map_or(0, |n| n.parse().expect("a number")) {
            return text;
        }
    }
}
