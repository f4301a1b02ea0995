//! A key store that several nodes share, in a database of its own: it hangs, and it goes on after a recovery.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Actor, Postgres, bound};

use super::command_line::{APP, Installation, Serving, credential, text, write};
use super::nodes::{run, until};

/// What is promised within two seconds.
fn in_time() -> Duration {
    bound(Duration::from_secs(2), Duration::from_secs(10))
}

/// A tenant at work on a node: its app's credential and its auditor's.
fn put_to_work(node: &Serving, operator: &str, installation: &Installation) -> (String, String) {
    run(node, operator, &["tenant", "create", "acme", "--cache-seconds", "60", "--json"]);
    // No flow: nothing is opened here.
    let app = APP.replace("flows     = [\"card-summary\"]\n", "");
    run(node, operator, &["app", "apply", &write(installation.folder.path(), "shop.toml", &app), "--tenant", "acme"]);
    let make = |kind: &str, bound: &[&str]| {
        let named = ["credential", "create", "--kind", kind, "--name", kind, "--tenant", "acme", "--json"];
        credential(&run(node, operator, &[&named[..], bound].concat()))
    };
    (make("app", &["--app", "shop"]), make("auditor", &[]))
}

fn item() -> Value {
    json!({"items": [{"field": "card-number", "value": "4242424242424242"}]})
}

fn verify(node: &Serving, auditor: &str, installation: &Installation) {
    let folder = installation.folder.path();
    let vkey = write(folder, "vkey", &text(&node.command(auditor, &["log", "vkey"]).stdout));
    let own = tempfile::tempdir_in(folder).unwrap();
    let out = own.path().join("bundle").display().to_string();
    let exported = node.command(auditor, &["log", "export", "--out", &out]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let checked = node.command("", &["log", "verify", &out, "--vkey", &vkey]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_store_that_hangs_costs_503_in_time_and_the_node_goes_on_when_it_is_back() {
    let (rows, keys) = (Postgres::start(), Postgres::start());
    let installation = Installation::of_node("one", &rows.address(), &keys.address());
    let operator = credential(&installation.init());
    let node = Serving::start(&installation);
    let (app, auditor) = put_to_work(&node, &operator, &installation);
    let (shop, vault) = (Actor::new(&node.private, Some(&app)), Actor::new(&node.private, Some(&operator)));
    shop.post("/v1/values", &item()).await.expect(200);

    keys.freeze();
    // A new tenant's key has to be written there.
    let begun = Instant::now();
    let refused = vault.post("/v1/tenants", &json!({"name": "other"})).await;
    let took = begun.elapsed();
    println!("503 after {took:?}");
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.header("retry-after").is_some() && took < in_time(), "{took:?}");
    assert_eq!(Actor::new(&node.public, None).get("/healthz").await.status, 200);
    // What cannot be compared with what was signed is not served for long.
    let slowest = std::sync::Mutex::new(Duration::ZERO);
    until(503, async || {
        let asked = Instant::now();
        let answer = shop.post("/v1/values", &item()).await;
        let mut slowest = slowest.lock().unwrap();
        *slowest = (*slowest).max(asked.elapsed());
        answer
    })
    .await;
    let slowest = slowest.into_inner().unwrap();
    println!("the slowest answer took {slowest:?}");
    assert!(slowest < in_time(), "{slowest:?}");

    keys.thaw();
    let healed = until(200, async || shop.post("/v1/values", &item()).await).await;
    println!("it serves {healed:?} after its key store");
    let made = vault.post("/v1/tenants", &json!({"name": "third"})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    verify(&node, &auditor, &installation);
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_put_back_is_taken_on_with_the_key_store_that_all_nodes_share() {
    let postgres = Postgres::start();
    let (rows, keys) = (postgres.create_database("siv_rows"), postgres.create_database("siv_keys"));
    let installation = Installation::of_node("one", &rows, &keys);
    let operator = credential(&installation.init());
    let node = Serving::start(&installation);
    let (app, auditor) = put_to_work(&node, &operator, &installation);
    let kept = Actor::new(&node.private, Some(&app)).post("/v1/values", &item()).await.expect(200).json();
    verify(&node, &auditor, &installation);
    let checkpoint = Actor::new(&node.private, Some(&auditor)).checkpoint("").await;
    let checkpoint = write(installation.folder.path(), "checkpoint", &checkpoint);
    node.stop();
    postgres.replace_database("siv_rows", "siv_kept");
    let node = Serving::start(&installation);
    let lost = Actor::new(&node.private, Some(&app)).post("/v1/values", &item()).await.expect(200).json();
    node.stop();
    postgres.replace_database("siv_kept", "siv_rows");

    let node = Serving::start(&installation);
    let stranger = Actor::new(&node.private, None);
    assert_eq!(stranger.get("/readyz").await.expect(503).json()["reasons"], json!(["log"]));
    node.stop();
    let recovered = installation.run(&["recover", "--accept-database-of", &checkpoint, "--json"]);
    assert!(recovered.status.success(), "{}", text(&recovered.stderr));
    let operator = credential(&serde_json::from_slice(&recovered.stdout).unwrap());

    let node = Serving::start(&installation);
    let stranger = Actor::new(&node.private, None);
    until(200, async || stranger.get("/readyz").await).await;
    let listed = run(&node, &operator, &["credential", "list", "--tenant", "acme", "--json"]);
    for one in listed["data"].as_array().unwrap() {
        run(&node, &operator, &["credential", "confirm", one["credentialId"].as_str().unwrap(), "--tenant", "acme"]);
    }
    let lookup = async |captured: &Value| {
        let asked = json!({ "secureValueKey": captured["results"][0]["secureValueKey"] });
        Actor::new(&node.private, Some(&app)).post("/v1/values/lookup", &asked).await.status
    };
    assert_eq!((lookup(&kept).await, lookup(&lost).await), (200, 404));
    verify(&node, &auditor, &installation);
    node.stop();
}
