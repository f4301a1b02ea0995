//! A destination for tests: a real TCP (or TLS) server that keeps the exact bytes it was sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The server.
pub(in crate::flows) struct TestDestination {
    pub(in crate::flows) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl TestDestination {
    /// Answers every request with these bytes; closes the connection if they say so.
    pub(in crate::flows) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::start(answer.into(), None).await
    }

    /// A server that answers 200 with this JSON.
    pub(in crate::flows) async fn json(json: &str) -> Self {
        Self::answering(ok(json)).await
    }

    /// The same over TLS.
    pub(super) async fn over_tls(answer: Vec<u8>, tls: Arc<rustls::ServerConfig>) -> Self {
        Self::start(answer, Some(TlsAcceptor::from(tls))).await
    }

    async fn start(answer: Vec<u8>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (kept, counted) = (Arc::clone(&seen), Arc::clone(&connections));
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                counted.fetch_add(1, Ordering::SeqCst);
                let (kept, answer, tls) = (Arc::clone(&kept), answer.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &answer, &kept).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &answer, &kept).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, connections }
    }

    /// What it was sent, request by request.
    pub(in crate::flows) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// The body of the only request.
    pub(in crate::flows) fn body(&self) -> String {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// How often it was connected to.
    pub(in crate::flows) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// An answer of 200 with this JSON.
pub(in crate::flows) fn ok(json: &str) -> Vec<u8> {
    let length = json.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{json}").into_bytes()
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &[u8], seen: &Mutex<Vec<String>>) {
    while let Some(request) = request(&mut stream).await {
        seen.lock().unwrap().push(request);
        for piece in answer.chunks(64 * 1024) {
            if stream.write_all(piece).await.is_err() {
                return;
            }
        }
        let _ = stream.flush().await;
        let head = String::from_utf8_lossy(&answer[..answer.len().min(512)]).to_ascii_lowercase();
        if head.contains("connection: close") {
            let _ = stream.shutdown().await;
            return;
        }
        if head.contains("x-test: trickle") {
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            return;
        }
    }
}

/// Reads head and body of one request.
async fn request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                return String::from_utf8(bytes).ok();
            }
        }
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}
