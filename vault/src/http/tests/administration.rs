//! Administration over the routes: documents, credentials, destinations, tenants.

use serde_json::json;

use super::vault::{APP, FLOW, Sent, Vault};

const TOML: &str = "application/toml";

#[tokio::test]
async fn the_same_document_makes_no_new_version_and_another_does() {
    let vault = Vault::demo().await;
    let apply = |path: &'static str, text: String| {
        let vault = &vault;
        async move { vault.ask("PUT", path, "operator", Sent::Text(TOML, &text)).await }
    };
    let again = apply("/v1/flows/card-summary", FLOW.to_owned()).await.expect(200).json();
    assert_eq!((&again["name"], &again["version"]), (&json!("card-summary"), &json!(1)));
    let changed = FLOW.replace("last4 =", "four =");
    assert_eq!(apply("/v1/flows/card-summary", changed).await.expect(200).json()["version"], 2);
    assert_eq!(apply("/v1/apps/demo-shop", APP.to_owned()).await.expect(200).json()["version"], 1);
    let more = format!("{APP}[fields.other]\ntype = \"text\"\n");
    assert_eq!(apply("/v1/apps/demo-shop", more).await.expect(200).json()["version"], 2);
    let applied = vault.entries("admin.flow.applied").await;
    assert_eq!(applied.len(), 2);
    assert_eq!(applied[1]["flow"]["version"], 2);
}

#[tokio::test]
async fn an_app_keeps_what_its_flows_use() {
    let vault = Vault::demo().await;
    for broken in [
        APP.replace("[fields.card-number]\ntype = \"card-number\"", "[fields.card-number]\ntype = \"text\""),
        APP.replace("fields.card-number", "fields.another"),
    ] {
        let answer = vault.ask("PUT", "/v1/apps/demo-shop", "operator", Sent::Text(TOML, &broken)).await;
        assert_eq!(answer.refusal(), (409, "conflict".to_owned()), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_name_belongs_to_the_first_tenant_that_takes_it() {
    let vault = Vault::demo().await;
    vault.ask("POST", "/v1/tenants", "operator", Sent::Json(json!({"name": "other"}))).await.expect(201);
    let taken = vault.ask("PUT", "/v1/apps/demo-shop?tenant=other", "operator", Sent::Text(TOML, APP)).await;
    assert_eq!(taken.refusal(), (409, "conflict".to_owned()));
    let again = vault.ask("POST", "/v1/tenants", "operator", Sent::Json(json!({"name": "other"}))).await;
    assert_eq!(again.refusal(), (409, "conflict".to_owned()));
    for name in ["system", "-system", "Demo", ""] {
        let answer = vault.ask("POST", "/v1/tenants", "operator", Sent::Json(json!({"name": name}))).await;
        assert_eq!(answer.refusal(), (422, "validation".to_owned()), "{name}");
    }
    let listed = vault.ask("GET", "/v1/tenants", "operator", Sent::Nothing).await.expect(200).json();
    let names: Vec<_> = listed["data"].as_array().unwrap().iter().map(|tenant| tenant["name"].clone()).collect();
    assert_eq!(names, ["demo", "other"]);
    let foreign = vault.ask("GET", "/v1/apps?tenant=absent", "operator", Sent::Nothing).await;
    assert_eq!(foreign.refusal(), (404, "not_found".to_owned()));
    let other = vault.ask("GET", "/v1/log/entries?tenant=other", "auditor", Sent::Nothing).await;
    assert_eq!(other.refusal(), (403, "policy.denied".to_owned()));
}

#[tokio::test]
async fn a_credential_is_shown_once_ends_and_can_be_revoked() {
    let vault = Vault::demo().await;
    let body = json!({"kind": "auditor", "name": "second"});
    let made = vault.ask("POST", "/v1/credentials", "operator", Sent::Json(body)).await.expect(201).json();
    let (id, secret) = (made["credentialId"].as_str().unwrap(), made["credential"].as_str().unwrap());
    assert!(secret.starts_with("siv_aud_") && made["expiresAt"].is_string());
    vault.ask("GET", "/v1/log/entries", secret, Sent::Nothing).await.expect(200);
    let listed = vault.ask("GET", "/v1/credentials", "operator", Sent::Nothing).await.expect(200);
    assert!(listed.text.contains(id) && !listed.text.contains(&secret[8..]));
    vault.ask("POST", &format!("/v1/credentials/{id}/revoke"), "operator", Sent::Json(json!({}))).await.expect(204);
    let refused = vault.ask("GET", "/v1/log/entries", secret, Sent::Nothing).await;
    assert_eq!(refused.refusal(), (401, "auth.invalid".to_owned()));
    let wrong = format!("{}A", &secret[..secret.len() - 1]);
    assert_eq!(vault.ask("GET", "/v1/log/entries", &wrong, Sent::Nothing).await.status, 401);
}

#[tokio::test]
async fn a_credential_is_bound_to_what_exists() {
    let vault = Vault::demo().await;
    for (body, field) in [
        (json!({"kind": "app", "name": "a"}), "app"),
        (json!({"kind": "app", "name": "a", "app": "absent"}), "app"),
        (json!({"kind": "flow", "name": "a", "flow": "absent"}), "flow"),
        (json!({"kind": "auditor", "name": "a", "flow": "card-summary"}), "flow"),
        (json!({"kind": "capture", "name": "a"}), "kind"),
        (json!({"kind": "auditor", "name": " "}), "name"),
        (json!({"kind": "auditor", "name": "a", "expiresAt": "2001-01-01T00:00:00Z"}), "expiresAt"),
    ] {
        let answer = vault.ask("POST", "/v1/credentials", "operator", Sent::Json(body)).await;
        assert_eq!(answer.refusal(), (422, "validation".to_owned()), "{field}");
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
}

#[tokio::test]
async fn one_idempotency_key_makes_one_credential() {
    let vault = Vault::demo().await;
    let body = || Sent::Json(json!({"kind": "auditor", "name": "once"}));
    let key = [("idempotency-key", "one")];
    let first = vault.ask_with("POST", "/v1/credentials", "operator", body(), &key).await.expect(201);
    let again = vault.ask_with("POST", "/v1/credentials", "operator", body(), &key).await.expect(201);
    assert_eq!(first.json(), again.json());
    let other = Sent::Json(json!({"kind": "auditor", "name": "twice"}));
    let mismatch = vault.ask_with("POST", "/v1/credentials", "operator", other, &key).await;
    assert_eq!(mismatch.refusal(), (422, "idempotency.mismatch".to_owned()));
    let listed = vault.ask("GET", "/v1/credentials?limit=1000", "operator", Sent::Nothing).await.expect(200);
    assert_eq!(listed.text.matches("\"once\"").count(), 1);
}

#[tokio::test]
async fn a_destination_takes_secrets_and_never_gives_one() {
    let vault = Vault::demo().await;
    let put = |host: &'static str, secrets: serde_json::Value| {
        let body = Sent::Json(json!({"host": host, "secrets": secrets}));
        vault.ask("PUT", "/v1/destinations/acquirer", "operator", body)
    };
    let answer = put("acquirer.example", json!({"apiKey": "3f9c1e7a"})).await.expect(200);
    assert_eq!(answer.json()["secrets"], json!(["apiKey"]));
    assert!(!answer.text.contains("3f9c1e7a"));
    assert_eq!(put("acquirer.example", json!({"second": "x"})).await.json()["secrets"], json!(["apiKey", "second"]));
    // A secret never follows its destination to another host.
    assert_eq!(put("evil.example", json!({})).await.json()["secrets"], json!([]));
    for host in ["", "https://a.example", "a.example/path", "A.example", "a.example:443", "user@a.example"] {
        assert_eq!(put(host, json!({})).await.status, 422, "{host}");
    }
    assert_eq!(vault.ask("GET", "/v1/destinations/acquirer", "operator", Sent::Nothing).await.status, 405);
}

#[tokio::test]
async fn a_sealed_tenant_is_closed_until_its_custodian_opens_it() {
    let vault = Vault::demo().await;
    let body = || Sent::Json(json!({"secureValueKey": "svk_nope"}));
    vault.ask("POST", "/v1/tenants/demo/seal", "custodian", Sent::Json(json!({}))).await.expect(200);
    let sealed = vault.ask("POST", "/v1/values/lookup", "app", body()).await;
    assert_eq!(sealed.refusal(), (503, "tenant.sealed".to_owned()));
    assert!(sealed.headers.contains_key("retry-after"));
    let ready = vault.ask("GET", "/readyz", "", Sent::Nothing).await;
    assert_eq!((ready.status, &ready.json()["tenants"]["demo"][0]), (503, &json!("sealed")));
    let public = vault.browse("GET", "/readyz", "", Sent::Nothing, &[]).await;
    assert!(!public.text.contains("demo"), "{}", public.text);
    vault.ask("POST", "/v1/tenants/demo/unseal", "custodian", Sent::Json(json!({}))).await.expect(200);
    assert_eq!(vault.ask("POST", "/v1/values/lookup", "app", body()).await.status, 422);
    assert_eq!(vault.entries("admin.tenant.sealed").await.len(), 1);
    let other = vault.ask("POST", "/v1/tenants/other/seal", "custodian", Sent::Json(json!({}))).await;
    assert_eq!(other.refusal(), (403, "policy.denied".to_owned()));
}
