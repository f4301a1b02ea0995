//! The accept loop: connections up to a cap, told off with 503 beyond it, and an orderly end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::{PACE, Pace};
use super::connection;

/// Connections over the cap that are told so at the same time; more are dropped.
const TOLD_OFF: usize = 64;
/// What a connection over the cap is told, without TLS: there is no time for a handshake.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: 106\r\n\
retry-after: 1\r\ncache-control: no-store\r\nconnection: close\r\n\r\n\
{\"type\":\"urn:siv:problem:overloaded\",\"title\":\"Too many requests at once\",\"status\":503,\"code\":\"overloaded\"}";

/// A bound socket and how it speaks.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// Its TLS; plain text without (loopback, or behind a proxy that ends TLS).
    pub tls: Option<TlsAcceptor>,
    /// Connections open at the same time.
    pub most_connections: usize,
    pub(super) pace: Pace,
}

impl Listener {
    /// A listener on a bound socket, without TLS, with as many connections as the process may have files.
    #[must_use]
    pub fn plain(socket: TcpListener) -> Self {
        Self { socket, tls: None, most_connections: most_connections(), pace: PACE }
    }

    /// The same with TLS.
    #[must_use]
    pub fn with_tls(self, tls: TlsAcceptor) -> Self {
        Self { tls: Some(tls), ..self }
    }
}

/// Half of the files the process may open, less what the store needs: two listeners share them.
#[must_use]
fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(65_536);
    let files = usize::try_from(limit).unwrap_or(65_536);
    (files.saturating_sub(96) / 2).clamp(16, 10_000)
}

/// Accepts until `ending`; connections go on in `connections`.
pub(in crate::http) async fn accept(
    listener: Listener,
    router: Router,
    connections: TaskTracker,
    ending: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(listener.most_connections));
    let told_off = Arc::new(Semaphore::new(TOLD_OFF));
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            () = ending.cancelled() => return,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of files, or the peer has gone already. Files come back when connections end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
            let serving =
                connection::serve(stream, peer, listener.tls.clone(), (router.clone(), listener.pace), ending.clone());
            connections.spawn(async move {
                serving.await;
                drop(permit);
            });
        } else if let (None, Ok(permit)) = (&listener.tls, Arc::clone(&told_off).try_acquire_owned()) {
            connections.spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(1), tell_off(stream)).await;
                drop(permit);
            });
        }
    }
}

/// Reads what has come, so that closing does not reset the answer away, and says 503.
async fn tell_off(mut stream: TcpStream) -> std::io::Result<()> {
    stream.readable().await?;
    let _ = stream.try_read(&mut [0; 4096]);
    stream.write_all(FULL).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_told_off_body_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
