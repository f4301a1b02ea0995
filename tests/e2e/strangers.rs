//! What is there for those who belong to nobody here, or to another tenant.

use serde_json::{Value, json};
use tests::{Actor, Siv};

/// Every operation of a listener's own document: method, path with its parameters filled in, whether it asks who calls.
async fn operations(listener: &Actor) -> Vec<(reqwest::Method, String, bool)> {
    let document = listener.get("/v1/openapi.json").await.expect(200).json();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let parts = path.split('/').map(|part| if part.starts_with('{') { "demo" } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            all.push((method, path.clone(), operation["security"].is_array()));
        }
    }
    all
}

#[tokio::test]
async fn the_public_listener_has_no_doors_for_servers_and_people() {
    let siv = Siv::start();
    let bearer = siv.operator();
    let public = siv.browser().with_bearer(bearer.bearer());
    let open = operations(&siv.browser()).await;
    for path in [
        "/metrics",
        "/console/",
        "/console/sign-in",
        "/debug",
        "/debug/pprof/",
        "/debug/vars",
        "/pprof",
        "/trace",
        "/docs",
        "/swagger",
        "/swagger-ui/",
        "/redoc",
        "/admin",
        "/admin/",
        "/status",
        "/server-status",
        "/actuator",
        "/actuator/env",
        "/.env",
        "/.git/config",
        "/dev.json",
        "/siv.toml",
        "/root.key",
        "/v1/admin",
        "/v1/debug",
        "/v2/values",
        "/v0/values",
    ] {
        assert_eq!(public.get(path).await.refusal(), (404, "not_found".to_owned()), "{path}");
    }
    let (mut closed, private) = (0, operations(&siv.stranger()).await);
    for (method, path, _) in private {
        if open.iter().any(|(_, there, _)| *there == path) {
            continue;
        }
        let answer = public.send(public.request(method.clone(), &path)).await;
        assert_eq!(answer.status, 404, "{method} {path} exists on the public listener");
        closed += 1;
    }
    assert!(closed > 25, "{closed}");
}

#[tokio::test]
async fn nothing_that_administers_answers_without_a_credential() {
    let siv = Siv::start();
    let mut asked = 0;
    for (method, path, asks) in operations(&siv.stranger()).await {
        if !asks {
            continue;
        }
        asked += 1;
        let nobody = siv.stranger();
        let answer = nobody.send(nobody.request(method.clone(), &path)).await;
        assert_eq!(answer.refusal(), (401, "auth.missing".to_owned()), "{method} {path}");
        for default in ["admin", "root", "siv", "siv_op_", "siv_op_admin", "siv_op_0000000000000000", "changeme"] {
            let guess = siv.stranger().with_bearer(default);
            let answer = guess.send(guess.request(method.clone(), &path)).await;
            assert_eq!(answer.refusal(), (401, "auth.invalid".to_owned()), "{method} {path} {default}");
        }
    }
    assert!(asked > 25, "{asked}");
}

/// Another tenant with a credential of every kind, and an app with a flow of its own.
async fn another_tenant(siv: &Siv) -> Vec<(&'static str, Actor)> {
    let operator = siv.operator();
    operator.post("/v1/tenants", &json!({"name": "acme"})).await.expect(201);
    let app = "name = \"acme-shop\"\norigins = [\"https://acme.example\"]\n[fields.card-number]\ntype = \"card-number\"\n\
        retention = \"stored\"\nttl_seconds = 600\npurposes = [\"support\"]\nflows = [\"card-summary\"]\n";
    operator.put_toml("/v1/apps/acme-shop?tenant=acme", app).await.expect(200);
    let flow = "name = \"card-summary\"\npurpose = \"support\"\napp = \"acme-shop\"\n[inputs]\n\
        card = { secure = \"card-number\" }\n[outputs]\nlast4 = \"{{ inputs.card | last4 }}\"\n";
    operator.put_toml("/v1/flows/card-summary?tenant=acme", flow).await.expect(200);
    let mut all = Vec::new();
    for (kind, more) in [
        ("app", json!({"app": "acme-shop"})),
        ("flow", json!({"flow": "card-summary"})),
        ("auditor", json!({})),
        ("custodian", json!({})),
        ("operator", json!({})),
    ] {
        let mut wanted = json!({"kind": kind, "name": kind});
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = operator.post("/v1/credentials?tenant=acme", &wanted).await.expect(201).json();
        all.push((kind, siv.stranger().with_bearer(made["credential"].as_str().unwrap())));
    }
    all
}

#[tokio::test]
async fn another_tenants_credential_opens_nothing_here_whatever_its_kind() {
    let siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let (strangers, routes) = (another_tenant(&siv).await, operations(&siv.stranger()).await);
    let body = json!({"inputs": {"card": card}, "secureValueKey": card, "name": "x", "kind": "auditor"});
    let mut asked = 0;
    for (kind, actor) in &strangers {
        for (method, path, asks) in routes.iter().filter(|(_, _, asks)| *asks) {
            assert!(asks);
            let named = format!("{path}?tenant=demo");
            let answer = actor.send(actor.request(method.clone(), &named).json(&body)).await;
            assert_eq!(answer.refusal(), (403, "policy.denied".to_owned()), "{kind} {method} {named}");
            // Without naming a tenant it is in its own, where nothing of this one is.
            let own = actor.send(actor.request(method.clone(), path).json(&body)).await;
            assert!(
                !own.text.contains("demo-shop") && !own.text.contains("4242424242424242"),
                "{kind} {path}: {}",
                own.text
            );
            asked += 1;
        }
    }
    assert!(asked > 100, "{asked}");
    let summary = siv.invoke("card-summary", json!({"card": card})).await;
    assert_eq!(summary.expect(200).json()["outputs"]["last4"], "4242", "nothing was closed or deleted meanwhile");
}

#[tokio::test]
async fn an_idempotency_key_means_nothing_to_another_tenant() {
    let siv = Siv::start();
    let strangers = another_tenant(&siv).await;
    let acme = &strangers[0].1;
    let body = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
    let key = |answer: Value| answer["results"][0]["secureValueKey"].as_str().map(str::to_owned).unwrap();
    let ours = siv.app().post_once("/v1/values", "same", &body).await.expect(200).json();
    let theirs = acme.post_once("/v1/values", "same", &body).await.expect(200).json();
    assert_ne!(key(ours.clone()), key(theirs.clone()));
    assert_eq!(siv.app().post_once("/v1/values", "same", &body).await.expect(200).json(), ours);
    assert_eq!(acme.post_once("/v1/values", "same", &body).await.expect(200).json(), theirs);
}
