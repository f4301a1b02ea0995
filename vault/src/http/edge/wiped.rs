//! The socket under TLS. rustls opens a record in the very buffer it was read into and keeps that buffer for the next one;
//! so what it offers to be read into is wiped first, as [`super::ambiguity`] wipes what HTTP offers (promise 10).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket that leaves nothing of what was read before in the room it is given.
///
/// It relies on three habits of rustls 0.23 (msgs/deframer/buffers.rs, vecbuf.rs), which the memory test holds it to: all of
/// the buffer behind unfinished records is offered with each read, a smaller buffer is a new one, and texts on their way to
/// the reader are freed once they were read.
pub(super) struct Wiped<I>(pub(super) I);

/// Zeros in all that is offered to be read into; what was never written to is zeroed by its first use.
pub(super) fn wipe(buf: &mut ReadBuf<'_>) {
    let written = buf.initialized().len() - buf.filled().len();
    buf.initialize_unfilled()[..written].fill(0);
}

impl<I: AsyncRead + Unpin> AsyncRead for Wiped<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        wipe(buf);
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Wiped<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn what_was_read_before_is_wiped_before_anything_is_waited_for() {
        let (_far, near) = duplex(64);
        let mut room = *b"3f9c1e7a of a record that was opened here";
        let mut buf = ReadBuf::new(&mut room);
        let mut wiped = Wiped(near);
        let polled = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut wiped).poll_read(cx, &mut buf).is_pending()));
        assert!(polled.await, "nothing was sent");
        assert_eq!(room, [0; 41]);
    }
}
