//! Runs with an outbound step: what is recorded, what is given again, what a destination can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::*;

/// A destination that answers each request with the same body, or never.
pub(super) async fn destination(body: Option<&'static str>) -> (u16, Arc<AtomicU32>) {
    let (port, calls, _) = gated(body, Semaphore::MAX_PERMITS).await;
    (port, calls)
}

/// One that waits with each answer for a permit.
pub(super) async fn gated(body: Option<&'static str>, permits: usize) -> (u16, Arc<AtomicU32>, Arc<Semaphore>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, calls) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU32::new(0)));
    let (count, gate) = (Arc::clone(&calls), Arc::new(Semaphore::new(permits)));
    let gated = Arc::clone(&gate);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 4096];
            let _ = stream.read(&mut bytes).await;
            count.fetch_add(1, Ordering::SeqCst);
            let Some(body) = body else {
                std::mem::forget(stream);
                continue;
            };
            gated.acquire().await.unwrap().forget();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
            let text = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    (port, calls, gate)
}

pub(super) fn charge(port: u16) -> String {
    document(
        "charge",
        &format!(
            "[inputs]\ncard = {{ secure = \"card\" }}\ncvc = {{ secure = \"cvc\" }}\n[[steps]]\nid = \"c\"\n[steps.http]\n\
             method = \"POST\"\nurl = \"http://127.0.0.1:{port}/v1\"\ntimeout_seconds = 1\n\
             json = {{ number = \"{{{{ inputs.card }}}}\", cvc = \"{{{{ inputs.cvc }}}}\" }}\n[steps.http.response]\n\
             id = {{ from = \"$.id\", type = \"text\", max = 32, pattern = \"^[a-z0-9_]+$\" }}\n[outputs]\n\
             id = \"{{{{ steps.c.id }}}}\"\n"
        ),
    )
}

#[tokio::test]
async fn an_outbound_step_has_intents_and_outcomes_and_is_made_once() {
    let bench = Bench::start().await;
    let (port, calls) = destination(Some(r#"{"id":"ch_1"}"#)).await;
    bench.vault.apply_flow("charge", "shop", "payment", &charge(port)).await;
    let flow = bench.vault.flow("charge").await;
    let inputs = json!({"card": bench.put("card", "4242424242424242").await, "cvc": bench.put("cvc", "123").await});
    let first = bench.repeat(&flow, inputs.clone(), Some("o")).await.unwrap();
    assert_eq!(read(&first)["outputs"], json!({"id": "ch_1"}));
    assert_eq!(read(&first)["receipts"].as_array().unwrap().len(), 2);
    assert_eq!(bench.repeat(&flow, inputs, Some("o")).await.unwrap().body, first.body);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    for action in ["relay.intent", "relay.outcome"] {
        let entries = bench.vault.entries(action).await;
        assert_eq!(entries.len(), 2);
        assert!(entries.iter().all(|entry| entry.destination.as_deref() == Some(&*format!("127.0.0.1:{port}"))));
    }
}

#[tokio::test]
async fn a_run_that_sends_without_a_value_has_an_intent_and_an_outcome_too() {
    let bench = Bench::start().await;
    let (port, calls) = destination(Some(r#"{"id":"ch_1"}"#)).await;
    let card = "card = { secure = \"card\" }\ncvc = { secure = \"cvc\" }";
    let flow = with(&charge(port), card, "card = { type = \"text\", max = 32 }\ncvc = { type = \"text\", max = 4 }");
    bench.vault.apply_flow("charge", "shop", "payment", &flow).await;
    let flow = bench.vault.flow("charge").await;
    let answer = read(&bench.invoke(&flow, json!({"card": "one", "cvc": "two"})).await.unwrap());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(answer["receipts"].as_array().unwrap().len(), 1);
    for action in ["relay.intent", "relay.outcome"] {
        let entries = bench.vault.entries(action).await;
        assert_eq!(entries.len(), 1, "{action}");
        assert!(entries[0].value_id.is_none() && entries[0].run_id.is_some() && entries[0].destination.is_some());
    }
}

#[tokio::test]
async fn a_blocked_answer_and_a_silent_destination_are_recorded() {
    let bench = Bench::start().await;
    let inputs = |cvc: String, card: &str| json!({"card": card, "cvc": cvc});
    let card = bench.put("card", "4242424242424242").await;
    let (port, _) = destination(Some(r#"{"id":"4242424242424242"}"#)).await;
    bench.vault.apply_flow("charge", "shop", "payment", &charge(port)).await;
    let flow = bench.vault.flow("charge").await;
    let sent = inputs(bench.put("cvc", "123").await, &card);
    let blocked = bench.repeat(&flow, sent.clone(), Some("b")).await;
    assert!(matches!(&blocked, Err(RunError::Flow { run_id: Some(_), error: Error::OutputBlocked(_) })), "{blocked:?}");
    let again = bench.repeat(&flow, sent, Some("b")).await;
    assert!(matches!(again, Err(RunError::FailedBefore { code: "flow.output_blocked", .. })));
    let outcomes = bench.vault.entries("relay.outcome").await;
    assert!(outcomes.iter().all(|entry| entry.outcome == "failed"));

    let (port, calls) = destination(None).await;
    bench.vault.apply_flow("charge", "shop", "payment", &charge(port)).await;
    let sent = inputs(bench.put("cvc", "123").await, &card);
    let silent = bench.repeat(&flow, sent.clone(), Some("s")).await;
    let Err(RunError::Flow { run_id: Some(run_id), error: Error::DestinationTimeout }) = silent else {
        panic!("{silent:?}")
    };
    let again = bench.repeat(&flow, sent, Some("s")).await;
    assert!(matches!(again, Err(RunError::Repeated(Repeated::OutcomeUnknown(Some(known)))) if known == run_id));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(bench.runner.run(&flow, run_id).await.unwrap().state, "unknown");
    assert_eq!(bench.vault.entries("relay.outcome").await.last().unwrap().outcome, "unknown");
}

fn with(charge: &str, from: &str, to: &str) -> String {
    assert!(charge.contains(from), "{from}");
    charge.replace(from, to)
}

const TYPED: &str = "type = \"text\", max = 32, pattern = \"^[a-z0-9_]+$\"";

#[tokio::test]
async fn a_response_field_is_captured_anew_and_its_key_works() {
    let bench = Bench::start().await;
    let (port, _) = destination(Some(r#"{"id":"5555555555554444"}"#)).await;
    let flow = with(&charge(port), TYPED, "secure = \"card\"");
    bench.vault.apply_flow("charge", "shop", "payment", &flow).await;
    let flow = bench.vault.flow("charge").await;
    let inputs = json!({"card": bench.put("card", "4242424242424242").await, "cvc": bench.put("cvc", "123").await});
    let answer = bench.invoke(&flow, inputs).await.unwrap();
    let key = read(&answer)["outputs"]["id"].as_str().unwrap().to_owned();
    assert!(!String::from_utf8_lossy(&answer.body).contains("5555555555554444"));
    let captured = bench.vault.entries("value.captured").await;
    let run_id = read(&answer)["runId"].as_str().unwrap().to_owned();
    assert_eq!(captured.last().and_then(|entry| entry.run_id.as_ref()).map(ToString::to_string), Some(run_id));
    let summary = bench.vault.flow("summary").await;
    let last4 = bench.invoke(&summary, json!({"card": key})).await.unwrap();
    assert_eq!(read(&last4)["outputs"], json!({"last4": "4444"}));
}

#[tokio::test]
async fn a_short_value_beside_a_text_without_a_pattern_is_blocked_though_the_app_allows_it_today() {
    let bench = Bench::start().await;
    let (port, _) = destination(Some(r#"{"id":"order 9123x"}"#)).await;
    let flow = with(&charge(port), ", pattern = \"^[a-z0-9_]+$\"", "");
    bench.vault.apply_flow("charge", "shop", "payment", &flow).await;
    let flow = bench.vault.flow("charge").await;
    let inputs = json!({"card": bench.put("card", "4242424242424242").await, "cvc": bench.put("cvc", "123").await});
    let blocked = bench.invoke(&flow, inputs).await;
    assert!(matches!(&blocked, Err(RunError::Flow { error: Error::OutputBlocked(_), .. })), "{blocked:?}");
}

#[tokio::test]
async fn a_run_without_its_destination_s_secret_is_recorded_as_denied() {
    let bench = Bench::start().await;
    let (port, calls) = destination(Some(r#"{"id":"ch_1"}"#)).await;
    let header = "timeout_seconds = 1\nheaders = { authorization = \"{{ destination.acquirer.apiKey }}\" }";
    let flow = with(&charge(port), "timeout_seconds = 1", header);
    bench.vault.apply_flow("charge", "shop", "payment", &flow).await;
    let flow = bench.vault.flow("charge").await;
    let inputs = json!({"card": bench.put("card", "4242424242424242").await, "cvc": bench.put("cvc", "123").await});
    let denied = bench.invoke(&flow, inputs).await;
    let Err(RunError::Flow { error, .. }) = &denied else { panic!("{denied:?}") };
    assert_eq!(error.faults(), [("destination.acquirer.apiKey".to_owned(), "not_set".to_owned())], "{error}");
    let entries = bench.vault.entries("access.denied").await;
    let found: Vec<_> = entries.iter().map(|e| (e.reason.as_deref(), e.rule.as_deref())).collect();
    assert_eq!(found, [(Some("destination.denied"), Some("destination.secret"))]);
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    assert!(bench.vault.entries("relay.intent").await.is_empty(), "nothing was spent");
}

#[tokio::test]
async fn a_right_password_is_no_failure_though_the_destination_stays_silent() {
    let bench = Bench::start().await;
    let (port, _) = destination(None).await;
    let http = format!(
        "[[steps]]\nid = \"h\"\n[steps.http]\nmethod = \"GET\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         timeout_seconds = 1\n[outputs]"
    );
    let login = with(&document("login", FLOWS[4].1), "[outputs]", &http);
    bench.vault.apply_flow("login", "shop", "payment", &login).await;
    let (flow, key) = (bench.vault.flow("login").await, bench.put("password", "the password").await);
    for (phc, failures) in [(hash("the password").await, 0), (hash("another one").await, 1)] {
        let silent = bench.invoke(&flow, json!({"password": key, "phc": *phc})).await;
        assert!(matches!(silent, Err(RunError::Flow { error: Error::DestinationTimeout, .. })), "{silent:?}");
        let value_id = key.parse::<SecureValueKey>().unwrap().value_id();
        let value = bench.vault.store.value(&bench.vault.tenant, value_id).await.unwrap().unwrap();
        assert_eq!(crate::store::current_state(&value).failures, failures);
    }
}

/// A charge that is under way, with a key to repeat it: its destination was asked, and answers for a permit of `gate`.
struct UnderWay {
    bench: Arc<Bench>,
    flow: Caller,
    inputs: Value,
    /// How many values had been captured before.
    captured: usize,
    calls: Arc<AtomicU32>,
    gate: Arc<Semaphore>,
    running: tokio::task::JoinHandle<Result<Answer, RunError>>,
}

async fn under_way(body: &'static str, id: &str) -> UnderWay {
    let bench = Arc::new(Bench::start().await);
    let (port, calls, gate) = gated(Some(body), 0).await;
    let flow = with(&charge(port), TYPED, id).replace("timeout_seconds = 1", "timeout_seconds = 30");
    bench.vault.apply_flow("charge", "shop", "payment", &flow).await;
    let flow = bench.vault.flow("charge").await;
    let inputs = json!({"card": bench.put("card", "4242424242424242").await, "cvc": bench.put("cvc", "123").await});
    let captured = bench.vault.entries("value.captured").await.len();
    let running = {
        let (bench, flow, inputs) = (Arc::clone(&bench), flow.clone(), inputs.clone());
        tokio::spawn(async move { bench.repeat(&flow, inputs, Some("k")).await })
    };
    while calls.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    UnderWay { bench, flow, inputs, captured, calls, gate, running }
}

/// The database is away for longer than what a response field gave may be captured.
#[tokio::test]
async fn an_outcome_is_recorded_without_its_captures_when_it_comes_too_late_for_them() {
    let UnderWay { bench, flow, inputs, captured, calls, gate, running } =
        under_way(r#"{"id":"5555555555554444"}"#, "secure = \"card\"").await;
    let away = bench.vault.hold_the_writer().await;
    gate.add_permits(1);
    let told = running.await.unwrap();
    assert!(matches!(told, Err(RunError::Store { error: crate::store::Error::Late, .. })), "{told:?}");
    bench.vault.clock.advance(Duration::from_secs(70));
    drop(away);
    let recorded = async {
        while bench.vault.entries("relay.outcome").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), recorded).await.expect("the outcome is recorded");
    let outcomes = bench.vault.entries("relay.outcome").await;
    assert!(outcomes.len() == 2 && outcomes.iter().all(|entry| entry.outcome == "allowed"));
    assert_eq!(bench.vault.entries("value.captured").await.len(), captured, "nothing was captured");
    let again = bench.repeat(&flow, inputs, Some("k")).await;
    let Err(RunError::Repeated(Repeated::OutcomeUnknown(Some(run_id)))) = again else { panic!("{again:?}") };
    assert_eq!(bench.runner.run(&flow, run_id).await.unwrap().state, "completed");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_a_response_gave_is_not_captured_under_a_data_key_that_ended_meanwhile() {
    let UnderWay { bench, flow, inputs, captured, calls, gate, running } =
        under_way(r#"{"id":"5555555555554444"}"#, "secure = \"card\"").await;
    // As on another node: this one opened it before, and has it in its memory.
    bench
        .vault
        .meddle("DELETE FROM data_keys WHERE class IN ('session', 'stored'); UPDATE secure_values SET uses = uses")
        .await;
    gate.add_permits(1);
    let told = running.await.unwrap();
    assert!(matches!(told, Err(RunError::Store { run_id: Some(_), error: crate::store::Error::Late })), "{told:?}");
    assert_eq!(bench.vault.entries("value.captured").await.len(), captured, "nothing was captured");
    let outcomes = bench.vault.entries("relay.outcome").await;
    assert!(outcomes.len() == 2 && outcomes.iter().all(|entry| entry.outcome == "allowed"));
    bench.vault.clock.advance(Duration::from_secs(70));
    let again = bench.repeat(&flow, inputs, Some("k")).await;
    let Err(RunError::Repeated(Repeated::OutcomeUnknown(Some(run_id)))) = again else { panic!("{again:?}") };
    assert_eq!(bench.runner.run(&flow, run_id).await.unwrap().state, "completed");
    assert_eq!(calls.load(Ordering::SeqCst), 1, "and no repeat asks again");
}

#[tokio::test]
async fn what_a_response_gave_is_sealed_anew_where_its_data_key_was_closed_meanwhile() {
    let UnderWay { bench, captured, calls, gate, running, .. } =
        under_way(r#"{"id":"5555555555554444"}"#, "secure = \"card\"").await;
    let (store, tenant) = (&bench.vault.store, &bench.vault.tenant);
    let all = store.data_keys_after(tenant, None, 100).await.unwrap();
    let stored: Vec<_> =
        all.iter().filter(|row| row.class == DataKeyClass::Stored).map(|row| row.data_key_id).collect();
    bench.vault.close(stored.clone()).await;
    gate.add_permits(1);
    let answer = running.await.unwrap().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let key = read(&answer)["outputs"]["id"].as_str().unwrap().to_owned();
    let value_id = key.parse::<SecureValueKey>().unwrap().value_id();
    let rests_on = store.value(tenant, value_id).await.unwrap().unwrap().row.data_key_id;
    assert!(!stored.contains(&rests_on), "nothing comes to rest on what was closed");
    let entries = bench.vault.entries("value.captured").await;
    assert_eq!(entries.len(), captured + 1);
    assert_eq!(entries[captured].data_key_id, Some(rests_on));
    assert_eq!(bench.vault.entries("relay.outcome").await.len(), 2);
    let summary = bench.vault.flow("summary").await;
    assert_eq!(read(&bench.invoke(&summary, json!({"card": key})).await.unwrap())["outputs"]["last4"], "4444");
}

#[tokio::test]
async fn what_a_response_gave_is_not_captured_where_its_answer_could_not_be_kept_for_a_repeat() {
    let UnderWay { bench, captured, gate, running, .. } =
        under_way(r#"{"id":"5555555555554444"}"#, "secure = \"card\"").await;
    let all = bench.vault.store.data_keys_after(&bench.vault.tenant, None, 100).await.unwrap();
    let of_run = [DataKeyClass::Stored, DataKeyClass::IdempotencySensitive];
    let closed = all.iter().filter(|row| of_run.contains(&row.class));
    bench.vault.close(closed.map(|row| row.data_key_id).collect()).await;
    gate.add_permits(1);
    let told = running.await.unwrap();
    assert!(matches!(told, Err(RunError::Store { run_id: Some(_), error: crate::store::Error::Late })), "{told:?}");
    assert_eq!(bench.vault.entries("value.captured").await.len(), captured, "its key might have reached nobody");
    assert_eq!(bench.vault.entries("relay.outcome").await.len(), 2);
}

#[tokio::test]
async fn an_answer_that_could_be_given_to_nobody_is_not_kept() {
    let UnderWay { bench, flow, inputs, calls, gate, running, .. } = under_way(r#"{"id":"ch_1"}"#, TYPED).await;
    // As on another node: what its answer would be kept under ends.
    bench.vault.meddle("DELETE FROM data_keys WHERE class LIKE 'idempotency%'").await;
    gate.add_permits(1);
    let told = running.await.unwrap();
    assert!(told.is_ok(), "it is done, and who asked is told: {told:?}");
    // Its record is as it was when the run began.
    bench.vault.meddle("UPDATE idempotency SET status = status WHERE status = 102").await;
    assert!(bench.repeat(&flow, inputs, Some("k")).await.is_err());
    assert_eq!(calls.load(Ordering::SeqCst), 1, "no repeat asks again");
}

/// What is captured is sealed anew in the very moment, and nobody hears of the commit: the next hand-in looks at what is there.
#[tokio::test]
async fn what_was_captured_is_told_so_where_it_rests_on_another_data_key_by_now_and_opens() {
    const MOVED: &str = "UPDATE secure_values SET data_key_id = (SELECT data_key_id FROM data_keys WHERE tenant = NEW.tenant AND class = 'log-opening') \
                         WHERE value_id = NEW.value_id;";
    for (moved, is_captured) in [(MOVED, true), ("", false)] {
        let UnderWay { bench, captured, calls, gate, running, .. } =
            under_way(r#"{"id":"5555555555554444"}"#, "secure = \"card\"").await;
        let meanwhile = format!(
            "CREATE TRIGGER meanwhile AFTER INSERT ON secure_values BEGIN {moved} \
             DELETE FROM data_keys WHERE data_key_id = NEW.data_key_id; END; UPDATE secure_values SET uses = uses"
        );
        bench.vault.meddle(meanwhile.leak()).await;
        bench.vault.lose_the_next_answer(true).await;
        gate.add_permits(1);
        let told = running.await.unwrap();
        assert_eq!(told.is_ok(), is_captured, "{told:?}");
        assert_eq!(bench.vault.entries("value.captured").await.len(), captured + 1, "it is written, and written once");
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }
}
