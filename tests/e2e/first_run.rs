//! What a new user sees.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use tests::Siv;

#[tokio::test]
async fn dev_is_ready_and_writes_the_addresses_and_credentials() {
    let siv = Siv::start();
    for listener in ["public", "private", "demo"] {
        assert!(siv.dev[listener].as_str().unwrap().starts_with("http://"), "{listener}");
    }
    assert_eq!(siv.dev["tenant"], "demo");
    assert_eq!(siv.dev["app"], "demo-shop");
    for flow in ["charge-card", "verify-password", "card-summary", "reveal-card"] {
        assert!(siv.dev["credentials"]["flows"][flow].as_str().unwrap().starts_with("siv_flow_"));
    }
    for (kind, prefix) in
        [("operator", "siv_op_"), ("custodian", "siv_cus_"), ("app", "siv_app_"), ("auditor", "siv_aud_")]
    {
        assert!(siv.dev["credentials"][kind].as_str().unwrap().starts_with(prefix), "{kind}");
    }
    siv.browser().get("/healthz").await.expect(200);
    siv.browser().get("/readyz").await.expect(200);
    let shop = siv.shop().get("/").await.expect(200);
    assert!(shop.text.contains("secure-input"));
    assert!(shop.header("content-security-policy").is_some());
}

#[tokio::test]
async fn everything_on_disk_is_for_its_owner_only() {
    let siv = Siv::start();
    siv.capture("card-number", &tests::bodies::card_number()).await;
    let mut folders = vec![siv.data()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let wanted = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, wanted, "{}", path.display());
            seen += 1;
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(seen > 5);
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let mut siv = Siv::start();
    let card = siv.capture("card-number", "4242424242424242").await;
    let before = siv.dev["credentials"].clone();
    assert_eq!(siv.terminate(), Some(0));
    siv.begin().unwrap();
    assert_eq!(siv.dev["credentials"], before, "the same folder has the same credentials");
    let answer = siv.invoke("card-summary", serde_json::json!({ "card": card })).await.expect(200);
    assert_eq!(answer.json()["outputs"]["last4"], "4242");
    let stopped = siv.entries("action=node.stopped").await;
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert_eq!(siv.entries("action=node.started").await.len(), 2);
    siv.verify_log().unwrap();
}

/// The demo's app as the vault has it now.
async fn app(siv: &Siv) -> Value {
    siv.operator().get("/v1/apps").await.expect(200).json()["data"][0].clone()
}

#[tokio::test]
async fn a_restart_has_the_same_origin_where_its_port_is_free() {
    let mut siv = Siv::start();
    let (demo, version) = (siv.dev["demo"].clone(), app(&siv).await["version"].clone());
    siv.terminate();
    siv.begin().unwrap();
    assert_eq!(siv.dev["demo"], demo);
    assert_eq!(app(&siv).await["version"], version);
}

#[tokio::test]
async fn what_an_operator_changed_survives_a_restart_at_another_origin() {
    let mut siv = Siv::start();
    let stock = include_str!("../../vault/src/cli/demo/demo-shop.toml");
    let origin = siv.dev["demo"].as_str().unwrap().to_owned();
    let changed = stock.replace("http://localhost:8090", &origin) + "\n[fields.note]\ntype = \"text\"\n";
    siv.operator().put_toml("/v1/apps/demo-shop", &changed).await.expect(200);
    let before = app(&siv).await;
    assert!(before["fields"]["note"].is_object(), "{before}");
    siv.terminate();
    // Somebody else has the port now, so the shop gets another one and its origin changes.
    let port = origin.rsplit(':').next().unwrap();
    let _taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    siv.begin().unwrap();
    assert_ne!(siv.dev["demo"], origin.as_str());
    assert_eq!(app(&siv).await, before);
    siv.terminate();
}

#[tokio::test]
async fn an_app_that_nobody_changed_follows_the_shop_to_another_origin() {
    let mut siv = Siv::start();
    let origin = siv.dev["demo"].as_str().unwrap().to_owned();
    siv.terminate();
    let port = origin.rsplit(':').next().unwrap();
    let _taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    siv.begin().unwrap();
    assert_eq!(app(&siv).await["origins"][0], siv.dev["demo"]);
    assert_ne!(siv.dev["demo"], origin.as_str());
}

#[tokio::test]
async fn a_folder_that_lost_its_dev_json_says_what_can_be_done() {
    let mut siv = Siv::start();
    siv.terminate();
    std::fs::remove_file(siv.data().join("dev.json")).unwrap();
    let why = siv.begin().unwrap_err();
    assert!(why.contains("dev.json") && why.contains("--data-dir"), "{why}");
    assert!(!why.contains("siv credential create"), "{why}");
}
