//! Who is refused, and that all refusals of a value look alike.

use serde_json::json;
use tests::{Siv, bodies};

#[tokio::test]
async fn a_browser_cannot_dereference() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let token = siv.session(&["card-number"]).await;
    let body = json!({"inputs": {"card": card}});
    for path in [
        "/v1/flows/reveal-card/invoke",
        "/v1/values/lookup",
        "/v1/values",
        "/v1/runs/x",
        "/v1/log/entries",
        "/console/",
    ] {
        let public = siv.browser().with_bearer(siv.flow("reveal-card").bearer());
        assert_eq!(public.post(path, &body).await.status, 404, "{path} exists on the public listener");
    }
    let private = siv.stranger().with_bearer(&token);
    let answer = private.post("/v1/flows/reveal-card/invoke", &body).await;
    assert!([401, 403].contains(&answer.status), "{}", answer.text);
    assert!(!answer.text.contains("4242424242424242"));
}

#[tokio::test]
async fn absent_foreign_expired_spent_deleted_and_wrong_secret_get_one_answer() {
    let siv = Siv::start();
    let app = siv.app();
    let card = siv.capture("card-number", "4242424242424242").await;
    let other = siv.capture("card-number", "5555555555554444").await;
    let deleted = siv.capture("card-number", "4242424242424242").await;
    app.post("/v1/values/delete", &json!({"secureValueKey": deleted})).await.expect(204);
    let spent = siv.capture("card-cvc", "123").await;
    siv.invoke("charge-card", json!({"card": card, "cvc": spent, "amount": 1, "order": "o"})).await.expect(200);
    let absent = bodies::secure_value_key();
    let crossed = bodies::cross(&card, &other);
    let expired = {
        let items = json!({"items": [{"field": "card-number", "value": "4242424242424242", "ttlSeconds": 1}]});
        let answer = app.post("/v1/values", &items).await.expect(200);
        let key = answer.json()["results"][0]["secureValueKey"].as_str().unwrap().to_owned();
        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
        key
    };
    let mut seen = Vec::new();
    for key in [&absent, &crossed, &deleted, &expired] {
        let answer = siv.invoke("card-summary", json!({"card": key})).await;
        seen.push((answer.refusal(), shape(&answer)));
    }
    let answer = siv.invoke("charge-card", json!({"card": card, "cvc": spent, "amount": 1, "order": "o"})).await;
    seen.push((answer.refusal(), shape(&answer)));
    assert_eq!(seen[0].0, (404, "value.not_found".to_owned()));
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:#?}");
}

/// Everything of an answer but what names the request.
fn shape(answer: &tests::Answer) -> (serde_json::Value, Vec<String>) {
    let mut body = answer.json();
    for member in ["requestId", "instance"] {
        body.as_object_mut().unwrap().remove(member);
    }
    let names = answer.headers.iter().map(|(name, _)| name.clone()).collect();
    (body, names)
}

#[tokio::test]
async fn a_credential_opens_its_own_door_only() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let body = json!({"inputs": {"card": card}});
    for actor in [siv.app(), siv.operator(), siv.auditor(), siv.custodian(), siv.flow("card-summary")] {
        let answer = actor.post("/v1/flows/reveal-card/invoke", &body).await;
        assert_eq!(answer.refusal(), (403, "policy.denied".to_owned()), "{}", answer.text);
    }
    assert_eq!(
        siv.stranger().post("/v1/flows/reveal-card/invoke", &body).await.refusal(),
        (401, "auth.missing".to_owned())
    );
    let guessed =
        siv.stranger().with_bearer("siv_flow_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(guessed.post("/v1/flows/reveal-card/invoke", &body).await.refusal(), (401, "auth.invalid".to_owned()));
    for (actor, path) in
        [(siv.operator(), "/v1/log/entries"), (siv.app(), "/v1/log/entries"), (siv.auditor(), "/v1/apps")]
    {
        assert_eq!(actor.get(path).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn a_value_is_bound_to_its_flows_and_purposes() {
    let siv = Siv::start();
    let token = siv
        .app()
        .post("/v1/capture/sessions", &json!({"app": "demo-shop", "fields": ["card-number"], "flows": ["charge-card"]}))
        .await
        .expect(201);
    let browser = siv.browser().with_bearer(token.json()["captureToken"].as_str().unwrap());
    let answer = browser
        .post("/v1/capture/values", &json!({"values": [{"field": "card-number", "value": "4242424242424242"}]}))
        .await;
    let card = answer.expect(201).json()["values"][0]["secureValueKey"].as_str().unwrap().to_owned();
    let refused = siv.invoke("card-summary", json!({"card": card})).await;
    assert_eq!(refused.refusal(), (403, "policy.denied".to_owned()));
    let denied = siv.entries("action=access.denied").await;
    assert!(denied.iter().any(|e| e["flow"]["name"] == "card-summary"), "{denied:#?}");
}
