//! Reads along: rests where a request found no room, wipes the read buffer after a plaintext, and finds request heads that two readers could cut differently (RFC 9112 section 6.1): a length and a transfer coding together.
//!
//! hyper drops the length, reads the coding and closes afterwards; we refuse with 400, and for that the bytes must be seen:
//! every head of the connection, also one that came together with what stands before it. So the bodies are measured too.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::activity::Activity;
use super::wiped::wipe;

/// How much of a line is looked at: a name, and a length with room around it.
const LINE: usize = 64;
/// The most digits of a chunk's length: as many as its largest number has.
const SIZE: usize = 16;

/// A connection whose request heads are read along.
pub(super) struct Watched<I> {
    inner: I,
    activity: Arc<Activity>,
    head: Head,
    traces: Traces,
    rest: Option<Pin<Box<Sleep>>>,
}

impl<I> Watched<I> {
    pub(super) fn new(inner: I, activity: Arc<Activity>) -> Self {
        Self { inner, activity, head: Head::default(), traces: Traces::default(), rest: None }
    }

    /// Whether it may be read: not while it rests.
    fn poll_rested(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(until) = self.activity.take_rest() {
            self.rest = Some(Box::pin(tokio::time::sleep_until(until)));
        }
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        Poll::Ready(())
    }
}

/// Where bytes may lie that were read before, by address: a small request leaves most of the buffer untouched.
#[derive(Debug, Default)]
struct Traces {
    /// The end of the buffer that was offered last.
    buffer: usize,
    /// The end of what was ever read into it.
    read: usize,
}

impl Traces {
    /// Zeros where bytes of before may lie in what is offered. Of another buffer, into which a growing one may have been
    /// copied, nothing is known: all of it goes.
    fn wipe(&mut self, buf: &mut ReadBuf<'_>) {
        let start = start(buf);
        if self.buffer == start + buf.remaining() {
            let traces = self.read.saturating_sub(start).min(buf.remaining());
            buf.initialize_unfilled_to(traces).fill(0);
        } else {
            wipe(buf);
        }
        (self.buffer, self.read) = (start + buf.remaining(), start);
    }

    /// Something was read.
    fn follow(&mut self, buf: &ReadBuf<'_>) {
        let end = start(buf) + buf.remaining();
        if self.buffer == end {
            self.read = self.read.max(start(buf));
        } else {
            // Nobody has wiped this one yet.
            (self.buffer, self.read) = (end, end);
        }
    }
}

/// The address of the first byte that is not filled.
fn start(buf: &ReadBuf<'_>) -> usize {
    buf.filled().as_ptr_range().end.addr()
}

/// Where the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Head,
    /// In a body, or in a chunk and its line end, with so many bytes to come.
    Body { left: u64, chunked: bool },
    /// In the line that says how long the next chunk is.
    Size,
    /// In the lines after the last chunk.
    Trailer,
    /// The connection speaks HTTP/2, which frames its bodies itself.
    Framed,
}

/// What is known of the message that is being read.
#[derive(Debug, Default)]
struct Head {
    place: Place,
    /// The beginning of the present line, lower case.
    line: Vec<u8>,
    /// Bytes of the present line.
    length: usize,
    /// Lines of the present head.
    lines: usize,
    /// Heads that have ended.
    heads: usize,
    body: Option<u64>,
    has_coding: bool,
}

impl Head {
    /// Reads along; true if a head has both, or cannot be measured.
    fn read(&mut self, mut bytes: &[u8]) -> bool {
        let mut ambiguous = false;
        while let Some((byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Framed => return ambiguous,
                Place::Body { left, chunked } => {
                    let passed = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.pass(left - passed as u64, chunked);
                    bytes = &bytes[passed..];
                    continue;
                }
                _ => ambiguous |= self.take(*byte),
            }
            bytes = rest;
        }
        ambiguous
    }

    fn pass(&mut self, left: u64, chunked: bool) {
        self.place = match (left, chunked) {
            (0, true) => Place::Size,
            (0, false) => Place::Head,
            _ => Place::Body { left, chunked },
        };
    }

    /// One byte of a line.
    fn take(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' => {
                let (line, length) = (std::mem::take(&mut self.line), std::mem::take(&mut self.length));
                self.line_ended(&line, length)
            }
            b'\r' => false,
            other => {
                self.length += 1;
                if self.line.len() < LINE {
                    self.line.push(other.to_ascii_lowercase());
                }
                false
            }
        }
    }

    fn line_ended(&mut self, line: &[u8], length: usize) -> bool {
        match self.place {
            Place::Size => {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let size = std::str::from_utf8(&line[..digits]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
                // Of a line longer than what is kept the number might go on: it is not read at all.
                let size = size.filter(|_| length <= LINE && digits <= SIZE);
                self.place = match size {
                    Some(0) => Place::Trailer,
                    Some(size) => Place::Body { left: size.saturating_add(2), chunked: true },
                    None => return true,
                };
                false
            }
            Place::Trailer => {
                if length == 0 {
                    self.place = Place::Head;
                }
                false
            }
            // Empty lines before a request are skipped (RFC 9112 section 2.2).
            Place::Head if length == 0 && self.lines > 0 => self.head_ended(),
            Place::Head if length > 0 => self.header(line, length),
            _ => false,
        }
    }

    fn header(&mut self, line: &[u8], length: usize) -> bool {
        self.lines += 1;
        if self.lines == 1 {
            if self.heads == 0 && line == b"pri * http/2.0" {
                self.place = Place::Framed;
            }
            return false;
        }
        if let Some(value) = line.strip_prefix(b"content-length:") {
            let value =
                std::str::from_utf8(value).ok().filter(|_| length <= LINE).and_then(|text| text.trim().parse().ok());
            self.body = value;
            return value.is_none();
        }
        self.has_coding |= line.starts_with(b"transfer-encoding:");
        false
    }

    fn head_ended(&mut self) -> bool {
        let (body, coded) = (self.body.take(), std::mem::take(&mut self.has_coding));
        self.lines = 0;
        self.heads += 1;
        match (body, coded) {
            (body, true) => {
                self.place = Place::Size;
                body.is_some()
            }
            (body, false) => {
                self.pass(body.unwrap_or(0), false);
                false
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.activity.offers(buf.remaining());
        if this.activity.is_stained() {
            // By the time hyper reads on, it has let go of the request before: all of its buffer is offered here again,
            // with that request's bytes in it (promise 10).
            this.traces.wipe(buf);
        }
        ready!(this.poll_rested(cx));
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        if matches!(polled, Poll::Ready(Ok(()))) {
            this.traces.follow(buf);
            if this.head.read(&buf.filled()[before..]) {
                this.activity.mark_ambiguous();
            }
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
        // A head may come in any pieces: byte by byte, and all at once.
        let mut head = Head::default();
        let piecewise = text.bytes().map(|byte| head.read(&[byte])).fold(false, |found, now| found | now);
        assert_eq!(piecewise, Head::default().read(text.as_bytes()), "{text}");
        piecewise
    }

    /// A client that sends nothing more.
    struct Silent;

    impl AsyncRead for Silent {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_buffer_that_held_a_plaintext_is_zeros_while_nothing_more_comes() {
        let activity = Activity::new(PACE);
        let mut watched = Watched::new(Silent, Arc::clone(&activity));
        let mut offered = [b'4'; 4096];
        let mut poll = |offered: &mut [u8]| {
            let mut buf = ReadBuf::new(offered);
            buf.set_filled(8);
            let polled = Pin::new(&mut watched).poll_read(&mut Context::from_waker(std::task::Waker::noop()), &mut buf);
            assert!(polled.is_pending());
        };
        poll(&mut offered);
        assert_eq!(offered, [b'4'; 4096], "nothing passed yet that must go");
        assert!(activity.stain());
        poll(&mut offered);
        assert_eq!(offered[..8], [b'4'; 8], "what hyper has not yet read stays");
        assert!(offered[8..].iter().all(|byte| *byte == 0), "all that is offered is wiped, though nothing came");
    }

    /// A client that sends these one after the other, and then nothing more.
    struct Sends(Vec<&'static [u8]>);

    impl AsyncRead for Sends {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Some(bytes) = self.0.pop() else { return Poll::Pending };
            buf.put_slice(bytes);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn of_a_buffer_that_is_offered_again_all_that_was_read_is_wiped() {
        let activity = Activity::new(PACE);
        let mut watched = Watched::new(Sends(vec![b"55", b"444444"]), Arc::clone(&activity));
        let mut room = [0; 4096];
        let mut poll = |room: &mut [u8], filled: usize| {
            let mut buf = ReadBuf::new(room);
            buf.set_filled(filled);
            let _ = Pin::new(&mut watched).poll_read(&mut Context::from_waker(std::task::Waker::noop()), &mut buf);
        };
        assert!(activity.stain());
        poll(&mut room, 0);
        assert_eq!(room[..6], *b"444444");
        // A shorter one over it, further on: what stands before is hyper's, what stands behind goes.
        poll(&mut room, 2);
        assert_eq!(room[..6], *b"4455\0\0");
        poll(&mut room, 0);
        assert_eq!(room[..6], [0; 6]);
    }

    const BOTH: &str = "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n";

    #[test]
    fn a_head_with_both_is_found_in_any_order_case_and_pieces() {
        assert!(ambiguous("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"));
        assert!(ambiguous("POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nHost: a\r\ncontent-length: 3\r\n\r\n"));
        assert!(ambiguous("POST / HTTP/1.1\nTransfer-Encoding: chunked\ncontent-length: 3\n\n"));
    }

    #[test]
    fn one_of_them_alone_is_fine_and_a_body_is_not_a_head() {
        assert!(!ambiguous(
            "POST / HTTP/1.1\r\nContent-Length: 43\r\n\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\n"
        ));
        assert!(!ambiguous("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
        assert!(!ambiguous("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        assert!(!ambiguous("POST / HTTP/1.1\r\ncontent-length-hint: 3\r\ntransfer-encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn a_chunks_length_that_cannot_be_read_whole_is_refused() {
        let chunked =
            |size: &str| format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{size}\r\nabc\r\n0\r\n\r\n");
        for sound in ["3", "3;a=b", "0000000000000003"] {
            assert!(!ambiguous(&chunked(sound)), "{sound}");
        }
        for zeros in [16, LINE - 1, LINE, 70] {
            assert!(ambiguous(&chunked(&format!("{}3", "0".repeat(zeros)))), "{zeros} zeros");
        }
        for wrong in ["", ";a", "-3", &format!("3;{}", "a".repeat(LINE))] {
            assert!(ambiguous(&chunked(wrong)), "{wrong}");
        }
    }

    #[test]
    fn a_head_is_found_behind_whatever_came_before_it() {
        for before in [
            "\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab\r\nc",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\na\r\n\r\n0\r\nx: y\r\n\r\n",
        ] {
            assert!(ambiguous(&format!("{before}{BOTH}")), "{before}");
            assert!(!ambiguous(&format!("{before}GET / HTTP/1.1\r\nhost: a\r\n\r\n")), "{before}");
        }
    }
}
