//! What the relay sends, where it refuses to, and what it takes from an answer.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;

use super::test_destination::{TestDestination, ok};
use super::*;
use crate::flows::error::DeniedReason;

fn development() -> Relay {
    Relay::new(EgressPolicy { allow_loopback_http: true, ..EgressPolicy::default() })
}

fn request(url: &str) -> RelayRequest {
    RelayRequest {
        method: http::Method::POST,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Some(("application/json", Zeroizing::new(b"{\"number\":\"4242424242424242\"}".to_vec()))),
        timeout: Duration::from_secs(5),
    }
}

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

async fn send(relay: &Relay, url: &str) -> Result<String, String> {
    let answer = relay.send(&tenant("demo"), request(url)).await;
    answer.map(|body| String::from_utf8(body.to_vec()).unwrap()).map_err(|error| format!("{error:?}"))
}

fn failed(reason: FailedReason) -> Result<String, String> {
    Err(format!("{:?}", Error::DestinationFailed(reason)))
}

fn denied(reason: DeniedReason) -> Result<String, String> {
    Err(format!("{:?}", Error::DestinationDenied(reason)))
}

async fn answer_of(answer: impl Into<Vec<u8>>) -> Result<String, String> {
    let destination = TestDestination::answering(answer).await;
    send(&development(), &format!("http://{}/v1", destination.address)).await
}

#[tokio::test]
async fn a_destination_sees_the_exact_bytes_and_no_header_more() {
    let destination = TestDestination::json("{\"id\":1}").await;
    let url = format!("http://{}/v1/charges", destination.address);
    assert_eq!(send(&development(), &url).await, Ok("{\"id\":1}".to_owned()));
    let expected = format!(
        "POST /v1/charges HTTP/1.1\r\ncontent-type: application/json\r\nuser-agent: siv\r\naccept: */*\r\nhost: {}\r\ncontent-length: 29\r\n\r\n{{\"number\":\"4242424242424242\"}}",
        destination.address
    );
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.split("\r\n").map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&destination.seen()[0]), sorted(&expected));
}

/// The environment of a process is its own, so this runs the test above in another one.
#[test]
fn a_proxy_of_the_environment_is_ignored() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "flows::relay::tests::a_destination_sees_the_exact_bytes_and_no_header_more"]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, "http://127.0.0.1:9");
    }
    let output = child.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn loopback_and_plain_http_are_denied_where_they_are_not_development() {
    let destination = TestDestination::json("{}").await;
    let relay = Relay::new(EgressPolicy::default());
    let port = destination.address.port();
    for (url, reason) in [
        (format!("http://127.0.0.1:{port}/"), DeniedReason::Scheme),
        (format!("https://127.0.0.1:{port}/"), DeniedReason::Address),
        (format!("https://localhost:{port}/"), DeniedReason::Address),
        (format!("https://[::1]:{port}/"), DeniedReason::Address),
        (format!("https://[::ffff:127.0.0.1]:{port}/"), DeniedReason::Address),
        ("https://169.254.169.254/latest/meta-data/".to_owned(), DeniedReason::Address),
    ] {
        assert_eq!(send(&relay, &url).await, denied(reason), "{url}");
    }
    assert_eq!(destination.connections(), 0);
}

#[tokio::test]
async fn sivs_own_listeners_are_never_spoken_to_by_address_or_by_name() {
    let destination = TestDestination::json("{}").await;
    let own = destination.address;
    let relay = Relay::new(EgressPolicy { allow_loopback_http: true, forbidden: vec![own], own_url: None });
    for host in ["127.0.0.1", "localhost", "127.0.0.2"] {
        let url = format!("http://{host}:{}/", own.port());
        assert_eq!(send(&relay, &url).await, denied(DeniedReason::Address), "{url}");
    }
    assert_eq!(destination.connections(), 0);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_the_value_is_not_sent_again() {
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = TestDestination::json("{}").await;
        let target = elsewhere.address;
        let answer = format!("HTTP/1.1 {status} X\r\nlocation: http://{target}/\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(answer_of(answer).await, failed(FailedReason::Redirect), "{status}");
        assert_eq!(elsewhere.connections(), 0);
    }
}

#[tokio::test]
async fn a_status_outside_two_hundred_is_a_class_without_its_text() {
    for status in [400, 402, 404, 500, 503] {
        let answer = format!("HTTP/1.1 {status} 4242424242424242\r\ncontent-length: 16\r\n\r\n4242424242424242");
        assert_eq!(answer_of(answer).await, failed(FailedReason::Status), "{status}");
    }
}

#[tokio::test]
async fn an_answer_framed_in_two_ways_is_refused() {
    for (head, reason) in [
        ("transfer-encoding: chunked\r\ncontent-length: 5", FailedReason::Response),
        ("transfer-encoding: gzip, chunked", FailedReason::Response),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", FailedReason::Response),
        ("transfer-encoding: xchunked\r\nconnection: close", FailedReason::Response),
        ("content-length: 2\r\ncontent-length: 7", FailedReason::Broken),
        ("content-length: 2\r\ncontent-length: 2", FailedReason::Response),
        ("content-length: +2", FailedReason::Broken),
        ("content-encoding: br\r\ncontent-length: 2", FailedReason::Response),
        ("content-encoding: gzip, gzip\r\ncontent-length: 2", FailedReason::Response),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
        assert_eq!(answer_of(answer).await, failed(reason), "{head}");
    }
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    assert_eq!(answer_of(chunked).await, Ok("{}".to_owned()));
}

#[tokio::test]
async fn what_is_no_http_is_a_failure() {
    for answer in [
        "",
        "SSH-2.0-x\r\n",
        "HTTP/0.9 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 50\r\n\r\n{}",
    ] {
        let answer =
            if answer.contains("close") { answer.to_owned() } else { format!("{answer}connection: close\r\n\r\n") };
        assert_eq!(answer_of(answer.clone()).await, failed(FailedReason::Broken), "{answer}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bytes.len());
    [head.as_bytes(), bytes].concat()
}

#[tokio::test]
async fn a_packed_answer_is_read_and_a_bomb_is_not() {
    assert_eq!(answer_of(packed(&gzip(b"{\"id\":1}"))).await, Ok("{\"id\":1}".to_owned()));
    let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
    assert!(bomb.len() < answer::LARGEST);
    assert_eq!(answer_of(packed(&bomb)).await, failed(FailedReason::Size));
    assert_eq!(answer_of(packed(b"no gzip")).await, failed(FailedReason::Response));
    assert_eq!(answer_of(packed(&gzip(&gzip(b"{}"))[..20])).await, failed(FailedReason::Response));
}

#[tokio::test]
async fn an_answer_over_the_limit_is_not_read_to_its_end() {
    let limit = "x".repeat(answer::LARGEST);
    assert_eq!(answer_of(ok(&limit)).await.map(|body| body.len()), Ok(answer::LARGEST));
    assert_eq!(answer_of(ok(&format!("{limit}x"))).await, failed(FailedReason::Size));
    let endless = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
        "1000\r\n".to_owned() + &"x".repeat(4096) + "\r\n"
    );
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    assert_eq!(answer_of(endless + &chunk.repeat(200)).await, failed(FailedReason::Size));
}

#[tokio::test]
async fn an_answer_that_trickles_ends_with_the_time() {
    let destination =
        TestDestination::answering("HTTP/1.1 200 OK\r\nx-test: trickle\r\ncontent-length: 100000\r\n\r\n{").await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [destination.address, silent.local_addr().unwrap()] {
        let mut request = request(&format!("http://{address}/"));
        request.timeout = Duration::from_millis(400);
        // A minute is for slow machines: without a time of its own the relay would wait for ever.
        let sender = development();
        let answer = tokio::time::timeout(Duration::from_secs(60), sender.send(&tenant("demo"), request)).await;
        assert!(matches!(answer, Ok(Err(Error::DestinationTimeout))), "{answer:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_a_failed_connection_and_no_name_is_a_failed_name() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(send(&development(), &format!("http://{closed}/")).await, failed(FailedReason::Connection));
    assert_eq!(send(&development(), "https://no-such-host.invalid/").await, failed(FailedReason::Name));
}

#[tokio::test]
async fn a_tenant_keeps_its_connection_and_shares_it_with_nobody() {
    let destination = TestDestination::json("{}").await;
    let (relay, url) = (development(), format!("http://{}/", destination.address));
    for _ in 0..3 {
        relay.send(&tenant("one"), request(&url)).await.unwrap();
    }
    assert_eq!(destination.connections(), 1);
    relay.send(&tenant("two"), request(&url)).await.unwrap();
    assert_eq!(destination.connections(), 2);
}

#[tokio::test]
async fn a_request_is_sent_once_even_if_its_connection_breaks() {
    let destination = TestDestination::answering("connection: close").await;
    let url = format!("http://{}/", destination.address);
    assert_eq!(send(&development(), &url).await, failed(FailedReason::Broken));
    assert_eq!(destination.seen().len(), 1);
}

/// A server's settings with a certificate for `host`, and the PEM of the authority that signed it.
fn certificate(host: &str, expired: bool) -> (Arc<rustls::ServerConfig>, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut leaf = CertificateParams::new(vec![host.to_owned()]).unwrap();
    if expired {
        leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let pair = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&pair, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(pair.serialize_der().into()))
        .unwrap();
    (Arc::new(config), authority.pem())
}

#[tokio::test]
async fn the_certificate_is_that_of_the_registered_host_or_nothing_is_sent() {
    let (good, authority) = certificate("localhost", false);
    let destination = TestDestination::over_tls(ok("{\"id\":1}"), good).await;
    let url = format!("https://localhost:{}/", destination.address.port());
    let trusting = development().trusting(authority.as_bytes()).unwrap();
    assert_eq!(send(&trusting, &url).await, Ok("{\"id\":1}".to_owned()));
    // The same server under another name, and for who does not know its authority.
    let by_address = format!("https://{}/", destination.address);
    assert_eq!(send(&trusting, &by_address).await, failed(FailedReason::Connection));
    assert_eq!(send(&development(), &url).await, failed(FailedReason::Connection));
    assert_eq!(destination.seen().len(), 1);
    for (host, expired) in [("other.example", false), ("localhost.evil.example", false), ("localhost", true)] {
        let (wrong, authority) = certificate(host, expired);
        let destination = TestDestination::over_tls(ok("{}"), wrong).await;
        let url = format!("https://localhost:{}/", destination.address.port());
        let relay = development().trusting(authority.as_bytes()).unwrap();
        assert_eq!(send(&relay, &url).await, failed(FailedReason::Connection), "{host}");
        assert!(destination.seen().is_empty());
    }
    // Plain http where TLS is wanted.
    let plain = TestDestination::json("{}").await;
    let url = format!("https://localhost:{}/", plain.address.port());
    let mut silent = request(&url);
    silent.timeout = Duration::from_millis(300);
    assert!(trusting.send(&tenant("demo"), silent).await.is_err());
    assert!(plain.seen().is_empty());
}

#[test]
fn roots_that_are_none_are_refused() {
    assert!(development().trusting(b"").is_err());
    assert!(development().trusting(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
}
