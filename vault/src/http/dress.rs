//! What every request goes through before and after its route: id, admission, time limit, panic, rendering, headers.

use std::any::Any;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, Route};
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONNECTION, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::util::MapResponseLayer;
use tower::{Service, ServiceExt as _};
use tower_http::catch_panic::{CatchPanic, ResponseForPanic};
use tracing::Instrument as _;
use tracing::field::Empty;

use super::edge::{CarriesPlaintext, FoundNoRoom, Peer};
use super::given_id::{GivenId, REQUEST_ID};
use super::metrics::Metrics;
use super::problem::{Code, Problem, render};
use super::settings::Settings;
use crate::domain::{Clock, RequestId};

const TRANSPORT: HeaderName = HeaderName::from_static("strict-transport-security");

/// Questions for readiness under way; each asks the store.
const PROBES: usize = 64;

/// What one listener's requests share.
pub(crate) struct Desk {
    pub(crate) settings: Arc<Settings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    /// How long a request may take on this listener.
    pub(crate) time: Duration,
    room: Arc<Semaphore>,
    /// Places of the requests that ask whether the node is ready: they have their own.
    probes: Arc<Semaphore>,
}

impl Desk {
    pub(crate) fn new(settings: Arc<Settings>, metrics: Arc<Metrics>, clock: Clock, time: Duration) -> Self {
        let room = Arc::new(Semaphore::new(settings.most_requests));
        let probes = Arc::new(Semaphore::new(PROBES));
        Self { settings, metrics, clock, time, room, probes }
    }
}

/// What is known of a request before it is known who asks.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// As the access log has it: a UUID.
    pub(crate) request_id: RequestId,
    /// What the caller calls it.
    pub(crate) given_id: Option<GivenId>,
    pub(crate) address: IpAddr,
}

impl Arrival {
    /// Of a request that did not come through [`dress`].
    pub(crate) fn unknown() -> Self {
        let request_id = RequestId::generate(Clock::System.now());
        Self { request_id, given_id: None, address: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }

    /// The id that the caller hears: its own, or ours.
    pub(crate) fn told_id(&self) -> String {
        self.given_id.as_ref().map_or_else(|| self.request_id.to_string(), GivenId::to_string)
    }
}

/// Puts everything around a listener's routes.
pub(crate) fn dress(routes: Router, desk: Arc<Desk>) -> Router {
    routes.layer(tower::layer::layer_fn(move |route| Dressed { desk: Arc::clone(&desk), route }))
}

/// A route with everything around it.
#[derive(Clone)]
struct Dressed {
    desk: Arc<Desk>,
    route: Route,
}

impl Service<Request> for Dressed {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A route always is.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (desk, route) = (Arc::clone(&self.desk), self.route.clone());
        Box::pin(async move { Ok(attend(&desk, request, route).await) })
    }
}

/// Outermost: gives the request its id, the answer its body and headers, the metrics their counts.
async fn attend(desk: &Arc<Desk>, mut request: Request, route: Route) -> Response {
    let began = Instant::now();
    let version = request.version();
    let arrival = arrive(desk, &request);
    let matched = request.extensions().get::<MatchedPath>();
    let place = desk.metrics.place(request.method(), matched.map(MatchedPath::as_str));
    request.extensions_mut().insert(arrival.clone());
    // At debug: where nobody reads it, it costs nothing.
    let span = tracing::debug_span!(
        "request",
        request_id = %arrival.request_id,
        given_id = arrival.given_id.as_ref().map(GivenId::as_str),
        route = desk.metrics.route(place),
        status = Empty,
        outcome = Empty
    );
    let response = admit(desk, request, route).instrument(span.clone()).await;
    let mut response = render(response, Some(&arrival));
    let https = desk.settings.public_origin.starts_with("https:");
    finish(response.headers_mut(), &arrival, version, https);
    let (status, code) = (response.status().as_u16(), response.extensions_mut().remove::<Code>());
    desk.metrics.answered(place, status, began.elapsed());
    if let Some(code) = code {
        desk.metrics.refused(code);
    }
    span.record("status", status).record("outcome", code.map_or("done", Code::as_str));
    response
}

fn arrive(desk: &Desk, request: &Request) -> Arrival {
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.0.ip());
    let given_id = GivenId::of(request.headers());
    let uuid = given_id.as_ref().and_then(GivenId::as_uuid);
    Arrival {
        request_id: uuid.unwrap_or_else(|| RequestId::generate(desk.clock.now())),
        given_id,
        address: desk.settings.client_address(peer, request.headers()),
    }
}

fn finish(headers: &mut HeaderMap, arrival: &Arrival, version: Version, https: bool) {
    if let Ok(value) = HeaderValue::from_str(&arrival.told_id()) {
        headers.insert(REQUEST_ID, value);
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    if https {
        headers.insert(TRANSPORT, HeaderValue::from_static("max-age=31536000"));
    }
    // Tells pools how soon we close, so that they do not send into a closing connection.
    if version == Version::HTTP_11 && !headers.contains_key(CONNECTION) {
        headers.insert(HeaderName::from_static("keep-alive"), HeaderValue::from_static("timeout=1"));
    }
}

/// A request's place among those under way. Whoever waits for a stranger's body leaves it meanwhile.
#[derive(Clone)]
pub(crate) struct Place {
    desk: Arc<Desk>,
    room: Arc<Semaphore>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Place {
    fn new(desk: Arc<Desk>, room: Arc<Semaphore>) -> Self {
        Self { desk, room, held: Arc::default() }
    }

    /// Gives the place to somebody else.
    pub(crate) fn leave(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Takes one.
    ///
    /// # Errors
    /// `overloaded` if none is free.
    pub(crate) fn take_again(&self) -> Result<(), Problem> {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            self.desk.metrics.shed.inc();
            return Err(Problem::new(Code::Overloaded));
        };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        Ok(())
    }
}

/// Refuses at once what would only wait (a queue in front of a full node helps nobody). Whoever asks whether the node
/// lives must not hear that it is full: it would be restarted for that.
async fn admit(desk: &Arc<Desk>, mut request: Request, route: Route) -> Response {
    let room = match request.uri().path() {
        "/healthz" => return in_time(desk, request, route).await,
        "/readyz" => &desk.probes,
        _ => &desk.room,
    };
    let place = Place::new(Arc::clone(desk), Arc::clone(room));
    if let Err(problem) = place.take_again() {
        let mut response = problem.into_response();
        response.extensions_mut().insert(FoundNoRoom);
        return response;
    }
    request.extensions_mut().insert(place.clone());
    let response = in_time(desk, request, route).await;
    place.leave();
    response
}

/// Ends a request that takes too long: mostly a body that does not come. Work that began goes on (`State::to_the_end`).
async fn in_time(desk: &Desk, request: Request, route: Route) -> Response {
    let caught = CatchPanic::custom(route, Panicked(Arc::clone(&desk.metrics)));
    let answered = tokio::time::timeout(desk.time, caught.oneshot(request)).await;
    answered.map_or_else(
        |_| {
            let mut response = Problem::new(Code::Overloaded).into_response();
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        },
        IntoResponse::into_response,
    )
}

/// Answers for a route that panicked, and tells nothing of why.
#[derive(Clone)]
struct Panicked(Arc<Metrics>);

impl ResponseForPanic for Panicked {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, _: Box<dyn Any + Send>) -> Response {
        self.0.panics.inc();
        Problem::new(Code::Internal).into_response()
    }
}

/// For routes whose requests or answers carry a plaintext.
pub(crate) fn carrying_plaintext<S: Clone + Send + Sync + 'static>(route: MethodRouter<S>) -> MethodRouter<S> {
    route.layer(MapResponseLayer::new(|mut response: Response| {
        response.extensions_mut().insert(CarriesPlaintext);
        response
    }))
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use futures_util::stream;
    use http_body_util::BodyExt;
    use tokio::sync::Notify;

    use super::*;
    use crate::http::waiting::{Patience, Waiting};

    async fn strange(request: Request) -> Result<String, Problem> {
        let patience = Patience { all: 8, of_one: 8, time: Duration::from_secs(60) };
        let (parts, body) = request.into_parts();
        let read = Waiting::new(patience, false).read(&parts, body, 64, &["application/json"]).await?;
        read.text().map(str::to_owned)
    }

    fn dressed(settings: Settings, time: Duration) -> Router {
        let routes = Router::new()
            .route("/fine", get(|| async { "fine" }))
            .route("/healthz", get(|| async { "alive" }))
            .route("/readyz", get(|| async { "ready" }))
            .route("/strange", post(strange))
            .route("/write", post(|| async { "fine" }))
            .route("/panic", get(async || -> &'static str { panic!("3f9c1e7a") }))
            .route("/slow", get(|| tokio::time::sleep(Duration::from_secs(60))))
            .fallback(|| async { Problem::new(Code::NotFound) });
        dress(routes, Arc::new(Desk::new(Arc::new(settings), Arc::default(), Clock::System, time)))
    }

    async fn ask(router: Router, request: Request) -> (Response<()>, serde_json::Value) {
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap_or_default())
    }

    fn request(method: &str, path: &str) -> Request {
        Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
    }

    type Response<T> = http::Response<T>;

    #[tokio::test]
    async fn a_panic_is_a_plain_500_and_tells_nothing() {
        let (response, problem) =
            ask(dressed(Settings::default(), Duration::from_secs(5)), request("GET", "/panic")).await;
        assert_eq!(response.status(), 500);
        assert_eq!(problem["code"], "internal");
        assert!(!problem.to_string().contains("3f9c1e7a"));
    }

    #[tokio::test]
    async fn what_no_route_takes_is_a_problem_too() {
        let router = dressed(Settings::default(), Duration::from_secs(5));
        let (response, problem) = ask(router.clone(), request("GET", "/absent")).await;
        assert_eq!((response.status().as_u16(), problem["code"].as_str()), (404, Some("not_found")));
        let (response, problem) = ask(router.clone(), request("DELETE", "/write")).await;
        assert_eq!((response.status().as_u16(), problem["code"].as_str()), (405, Some("method.not_allowed")));
        assert_eq!(response.headers()["allow"], "POST");
        let (response, _) = ask(router, request("OPTIONS", "/write")).await;
        assert_eq!(response.status(), 405);
        assert!(!response.headers().contains_key("access-control-allow-origin"));
    }

    #[tokio::test]
    async fn a_request_id_goes_in_and_out_if_it_is_one() {
        let router = dressed(Settings::default(), Duration::from_secs(5));
        let with = |text: &str| Request::builder().uri("/absent").header(REQUEST_ID, text).body(Body::empty()).unwrap();
        let id = "01890f3c-5a1b-7c3d-8e4f-0123456789ab";
        for given in ["req-42", id, &id.to_uppercase(), &id.replace('-', "")] {
            let (response, problem) = ask(router.clone(), with(given)).await;
            assert_eq!(response.headers()["x-request-id"], given);
            assert_eq!(problem["requestId"], given);
        }
        for none in ["3f9c1e7a' OR 1=1", "svk_3f9c1e7a"] {
            let (response, problem) = ask(router.clone(), with(none)).await;
            let told = response.headers()["x-request-id"].to_str().unwrap();
            assert!(told.parse::<RequestId>().is_ok() && problem["requestId"] == told, "{told}");
            assert_eq!(response.headers()["cache-control"], "no-store");
        }
    }

    #[test]
    fn the_access_log_has_a_uuid_in_its_usual_spelling() {
        let desk = Desk::new(Arc::default(), Arc::default(), Clock::System, Duration::from_secs(5));
        let arrived =
            |text: &str| arrive(&desk, &Request::builder().header(REQUEST_ID, text).body(Body::empty()).unwrap());
        let id = "01890f3c-5a1b-7c3d-8e4f-0123456789ab";
        for spelling in [id, &id.to_uppercase(), &id.replace('-', "")] {
            assert_eq!(arrived(spelling).request_id.to_string(), id);
        }
    }

    #[tokio::test]
    async fn whoever_asks_whether_a_node_lives_does_not_hear_that_it_is_full() {
        let full = dressed(Settings { most_requests: 0, ..Settings::default() }, Duration::from_secs(5));
        for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/fine", 503)] {
            assert_eq!(ask(full.clone(), request("GET", path)).await.0.status(), status, "{path}");
        }
    }

    #[tokio::test]
    async fn a_strangers_body_that_has_not_come_holds_no_place() {
        let router = dressed(Settings { most_requests: 1, ..Settings::default() }, Duration::from_secs(60));
        let (asked, may_come) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let later = (Arc::clone(&asked), Arc::clone(&may_come));
        let body = stream::once(async move {
            later.0.notify_one();
            later.1.notified().await;
            Ok::<_, std::io::Error>("\"come\"")
        });
        let request_of = |body| {
            let request = Request::builder().method("POST").uri("/strange").header("content-type", "application/json");
            request.body(body).unwrap()
        };
        let waiting = tokio::spawn(ask(router.clone(), request_of(Body::from_stream(body))));
        asked.notified().await;
        assert_eq!(ask(router.clone(), request("GET", "/fine")).await.0.status(), 200);
        may_come.notify_one();
        let (response, text) = waiting.await.unwrap();
        assert_eq!((response.status().as_u16(), text.as_str()), (200, Some("come")));
        // The place is free again.
        assert_eq!(ask(router, request("GET", "/fine")).await.0.status(), 200);
    }

    #[tokio::test]
    async fn a_full_desk_and_a_slow_route_say_503_with_a_time() {
        let full = dressed(Settings { most_requests: 0, ..Settings::default() }, Duration::from_secs(5));
        let (response, problem) = ask(full, request("GET", "/fine")).await;
        assert_eq!((response.status().as_u16(), problem["code"].as_str()), (503, Some("overloaded")));
        assert_eq!(response.headers()["retry-after"], "1");
        let slow = dressed(Settings::default(), Duration::from_millis(20));
        let (response, _) = ask(slow, request("GET", "/slow")).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["connection"], "close");
    }
}
