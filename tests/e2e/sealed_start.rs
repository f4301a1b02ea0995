//! A node whose root key a person brings: it starts sealed, knows nothing, takes a passphrase and opens.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::bodies::{scan, spellings};
use tests::installation::SETTINGS;
use tests::{Actor, Postgres};

use super::command_line::{APP, FLOW, Installation, Serving, credential, text, write};
use super::nodes::run;

/// Nobody's real one.
const PASSPHRASE: &str = "3f9c1e7a-correct-horse";

/// An installation on these places whose root key is a passphrase, and the file that holds it, outside.
fn installation(name: &str, rows: &str, keys: &str) -> Installation {
    let settings = SETTINGS
        .replacen("sqlite:rows/siv.db", rows, 1)
        .replacen("dir:key-store", keys, 1)
        .replacen("file:root/root.key", "sealed", 1)
        .replacen("realm ", &format!("node = \"{name}\"\nrealm "), 1);
    Installation::described_as(&settings)
}

fn closed(folder: &Path, name: &str, content: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = write(folder, name, content);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn init(installation: &Installation, passphrase: &str) -> String {
    let made = installation.run(&["init", "--json", "--passphrase-file", passphrase]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    credential(&serde_json::from_slice(&made.stdout).unwrap())
}

/// Starts it at its most talkative.
fn start(installation: &Installation) -> Serving {
    let environment = [("SIV_LOG".to_owned(), "trace".to_owned())];
    Serving::begin(installation, &environment).unwrap_or_else(|why| panic!("{why}"))
}

fn unseal(node: &Serving, passphrase: &str) {
    let done = node.command("", &["unseal", "--passphrase-file", passphrase]);
    assert!(done.status.success(), "{}", text(&done.stderr));
}

/// A tenant with a value: what reads it again.
async fn capture(node: &Serving, operator: &str, folder: &Path) -> (String, Value) {
    run(node, operator, &["tenant", "create", "acme", "--json"]);
    run(node, operator, &["app", "apply", &write(folder, "shop.toml", APP), "--tenant", "acme"]);
    run(node, operator, &["flow", "apply", &write(folder, "flow.toml", FLOW), "--tenant", "acme"]);
    let make = |kind: &str, bound: &[&str]| {
        let named = ["credential", "create", "--kind", kind, "--name", kind, "--tenant", "acme", "--json"];
        credential(&run(node, operator, &[&named[..], bound].concat()))
    };
    let (app, flow) = (make("app", &["--app", "shop"]), make("flow", &["--flow", "card-summary"]));
    let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
    let put = Actor::new(&node.private, Some(&app)).post("/v1/values", &items).await.expect(200).json();
    (flow, json!({"inputs": {"card": put["results"][0]["secureValueKey"]}}))
}

async fn opens(node: &Serving, flow: &str, wish: &Value) {
    let answer = Actor::new(&node.private, Some(flow)).post("/v1/flows/card-summary/invoke", wish).await.expect(200);
    assert_eq!(answer.json()["outputs"]["last4"], "4242");
}

/// What a sealed node says, whoever asks: that it lives, that it is sealed, and nothing else.
async fn is_sealed(node: &Serving, operator: &str) {
    for listener in [&node.public, &node.private] {
        let anyone = Actor::new(listener, None);
        anyone.get("/healthz").await.expect(200);
        let ready = anyone.get("/readyz").await.expect(503);
        assert_eq!(ready.json()["reasons"], json!(["sealed"]));
        assert!(ready.json().get("tenants").is_none(), "{}", ready.text);
        for actor in [anyone.clone(), anyone.with_bearer(operator), anyone.with_bearer("siv_op_wrong")] {
            for path in ["/v1/tenants", "/v1/log/vkey", "/v1/openapi.json", "/console/", "/f/app_x/", "/nothing"] {
                let answer = actor.get(path).await.expect(503);
                assert_eq!(answer.json()["code"], "tenant.sealed", "{path}");
                assert!(answer.header("retry-after").is_some(), "{path}");
            }
            let put = actor.post("/v1/values", &json!({"items": []})).await.expect(503);
            assert_eq!(put.json()["code"], "tenant.sealed");
        }
    }
    let metrics = Actor::new(&node.private, None).get("/metrics").await.expect(200).text;
    assert!(metrics.contains("siv_node_sealed 1") && !metrics.contains("acme"), "{metrics}");
    Actor::new(&node.public, None).get("/metrics").await.expect(503);
    Actor::new(&node.public, None).post("/v1/unseal", &json!({"passphrase": PASSPHRASE})).await.expect(503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_node_serves_nothing_until_its_passphrase_is_brought() {
    let (installation, outside) =
        (installation("one", "sqlite:rows/siv.db", "dir:key-store"), tempfile::tempdir().unwrap());
    let passphrase = closed(outside.path(), "passphrase", &format!("{PASSPHRASE}\n"));
    let wrong = closed(outside.path(), "wrong", "not-the-passphrase\n");
    let operator = init(&installation, &passphrase);
    let node = start(&installation);
    is_sealed(&node, &operator).await;
    unseal(&node, &passphrase);
    let (flow, wish) = capture(&node, &operator, installation.folder.path()).await;
    opens(&node, &flow, &wish).await;
    node.stop();

    // A restart is sealed again; it ends in order without ever having been open.
    let node = start(&installation);
    is_sealed(&node, &operator).await;
    node.stop();
    let node = start(&installation);
    let refused = node.command("", &["unseal", "--passphrase-file", &wrong]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("this is not the passphrase"));
    is_sealed(&node, &operator).await;
    unseal(&node, &passphrase);
    opens(&node, &flow, &wish).await;
    let private = Actor::new(&node.private, None);
    assert!(private.get("/metrics").await.text.contains("siv_node_sealed 0"));
    for again in [PASSPHRASE, "not-the-passphrase"] {
        private.post("/v1/unseal", &json!({ "passphrase": again })).await.expect(409);
    }
    let again = node.command("", &["unseal", "--passphrase-file", &passphrase]);
    assert!(again.status.success() && text(&again.stdout).contains("is not sealed"), "{}", text(&again.stderr));
    opens(&node, &flow, &wish).await;

    // What was tried before there was a key to sign with stands in the system's log now.
    let auditor =
        credential(&run(&node, &operator, &["credential", "create", "--kind", "auditor", "--name", "a", "--json"]));
    let entries = async |action: &str| {
        let path = format!("/v1/log/entries?action={action}");
        Actor::new(&node.private, Some(&auditor)).get(&path).await.expect(200).json()["data"].clone()
    };
    let refused = entries("admin.node.unseal.refused").await;
    assert_eq!(refused.as_array().map(Vec::len), Some(1), "{refused}");
    assert_eq!((&refused[0]["outcome"], &refused[0]["origin"]["address"]), (&json!("denied"), &json!("127.0.0.1")));
    assert_eq!(entries("admin.node.unsealed").await.as_array().map(Vec::len), Some(2));
    node.stop();
    assert!(installation.log_text().contains("a passphrase for the root key was refused"));
    let secrets: Vec<Vec<u8>> = [PASSPHRASE, "not-the-passphrase"].iter().flat_map(|text| spellings(text)).collect();
    scan(installation.folder.path(), &secrets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_are_tried_one_at_a_time_and_who_guessed_wrong_waits() {
    let (installation, outside) =
        (installation("one", "sqlite:rows/siv.db", "dir:key-store"), tempfile::tempdir().unwrap());
    let passphrase = closed(outside.path(), "passphrase", PASSPHRASE);
    let operator = init(&installation, &passphrase);
    let node = start(&installation);
    let guess = async |text: String| {
        let answer = Actor::new(&node.private, None).post("/v1/unseal", &json!({ "passphrase": text })).await;
        assert!(answer.status != 429 || answer.header("retry-after").is_some());
        answer.status
    };
    let guesses = futures_util::future::join_all((0..8).map(|at| guess(format!("guess {at}")))).await;
    let count = |status: u16| guesses.iter().filter(|one| **one == status).count();
    // On a machine with other work some may come so late that they are let in again.
    assert!(count(422) + count(429) == 8 && (1..=4).contains(&count(422)), "{guesses:?}");
    let mut refused = count(422);
    while refused < 4 {
        match guess("one more".to_owned()).await {
            422 => refused += 1,
            429 => tokio::time::sleep(Duration::from_millis(100)).await,
            other => panic!("{other}"),
        }
    }
    // The right one waits as well, now for eight seconds and more: an answer at once would tell which it is.
    assert_eq!(guess(PASSPHRASE.to_owned()).await, 429);
    for body in [json!({}), json!({"passphrase": 1}), json!({"passphrase": "a", "more": 1}), json!([])] {
        let answer = Actor::new(&node.private, None).post("/v1/unseal", &body).await;
        assert!([400, 429].contains(&answer.status), "{}", answer.text);
    }
    is_sealed(&node, &operator).await;
    // It waits by itself.
    unseal(&node, &passphrase);
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_several_nodes_is_unsealed_on_its_own() {
    let postgres = Postgres::start();
    let (rows, keys) = (postgres.create_database("siv_rows"), postgres.create_database("siv_keys"));
    let outside = tempfile::tempdir().unwrap();
    let passphrase = closed(outside.path(), "passphrase", PASSPHRASE);
    let (first, second) = (installation("one", &rows, &keys), installation("two", &rows, &keys));
    let operator = init(&first, &passphrase);
    let (one, two) = (start(&first), start(&second));
    unseal(&one, &passphrase);
    let (flow, wish) = capture(&one, &operator, first.folder.path()).await;
    is_sealed(&two, &operator).await;
    unseal(&two, &passphrase);
    opens(&two, &flow, &wish).await;
    one.stop();
    two.stop();
}

#[test]
fn a_passphrase_is_refused_where_others_can_read_it_or_it_is_short() {
    let (installation, outside) =
        (installation("one", "sqlite:rows/siv.db", "dir:key-store"), tempfile::tempdir().unwrap());
    let refused = |path: &str, why: &str| {
        let made = installation.run(&["init", "--json", "--passphrase-file", path]);
        assert!(!made.status.success() && text(&made.stderr).contains(why), "{}", text(&made.stderr));
    };
    refused(&closed(outside.path(), "short", "too short\n"), "fewer than 12");
    refused(&closed(outside.path(), "empty", "\n"), "fewer than 12");
    let open = write(outside.path(), "open", PASSPHRASE);
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    refused(&open, "chmod 0600");
    assert!(!installation.folder.path().join("key-store/identity").exists());
    // Without a file it is asked for on the terminal alone: here is none.
    let asked = installation.run(&["init", "--json"]);
    assert!(!asked.status.success() && text(&asked.stderr).contains("--passphrase-file"), "{}", text(&asked.stderr));
}
