//! The same request again: while it runs, after it ended, under another credential, many at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::outbound::{charge, destination, gated};
use super::*;

async fn inputs(bench: &Bench) -> Value {
    json!({"card": bench.put("card", "4242424242424242").await, "cvc": bench.put("cvc", "123").await})
}

fn refused(result: &Result<Answer, RunError>) -> Option<Repeated> {
    match result {
        Err(RunError::Repeated(repeated)) => Some(*repeated),
        _ => None,
    }
}

#[tokio::test]
async fn a_second_credential_of_a_running_flow_is_never_told_that_it_sent_another_request() {
    let bench = Arc::new(Bench::start().await);
    let (port, calls, gate) = gated(Some(r#"{"id":"ch_1"}"#), 0).await;
    let patient = charge(port).replace("timeout_seconds = 1", "timeout_seconds = 30");
    bench.vault.apply_flow("charge", "shop", "payment", &patient).await;
    let (first, second) = (bench.vault.flow("charge").await, bench.vault.flow("charge").await);
    let (sent, other) = (inputs(&bench).await, inputs(&bench).await);
    let running = {
        let (bench, first, sent) = (Arc::clone(&bench), first.clone(), sent.clone());
        tokio::spawn(async move { bench.repeat(&first, sent, Some("k")).await })
    };
    while calls.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let again = async |caller: &Caller, inputs: &Value| refused(&bench.repeat(caller, inputs.clone(), Some("k")).await);
    assert_eq!(again(&first, &sent).await, Some(Repeated::InProgress));
    assert_eq!(again(&first, &other).await, Some(Repeated::Mismatch));
    assert_eq!(again(&second, &sent).await, Some(Repeated::InProgress));
    // As after a killed node: the deadline passes and no outcome comes.
    bench.vault.clock.advance(Duration::from_secs(60));
    let unknown = again(&second, &sent).await;
    assert!(matches!(unknown, Some(Repeated::OutcomeUnknown(Some(_)))), "{unknown:?}");
    assert_eq!(again(&first, &sent).await, unknown);
    assert_eq!(again(&first, &other).await, Some(Repeated::Mismatch));
    gate.add_permits(1);
    running.await.unwrap().unwrap();
    assert_eq!(again(&second, &sent).await, Some(Repeated::Completed));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn fifty_parallel_repeats_call_the_destination_once() {
    let bench = Bench::start().await;
    let (port, calls) = destination(Some(r#"{"id":"ch_1"}"#)).await;
    bench.vault.apply_flow("charge", "shop", "payment", &charge(port)).await;
    let (flow, sent) = (bench.vault.flow("charge").await, inputs(&bench).await);
    let runs = (0..50).map(|_| bench.repeat(&flow, sent.clone(), Some("k")));
    let runs = futures_util::future::join_all(runs).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let bodies: Vec<_> = runs.iter().filter_map(|run| run.as_ref().ok()).map(|answer| answer.body.clone()).collect();
    assert!(!bodies.is_empty() && bodies.iter().all(|body| *body == bodies[0]), "one answer for all");
    assert!(runs.iter().all(|run| run.is_ok() || refused(run) == Some(Repeated::InProgress)), "{runs:?}");
}

#[tokio::test]
async fn a_run_without_outbound_steps_keeps_its_answer_in_its_one_commit() {
    let bench = Bench::start().await;
    let (once, flow) = (bench.put("once", "4242424242424242").await, bench.vault.flow("peek").await);
    // Whoever came back to the record in a second commit would be refused by the database.
    const GUARD: &str = "CREATE TRIGGER once BEFORE UPDATE ON idempotency BEGIN SELECT RAISE(ABORT, 'a second commit'); \
                         END; UPDATE secure_values SET uses = uses";
    bench.vault.meddle(GUARD).await;
    let first = bench.repeat(&flow, json!({"card": once}), Some("k")).await.unwrap();
    assert_eq!(read(&first)["outputs"], json!({"last4": "4242"}));
    assert_eq!(read(&first)["receipts"].as_array().unwrap().len(), 1);
    let again = bench.repeat(&flow, json!({"card": once}), Some("k")).await.unwrap();
    assert_eq!(first.body, again.body);
    let entries = bench.vault.entries("value.dereferenced").await;
    assert_eq!((entries.len(), &*entries[0].outcome), (1, "allowed"));
    let run_id: RunId = read(&first)["runId"].as_str().unwrap().parse().unwrap();
    assert_eq!(bench.runner.run(&flow, run_id).await.unwrap().state, "completed");
}

#[tokio::test]
async fn a_stored_failure_is_given_again_with_its_errors() {
    let bench = Bench::start().await;
    let (port, calls) = destination(Some("no JSON")).await;
    bench.vault.apply_flow("charge", "shop", "payment", &charge(port)).await;
    let (flow, sent) = (bench.vault.flow("charge").await, inputs(&bench).await);
    let first = bench.repeat(&flow, sent.clone(), Some("k")).await;
    let Err(RunError::Flow { run_id: Some(run_id), error }) = first else { panic!("{first:?}") };
    assert_eq!(error.faults(), [("destination".to_owned(), "response".to_owned())]);
    let again = bench.repeat(&flow, sent, Some("k")).await;
    let Err(RunError::FailedBefore { run_id: before, code, errors }) = again else { panic!("{again:?}") };
    assert_eq!((before, code, errors), (run_id, error.code(), error.faults()));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

fn revealing(port: u16) -> String {
    let text = charge(port).replace("app = \"shop\"", "app = \"shop\"\nreveal = [\"card\"]");
    format!("{text}card = \"{{{{ inputs.card }}}}\"\n")
}

#[tokio::test]
async fn a_revealing_flow_that_relays_is_run_once_and_recorded_as_revealing() {
    let bench = Bench::start().await;
    let (port, calls) = destination(Some(r#"{"id":"ch_1"}"#)).await;
    bench.vault.apply_flow("charge", "shop", "payment", &revealing(port)).await;
    let (flow, sent) = (bench.vault.flow("charge").await, inputs(&bench).await);
    let answer = bench.repeat(&flow, sent.clone(), Some("k")).await.unwrap();
    assert_eq!(read(&answer)["outputs"]["card"], "4242424242424242");
    assert_eq!(refused(&bench.repeat(&flow, sent, Some("k")).await), Some(Repeated::Completed));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(bench.vault.entries("value.revealed").await.len(), 1);
    assert_eq!(bench.vault.entries("relay.outcome").await.len(), 2);
}

#[tokio::test]
async fn a_revealing_flow_that_takes_its_time_runs_anew_each_time_but_not_for_another_body() {
    let bench = Bench::start().await;
    bench.vault.apply_app(&APP.replace("[\"login\"]", "[\"login\", \"charge\"]")).await;
    let text = "reveal = [\"card\"]\n[inputs]\ncard = { secure = \"card\" }\npassword = { secure = \"password\" }\n\
                [[steps]]\nid = \"h\"\n[steps.hash]\npassword = \"{{ inputs.password }}\"\n\
                [outputs]\ncard = \"{{ inputs.card }}\"\nphc = \"{{ steps.h.phc }}\"\n";
    bench.vault.apply_flow("charge", "shop", "payment", &document("charge", text)).await;
    let password = bench.put("password", "correct horse battery").await;
    let (flow, other) = (bench.vault.flow("charge").await, bench.vault.flow("charge").await);
    let sent = json!({"card": bench.put("card", "4242424242424242").await, "password": password});
    let another = json!({"card": bench.put("card", "4000056655665556").await, "password": password});
    let first = bench.repeat(&flow, sent.clone(), Some("k")).await.unwrap();
    let again = bench.repeat(&flow, sent.clone(), Some("k")).await.unwrap();
    assert_ne!(read(&first)["runId"], read(&again)["runId"]);
    assert_ne!(read(&first)["outputs"]["phc"], read(&again)["outputs"]["phc"]);
    assert_eq!(read(&again)["outputs"]["card"], "4242424242424242");
    assert_eq!(refused(&bench.repeat(&flow, another.clone(), Some("k")).await), Some(Repeated::Mismatch));
    assert_eq!(refused(&bench.repeat(&other, sent.clone(), Some("k")).await), Some(Repeated::Completed));
    assert_eq!(bench.vault.entries("value.revealed").await.len(), 2);
    // Long after each of them should have ended nobody says that its outcome is unknown.
    bench.vault.clock.advance(Duration::from_secs(60));
    bench.repeat(&flow, sent, Some("k")).await.unwrap();
    bench.repeat(&flow, another, Some("l")).await.unwrap();
}

#[tokio::test]
async fn a_version_that_relays_is_recorded_though_the_caller_came_for_the_one_that_did_not() {
    let bench = Bench::start().await;
    let (port, calls) = destination(Some(r#"{"id":"ch_1"}"#)).await;
    let before = "reveal = [\"card\"]\n[inputs]\ncard = { secure = \"card\" }\ncvc = { secure = \"cvc\" }\n\
                  [outputs]\ncard = \"{{ inputs.card }}\"\n";
    bench.vault.apply_flow("charge", "shop", "payment", &document("charge", before)).await;
    let (flow, sent) = (bench.vault.flow("charge").await, inputs(&bench).await);
    let old = bench.vault.again(&flow).await;
    bench.vault.apply_flow("charge", "shop", "payment", &revealing(port)).await;
    let body = json!({"inputs": sent, "reference": "order-1"});
    let request = serde_json::from_value(body.clone()).unwrap();
    let key = IdempotencyKey::new("k", Zeroizing::new(body.to_string().into_bytes()));
    // Decided under the old generation, and so a second time.
    bench.runner.invoke(&old, &"charge".parse().unwrap(), request, key).await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(refused(&bench.repeat(&flow, sent, Some("k")).await), Some(Repeated::Completed));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_outcome_that_somebody_else_wrote_silences_no_entry() {
    let bench = Bench::start().await;
    let (port, calls, gate) = gated(Some(r#"{"id":"ch_1"}"#), 0).await;
    bench
        .vault
        .apply_flow("charge", "shop", "payment", &charge(port).replace("timeout_seconds = 1", "timeout_seconds = 30"))
        .await;
    let (flow, sent) = (bench.vault.flow("charge").await, inputs(&bench).await);
    let asked = bench.repeat(&flow, sent, None);
    let meanwhile = async {
        while calls.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.vault.meddle("UPDATE flow_runs SET outcome = 'completed', finished = started").await;
        gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(asked, meanwhile);
    answer.unwrap();
    assert_eq!(bench.vault.entries("relay.outcome").await.len(), 2);
}
