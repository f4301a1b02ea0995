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

/// Another app, with a field of the same name, and a flow that would take it.
const OTHER_APP: &str = r#"
name    = "other-shop"
origins = ["https://other.example"]
[fields.card-number]
type      = "card-number"
retention = "stored"
purposes  = ["support"]
flows     = ["other-summary"]
ttl_seconds = 31536000
"#;

/// Puts a card in as this app's server.
async fn put(app: &tests::Actor, more: serde_json::Value) -> String {
    let mut item = json!({"field": "card-number", "value": "4242424242424242"});
    item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = app.post("/v1/values", &json!({"items": [item]})).await.expect(200);
    answer.json()["results"][0]["secureValueKey"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

/// The server of another app, of this tenant or of another one.
async fn other_app(siv: &Siv, tenant: &str) -> tests::Actor {
    let operator = siv.operator();
    if tenant != "demo" {
        operator.post("/v1/tenants", &json!({"name": tenant})).await.expect(201);
    }
    // Names of apps are unique over all tenants.
    let name = format!("{tenant}-other-shop");
    let document = OTHER_APP.replace("name    = \"other-shop\"", &format!("name = \"{name}\""));
    operator.put_toml(&format!("/v1/apps/{name}?tenant={tenant}"), &document).await.expect(200);
    let wanted = json!({"kind": "app", "name": "server", "app": name});
    let made = operator.post(&format!("/v1/credentials?tenant={tenant}"), &wanted).await.expect(201);
    siv.stranger().with_bearer(made.json()["credential"].as_str().unwrap())
}

/// Changes a value's row behind the running vault's back.
async fn tamper(siv: &Siv, key: &str, change: &str) {
    use sqlx::Connection as _;
    let id = key.parse::<vault::domain::SecureValueKey>().unwrap().value_id();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(siv.data().join("siv.db"));
    let mut database = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let sql = format!("UPDATE secure_values SET {change} WHERE value_id = ?");
    let done = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&id.as_bytes()[..]).execute(&mut database).await.unwrap();
    assert_eq!(done.rows_affected(), 1, "{change}");
    database.close().await.unwrap();
}

#[tokio::test]
async fn absent_foreign_expired_spent_deleted_and_wrong_secret_get_one_answer() {
    let siv = Siv::start();
    let app = siv.app();
    let card = put(&app, json!({})).await;
    let deleted = put(&app, json!({})).await;
    app.post("/v1/values/delete", &json!({"secureValueKey": deleted})).await.expect(204);
    let expired = put(&app, json!({"ttlSeconds": 1})).await;
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    let mut unusable = vec![
        ("absent", bodies::secure_value_key()),
        ("wrong secret", bodies::cross(&card, &put(&app, json!({})).await)),
        ("deleted", deleted),
        ("expired", expired),
        ("another app's", put(&other_app(&siv, "demo").await, json!({})).await),
        ("another tenant's", put(&other_app(&siv, "acme").await, json!({})).await),
    ];
    for (what, change) in [
        ("an altered seal", "sealed = CAST(substr(sealed, 1, 40) || X'00' || substr(sealed, 42) AS BLOB)"),
        ("an altered verifier", "verifier = zeroblob(32)"),
        ("an altered class", "retention = 'session'"),
        ("altered flows", "flows = flows || ' z'"),
        ("a later end", "expires = expires + 1"),
    ] {
        let key = put(&app, json!({})).await;
        tamper(&siv, &key, change).await;
        unusable.push((what, key));
    }
    let spent = siv.capture("card-cvc", "123").await;
    siv.invoke("charge-card", json!({"card": card, "cvc": spent, "amount": 1, "order": "o"})).await.expect(200);
    let mut seen = Vec::new();
    for (what, key) in &unusable {
        seen.push((*what, "invoke", shape(&siv.invoke("card-summary", json!({"card": key})).await)));
    }
    let again = siv.invoke("charge-card", json!({"card": card, "cvc": spent, "amount": 1, "order": "o"})).await;
    seen.push(("spent", "invoke", shape(&again)));
    unusable.push(("spent", spent));
    for (what, key) in &unusable {
        for (act, body) in [
            ("lookup", json!({"secureValueKey": key})),
            ("extend", json!({"secureValueKey": key, "expiresAt": "2027-12-01T00:00:00Z"})),
            ("delete", json!({"secureValueKey": key})),
        ] {
            seen.push((*what, act, shape(&app.post(&format!("/v1/values/{act}"), &body).await)));
        }
    }
    assert!(seen[0].2.0.contains("\"value.not_found\"") && seen[0].2.1 == 404, "{:?}", seen[0]);
    let other: Vec<_> = seen.iter().filter(|(.., shape)| *shape != seen[0].2).collect();
    assert!(other.is_empty(), "not the one answer {:#?}: {other:#?}", seen[0]);
    // The value beside them all is untouched.
    siv.invoke("card-summary", json!({"card": card})).await.expect(200);
}

/// An answer's body to the byte, its status and the names of its headers; the request's own id left out.
fn shape(answer: &tests::Answer) -> (String, u16, Vec<String>) {
    let id = answer.json()["requestId"].as_str().unwrap_or_default().to_owned();
    let body = if id.is_empty() { answer.text.clone() } else { answer.text.replace(&id, "") };
    (body, answer.status, answer.headers.iter().map(|(name, _)| name.clone()).collect())
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
