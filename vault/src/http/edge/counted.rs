//! The body of an answer, counted as it leaves.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::activity::InFlight;

/// An answer's body that keeps its request in flight until it has been handed over.
pub(super) fn counted(body: Body, guard: Arc<InFlight>) -> Body {
    Body::new(Counted { body, guard })
}

struct Counted {
    body: Body,
    guard: Arc<InFlight>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut frame = self.body.frame();
        let polled = Future::poll(Pin::new(&mut frame), cx);
        self.guard.asked(polled.is_ready());
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.guard.gave(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
