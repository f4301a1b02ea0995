//! Requests as they are meant, of every kind of caller.

use serde_json::{Value, json};
use tests::{Actor, Siv};

/// One of them.
pub struct Seed {
    pub host: String,
    pub method: &'static str,
    pub path: String,
    pub bearer: String,
    pub media: &'static str,
    pub body: String,
}

impl Seed {
    fn new(actor: &Actor, method: &'static str, path: &str, media: &'static str, body: &str) -> Self {
        let host = actor.base().trim_start_matches("http://").to_owned();
        let (path, bearer, body) = (path.to_owned(), actor.bearer().to_owned(), body.to_owned());
        Self { host, method, path, bearer, media, body }
    }

    fn post(actor: &Actor, path: &str, body: &Value) -> Self {
        Self::new(actor, "POST", path, "application/json", &body.to_string())
    }

    fn get(actor: &Actor, path: &str) -> Self {
        Self::new(actor, "GET", path, "application/json", "")
    }
}

const APP: &str = r#"
name = "other-shop"
origins = ["https://shop.example"]
[fields.code]
type = "text"
purposes = ["support"]
flows = ["peek"]
"#;

/// Requests of most kinds of body and of list. None takes away what another needs.
pub async fn seeds(siv: &Siv) -> Vec<Seed> {
    let key = siv.capture("card-number", "4242424242424242").await;
    let (app, flow) = (siv.app(), siv.flow("card-summary"));
    let (operator, auditor, custodian) = (siv.operator(), siv.auditor(), siv.custodian());
    let browser = siv.browser().with_bearer(&siv.session(&["card-number", "card-expiry"]).await);
    let item = json!({"field": "card-number", "value": "4242424242424242"});
    let of_a_value = format!("/v1/log/entries?limit=5&valueId={}&outcome=allowed", uuid::Uuid::now_v7());
    let summary = include_str!("../../vault/src/cli/demo/card-summary.toml").replace("card-summary", "other-summary");
    vec![
        Seed::post(
            &app,
            "/v1/capture/sessions",
            &json!({"app": "demo-shop", "fields": ["card-number"], "maxValues": 3}),
        ),
        Seed::post(&app, "/v1/values", &json!({"items": [item, {"field": "card-number", "value": "1"}]})),
        Seed::post(&app, "/v1/values/lookup", &json!({"secureValueKey": key})),
        Seed::post(&app, "/v1/values/extend", &json!({"secureValueKey": key, "expiresAt": "2031-01-01T00:00:00Z"})),
        Seed::post(&browser, "/v1/capture/values", &json!({"values": [item]})),
        Seed::post(
            &browser,
            "/v1/capture/values",
            &json!({"values": [{"field": "card-number", "sealed": "AAAA".repeat(60)}]}),
        ),
        Seed::get(&browser, "/v1/capture/session"),
        Seed::post(
            &siv.browser(),
            "/v1/capture/sessions/open",
            &json!({"app": "demo-shop", "fields": ["card-number"]}),
        ),
        Seed::post(&siv.browser(), "/f/demo-shop/report", &json!([{"type": "csp-violation", "body": {"a": 1}}])),
        Seed::get(&siv.browser(), "/f/demo-shop/"),
        Seed::post(&flow, "/v1/flows/card-summary/invoke", &json!({"inputs": {"card": key}, "reference": "r-1"})),
        Seed::get(&flow, &format!("/v1/runs/{}", uuid::Uuid::now_v7())),
        Seed::new(&operator, "PUT", "/v1/apps/other-shop", "application/toml", APP),
        Seed::new(&operator, "PUT", "/v1/flows/other-summary", "application/toml", &summary),
        Seed::post(&operator, "/v1/credentials", &json!({"kind": "auditor", "name": "a", "tenant": "demo"})),
        Seed::post(&operator, "/v1/tenants", &json!({"name": "acme"})),
        Seed::get(&operator, "/v1/credentials?limit=2"),
        Seed::get(&operator, "/v1/destinations"),
        Seed::get(&auditor, &of_a_value),
        Seed::get(&auditor, "/v1/log/entries?from=2026-01-01T00:00:00Z&action=value.captured"),
        Seed::get(&auditor, "/v1/log/tile/0/000"),
        Seed::post(&auditor, "/v1/log/proof", &json!({"index": 0})),
        Seed::get(&custodian, "/v1/keks"),
        Seed::get(&custodian, "/v1/approvals?limit=2"),
        Seed::post(&custodian, "/v1/keks/rewrap", &json!({"perSecond": 10, "dryRun": true})),
        Seed::get(&siv.stranger(), "/readyz"),
        Seed::get(&siv.stranger(), "/console/"),
    ]
}
