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

fn charge(order: &str, card: &str, cvc: &str) -> serde_json::Value {
    json!({"card": card, "cvc": cvc, "amount": 1, "order": order})
}

#[tokio::test]
async fn a_destination_that_misbehaves_is_answered_with_a_class_and_no_word_of_its_own() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    for (order, refusal, class, state) in [
        ("test-echo", (502, "flow.output_blocked"), None, "failed"),
        ("test-error", (502, "destination.failed"), Some("status"), "failed"),
        ("test-redirect", (502, "destination.failed"), Some("redirect"), "failed"),
        ("test-close", (502, "destination.failed"), Some("broken"), "unknown"),
    ] {
        let cvc = siv.capture("card-cvc", "123").await;
        let answer = siv.invoke("charge-card", charge(order, &card, &cvc)).await;
        assert_eq!(answer.refusal(), (refusal.0, refusal.1.to_owned()), "{order}: {}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(!answer.text.contains("4242424242424242") && !answer.text.contains("cannot charge"), "{}", answer.text);
        let problem = answer.json();
        assert_eq!(problem["errors"][0]["code"].as_str(), class, "{order}");
        let run = problem["runId"].as_str().unwrap();
        let known = siv.flow("charge-card").get(&format!("/v1/runs/{run}")).await.expect(200).json();
        assert_eq!(known["state"], state, "{order}: {known}");
        let outcomes = siv.entries("action=relay.outcome").await;
        let own = outcomes.iter().filter(|entry| entry["runId"] == run);
        let said: Vec<_> = own.map(|entry| (entry["outcome"].clone(), entry["reason"].clone())).collect();
        assert_eq!(said, vec![(json!(state), json!(refusal.1)); 2], "{order}");
    }
}

#[tokio::test]
async fn a_destination_is_denied_on_apply_and_before_anything_is_spent() {
    let siv = Siv::start();
    let document = include_str!("../../vault/src/cli/demo/charge-card.toml");
    for url in [siv.operator().base(), siv.browser().base(), "https://10.0.0.1", "http://acquirer.example"] {
        let text = document.replace("https://acquirer.example", url);
        let answer = siv.operator().put_toml("/v1/flows/charge-card", &text).await;
        assert_eq!(answer.refusal(), (422, "destination.denied".to_owned()), "{url}: {}", answer.text);
    }
    // The secret now belongs to another host than the flow speaks to.
    let moved = json!({"host": "other.example", "secrets": {"apiKey": "another secret"}});
    siv.operator().put("/v1/destinations/acquirer", &moved).await.expect(200);
    let card = siv.capture("card-number", "4242424242424242").await;
    let cvc = siv.capture("card-cvc", "123").await;
    for _ in 0..2 {
        let answer = siv.invoke("charge-card", charge("o", &card, &cvc)).await;
        assert_eq!(answer.refusal(), (422, "destination.denied".to_owned()), "{}", answer.text);
    }
    let denied = siv.entries("action=access.denied").await;
    assert_eq!(denied.len(), 2, "{denied:#?}");
    assert!(
        denied.iter().all(|entry| entry["reason"] == "destination.denied" && entry["flow"]["name"] == "charge-card")
    );
    assert!(siv.entries("action=relay.intent").await.is_empty(), "nothing was spent");
}

#[tokio::test]
async fn a_run_is_told_to_its_own_flow_of_its_own_tenant_only() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let run = siv.invoke("card-summary", json!({"card": card})).await.expect(200).json()["runId"].clone();
    let path = format!("/v1/runs/{}", run.as_str().unwrap());
    siv.flow("card-summary").get(&path).await.expect(200);
    let foreign = siv.flow("reveal-card").get(&path).await;
    assert_eq!(foreign.refusal(), (404, "not_found".to_owned()));
    let operator = siv.operator();
    operator.post("/v1/tenants", &json!({"name": "other"})).await.expect(201);
    let app = include_str!("../../vault/src/cli/demo/demo-shop.toml").replace("\"demo-shop\"", "\"other-shop\"");
    operator.put_toml("/v1/apps/other-shop?tenant=other", &app).await.expect(200);
    let flow = include_str!("../../vault/src/cli/demo/card-summary.toml").replace("\"demo-shop\"", "\"other-shop\"");
    operator.put_toml("/v1/flows/card-summary?tenant=other", &flow).await.expect(200);
    let wanted = json!({"kind": "flow", "name": "theirs", "flow": "card-summary"});
    let made = operator.post("/v1/credentials?tenant=other", &wanted).await.expect(201).json();
    let theirs = siv.stranger().with_bearer(made["credential"].as_str().unwrap()).get(&path).await;
    assert_eq!(theirs.refusal(), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn an_app_may_take_bindings_from_its_flows_but_no_field_they_use() {
    let siv = Siv::start();
    let app = include_str!("../../vault/src/cli/demo/demo-shop.toml");
    let put = async |from: &str, to: &str| {
        assert!(app.contains(from), "{from}");
        siv.operator().put_toml("/v1/apps/demo-shop", &app.replace(from, to)).await
    };
    for (from, to) in [
        ("[\"charge-card\", \"reveal-card\", \"card-summary\"]", "[\"charge-card\"]"),
        ("[\"payment\", \"support\"]", "[\"payment\"]"),
        ("[fields.card-expiry]", "[fields.card-until]"),
    ] {
        put(from, to).await.expect(200);
    }
    for (from, to) in [
        ("[fields.card-cvc]", "[fields.cvc]"),
        ("type     = \"password\"\nmin      = 8\nmax      = 128\n", "type     = \"text\"\nmin      = 8\n"),
    ] {
        assert_eq!(put(from, to).await.refusal(), (409, "conflict".to_owned()), "{to}");
    }
}
