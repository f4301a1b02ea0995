//! The edge over real sockets: what a connection may do, and how it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use axum::body::Body;
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::activity::{Activity, PACE, Pace, REST};
use super::ambiguity::Watched;
use super::connection::FoundNoRoom;
use super::listener::{Listener, accept};

/// What is waited for comes, on however slow a machine; only what never comes takes so long.
const BOUND: Duration = Duration::from_secs(60);

struct Edge {
    address: std::net::SocketAddr,
    connections: TaskTracker,
    ending: CancellationToken,
    /// A request to `/slow` has come in, and may be answered.
    came: Arc<Notify>,
    may_go: Arc<Notify>,
    /// The answer of `/endless` was let go of.
    let_go: Arc<Notify>,
}

/// Says that it was dropped.
struct Told(Arc<Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// An answer without end.
fn endless(told: Told) -> Body {
    Body::from_stream(stream::repeat_with(move || {
        let _held = &told;
        Ok::<_, std::io::Error>(vec![0_u8; 64 * 1024])
    }))
}

async fn start(most_connections: usize) -> Edge {
    start_with(most_connections, PACE).await
}

async fn start_with(most_connections: usize, pace: Pace) -> Edge {
    let (came, may_go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = (Arc::clone(&came), Arc::clone(&may_go));
    let slow = move || {
        let (came, may_go) = slow.clone();
        async move {
            came.notify_one();
            may_go.notified().await;
        }
    };
    let let_go = Arc::new(Notify::new());
    let unread = (Arc::clone(&came), Arc::clone(&let_go));
    let unread = move || {
        unread.0.notify_one();
        std::future::ready(endless(Told(Arc::clone(&unread.1))))
    };
    let router = Router::new()
        .route("/fine", get(|| async { "fine" }))
        .route("/body", post(|body: String| async move { body.len().to_string() }))
        .route("/refused", post(|| async { http::StatusCode::UNAUTHORIZED }))
        .route("/full", get(|| async { Extension(FoundNoRoom) }))
        .route("/slow", get(slow.clone()).post(slow))
        .route("/endless", get(unread));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener { most_connections, pace, ..Listener::plain(socket) };
    let (connections, ending) = (TaskTracker::new(), CancellationToken::new());
    tokio::spawn(accept(listener, router, connections.clone(), ending.clone()));
    Edge { address, connections, ending, came, may_go, let_go }
}

impl Edge {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads until the other side closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        let _ = stream.write_all(bytes).await;
        rest(&mut stream).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(BOUND, stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(closed.is_ok(), "the connection stays open: {answer}");
    answer
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_answer() {
    let edge = start(16).await;
    // How long it may be idle is `PACE`; here it is closed at all, with a client that would keep it.
    let answer = edge.exchange(b"GET /fine HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.ends_with("fine"), "{answer}");
}

#[tokio::test]
async fn a_connection_whose_request_found_no_room_rests_before_its_next_one() {
    let edge = start(16).await;
    let mut buffer = vec![0; 4096];
    for (path, rests) in [("/fine", false), ("/full", true)] {
        let mut stream = edge.connect().await;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        assert_ne!(stream.read(&mut buffer).await.unwrap(), 0);
        let answered = std::time::Instant::now();
        stream.write_all(b"GET /fine HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let early = tokio::time::timeout(REST / 2, stream.read(&mut buffer)).await;
        assert_eq!(early.is_err(), rests, "{path}");
        if rests {
            assert_ne!(stream.read(&mut buffer).await.unwrap(), 0, "it goes on afterwards");
            // Its end is taken a moment after the answer was sent off, not before.
            assert!(answered.elapsed() > REST - REST / 4, "{:?}", answered.elapsed());
        }
    }
}

#[tokio::test]
async fn what_was_read_before_is_wiped_though_a_connection_rests() {
    let (activity, (mut client, server)) = (Activity::new(PACE), tokio::io::duplex(64));
    let mut watched = Watched::new(server, Arc::clone(&activity));
    let mut room = [0; 64];
    let mut poll = |room: &mut [u8]| {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(&mut watched).poll_read(&mut context, &mut ReadBuf::new(room)).is_ready()
    };
    client.write_all(b"4242").await.unwrap();
    assert!(poll(&mut room) && room[..4] == *b"4242");
    assert!(activity.stain());
    activity.rest();
    client.write_all(b"55").await.unwrap();
    assert!(!poll(&mut room) && room == [0; 64], "nothing is read, and nothing stays");
}

#[tokio::test]
async fn a_connection_brings_a_thousand_requests_and_not_one_more() {
    let edge = start(16).await;
    let one = b"GET /fine HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut stream = edge.connect().await;
    let mut buffer = vec![0; 4096];
    for number in 1..=1_000 {
        stream.write_all(one).await.unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        let answer = String::from_utf8_lossy(&buffer[..read]);
        assert!(answer.ends_with("fine"), "{number}: {answer}");
        // Who sends one more would not know what became of it.
        assert_eq!(answer.contains("connection: close"), number == 1_000, "{number}: {answer}");
    }
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_head_with_length_and_coding_is_refused_and_the_connection_closed() {
    let edge = start(16).await;
    let smuggled =
        b"POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
        GET /fine HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = edge.exchange(smuggled).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("\"malformed\"") && !answer.contains("\r\n\r\nfine"), "{answer}");
    let chunked = b"POST /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert!(edge.exchange(chunked).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn such_a_head_is_refused_behind_another_request_too() {
    let edge = start(16).await;
    let pipelined = b"GET /fine HTTP/1.1\r\nhost: a\r\n\r\n\
        POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let answer = edge.exchange(pipelined).await;
    assert!(answer.contains("HTTP/1.1 400") && !answer.ends_with("\r\n\r\n3"), "{answer}");
    let sound = b"GET /fine HTTP/1.1\r\nhost: a\r\n\r\nPOST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
    let answer = edge.exchange(sound).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
}

#[tokio::test]
async fn a_request_names_one_host() {
    let edge = start(16).await;
    for hosts in ["", "host: a\r\nhost: a\r\n", "host: a\r\nHost: b\r\n"] {
        let answer = edge.exchange(format!("GET /fine HTTP/1.1\r\n{hosts}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"malformed\""), "{hosts}: {answer}");
    }
    assert!(edge.exchange(b"GET /fine HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 200"));
}

/// A client that sends all of a long body before it reads, as most do.
async fn sends_all_then_reads(edge: &Edge, head: &str, length: usize) -> String {
    let mut stream = edge.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..length / 65_536 {
        stream.write_all(&[b'x'; 65_536]).await.unwrap();
    }
    rest(&mut stream).await
}

#[tokio::test]
async fn a_refusal_arrives_at_a_client_in_the_middle_of_a_long_body() {
    let edge = start(16).await;
    let length = 80 * 65_536;
    for (path, status) in [("/refused", "401"), ("/absent", "404"), ("/body", "413")] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        let answer = sends_all_then_reads(&edge, &head, length).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.contains("connection: close"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_its_body_is_told_no_at_once() {
    let edge = start(16).await;
    let head = "POST /refused HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5000000\r\n\r\n";
    let answer = edge.exchange(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn heads_that_are_wrong_or_too_large_are_refused() {
    let edge = start(16).await;
    let many: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(64 * 1024));
    for (head, status) in
        [(many.as_str(), "431"), (&long, "431"), ("content-length: 4\r\ncontent-length: 5\r\n", "400")]
    {
        let answer = edge.exchange(format!("GET /fine HTTP/1.1\r\nhost: a\r\n{head}\r\n").as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    let obscured = b"POST /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n";
    assert!(edge.exchange(obscured).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn over_the_cap_a_client_is_told_to_come_back_and_then_can() {
    let edge = start(1).await;
    // Connections are accepted in their order, so the next one finds no room.
    let first = edge.connect().await;
    let answer = edge.exchange(b"GET /fine HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    drop(first);
    let mut answer = String::new();
    for _ in 0..50 {
        answer = edge.exchange(b"GET /fine HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        if answer.ends_with("fine") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{answer}");
}

#[tokio::test]
async fn an_orderly_end_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let edge = start(16).await;
    let mut idle = edge.connect().await;
    let mut busy = edge.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // Connections are accepted in their order: when the second one's request is in its handler, the first is open too.
    tokio::time::timeout(BOUND, edge.came.notified()).await.unwrap();
    edge.ending.cancel();
    edge.connections.close();
    assert!(rest(&mut idle).await.is_empty());
    edge.may_go.notify_one();
    assert!(rest(&mut busy).await.starts_with("HTTP/1.1 200"));
    assert!(tokio::time::timeout(BOUND, edge.connections.wait()).await.is_ok());
    assert!(TcpStream::connect(edge.address).await.is_err());
}

#[tokio::test]
async fn an_answer_that_is_not_read_does_not_hold_its_connection_for_ever() {
    let edge = start_with(16, Pace { longest_answer: Duration::from_millis(300), ..PACE }).await;
    let mut unread = edge.connect().await;
    unread.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::timeout(BOUND, edge.let_go.notified()).await.unwrap();
    drop(unread);
}

#[tokio::test]
async fn an_orderly_end_does_not_wait_for_whoever_reads_nothing() {
    let edge = start_with(16, Pace { untaken: Duration::from_millis(300), ..PACE }).await;
    let mut unread = edge.connect().await;
    unread.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tokio::time::timeout(BOUND, edge.came.notified()).await.unwrap();
    edge.ending.cancel();
    edge.connections.close();
    assert!(tokio::time::timeout(BOUND, edge.connections.wait()).await.is_ok());
    drop(unread);
}

#[tokio::test]
async fn both_http_versions_are_spoken() {
    let edge = start(16).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let answer = client.get(format!("http://{}/fine", edge.address)).send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 200));
}

/// Whether a connection of HTTP/2 ends with this answer, long before it would be idle for too long.
async fn ends_after(path: &str, edge: &Edge) -> bool {
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let answer = client.post(format!("http://{}{path}", edge.address)).body("4242").send().await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    answer.bytes().await.unwrap();
    edge.connections.close();
    let ended = tokio::time::timeout(Duration::from_secs(2), edge.connections.wait()).await.is_ok();
    edge.connections.reopen();
    ended
}

#[tokio::test]
async fn a_connection_of_http2_serves_on_for_a_moment_after_a_plaintext() {
    // On a machine that stands still meanwhile the moment may be over.
    for _ in 0..5 {
        let edge = start_with(16, Pace { idle: BOUND, ..PACE }).await;
        let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
        let post = async || {
            let answer = client.post(format!("http://{}/refused", edge.address)).body("4242").send().await.unwrap();
            answer.bytes().await.unwrap();
        };
        post().await;
        edge.connections.close();
        let ends = |within| tokio::time::timeout(within, edge.connections.wait());
        if ends(Duration::from_millis(150)).await.is_err() {
            post().await;
            assert!(ends(BOUND / 2).await.is_ok(), "it ends by what came first");
            return;
        }
    }
    panic!("it ends at once");
}

#[tokio::test]
async fn a_request_of_http2_that_is_taken_back_leaves_no_plaintext_in_a_connection_that_goes_on() {
    let edge = start_with(16, Pace { idle: BOUND, ..PACE }).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let request = client.post(format!("http://{}/slow", edge.address)).body("4242").send();
    tokio::select! {
        answer = request => panic!("{answer:?}"),
        () = edge.came.notified() => {}
    }
    edge.connections.close();
    assert!(tokio::time::timeout(BOUND / 2, edge.connections.wait()).await.is_ok());
    drop(client);
}

#[tokio::test]
async fn a_long_answer_keeps_no_plaintext_of_another_request_in_a_connection_of_http2() {
    let edge = start_with(16, Pace { idle: BOUND, ..PACE }).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let long = tokio::spawn(client.get(format!("http://{}/slow", edge.address)).send());
    edge.came.notified().await;
    let refused = client.post(format!("http://{}/refused", edge.address)).body("4242").send().await.unwrap();
    assert_eq!(refused.status(), 401);
    edge.connections.close();
    assert!(tokio::time::timeout(BOUND / 2, edge.connections.wait()).await.is_ok());
    assert!(long.await.unwrap().is_err(), "it is asked for again");
}

#[tokio::test]
async fn what_was_refused_may_have_held_a_plaintext_and_ends_a_connection_that_cannot_be_wiped() {
    let patient = Pace { idle: BOUND, ..PACE };
    assert!(ends_after("/refused", &start_with(16, patient).await).await);
    assert!(ends_after("/absent", &start_with(16, patient).await).await);
    assert!(!ends_after("/body", &start_with(16, patient).await).await);
    // Of a buffer that grew for a long body nobody knows what lies where in it.
    let edge = start(16).await;
    let head = "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 65536\r\n\r\n";
    let answer = sends_all_then_reads(&edge, head, 65_536).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
}
