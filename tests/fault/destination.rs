//! The vault dies while a destination holds the value.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Connection as _;
use tests::Siv;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A destination that counts calls, says when the value arrived, and answers when it is let go.
struct Destination {
    port: u16,
    calls: Arc<AtomicU32>,
    hold: Arc<AtomicBool>,
}

impl Destination {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (calls, hold) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, wait) = (Arc::clone(&calls), Arc::clone(&hold));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (count, wait) = (Arc::clone(&count), Arc::clone(&wait));
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    let mut chunk = [0; 4096];
                    while !bytes.windows(6).any(|w| w == b"\"end\":") {
                        match stream.read(&mut chunk).await {
                            Ok(0) | Err(_) => return,
                            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
                        }
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    while wait.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    let body = r#"{"status":"approved"}"#;
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
                    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { port, calls, hold }
    }

    /// Applies a flow of the demo app that goes to this destination.
    async fn apply(&self, siv: &Siv) -> String {
        let flow = format!(
            r#"
name    = "charge-card"
purpose = "payment"
app     = "demo-shop"
[inputs]
card   = {{ secure = "card-number" }}
cvc    = {{ secure = "card-cvc" }}
amount = {{ type = "integer", min = 1 }}
order  = {{ type = "text", max = 64 }}
[[steps]]
id = "charge"
[steps.http]
method = "POST"
url    = "http://127.0.0.1:{}/v1/charges"
json   = {{ number = "{{{{ inputs.card }}}}", cvc = "{{{{ inputs.cvc }}}}", end = "{{{{ inputs.order }}}}" }}
timeout_seconds = 5
[steps.http.response]
status = {{ from = "$.status", type = "enum", values = ["approved", "declined"] }}
[outputs]
status = "{{{{ steps.charge.status }}}}"
"#,
            self.port
        );
        siv.operator().put_toml("/v1/flows/charge-card", &flow).await.expect(200);
        "charge-card".to_owned()
    }
}

async fn inputs(siv: &Siv) -> Value {
    let card = siv.capture("card-number", "4242424242424242").await;
    let cvc = siv.capture("card-cvc", "123").await;
    json!({"inputs": {"card": card, "cvc": cvc, "amount": 1, "order": "o"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_inside_the_destinations_handler_never_calls_twice() {
    let mut siv = Siv::start();
    let destination = Destination::start().await;
    destination.apply(&siv).await;
    let body = inputs(&siv).await;
    let wanted = json!({"kind": "flow", "name": "rotated", "flow": "charge-card"});
    let rotated = siv.operator().post("/v1/credentials", &wanted).await.expect(201).json()["credential"].clone();
    destination.hold.store(true, Ordering::SeqCst);
    let flow = siv.flow("charge-card");
    let (caller, sent) = (flow.clone(), body.clone());
    let call = tokio::spawn(async move { caller.post_once("/v1/flows/charge-card/invoke", "once", &sent).await });
    for _ in 0..500 {
        if destination.calls.load(Ordering::SeqCst) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(destination.calls.load(Ordering::SeqCst), 1, "the destination was called");
    siv.kill();
    assert_eq!(call.await.unwrap().status, 0);
    destination.hold.store(false, Ordering::SeqCst);
    siv.begin().unwrap();

    let flow = siv.flow("charge-card");
    // A shop that comes back with its second credential must not think that it sent another request.
    let rotated = flow.with_bearer(rotated.as_str().unwrap());
    let mut seen = Vec::new();
    for _ in 0..80 {
        let other = rotated.post_once("/v1/flows/charge-card/invoke", "once", &body).await;
        let again = flow.post_once("/v1/flows/charge-card/invoke", "once", &body).await;
        assert_eq!((again.status, other.status), (409, 409), "{} {}", again.text, other.text);
        assert!(["idempotency.in_progress", "flow.outcome_unknown"].contains(&&*other.code()), "{}", other.text);
        seen.push(again.code());
        if again.code() == "flow.outcome_unknown" {
            let run = again.json()["runId"].as_str().unwrap().to_owned();
            let known = flow.get(&format!("/v1/runs/{run}")).await.expect(200);
            assert_eq!(known.json()["state"], "unknown");
            let other = rotated.post_once("/v1/flows/charge-card/invoke", "once", &body).await;
            assert_eq!(other.refusal(), (409, "flow.outcome_unknown".to_owned()));
            assert_eq!(other.json()["runId"], json!(run));
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(seen.last().map(String::as_str), Some("flow.outcome_unknown"), "{seen:?}");
    assert_eq!(destination.calls.load(Ordering::SeqCst), 1, "never a second call");
    let intents = siv.entries("action=relay.intent").await;
    assert_eq!(intents.len(), 2, "the intent was durable before the value left");
    let cvc =
        json!({"inputs": {"card": body["inputs"]["card"], "cvc": body["inputs"]["cvc"], "amount": 1, "order": "o"}});
    let spent = flow.post("/v1/flows/charge-card/invoke", &cvc).await;
    assert_eq!(spent.refusal(), (404, "value.not_found".to_owned()), "spent stays spent");
    siv.verify_log().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_hangs_is_a_timeout_with_an_unknown_outcome() {
    let siv = Siv::start();
    let destination = Destination::start().await;
    destination.apply(&siv).await;
    destination.hold.store(true, Ordering::SeqCst);
    let body = inputs(&siv).await;
    let answer = siv.flow("charge-card").post_once("/v1/flows/charge-card/invoke", "slow", &body).await;
    destination.hold.store(false, Ordering::SeqCst);
    assert_eq!(answer.refusal(), (504, "destination.timeout".to_owned()));
    let again = siv.flow("charge-card").post_once("/v1/flows/charge-card/invoke", "slow", &body).await;
    assert_eq!(again.refusal(), (409, "flow.outcome_unknown".to_owned()));
    assert_eq!(destination.calls.load(Ordering::SeqCst), 1);
    let outcomes = siv.entries("action=relay.outcome").await;
    assert!(outcomes.iter().all(|e| e["outcome"] == "unknown"), "{outcomes:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_cuts_nothing_between_entry_and_answer() {
    let mut siv = Siv::start();
    let destination = Destination::start().await;
    destination.apply(&siv).await;
    destination.hold.store(true, Ordering::SeqCst);
    let body = inputs(&siv).await;
    let flow = siv.flow("charge-card");
    let call = tokio::spawn(async move { flow.post("/v1/flows/charge-card/invoke", &body).await });
    while destination.calls.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let hold = Arc::clone(&destination.hold);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        hold.store(false, Ordering::SeqCst);
    });
    let code = tokio::task::block_in_place(|| siv.terminate());
    assert_eq!(code, Some(0));
    let answer = call.await.unwrap().expect(200);
    assert_eq!(answer.json()["outputs"]["status"], "approved", "what was under way was finished");
    siv.begin().unwrap();
    siv.verify_log().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stands_still_is_503_and_the_outcome_is_recorded_when_it_goes_on() {
    let siv = Siv::start();
    let destination = Destination::start().await;
    destination.apply(&siv).await;
    let body = inputs(&siv).await;
    destination.hold.store(true, Ordering::SeqCst);
    let (flow, sent) = (siv.flow("charge-card"), body.clone());
    let caller = flow.clone();
    let call = tokio::spawn(async move { caller.post_once("/v1/flows/charge-card/invoke", "still", &sent).await });
    while destination.calls.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Whoever holds the database's one lock keeps the second commit from being written.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(siv.data().join("siv.db"));
    let mut holder = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
    destination.hold.store(false, Ordering::SeqCst);
    let answer = call.await.unwrap();
    assert_eq!(answer.refusal(), (503, "store.unavailable".to_owned()), "{}", answer.text);
    let run = format!("/v1/runs/{}", answer.json()["runId"].as_str().unwrap());
    sqlx::query("COMMIT").execute(&mut holder).await.unwrap();
    holder.close().await.unwrap();
    for _ in 0..400 {
        if flow.get(&run).await.json()["state"] == "completed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(flow.get(&run).await.json()["state"], "completed");
    let again = flow.post_once("/v1/flows/charge-card/invoke", "still", &body).await.expect(200);
    assert_eq!(again.json()["outputs"]["status"], "approved");
    assert_eq!(destination.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_caller_who_goes_away_while_its_request_begins_finds_it_done_when_it_comes_again() {
    let siv = Siv::start();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(siv.data().join("siv.db"));
    let mut holder = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut holder).await.unwrap();
    let body = json!({"kind": "operator", "name": "unheard"});
    let operator = siv.operator();
    let given_up =
        tokio::time::timeout(Duration::from_millis(400), operator.post_once("/v1/credentials", "gone", &body));
    assert!(given_up.await.is_err(), "it waits for the database");
    sqlx::query("COMMIT").execute(&mut holder).await.unwrap();
    holder.close().await.unwrap();
    let mut again = operator.post_once("/v1/credentials", "gone", &body).await;
    for _ in 0..200 {
        if again.status == 201 {
            break;
        }
        assert_eq!(again.refusal(), (409, "idempotency.in_progress".to_owned()), "{}", again.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
        again = operator.post_once("/v1/credentials", "gone", &body).await;
    }
    assert_eq!(again.status, 201, "{}", again.text);
    let listed = operator.get("/v1/credentials?limit=100").await.expect(200).json();
    assert_eq!(listed["data"].as_array().unwrap().iter().filter(|one| one["name"] == "unheard").count(), 1);
}
