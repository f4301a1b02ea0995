//! Finds request heads that two readers could cut differently (RFC 9112 section 6.1): a length and a transfer coding together.
//!
//! hyper drops the length, reads the coding and closes afterwards; we refuse with 400, and for that the bytes must be seen.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// Longest header name that is looked at.
const NAME: usize = 24;

/// A connection whose request heads are read along.
pub(super) struct Watched<I> {
    inner: I,
    activity: Arc<Activity>,
    head: Head,
}

impl<I> Watched<I> {
    pub(super) fn new(inner: I, activity: Arc<Activity>) -> Self {
        Self { inner, activity, head: Head::default() }
    }
}

/// What is known of the head that is being read.
#[derive(Debug, Default)]
struct Head {
    /// The beginning of the present line, lower case.
    line: Vec<u8>,
    /// Bytes of the present line.
    length: usize,
    has_length: bool,
    has_coding: bool,
    /// The head has ended; requests served when it did. The next head begins once that request is served.
    ended: Option<u32>,
    /// The connection speaks HTTP/2, which frames its bodies itself.
    framed: bool,
}

impl Head {
    /// Reads along; true if a head has just ended with both.
    fn read(&mut self, bytes: &[u8], activity: &Activity) -> bool {
        if self.framed {
            return false;
        }
        if let Some(served) = self.ended {
            if activity.in_flight() > 0 || activity.served() <= served {
                return false;
            }
            *self = Self::default();
        }
        for byte in bytes {
            match byte {
                b'\n' => {
                    if self.line == b"pri * http/2.0" {
                        self.framed = true;
                        return false;
                    }
                    if self.length == 0 {
                        self.ended = Some(activity.served());
                        return self.has_length && self.has_coding;
                    }
                    self.has_length |= self.line.starts_with(b"content-length");
                    self.has_coding |= self.line.starts_with(b"transfer-encoding");
                    self.line.clear();
                    self.length = 0;
                }
                b'\r' => {}
                other => {
                    self.length += 1;
                    if self.line.len() < NAME {
                        self.line.push(other.to_ascii_lowercase());
                    }
                }
            }
        }
        false
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        if matches!(polled, Poll::Ready(Ok(()))) && this.head.read(&buf.filled()[before..], &this.activity) {
            this.activity.mark_ambiguous();
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::edge::activity::PACE;

    fn ambiguous(text: &str) -> bool {
        let activity = Activity::new(PACE);
        let mut head = Head::default();
        // Byte by byte: a head may come in any pieces.
        text.bytes().any(|byte| head.read(&[byte], &activity))
    }

    #[test]
    fn a_head_with_both_is_found_in_any_order_case_and_pieces() {
        assert!(ambiguous("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(ambiguous("POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nHost: a\r\ncontent-length: 3\r\n\r\n"));
        assert!(ambiguous("POST / HTTP/1.1\nTransfer-Encoding: chunked\ncontent-length: 3\n\n"));
    }

    #[test]
    fn one_of_them_alone_is_fine_and_a_body_is_not_a_head() {
        assert!(!ambiguous(
            "POST / HTTP/1.1\r\nContent-Length: 70\r\n\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n"
        ));
        assert!(!ambiguous("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
        assert!(!ambiguous("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    }

    #[test]
    fn the_head_after_a_served_request_is_read_too() {
        let activity = Activity::new(PACE);
        let mut head = Head::default();
        assert!(!head.read(b"GET / HTTP/1.1\r\n\r\n", &activity));
        drop(activity.begin());
        assert!(head.read(b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", &activity));
    }
}
