//! A value's way through a flow.

use serde_json::json;
use tests::Siv;

#[tokio::test]
async fn a_card_is_charged_and_nobody_but_the_acquirer_sees_it() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let cvc = siv.capture("card-cvc", "123").await;
    let body = json!({"inputs": {"card": card, "cvc": cvc, "amount": 1200, "order": "order-1"}, "reference": "order-1", "onBehalfOf": "user-7"});
    let answer = siv.flow("charge-card").post("/v1/flows/charge-card/invoke", &body).await.expect(200);
    let json = answer.json();
    assert_eq!(json["outputs"]["status"], "approved");
    assert_eq!(json["outputs"]["last4"], "4242");
    assert!(json["outputs"]["charge"].as_str().unwrap().starts_with("ch_"));
    assert!(!answer.text.contains("4242424242424242"));
    assert_eq!(json["receipts"].as_array().unwrap().len(), 2, "one for each secure input");
    let run = siv.flow("charge-card").get(&format!("/v1/runs/{}", json["runId"].as_str().unwrap())).await.expect(200);
    assert_eq!(run.json()["state"], "completed");
    let entries = siv.entries("flow=charge-card").await;
    let count = |action: &str| entries.iter().filter(|e| e["action"] == action).count();
    assert_eq!((count("relay.intent"), count("relay.outcome")), (2, 2), "{entries:#?}");
}

#[tokio::test]
async fn a_declined_card_is_declined() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4000000000000002").await;
    let cvc = siv.capture("card-cvc", "123").await;
    let answer =
        siv.invoke("charge-card", json!({"card": card, "cvc": cvc, "amount": 1, "order": "o"})).await.expect(200);
    assert_eq!(answer.json()["outputs"]["status"], "declined");
}

#[tokio::test]
async fn a_verification_code_is_spent_by_its_first_use_and_gone() {
    let siv = Siv::start();
    let cvc = siv.capture("card-cvc", "737").await;
    for expected in [200, 404] {
        let card = siv.capture("card-number", "4242424242424242").await;
        siv.invoke("charge-card", json!({"card": card, "cvc": cvc, "amount": 1, "order": "o"})).await.expect(expected);
    }
}

#[tokio::test]
async fn only_the_revealing_flow_reveals() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "5555555555554444").await;
    let summary = siv.invoke("card-summary", json!({"card": card})).await.expect(200);
    assert_eq!(summary.json()["outputs"], json!({"last4": "4444", "brand": "mastercard"}));
    let revealed = siv.invoke("reveal-card", json!({"card": card})).await.expect(200);
    assert_eq!(revealed.json()["outputs"]["card"], "5555555555554444");
    assert_eq!(siv.entries("action=value.revealed").await.len(), 1);
    assert_eq!(siv.entries("action=value.dereferenced").await.len(), 1);
}

#[tokio::test]
async fn a_password_is_verified_and_never_seen() {
    let siv = Siv::start();
    // OWASP parameters: m = 19456, t = 2, p = 1.
    let phc = tests::bodies::phc("correct horse battery");
    for (password, verified) in [("correct horse battery", true), ("wrong horse battery", false)] {
        let key = siv.capture("password", password).await;
        let answer = siv.invoke("verify-password", json!({"password": key, "phc": phc})).await.expect(200);
        assert_eq!(answer.json()["outputs"]["verified"], verified);
        assert!(!answer.text.contains("horse"));
    }
}

#[tokio::test]
async fn fifty_parallel_uses_of_a_single_use_value_succeed_once() {
    let siv = Siv::start();
    let cvc = siv.capture("card-cvc", "123").await;
    let card = siv.capture("card-number", "4242424242424242").await;
    let runs = (0..50).map(|_| siv.invoke("charge-card", json!({"card": card, "cvc": cvc, "amount": 1, "order": "o"})));
    let answers = futures_util::future::join_all(runs).await;
    let done = answers.iter().filter(|a| a.status == 200).count();
    assert_eq!(done, 1, "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
    assert!(answers.iter().all(|a| a.status == 200 || a.refusal() == (404, "value.not_found".to_owned())));
}
