//! Who may do what, made from the router's own table; and that refusals repeat nothing.

use serde_json::{Value, json};

use super::vault::{Answer, Sent, Vault};
use crate::domain::{Clock, SecureValueKey};
use crate::http::route::{Admits, Reads, Route};
use crate::http::router::{private_routes, public_routes};

fn filled(route: &Route) -> String {
    let names =
        [("{name}", "card-summary"), ("{app}", "demo-shop"), ("{tenant}", "demo"), ("{id}", "x"), ("{runId}", "x")];
    let path = names.iter().fold(route.path.to_owned(), |path, (name, value)| path.replace(name, value));
    let path = path.replace("{*path}", "0/000");
    assert!(!path.contains('{'), "{path} has a name this test does not fill");
    path
}

fn sent(route: &Route) -> Sent<'static> {
    match route.reads {
        Reads::Nothing => Sent::Nothing,
        // Here a request is read before it is asked who may: so it must be one that can be read.
        Reads::Json(_) if route.path.ends_with("/invoke") => Sent::Json(json!({"inputs": {"card": absent_key()}})),
        Reads::Json(_) => Sent::Json(json!({})),
        Reads::Toml => Sent::Text("application/toml", ""),
    }
}

/// A key of the right spelling that was never given out.
fn absent_key() -> String {
    SecureValueKey::generate(Clock::System.now()).unwrap().reveal_text().to_string()
}

#[tokio::test]
async fn the_first_refusal_in_the_order_is_the_answer() {
    let vault = Vault::demo().await;
    let invoke = |who: &'static str, inputs: Value| {
        vault.ask("POST", "/v1/flows/card-summary/invoke", who, Sent::Json(json!({"inputs": inputs})))
    };
    let refused = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(invoke("", json!({"card": "svk_nope"})).await.refusal(), refused(401, "auth.missing"));
    assert_eq!(invoke("app", json!({"card": "svk_nope"})).await.refusal(), refused(422, "validation"));
    assert_eq!(invoke("app", json!({"card": absent_key()})).await.refusal(), refused(403, "policy.denied"));
    assert_eq!(invoke("flow", json!({"card": absent_key()})).await.refusal(), refused(404, "value.not_found"));
}

#[tokio::test]
async fn every_route_admits_the_kind_its_table_names_and_denies_all_others() {
    let vault = Vault::demo().await;
    let mut denied = Vec::new();
    for route in private_routes() {
        let Admits::Only(kind) = route.admits else { continue };
        let path = filled(&route);
        let method = route.method.as_str();
        let nobody = vault.ask(method, &path, "", sent(&route)).await;
        assert_eq!(nobody.refusal(), (401, "auth.missing".to_owned()), "{method} {path}");
        assert_eq!(nobody.headers["www-authenticate"], "Bearer");
        for who in ["operator", "custodian", "app", "flow", "auditor"] {
            let answer = vault.ask(method, &path, who, sent(&route)).await;
            if who == kind.as_str() {
                assert!(![401, 403, 405, 500].contains(&answer.status), "{method} {path} as {who}: {}", answer.text);
            } else {
                assert_eq!(answer.refusal(), (403, "policy.denied".to_owned()), "{method} {path} as {who}");
                // Of a flow the room of flows says itself what it refused.
                denied.extend((!path.ends_with("/invoke")).then(|| format!("{method} {}", route.path)));
            }
        }
    }
    // What was asked stands in each entry, as the table spells it: nothing that a caller wrote into the path.
    let entries = vault.entries("access.denied").await;
    let of_kind = entries.iter().filter(|entry| entry["rule"] == "credential.kind");
    let mut asked: Vec<_> = of_kind.map(|entry| entry["facts"]["asked"].as_str().unwrap().to_owned()).collect();
    asked.sort();
    denied.sort();
    assert_eq!(asked, denied);
}

#[tokio::test]
async fn the_public_listener_has_no_route_of_the_private_one() {
    let vault = Vault::demo().await;
    let public: Vec<&str> = public_routes().iter().map(|route| route.path).collect();
    for route in private_routes() {
        if public.contains(&route.path) {
            continue;
        }
        for who in ["", "operator", "app", "flow", "auditor", "custodian"] {
            let answer = vault.browse(route.method.as_str(), &filled(&route), who, sent(&route), &[]).await;
            assert_eq!(answer.status, 404, "{} {}", route.method, route.path);
        }
    }
}

#[tokio::test]
async fn a_path_is_matched_as_it_stands() {
    let vault = Vault::demo().await;
    for path in [
        "/v1//apps",
        "/v1/apps/",
        "/v1/./apps",
        "/V1/apps",
        "/v1/apps%2f",
        "/v1/flows/../apps",
        "/v1/%61pps;x",
        "/v1/ap%70s",
        "/v1/apps/%2e%2e",
        "/v1/apps/..%2fflows",
        "//v1/apps",
        "/v1/apps/Demo-Shop",
        "/v1/log/../apps",
    ] {
        let got = vault.ask("GET", path, "operator", Sent::Nothing).await;
        assert!([404, 405].contains(&got.status), "{path}: {}", got.status);
        let put = vault.ask("PUT", path, "operator", Sent::Text("application/toml", super::vault::APP)).await;
        assert!([404, 405].contains(&put.status), "{path}: {}", put.status);
    }
}

#[tokio::test]
async fn refusals_never_repeat_what_was_sent() {
    let vault = Vault::demo().await;
    let canary = "3f9c1e7a5b2d48f0a6c4e2b1";
    let mut answers: Vec<Answer> = Vec::new();
    for route in private_routes().iter().chain(&public_routes()) {
        let who = match route.admits {
            Admits::Only(kind) => kind.as_str(),
            Admits::Anyone => "",
        };
        let method = route.method.as_str();
        let path = filled(route);
        for body in bodies(canary) {
            let sent = Sent::Json(body.clone());
            answers.push(vault.ask(method, &path, who, sent).await);
            answers.push(vault.browse(method, &path, who, Sent::Json(body), &[]).await);
        }
        answers.push(vault.ask(method, &path, who, Sent::Text("application/json", canary)).await);
        answers.push(vault.ask(method, &path, who, Sent::Text("application/toml", canary)).await);
        answers.push(vault.ask(method, &path, who, Sent::Text(canary, "{}")).await);
        answers.push(vault.ask(method, &format!("{path}?{canary}={canary}"), who, Sent::Nothing).await);
        answers.push(vault.ask(method, &format!("{path}?cursor={canary}&limit={canary}"), who, Sent::Nothing).await);
        answers.push(vault.ask(method, &path, canary, sent_of(route)).await);
        let request_id = format!("svk_{canary}");
        let headers =
            [("x-request-id", &*request_id), ("idempotency-key", canary), ("origin", canary), ("accept", canary)];
        answers.push(vault.ask_with(method, &path, who, sent_of(route), &headers).await);
    }
    for answer in answers {
        assert!(answer.headers.values().all(|value| !value.to_str().unwrap_or("").contains(canary)));
        if answer.status >= 400 {
            assert!(!answer.text.contains(canary), "{}", answer.text);
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{answer:?}");
            let problem = answer.json();
            assert_eq!(problem["status"], answer.status);
            assert_eq!(problem["type"], format!("urn:siv:problem:{}", problem["code"].as_str().unwrap()));
            assert_eq!(problem["requestId"], answer.headers["x-request-id"].to_str().unwrap());
        }
    }
}

fn sent_of(route: &Route) -> Sent<'static> {
    sent(route)
}

/// The canary as every member that some route knows, and as one that none knows, in every type.
fn bodies(canary: &str) -> Vec<Value> {
    let members = [
        "app",
        "fields",
        "flows",
        "purposes",
        "subject",
        "ttlSeconds",
        "maxValues",
        "items",
        "values",
        "secureValueKey",
        "expiresAt",
        "inputs",
        "reference",
        "onBehalfOf",
        "host",
        "secrets",
        "name",
        "keyProvider",
        "cacheSeconds",
        "reveal",
        "kind",
        "flow",
        "receipt",
        "index",
        canary,
    ];
    let shapes = [json!(canary), json!([canary]), json!({canary: canary}), json!([{"field": canary, "value": canary}])];
    members.iter().flat_map(|member| shapes.iter().map(move |shape| json!({*member: shape}))).collect()
}

#[tokio::test]
async fn the_wrong_way_of_asking_has_its_code() {
    let vault = Vault::demo().await;
    let ask = |method, path, sent| vault.ask(method, path, "app", sent);
    let refused = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(ask("GET", "/v1/nothing", Sent::Nothing).await.refusal(), refused(404, "not_found"));
    let wrong = ask("GET", "/v1/values", Sent::Nothing).await;
    assert_eq!(wrong.refusal(), refused(405, "method.not_allowed"));
    assert_eq!(wrong.headers["allow"], "POST");
    let big = json!({"secureValueKey": "x".repeat(70_000)});
    assert_eq!(ask("POST", "/v1/values/lookup", Sent::Json(big)).await.refusal(), refused(413, "body.too_large"));
    let text = Sent::Text("text/plain", "{}");
    assert_eq!(ask("POST", "/v1/values/lookup", text).await.refusal(), refused(415, "media_type"));
    let broken = Sent::Text("application/json", "{");
    assert_eq!(ask("POST", "/v1/values/lookup", broken).await.refusal(), refused(400, "malformed"));
    let wrong = Sent::Json(json!({"secureValueKey": "svk_nope"}));
    assert_eq!(ask("POST", "/v1/values/lookup", wrong).await.refusal(), refused(422, "validation"));
    let pre = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let preflight = vault.ask_with("OPTIONS", "/v1/values/lookup", "", Sent::Nothing, &pre).await;
    assert_eq!(preflight.status, 405);
    assert!(!preflight.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_frame_is_served_to_its_app_and_captures_only_from_its_own_origin() {
    let vault = Vault::demo().await;
    let page = vault.browse("GET", "/f/demo-shop/", "", Sent::Nothing, &[]).await.expect(200);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors https://shop.example;"));
    assert!(page.text.contains("data-app=\"demo-shop\""));
    assert_eq!(page.headers["cache-control"], "no-store");
    assert_eq!(vault.browse("GET", "/f/absent/", "", Sent::Nothing, &[]).await.status, 404);
    let report = Sent::Text("application/csp-report", r#"{"csp-report":{"effective-directive":"frame-ancestors"}}"#);
    vault.browse("POST", "/f/demo-shop/report", "", report, &[]).await.expect(204);
    assert_eq!(page.headers["cross-origin-opener-policy"], "same-origin");
    let token = capture_token(&vault).await;
    for foreign in [("origin", "https://shop.example"), ("sec-fetch-site", "cross-site")] {
        let body = Sent::Json(json!({"values": []}));
        let answer = vault.browse("POST", "/v1/capture/values", &token, body, &[foreign]).await;
        assert_eq!(answer.refusal(), (403, "policy.denied".to_owned()));
        let described = vault.browse("GET", "/v1/capture/session", &token, Sent::Nothing, &[foreign]).await;
        assert_eq!(described.refusal(), (403, "policy.denied".to_owned()));
    }
    let own = [("origin", "https://vault.example"), ("sec-fetch-site", "same-origin")];
    let body = Sent::Json(json!({"values": [{"field": "note", "value": "x"}]}));
    vault.browse("POST", "/v1/capture/values", &token, body, &own).await.expect(201);
}

#[tokio::test]
async fn opening_a_session_is_counted_before_its_body_is_read() {
    let vault = Vault::demo().await;
    let open = || vault.browse("POST", "/v1/capture/sessions/open", "", Sent::Text("application/json", "{"), &[]);
    let allowance = vault.state.settings().rates.open_sessions_per_minute;
    let mut refusals = Vec::new();
    for _ in 0..=allowance {
        refusals.push(open().await.refusal());
    }
    assert_eq!(refusals[0], (400, "malformed".to_owned()));
    // One is given back each second: the last one or, on a slow machine, a later one is too many.
    while refusals.last().is_some_and(|(status, _)| *status == 400) && refusals.len() < 100_000 {
        refusals.push(open().await.refusal());
    }
    assert_eq!(refusals.last().unwrap(), &(429, "rate.limited".to_owned()));
}

async fn capture_token(vault: &Vault) -> String {
    let body = Sent::Json(json!({"app": "demo-shop", "fields": ["note"]}));
    let opened = vault.ask("POST", "/v1/capture/sessions", "app", body).await.expect(201).json();
    opened["captureToken"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_capture_is_read_only_after_it_is_known_who_asks() {
    let vault = Vault::demo().await;
    let token = capture_token(&vault).await;
    let post = async |who: &str, kind, body, headers: &[(&str, &str)]| {
        vault.browse("POST", "/v1/capture/values", who, Sent::Text(kind, body), headers).await.refusal()
    };
    let refused = |status: u16, code: &str| (status, code.to_owned());
    let json = "application/json";
    let foreign: &[(&str, &str)] = &[("origin", "https://evil.example")];
    for (kind, body) in [("text/plain", "{}"), (json, "{"), (json, "{\"a\":1}"), (json, "{\"values\":[]}")] {
        for headers in [&[], foreign] {
            assert_eq!(post("", kind, body, headers).await, refused(401, "auth.missing"), "{body}");
            for stranger in ["app", &format!("siv_cap_{}", "A".repeat(64))] {
                assert_eq!(post(stranger, kind, body, headers).await, refused(401, "auth.invalid"), "{body}");
            }
        }
    }
    assert_eq!(post(&token, "text/plain", "{}", &[]).await, refused(415, "media_type"));
    assert_eq!(post(&token, json, "{", &[]).await, refused(400, "malformed"));
    assert_eq!(post(&token, json, "{\"values\":[]}", &[]).await, refused(422, "validation"));
    vault.ask("POST", "/v1/tenants/demo/seal", "custodian", Sent::Nothing).await.expect(200);
    assert_eq!(post(&token, json, "{", &[]).await, refused(503, "tenant.sealed"));
}
