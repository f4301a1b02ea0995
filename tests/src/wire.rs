//! Bytes to a listener, and what comes back.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back until the connection was closed or nobody waited any longer.
#[derive(Debug)]
pub struct Reply {
    /// The first status; 0 if none came.
    pub status: u16,
    /// Everything, as text.
    pub text: String,
    /// The other side closed the connection.
    pub is_closed: bool,
}

impl Reply {
    /// What stands behind the first head.
    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

/// Sends them on a connection of their own.
pub async fn send(host: &str, bytes: &[u8], patience: Duration) -> Reply {
    let (mut reads, mut writes) = TcpStream::connect(host).await.unwrap().into_split();
    let mut answer = Vec::new();
    // Whoever refuses early need not read to the end; what is cut short is waited for in vain.
    let both = async { tokio::join!(writes.write_all(bytes), reads.read_to_end(&mut answer)) };
    let is_closed = tokio::time::timeout(patience, both).await.is_ok();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0);
    Reply { status, text, is_closed }
}
