//! A small HTTP/1.1 server on loopback for the demo: accept, read a bounded body, answer. No TLS, no keep-alive.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

/// The longest body either of the two servers takes.
const LONGEST_BODY: usize = 16 * 1024;

/// A request as the demo's servers see it.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Asked {
    /// The body as JSON; nothing if it is none.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// An answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// What answers requests.
pub(super) trait Answers: Send + Sync + 'static {
    /// Answers one request; `None` closes the connection without an answer.
    fn answer(self: Arc<Self>, asked: Asked) -> impl Future<Output = Option<Answer>> + Send;
}

/// Binds `wanted`; the address it has then.
pub(super) async fn bind(wanted: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(wanted).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until the process ends.
pub(super) async fn serve<A: Answers>(listener: TcpListener, answers: Arc<A>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(Arc::clone(&answers), request));
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            // A browser that goes away is no event.
            let _ = connection.await;
        });
    }
}

/// The reason a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct NoAnswer;

async fn respond<A: Answers>(answers: Arc<A>, request: http::Request<Incoming>) -> Result<Answer, NoAnswer> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, LONGEST_BODY).collect().await else {
        return Ok(empty(StatusCode::PAYLOAD_TOO_LARGE));
    };
    let asked = Asked {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: Zeroizing::new(body.to_bytes().to_vec()),
    };
    answers.answer(asked).await.ok_or(NoAnswer)
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    with(status, "text/plain", Bytes::new())
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, document: &Value) -> Answer {
    with(status, "application/json", Bytes::from(document.to_string()))
}

/// An answer of a media type.
pub(super) fn with(status: StatusCode, media_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
