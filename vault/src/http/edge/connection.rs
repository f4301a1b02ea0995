//! One connection from the handshake to its end: limits of HTTP/1 and HTTP/2, idle close, orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::Version;
use http::header::{CONNECTION, HOST, HeaderValue};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::activity::{Activity, Pace};
use super::ambiguity::Watched;
use super::counted::counted;
use super::leftover::Leftover;
use super::wiped::Wiped;
use crate::http::problem::{Code, Problem};

/// A client has this long for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A client has this long to send one head.
const HEAD: Duration = Duration::from_secs(10);
/// What is written but not yet read by the client has this long to leave.
const FLUSH: Duration = Duration::from_secs(10);
/// So long a connection of HTTP/2 takes requests once a plaintext may lie in its buffers, which go with it.
const UNWIPED: Duration = Duration::from_millis(500);
/// And so long what is under way then has to be answered: together less than the two seconds after an answer that promise 10 allows.
/// A request is mostly answered much sooner; whatever is not is asked for again, with its `Idempotency-Key`. An export of the log wants a connection
/// of its own.
const UNANSWERED: Duration = Duration::from_millis(1_400);
/// How a connection of HTTP/2 begins; no method of HTTP/1 does.
const PREFACE: &[u8; 4] = b"PRI ";
/// How soon a beginning that is too short to tell is looked at again; each time after twice as long, so that connections
/// of one byte keep nobody busy.
const LOOK: Duration = Duration::from_millis(5);
/// Who has not sent four bytes by then speaks HTTP/1, whose own time limit holds from there on.
const TOLD: Duration = Duration::from_secs(1);
/// The longest head, in bytes.
const LONGEST_HEAD: usize = 32 * 1024;

/// Marks an answer that carries a plaintext, or whose request did: nothing of it may lie in a buffer two seconds later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CarriesPlaintext;

/// Marks an answer to a request for which there was no room: its connection rests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundNoRoom;

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// Serves one connection until it ends, is worn out, or the node ends.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    (router, pace): (Router, Pace),
    ending: CancellationToken,
) {
    // Small answers must not wait for the next packet; failing to say so costs time only.
    let _ = stream.set_nodelay(true);
    match tls {
        None => {
            let begun = tokio::select! {
                begun = tokio::time::timeout(pace.first_request, begins_with_preface(&stream)) => begun,
                () = ending.cancelled() => return,
            };
            let Ok(Ok(is_http2)) = begun else { return };
            converse((stream, is_http2), peer, router, Activity::new(pace), ending).await;
        }
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(Wiped(stream))).await {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                converse((stream, is_http2), peer, router, Activity::new(pace), ending).await;
            }
        }
    }
}

/// Whether a client speaks HTTP/2 by prior knowledge (RFC 9113 section 3.3): looked at without being taken, so that hyper
/// reads a head of HTTP/1 whole, into a buffer of the size it is made with.
async fn begins_with_preface(stream: &TcpStream) -> std::io::Result<bool> {
    let mut begin = [0; PREFACE.len()];
    for pause in pauses() {
        let seen = stream.peek(&mut begin).await?;
        if seen == 0 || begin[..seen] != PREFACE[..seen] {
            break;
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(pause).await;
    }
    Ok(false)
}

/// What is waited between two looks at a beginning that is too short to tell.
fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(LOOK), |pause| Some(*pause * 2)).take_while(|pause| *pause <= TOLD)
}

async fn converse<I>(
    (stream, is_http2): (I, bool),
    peer: SocketAddr,
    router: Router,
    activity: Arc<Activity>,
    ending: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = {
        let activity = Arc::clone(&activity);
        hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            answer(request, peer, router.clone(), Arc::clone(&activity))
        })
    };
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let builder = builder();
    let builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    tokio::select! {
        _ = connection.as_mut() => return,
        // Who has not taken an answer by now does not get the rest of it.
        late = activity.over() => if late { return },
        () = ending.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = flushed(&activity) => {}
        () = activity.overdue(UNANSWERED) => {}
    }
}

/// A request of HTTP/2 whose sender may take it back: its stream ends, and what was read of it stays in a connection that goes on.
struct TakenBack(Option<Arc<Activity>>);

impl Drop for TakenBack {
    fn drop(&mut self) {
        if let Some(activity) = self.0.take() {
            activity.stain();
            activity.close_within(UNWIPED);
        }
    }
}

/// Waits until nothing is in flight, and then as long as what is written may take to leave; not for who takes nothing.
async fn flushed(activity: &Activity) {
    if activity.settled().await {
        tokio::time::sleep(FLUSH).await;
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    router: Router,
    activity: Arc<Activity>,
) -> Result<Response, std::convert::Infallible> {
    let guard = Arc::new(activity.begin());
    let (version, leftover) = (request.version(), Leftover::default());
    let has_body = !request.body().is_end_stream();
    let refused = activity.is_ambiguous() || !names_one_host(&request);
    let mut taken_back = TakenBack((has_body && version == Version::HTTP_2).then(|| Arc::clone(&activity)));
    let mut request: Request = request.map(|body| leftover.of(body));
    request.extensions_mut().insert(Peer(peer));
    let mut response = if refused {
        let refusal = Problem::new(Code::Malformed).into_response();
        crate::http::problem::render(refusal, None)
    } else {
        router.oneshot(request).await.into_response()
    };
    taken_back.0 = None;
    // Whatever was refused may have held a plaintext: one that fits no field, or was sent to a wrong path. So every body of
    // HTTP/1.1 is wiped. HTTP/2 frames what it reads in buffers that nobody but it knows: its connection ends soon.
    let may_hold = response.extensions().get::<CarriesPlaintext>().is_some()
        || has_body && (version == Version::HTTP_11 || response.status().as_u16() >= 400);
    let lingers = may_hold && (!activity.stain() || version != Version::HTTP_11);
    if lingers && version == Version::HTTP_2 {
        activity.close_within(UNWIPED);
    }
    // In HTTP/2 others of its requests may be served.
    if version < Version::HTTP_2 && response.extensions().get::<FoundNoRoom>().is_some() {
        activity.rest();
    }
    // What may be left of a body would be read as the next head; in HTTP/2 only the stream ends.
    let cut = (leftover.drain(Arc::clone(&guard)) || refused) && version < Version::HTTP_2;
    let last = version < Version::HTTP_2 && activity.is_last();
    if version < Version::HTTP_2 && lingers || cut || last {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response.headers_mut().remove("keep-alive");
    }
    // HTTP/2 has no such header: the connection is ended by GOAWAY instead.
    if response.headers().get(CONNECTION).is_some_and(|value| value == "close") {
        activity.close();
    }
    Ok(response.map(|body| counted(body, guard)))
}

/// Whether a request of HTTP/1.1 has exactly one `Host` (RFC 9112 section 3.2): who stands in front of us and we must
/// not read two different ones. HTTP/2 has its own, and HTTP/1.0 none.
fn names_one_host(request: &hyper::Request<Incoming>) -> bool {
    request.version() != Version::HTTP_11 || request.headers().get_all(HOST).iter().count() == 1
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(64)
        .max_buf_size(LONGEST_HEAD)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(16 * 1024)
        .max_pending_accept_reset_streams(16)
        .max_local_error_reset_streams(128)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(None::<Duration>);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_one_byte_is_looked_at_few_times_and_not_for_long() {
        assert!((2..=10).contains(&pauses().count()));
        assert!(pauses().zip(pauses().skip(1)).all(|(one, next)| next == one * 2));
        assert!(pauses().sum::<Duration>() < TOLD * 2);
    }
}
