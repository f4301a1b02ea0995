//! Two seconds after the last answer, no plaintext is left in the vault's memory.
//!
//! Reads /proc/PID/mem of the real process, as root: the process is not dumpable, so nobody else can.

mod keys;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use sqlx::Connection as _;
use tests::installation::{Installation, Serving};
use tests::{Siv, bodies};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Every copy of one of the needles in the process, with what stands around it and the region it lies in.
fn copies(pid: u32, needles: &[Vec<u8>]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the memory scan needs root");
    let mut memory = File::open(format!("/proc/{pid}/mem")).expect("the memory scan needs root");
    let finders: Vec<_> = needles.iter().map(memchr::memmem::Finder::new).collect();
    let (mut found, mut regions) = (Vec::new(), 0);
    // Pages of memfd_secret are read by nobody but the process itself, which is what they are for.
    let maps_of_it = maps.lines().filter(|line| !line.contains("/secretmem"));
    for line in maps_of_it.filter(|line| line.split_whitespace().nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
        let mut ends = line.split(' ').next().unwrap().split('-').map(|n| u64::from_str_radix(n, 16).unwrap());
        let (start, end) = (ends.next().unwrap(), ends.next().unwrap());
        let mut bytes = Vec::new();
        if memory.seek(SeekFrom::Start(start)).is_err()
            || memory.by_ref().take(end - start).read_to_end(&mut bytes).is_err()
        {
            // A region may be given back while it is read; one that is still there and unread would be a blind spot.
            let now = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the memory scan needs root");
            assert!(!now.lines().any(|still| still == line), "not read: {line}");
            continue;
        }
        regions += 1;
        for place in finders.iter().flat_map(|finder| finder.find_iter(&bytes)) {
            let around: String = bytes[place.saturating_sub(60)..(place + 60).min(bytes.len())]
                .iter()
                .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' })
                .collect();
            found.push(format!("{:x} {around} [{}]", start + place as u64, line.split_whitespace().last().unwrap()));
        }
    }
    assert!(regions > 10, "the memory was not read");
    found
}

/// A destination that reads one request after another on kept connections and answers each with `text`.
async fn destination(text: String) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let text = text.clone();
            tokio::spawn(async move {
                let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
                while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                    seen.extend_from_slice(&chunk[..read]);
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        let body = json!({ "issued": text }).to_string();
                        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
                        let _ = stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
                    }
                }
            });
        }
    });
    port
}

/// A flow that sends a card in a header and captures what comes back.
fn issuing(port: u16) -> String {
    format!(
        r#"
name = "card-summary"
purpose = "support"
app = "demo-shop"
[inputs]
card = {{ secure = "card-number" }}
[[steps]]
id = "issue"
[steps.http]
method = "GET"
url = "http://127.0.0.1:{port}/"
headers = {{ x-card = "{{{{ inputs.card }}}}" }}
[steps.http.response]
issued = {{ from = "$.issued", secure = "password" }}
[outputs]
issued = "{{{{ steps.issue.issued }}}}"
"#
    )
}

#[tokio::test]
async fn neither_a_header_sent_nor_a_field_captured_from_an_answer_lingers() {
    let siv = Siv::start();
    let (issued, card) = (bodies::canary(), bodies::card_number());
    let flow = issuing(destination(issued.clone()).await);
    siv.operator().put_toml("/v1/flows/card-summary", &flow).await.expect(200);
    for _ in 0..3 {
        let key = siv.capture("card-number", &card).await;
        let answer = siv.invoke("card-summary", json!({"card": key})).await.expect(200);
        assert!(answer.json()["outputs"]["issued"].as_str().unwrap().starts_with("svk_"), "{}", answer.text);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let needles: Vec<Vec<u8>> = [issued, card].iter().flat_map(|secret| bodies::spellings(secret)).collect();
    let lingering = copies(siv.pid(), &needles);
    assert!(lingering.is_empty(), "{} copies: {:#?}", lingering.len(), &lingering[..lingering.len().min(20)]);
}

#[tokio::test]
async fn no_plaintext_lingers_two_seconds_after_the_last_answer() {
    let siv = Siv::start();
    let mut secrets = Vec::new();
    for _ in 0..10 {
        let (password, card) = (bodies::canary(), bodies::card_number());
        let password_key = siv.capture("password", &password).await;
        let token = siv.session(&["card-number"]).await;
        let browser = siv.browser().with_bearer(&token);
        let described = browser.get("/v1/capture/session").await.expect(200).json();
        let sealed = bodies::seal(&described, &token, "card-number", &card);
        let answer =
            browser.post("/v1/capture/values", &json!({"values": [{"field": "card-number", "sealed": sealed}]})).await;
        let card_key = answer.expect(201).json()["values"][0]["secureValueKey"].as_str().unwrap().to_owned();
        let cvc = siv.capture("card-cvc", "123").await;
        let phc = bodies::phc(&password);
        siv.invoke("verify-password", json!({"password": password_key, "phc": phc})).await.expect(200);
        siv.invoke("charge-card", json!({"card": card_key, "cvc": cvc, "amount": 1, "order": "o"})).await.expect(200);
        siv.invoke("card-summary", json!({"card": card_key})).await.expect(200);
        siv.invoke("reveal-card", json!({"card": card_key})).await.expect(200);
        let items = json!({"items": [{"field": "password", "value": format!("bulk-{password}")}]});
        siv.app().post("/v1/values", &items).await.expect(200);
        let broken = json!({"items": [{"field": "password", "value": {"nested": format!("bad-{password}")}}]});
        assert!(siv.app().post("/v1/values", &broken).await.status >= 400);
        let secret_half = card_key[30..].to_owned();
        secrets.extend([password, card, secret_half]);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let needles: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| bodies::spellings(secret)).collect();
    let lingering = copies(siv.pid(), &needles);
    assert!(lingering.is_empty(), "{} copies: {:#?}", lingering.len(), &lingering[..lingering.len().min(20)]);
}

/// Sends on a connection that stays, and reads the answer: its status line and its body.
async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut seen, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the connection ended");
        seen.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&seen);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or("0", str::trim);
        if body.len() >= length.parse::<usize>().unwrap() {
            assert!(!head.contains("connection: close"), "{head}");
            return (head.lines().next().unwrap().to_owned(), body.to_owned());
        }
    }
}

/// A request with a body.
fn request(method: &str, path: &str, host: &str, bearer: &str, (kind, body): (&str, &str)) -> String {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {bearer}\r\n");
    format!("{head}content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Sends shorter requests, which would leave the end of a longer one in a buffer that is not wiped; then looks for the text.
async fn keeps_nothing_of(secret: &str, stream: &mut (impl AsyncRead + AsyncWrite + Unpin), (host, pid): (&str, u32)) {
    let alive = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n");
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(exchange(stream, &alive).await.0, "http/1.1 200 ok");
    }
    let lingering = copies(pid, &bodies::spellings(secret));
    assert!(lingering.is_empty(), "{lingering:#?}");
}

/// Sends a value and goes on.
async fn goes_on_after_a_value(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    (host, bearer): (&str, &str),
    pid: u32,
) {
    let secret = bodies::canary();
    let body = json!({"items": [{"field": "password", "value": secret}]}).to_string();
    let (status, answer) =
        exchange(stream, &request("POST", "/v1/values", host, bearer, ("application/json", &body))).await;
    assert!(status == "http/1.1 200 ok" && answer.contains("svk_"), "{answer}");
    keeps_nothing_of(&secret, stream, (host, pid)).await;
}

#[tokio::test]
async fn a_connection_that_goes_on_after_a_plaintext_keeps_nothing_of_it() {
    let siv = Siv::start();
    let host = siv.app().base().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&host).await.unwrap();
    goes_on_after_a_value(&mut stream, (&host, siv.app().bearer()), siv.pid()).await;
}

#[tokio::test]
async fn a_connection_that_goes_on_after_a_refused_plaintext_keeps_nothing_of_it() {
    let siv = Siv::start();
    let private = siv.app().base().trim_start_matches("http://").to_owned();
    let public = siv.browser().base().trim_start_matches("http://").to_owned();
    let session = siv.session(&["password"]).await;
    for (host, path, bearer, refusal) in [
        // No field of the session, members that are none, a path that is none, a flow that is none.
        (&public, "/v1/capture/values", session.as_str(), "4"),
        (&private, "/v1/values/lookup", siv.app().bearer(), "4"),
        (&private, "/v1/value", siv.app().bearer(), "404"),
        (&private, "/v1/flows/none/invoke", siv.app().bearer(), "4"),
    ] {
        let secret = bodies::canary();
        let body = json!({"values": [{"field": "card-number", "value": secret}], "value": secret}).to_string();
        let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
        let (status, _) =
            exchange(&mut stream, &request("POST", path, host, bearer, ("application/json", &body))).await;
        assert!(status.starts_with(&format!("http/1.1 {refusal}")), "{path}: {status}");
        keeps_nothing_of(&secret, &mut stream, (host, siv.pid())).await;
    }
}

/// A connection that trusts this certificate.
async fn secured(host: &str, certificate: &str) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn a_connection_over_tls_goes_on_likewise() {
    let installation = Installation::described();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (installation.folder.path().join("own.pem"), installation.folder.path().join("own.key"));
    fs::write(certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    installation.rewrite("[private]", "[private]\ntls_certificate = \"own.pem\"\ntls_key = \"own.key\"");
    let operator = installation.init()["credential"].as_str().unwrap().to_owned();
    let serving = Serving::start(&installation);
    let host = serving.private.trim_start_matches("http://");
    let mut stream = secured(host, &made.cert.pem()).await;
    let tenant = ("application/json", r#"{"name":"shop"}"#);
    let app = (
        "application/toml",
        "name = \"shop\"\norigins = [\"https://shop.example\"]\n[fields.password]\ntype = \"password\"\npurposes = [\"login\"]\nflows = [\"check\"]\n",
    );
    let credential = ("application/json", r#"{"kind":"app","name":"server","app":"shop"}"#);
    let mut ask = async |method, path, body| {
        let (status, answer) = exchange(&mut stream, &request(method, path, host, &operator, body)).await;
        assert!(status.starts_with("http/1.1 20"), "{path}: {status} {answer}");
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()
    };
    ask("POST", "/v1/tenants", tenant).await;
    ask("PUT", "/v1/apps/shop?tenant=shop", app).await;
    let made = ask("POST", "/v1/credentials?tenant=shop", credential).await;
    goes_on_after_a_value(&mut stream, (host, made["credential"].as_str().unwrap()), serving.pid()).await;
}

#[tokio::test]
async fn the_scan_finds_what_is_there() {
    // What the vault does keep while it runs: the app's name in its catalog. Found it must be, or the scan above proves nothing.
    let siv = Siv::start();
    siv.capture("password", &bodies::canary()).await;
    let found = copies(siv.pid(), &[b"demo-shop".to_vec()]);
    assert!(!found.is_empty());
}

#[tokio::test]
async fn the_scan_finds_a_half_sent_body_and_not_when_it_was_given_up() {
    use tokio::io::AsyncWriteExt as _;
    let siv = Siv::start();
    let secret = bodies::canary();
    let needle = [secret.as_bytes().to_vec()];
    let host = siv.app().base().trim_start_matches("http://").to_owned();
    let bearer = siv.app().bearer().to_owned();
    let mut stream = tokio::net::TcpStream::connect(&host).await.unwrap();
    let head = format!("POST /v1/values HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {bearer}\r\n");
    let body = format!("{{\"items\":[{{\"field\":\"password\",\"value\":\"{secret}");
    let sent = format!("{head}content-type: application/json\r\ncontent-length: 500\r\n\r\n{body}");
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut seen = false;
    for _ in 0..100 {
        seen = !copies(siv.pid(), &needle).is_empty();
        if seen {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(seen, "the vault waits for the rest of this body, so it is in its memory");
    drop(stream);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let lingering = copies(siv.pid(), &needle);
    assert!(lingering.is_empty(), "{lingering:#?}");
}

#[tokio::test]
async fn a_request_that_could_not_even_begin_leaves_nothing_of_its_body_while_that_is_taken_back() {
    let siv = Siv::start();
    let secret = bodies::canary();
    // Whoever holds the database's one lock keeps every commit from being written.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(siv.data().join("siv.db"));
    let mut holder = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
    let hsm = json!({"module": "/usr/lib/softhsm/libsofthsm2.so", "token": "acme", "pin": secret});
    let tenant = json!({"name": "acme", "keyProvider": "hsm", "hsm": hsm});
    let answer = siv.operator().post_once("/v1/tenants", "begin", &tenant).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let lingering = copies(siv.pid(), &[secret.as_bytes().to_vec()]);
    sqlx::query("COMMIT").execute(&mut holder).await.unwrap();
    holder.close().await.unwrap();
    assert!(lingering.is_empty(), "{lingering:#?}");
}
