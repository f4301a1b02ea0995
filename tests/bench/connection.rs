//! One keep-alive connection of a client over HTTP/1.1: a request out, its answer in. It counts nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection that is opened when it is needed, and again after it broke.
pub struct Connection {
    host: String,
    stream: Option<TcpStream>,
    answer: Vec<u8>,
}

/// The answer, as far as it is looked at.
pub struct Answer<'a> {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: &'a [u8],
}

impl Connection {
    /// A connection to a host, not opened yet.
    pub fn to(host: &str) -> Self {
        Self { host: host.to_owned(), stream: None, answer: Vec::with_capacity(16 * 1024) }
    }

    /// Opens it, so that a slice does not begin with it.
    pub async fn open(&mut self) {
        if self.stream.is_none() {
            self.stream = TcpStream::connect(&self.host).await.ok();
        }
        match &self.stream {
            Some(stream) => drop(stream.set_nodelay(true)),
            // Nobody listens: the next try is a little later.
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }

    /// One request and its answer; nothing if the connection broke.
    pub async fn exchange(&mut self, request: &[u8]) -> Option<Answer<'_>> {
        if self.stream.is_none() {
            self.open().await;
        }
        let mut stream = self.stream.take()?;
        stream.write_all(request).await.ok()?;
        self.answer.clear();
        let (status, body, length) = loop {
            if stream.read_buf(&mut self.answer).await.ok()? == 0 {
                return None;
            }
            if let Some(head) = memchr::memmem::find(&self.answer, b"\r\n\r\n") {
                let length = header(&self.answer[..head], b"content-length: ").unwrap_or(0);
                break (header(&self.answer[..head], b"HTTP/1.1 ")?, head + 4, length);
            }
        };
        while self.answer.len() < body + length {
            if stream.read_buf(&mut self.answer).await.ok()? == 0 {
                return None;
            }
        }
        if memchr::memmem::find(&self.answer[..body], b"connection: close").is_none() {
            self.stream = Some(stream);
        }
        Some(Answer { status: u16::try_from(status).ok()?, body: &self.answer[body..] })
    }
}

/// The number that follows a name.
fn header(head: &[u8], name: &[u8]) -> Option<usize> {
    let begin = memchr::memmem::find(head, name)? + name.len();
    let digits = head[begin..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}
