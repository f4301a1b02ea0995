//! Putting values in.

use serde_json::json;
use tests::{Siv, bodies};

#[tokio::test]
async fn a_capture_answers_with_keys_and_nothing_else() {
    let siv = Siv::start();
    let token = siv.session(&["card-number", "card-cvc"]).await;
    let browser = siv.browser().with_bearer(&token);
    let body = json!({"values": [{"field": "card-number", "value": "4242 4242 4242 4242"}, {"field": "card-cvc", "value": "123"}]});
    let answer = browser.post("/v1/capture/values", &body).await.expect(201).json();
    for value in answer["values"].as_array().unwrap() {
        let members: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(members, ["field", "secureValueKey", "expiresAt"]);
        assert_eq!(value["secureValueKey"].as_str().unwrap().len(), 68);
    }
    assert_eq!(answer.as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn a_sealed_capture_opens_and_cannot_be_replayed_or_moved() {
    let siv = Siv::start();
    let token = siv.session(&["card-number", "password"]).await;
    let browser = siv.browser().with_bearer(&token);
    let described = browser.get("/v1/capture/session").await.expect(200).json();
    let sealed = bodies::seal(&described, &token, "card-number", "4242424242424242");
    let body = json!({"values": [{"field": "card-number", "sealed": sealed}]});
    let answer = browser.post("/v1/capture/values", &body).await.expect(201);
    let card = answer.json()["values"][0]["secureValueKey"].clone();
    siv.invoke("card-summary", json!({"card": card})).await.expect(200);
    assert_eq!(browser.post("/v1/capture/values", &body).await.refusal(), (409, "conflict".to_owned()));
    let moved = json!({"values": [{"field": "password", "sealed": sealed}]});
    assert_eq!(browser.post("/v1/capture/values", &moved).await.status, 422);
    let elsewhere = siv.browser().with_bearer(&siv.session(&["card-number"]).await);
    assert_eq!(elsewhere.post("/v1/capture/values", &body).await.status, 422);
}

#[tokio::test]
async fn one_bad_field_keeps_the_whole_form_out() {
    let siv = Siv::start();
    let before = siv.entries("action=value.captured").await.len();
    let browser = siv.browser().with_bearer(&siv.session(&["card-number", "card-cvc"]).await);
    let body = json!({"values": [{"field": "card-number", "value": "4242424242424242"}, {"field": "card-cvc", "value": "12"}]});
    let answer = browser.post("/v1/capture/values", &body).await;
    assert_eq!(answer.refusal(), (422, "validation".to_owned()));
    assert_eq!(answer.json()["errors"][0]["field"], "card-cvc");
    assert_eq!(siv.entries("action=value.captured").await.len(), before);
}

#[tokio::test]
async fn a_session_takes_as_many_values_as_it_was_made_for() {
    let siv = Siv::start();
    let body = json!({"app": "demo-shop", "fields": ["card-number"], "maxValues": 2});
    let token = siv.app().post("/v1/capture/sessions", &body).await.expect(201).json();
    let browser = siv.browser().with_bearer(token["captureToken"].as_str().unwrap());
    let one = json!({"values": [{"field": "card-number", "value": "4242424242424242"}]});
    let answers = futures_util::future::join_all((0..20).map(|_| browser.post("/v1/capture/values", &one))).await;
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 2);
    assert_eq!(answers.iter().filter(|a| a.status == 409).count(), 18, "a session that moves on is nobody's forgery");
}

#[tokio::test]
async fn a_session_may_narrow_the_app_and_never_widen_it() {
    let siv = Siv::start();
    for body in [
        json!({"app": "demo-shop", "fields": ["card-number"], "flows": ["verify-password"]}),
        json!({"app": "demo-shop", "fields": ["card-number"], "flows": ["nobody"]}),
        json!({"app": "demo-shop", "fields": ["card-number"], "purposes": ["marketing"]}),
        json!({"app": "demo-shop", "fields": ["nothing"]}),
    ] {
        let answer = siv.app().post("/v1/capture/sessions", &body).await;
        assert_eq!(answer.refusal(), (422, "validation".to_owned()), "{body}");
    }
}

#[tokio::test]
async fn a_verification_code_cannot_be_extended_and_a_card_can_be_looked_up() {
    let siv = Siv::start();
    let cvc = siv.capture("card-cvc", "123").await;
    let refused =
        siv.app().post("/v1/values/extend", &json!({"secureValueKey": cvc, "expiresAt": "2030-01-01T00:00:00Z"})).await;
    assert_eq!(refused.refusal(), (403, "policy.denied".to_owned()));
    let card = siv.capture("card-number", "4242424242424242").await;
    let found = siv.app().post("/v1/values/lookup", &json!({"secureValueKey": card})).await.expect(200).json();
    assert_eq!((&found["field"], &found["retention"]), (&json!("card-number"), &json!("stored")));
    assert!(!found.to_string().contains("4242424242424242"));
}

#[tokio::test]
async fn a_bad_item_never_fails_its_neighbours() {
    let siv = Siv::start();
    let items = json!({"items": [
        {"field": "card-number", "value": "4242424242424242"},
        {"field": "card-number", "value": "4242424242424241"},
        {"field": "nothing", "value": "x"},
        {"field": "card-number", "value": "5555555555554444"},
    ]});
    let answer = siv.app().post("/v1/values", &items).await.expect(200).json();
    let statuses: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 422, 422, 201]);
}

#[tokio::test]
async fn a_body_with_an_item_of_another_shape_is_refused_by_index_and_member() {
    let siv = Siv::start();
    let items = json!({"items": [
        {"field": "card-number", "value": "5555555555554444"},
        {"field": "card-number"},
        {"field": "card-number", "value": 4242424242424242_u64},
        {"field": "card-number", "value": "4242424242424242", "4242424242424242": true},
    ]});
    let answer = siv.app().post("/v1/values", &items).await.expect(400);
    let problem = answer.json();
    let named = |index: u64, field: &str, code: &str| json!({"index": index, "field": field, "code": code});
    let errors = [named(1, "value", "missing"), named(2, "value", "type"), named(3, "items", "unknown")];
    assert_eq!((&problem["code"], &problem["errors"]), (&json!("malformed"), &json!(errors)));
    assert!(!answer.text.contains("4242424242424242"), "nothing of what was sent is told");
}
