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
use super::head::Head;
use super::wiped::wipe;

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
}
