//! The API document says what the routers do.

use super::vault::{Sent, Vault};
use serde_json::Value;

use crate::http::route::Admits;
use crate::http::router::{client_routes, private_routes, public_routes};

#[tokio::test]
async fn the_api_documents_list_exactly_the_routes() {
    let vault = Vault::bare().await;
    let private = vault.ask("GET", "/v1/openapi.json", "", Sent::Nothing).await.expect(200).json();
    let public = vault.browse("GET", "/v1/openapi.json", "", Sent::Nothing, &[]).await.expect(200).json();
    let with_files = public_routes().into_iter().chain(client_routes()).collect();
    for (document, routes) in [(&private, private_routes()), (&public, with_files)] {
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let paths = document["paths"].as_object().unwrap();
        let operations: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(operations, routes.len());
        for route in routes {
            let path = route.path.replace("{*", "{");
            let operation = &paths[&path][route.method.as_str().to_lowercase()];
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers["503"]["description"].as_str().unwrap().contains("overloaded"), "{path}");
            assert_eq!(answers.contains_key("401"), route.admits != Admits::Anyone, "{path}");
            let header = |parameter: &Value| parameter["in"] == "header" && parameter["name"] == "Idempotency-Key";
            let takes = operation["parameters"].as_array().is_some_and(|parameters| parameters.iter().any(header));
            assert_eq!(takes, route.creates, "{path}");
        }
    }
    let text = private.to_string();
    for (at, _) in text.match_indices("#/components/schemas/") {
        let name = text[at + 21..].split('"').next().unwrap();
        assert!(!private["components"]["schemas"][name].is_null(), "{name} is referred to and not there");
    }
}

#[tokio::test]
async fn both_listeners_say_that_they_live() {
    let vault = Vault::demo().await;
    assert_eq!(vault.browse("GET", "/healthz", "", Sent::Nothing, &[]).await.json()["status"], "ok");
    assert_eq!(vault.ask("HEAD", "/healthz", "", Sent::Nothing).await.expect(200).text, "");
    assert_eq!(vault.browse("GET", "/readyz", "", Sent::Nothing, &[]).await.expect(200).json()["status"], "ready");
    let metrics = vault.ask("GET", "/metrics", "", Sent::Nothing).await.expect(200);
    assert!(metrics.text.contains("siv_log_serving 1\n"));
    let alive = "siv_http_requests_total{listener=\"private\",method=\"GET\",route=\"/healthz\",status=\"200\"} 1\n";
    assert!(metrics.text.contains(alive), "{}", metrics.text);
    assert_eq!(vault.browse("GET", "/metrics", "", Sent::Nothing, &[]).await.status, 404);
}

#[tokio::test]
async fn a_node_that_distrusts_its_logs_serves_auditors_only() {
    let vault = Vault::demo().await;
    vault.state.rooms().store.log_health().set(Some(crate::access_log::Distrust::Heads));
    for (who, path) in [("operator", "/v1/apps"), ("custodian", "/v1/keks")] {
        let answer = vault.ask("GET", path, who, Sent::Nothing).await;
        assert_eq!(answer.refusal(), (503, "log.unavailable".to_owned()));
    }
    assert_eq!(vault.browse("GET", "/readyz", "", Sent::Nothing, &[]).await.expect(503).json()["reasons"][0], "log");
    vault.ask("GET", "/v1/log/entries", "auditor", Sent::Nothing).await.expect(200);
}
