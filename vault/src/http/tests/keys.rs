//! A tenant's keys over the routes, and that asking about them makes none.

use serde_json::json;

use super::vault::{Sent, Vault};

#[tokio::test]
async fn keys_are_rotated_and_rewrapped_without_a_body() {
    let vault = Vault::demo().await;
    let post = |path: &'static str, sent| vault.ask("POST", path, "custodian", sent);
    assert_eq!(post("/v1/keks/rotate", Sent::Nothing).await.expect(201).json()["version"], 2);
    post("/v1/keks/rewrap", Sent::Nothing).await.expect(200);
    let text = post("/v1/keks/rotate", Sent::Text("text/plain", "{}")).await;
    assert_eq!(text.refusal(), (415, "media_type".to_owned()));
}

#[tokio::test]
async fn a_rotation_can_be_tried_dry() {
    let vault = Vault::demo().await;
    let dry = || Sent::Json(json!({"dryRun": true}));
    let would = vault.ask("POST", "/v1/keks/rotate", "custodian", dry()).await.expect(200).json();
    assert_eq!((&would["version"], &would["state"]), (&json!(2), &json!("active")));
    let listed = vault.ask("GET", "/v1/keks", "custodian", Sent::Nothing).await.expect(200).json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    assert!(vault.entries("key.kek.rotated").await.is_empty());
    assert_eq!(would["kekId"], listed["data"][0]["kekId"]);
    let described = vault.ask("GET", "/v1/openapi.json", "custodian", Sent::Nothing).await.expect(200).json();
    let planned = &described["paths"]["/v1/keks/rotate"]["post"]["responses"]["200"];
    assert!(
        planned["content"]["application/json"].is_object() && described.to_string().contains("takesTwo"),
        "{planned}"
    );
    assert_eq!(vault.ask("POST", "/v1/keks/rotate", "custodian", Sent::Nothing).await.expect(201).json()["version"], 2);
}

#[tokio::test]
async fn a_seal_and_its_end_can_be_tried_dry() {
    let vault = Vault::demo().await;
    let dry = async |verb: &str| {
        let path = format!("/v1/tenants/demo/{verb}");
        let would = vault.ask("POST", &path, "custodian", Sent::Json(json!({"dryRun": true}))).await.expect(200).json();
        assert_eq!((&would["name"], &would["dryRun"]), (&json!("demo"), &json!(true)), "{would}");
        (would["sealed"].as_bool().unwrap(), would["wouldChange"].as_bool().unwrap())
    };
    assert_eq!((dry("seal").await, dry("unseal").await), ((false, true), (false, false)));
    assert!(vault.entries("admin.tenant.sealed").await.is_empty());
    let done = vault.ask("POST", "/v1/tenants/demo/seal", "custodian", Sent::Nothing).await.expect(200).json();
    assert_eq!((&done["sealed"], &done["dryRun"], &done["wouldChange"]), (&json!(true), &json!(false), &json!(null)));
    assert_eq!((dry("seal").await, dry("unseal").await), ((true, false), (true, true)));
    assert!(vault.entries("admin.tenant.unsealed").await.is_empty());
}

#[tokio::test]
async fn versions_are_listed_by_number_and_say_whose_they_are() {
    let vault = Vault::demo().await;
    for _ in 0..10 {
        vault.ask("POST", "/v1/keks/rotate", "custodian", Sent::Nothing).await.expect(201);
    }
    let mut versions = Vec::new();
    let mut path = "/v1/keks?limit=4".to_owned();
    loop {
        let listed = vault.ask("GET", &path, "custodian", Sent::Nothing).await.expect(200).json();
        for kek in listed["data"].as_array().unwrap() {
            assert_eq!(kek["tenant"], "demo");
            versions.push(kek["version"].as_u64().unwrap());
        }
        let Some(next) = listed["page"]["next"].as_str() else { break };
        path = format!("/v1/keks?limit=4&cursor={next}");
    }
    assert_eq!(versions, (1..=11).collect::<Vec<_>>());
}

#[tokio::test]
async fn asking_whether_a_tenant_is_ready_makes_no_key() {
    let vault = Vault::demo().await;
    vault.ask("POST", "/v1/tenants", "operator", Sent::Json(json!({"name": "fresh"}))).await.expect(201);
    let body = Sent::Json(json!({"kind": "custodian", "name": "of the fresh one"}));
    let made = vault.ask("POST", "/v1/credentials?tenant=fresh", "operator", body).await.expect(201).json();
    let keys = async || {
        let (who, dry) = (made["credential"].as_str().unwrap(), Sent::Json(json!({"dryRun": true})));
        vault.ask("POST", "/v1/keks/rewrap", who, dry).await.expect(200).json()
    };
    let before = keys().await;
    let ready = vault.ask("GET", "/readyz", "", Sent::Nothing).await.expect(200);
    assert_eq!(ready.json()["tenants"]["fresh"], json!([]));
    assert_eq!(keys().await, before);
}
