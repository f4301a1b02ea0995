//! Refusals leave entries, and requests that name no tenant or too much are told so.

use serde_json::{Value, json};

use super::vault::{APP, FLOW, Sent, Vault};
use crate::domain::RequestId;

/// What the installation's own log counts of refusals.
async fn counted(vault: &Vault) -> Vec<Value> {
    let body = Sent::Json(json!({"kind": "auditor", "name": "of the installation"}));
    let made = vault.ask("POST", "/v1/credentials?tenant=-system", "operator", body).await.expect(201).json();
    vault.state.write_notes(true).await;
    let path = "/v1/log/entries?limit=1000&action=access.denied";
    let listed = vault.ask("GET", path, made["credential"].as_str().unwrap(), Sent::Nothing).await.expect(200).json();
    listed["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn whoever_asks_a_sealed_tenant_stands_in_its_log() {
    let vault = Vault::demo().await;
    vault.ask("POST", "/v1/tenants/demo/seal", "custodian", Sent::Nothing).await.expect(200);
    let body = Sent::Json(json!({"secureValueKey": "svk_nope"}));
    assert_eq!(vault.ask("POST", "/v1/values/lookup", "app", body).await.status, 503);
    let body = Sent::Json(json!({"inputs": {}}));
    assert_eq!(vault.ask("POST", "/v1/flows/card-summary/invoke", "flow", body).await.status, 503);
    let denied = vault.entries("access.denied").await;
    let sealed = denied.iter().filter(|entry| entry["reason"] == "tenant.sealed");
    let mut names: Vec<_> = sealed.map(|entry| entry["actor"]["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["the app", "the flow"], "{denied:?}");
}

#[tokio::test]
async fn a_refusal_of_a_flow_that_is_not_there_names_what_was_asked_and_never_the_name() {
    let vault = Vault::demo().await;
    for name in ["card-sumary", "4242424242424242", "4242-4242-4242-4242", "correct-horse-battery", "cvc-123"] {
        let body = Sent::Json(json!({"inputs": {}}));
        let answer = vault.ask("POST", &format!("/v1/flows/{name}/invoke"), "flow", body).await;
        assert_eq!(answer.refusal(), (403, "policy.denied".to_owned()), "{name}");
    }
    let denied = vault.entries("access.denied").await;
    assert_eq!(denied.len(), 5);
    for entry in &denied {
        assert_eq!(entry["facts"], json!({"asked": "POST /v1/flows/{name}/invoke"}), "{entry}");
        assert!(entry["flow"].is_null() && entry["rule"] == "credential.flow", "{entry}");
    }
}

#[tokio::test]
async fn an_entry_has_the_callers_request_id_where_it_is_a_uuid_and_else_one_of_the_vaults_own() {
    let vault = Vault::demo().await;
    let id = "01890f3c-5a1b-7c3d-8e4f-0123456789ab";
    for given in [id, "req-42"] {
        let headers = [("x-request-id", given)];
        let refused = vault.ask_with("GET", "/v1/apps", "app", Sent::Nothing, &headers).await.expect(403);
        assert_eq!(refused.headers["x-request-id"], given);
        assert_eq!(refused.json()["requestId"], given);
    }
    let denied = vault.entries("access.denied").await;
    let ids: Vec<_> = denied.iter().map(|entry| entry["requestId"].as_str().unwrap()).collect();
    assert!(ids.len() == 2 && ids[0] == id && ids[1] != id, "{ids:?}");
    assert!(ids[1].parse::<RequestId>().is_ok(), "{ids:?}");
}

#[tokio::test]
async fn an_apps_credential_that_asks_for_another_app_stands_in_the_log() {
    let vault = Vault::demo().await;
    let other = APP.replace("demo-shop", "other-shop").replace("[\"card-summary\"]", "[]");
    vault.ask("PUT", "/v1/apps/other-shop", "operator", Sent::Text("application/toml", &other)).await.expect(200);
    let item = json!({"field": "card-number", "value": "4242424242424242"});
    for (path, body) in [
        ("/v1/capture/sessions", json!({"app": "other-shop"})),
        ("/v1/values", json!({"app": "other-shop", "items": [item]})),
    ] {
        let answer = vault.ask("POST", path, "app", Sent::Json(body)).await;
        assert_eq!(answer.refusal(), (403, "policy.denied".to_owned()), "{path}");
        let denied = vault.entries("access.denied").await;
        let entry = denied.last().unwrap();
        assert_eq!(entry["facts"]["asked"], format!("POST {path}"), "{denied:?}");
        assert_eq!((&entry["rule"], &entry["actor"]["name"]), (&json!("credential.app"), &json!("the app")), "{entry}");
    }
    assert_eq!(vault.entries("access.denied").await.len(), 2);
}

#[tokio::test]
async fn browsers_that_are_refused_are_counted() {
    let vault = Vault::demo().await;
    let foreign = [("origin", "https://evil.example")];
    let body = Sent::Json(json!({"app": "demo-shop", "fields": ["card-number"]}));
    let opened = vault.ask("POST", "/v1/capture/sessions", "app", body).await.expect(201).json();
    let (token, body) = (opened["captureToken"].as_str().unwrap(), Sent::Json(json!({"values": []})));
    assert_eq!(vault.browse("POST", "/v1/capture/values", token, body, &foreign).await.status, 403);
    let body = Sent::Json(json!({"app": "demo-shop"}));
    assert_eq!(vault.browse("POST", "/v1/capture/sessions/open", "", body, &[]).await.status, 403);
    let counted = counted(&vault).await;
    for reason in ["origin.foreign", "session_mode.server"] {
        assert_eq!(counted.iter().filter(|entry| entry["reason"] == reason).count(), 1, "{reason}: {counted:?}");
    }
}

#[tokio::test]
async fn the_installations_operator_names_the_tenant_of_what_it_writes() {
    let vault = Vault::demo().await;
    let toml = "application/toml";
    for (path, sent) in [
        ("/v1/apps/demo-shop", Sent::Text(toml, APP)),
        ("/v1/flows/card-summary", Sent::Text(toml, FLOW)),
        ("/v1/destinations/acquirer", Sent::Json(json!({"host": "acquirer.example"}))),
    ] {
        let answer = vault.ask("PUT", &format!("{path}?tenant=-system"), "operator", sent).await;
        assert_eq!(answer.refusal(), (422, "validation".to_owned()), "{path}");
        assert_eq!(answer.json()["errors"][0], json!({"field": "tenant", "code": "missing"}));
    }
}

#[tokio::test]
async fn a_wrong_time_has_one_answer_and_a_head_reads_nothing() {
    let vault = Vault::demo().await;
    for path in ["/v1/log/entries?from=yesterday", "/v1/log/export?from=yesterday"] {
        let answer = vault.ask("GET", path, "auditor", Sent::Nothing).await;
        assert_eq!(answer.refusal(), (422, "validation".to_owned()), "{path}");
        assert_eq!(answer.json()["errors"][0]["field"], "from", "{path}");
    }
    let head = vault.ask("HEAD", "/v1/log/export", "auditor", Sent::Nothing).await.expect(200);
    assert_eq!(head.headers["content-type"], "application/x-tar");
    let reads = vault.entries("log.read").await;
    assert!(reads.is_empty(), "{reads:?}");
}

#[tokio::test]
async fn an_actor_that_is_no_id_is_refused_and_not_answered_with_nothing() {
    let vault = Vault::demo().await;
    let list = |actor: &str| {
        let path = format!("/v1/log/entries?actor={actor}");
        async { vault.ask("GET", &{ path }, "auditor", Sent::Nothing).await }
    };
    let known = vault.entries("admin.credential.created").await[0]["actor"]["id"].as_str().unwrap().to_owned();
    for id in [&*known, "-"] {
        list(id).await.expect(200);
    }
    for named in ["--", "the%20flow", &known[..8], &format!("{known}0"), &format!("siv_flow_{known}")] {
        let answer = list(named).await;
        assert_eq!(answer.refusal(), (422, "validation".to_owned()), "{named}");
        let error = &answer.json()["errors"][0];
        assert_eq!((&error["field"], &error["code"]), (&json!("actor"), &json!("id")), "{named}");
    }
}

#[tokio::test]
async fn a_member_of_a_query_that_does_not_read_is_422_whichever_it_is() {
    let vault = Vault::demo().await;
    for (path, field) in [
        ("/v1/log/entries?valueId=abc", "valueId"),
        ("/v1/log/entries?flow=A+B", "flow"),
        ("/v1/log/entries?app=A+B", "app"),
        ("/v1/log/entries?cursor=abc", "cursor"),
        ("/v1/log/entries?limit=abc", "limit"),
        ("/v1/log/entries?limit=0", "limit"),
        ("/v1/log/entries?to=tomorrow", "to"),
        ("/v1/log/entries?tenant=A+B", "tenant"),
        ("/v1/log/export?to=tomorrow", "to"),
        ("/v1/log/export?from=2&to=1", "from"),
    ] {
        let answer = vault.ask("GET", path, "auditor", Sent::Nothing).await;
        assert_eq!(answer.refusal(), (422, "validation".to_owned()), "{path}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{path}");
    }
    for path in ["/v1/log/entries?colour=1", "/v1/log/entries?limit=1&limit=2"] {
        let answer = vault.ask("GET", path, "auditor", Sent::Nothing).await;
        assert_eq!(answer.refusal(), (400, "malformed".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_field_of_a_session_is_a_name_and_nothing_beside_it() {
    let vault = Vault::demo().await;
    let open = |field: Value| {
        let body = Sent::Json(json!({"app": "demo-shop", "fields": [field]}));
        vault.ask("POST", "/v1/capture/sessions", "app", body)
    };
    open(json!({"field": "card-number"})).await.expect(201);
    let more = open(json!({"field": "card-number", "uses": 1})).await;
    assert_eq!(more.refusal(), (422, "validation".to_owned()));
}
