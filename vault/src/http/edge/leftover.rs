//! What a route did not read of a request's body: it is read to its end and dropped, so that the answer arrives.
//!
//! A socket closed with unread bytes is reset, and the reset overtakes the answer: a client in the middle of a long body
//! would see a broken pipe instead of 413, 401 or 404. Bounded in time and bytes; nothing of it is kept (the allocator wipes
//! what is freed).

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::activity::InFlight;

/// How long a client is listened to after its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How much of its body is read and dropped after its answer.
const MOST: usize = 64 * 1024 * 1024;
/// A rest up to this length may be read while the connection goes on; a longer one ends it.
const SHORT: u64 = 64 * 1024;

/// The rest of a request's body, once its route has let go of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Incoming>>>);

impl Leftover {
    /// The body as the route reads it; what it leaves comes here.
    pub(super) fn of(&self, body: Incoming) -> Body {
        Body::new(Read { body: Some(body), leftover: self.clone() })
    }

    /// Reads and drops what was left, in the background. True if so much may be left that the connection should end.
    ///
    /// Call it when the answer is about to be handed over: reading earlier would tell a client that waits for
    /// `100 Continue` to go on. The request is in flight until then, or the connection would be closed under it.
    pub(super) fn drain(&self, request: Arc<InFlight>) -> bool {
        let Some(body) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return false };
        let long = body.size_hint().upper().is_none_or(|left| left > SHORT);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, drop_all(body)).await;
            drop(request);
        });
        long
    }

    fn put(&self, body: Incoming) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

async fn drop_all(mut body: Incoming) {
    let mut left = MOST;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}

/// A body that gives back its rest when it is dropped.
struct Read {
    body: Option<Incoming>,
    leftover: Leftover,
}

impl HttpBody for Read {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            self.leftover.put(body);
        }
    }
}
