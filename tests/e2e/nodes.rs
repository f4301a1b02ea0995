//! Several nodes on one database and one key store: what one of them did holds on the other, and losing one loses nothing.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Actor, Answer, Postgres};

use super::command_line::{FLOW, Installation, SETTINGS, Serving, credential, text, write};

/// Rounds in which both nodes want the same value.
const ROUNDS: usize = 20;
/// What comes at all comes sooner.
const PATIENCE: Duration = Duration::from_secs(60);

const APP: &str = r#"
name    = "shop"
origins = ["https://shop.example"]
[fields.card-number]
type     = "card-number"
purposes = ["support"]
flows    = ["card-summary"]
uses     = 1
"#;

/// Two nodes of one installation, and a tenant.
struct Nodes {
    one: Serving,
    two: Serving,
    operator: String,
    auditor: String,
    custodian: String,
    app: String,
    flow: String,
    flow_id: String,
    folders: (Installation, Installation),
    _postgres: Postgres,
}

/// The settings of one node.
fn described(name: &str, rows: &str, keys: &str) -> Installation {
    let installation = Installation::described();
    let settings = SETTINGS.replacen("sqlite:rows/siv.db", rows, 1).replacen("dir:key-store", keys, 1).replacen(
        "realm ",
        &format!("node = \"{name}\"\nrealm "),
        1,
    );
    std::fs::write(installation.path(), settings).unwrap();
    installation
}

/// A second node's folder: the same settings under another name, and the same root key.
fn beside(first: &Installation, rows: &str, keys: &str) -> Installation {
    use std::os::unix::fs::PermissionsExt as _;
    let second = described("two", rows, keys);
    let (from, to) = (first.folder.path().join("root"), second.folder.path().join("root"));
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(from.join("root.key"), to.join("root.key")).unwrap();
    std::fs::set_permissions(to.join("root.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    second
}

fn run(node: &Serving, who: &str, arguments: &[&str]) -> Value {
    let output = node.command(who, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

impl Nodes {
    fn start() -> Self {
        let postgres = Postgres::start();
        let (rows, keys) = (postgres.address(), postgres.create_database("siv_keys"));
        let first = described("one", &rows, &keys);
        let operator = credential(&first.init());
        let second = beside(&first, &rows, &keys);
        // Both at once.
        let (one, two) = std::thread::scope(|scope| {
            let two = scope.spawn(|| Serving::start(&second));
            (Serving::start(&first), two.join().unwrap())
        });
        run(&one, &operator, &["tenant", "create", "acme", "--cache-seconds", "60", "--json"]);
        // Each of what follows is asked of the node that did not do what it rests on.
        run(&two, &operator, &["app", "apply", &write(first.folder.path(), "shop.toml", APP), "--tenant", "acme"]);
        settle();
        run(&one, &operator, &["flow", "apply", &write(first.folder.path(), "flow.toml", FLOW), "--tenant", "acme"]);
        let make = |node: &Serving, kind: &str, bound: &[&str]| {
            let named = ["credential", "create", "--kind", kind, "--name", kind, "--tenant", "acme", "--json"];
            run(node, &operator, &[&named[..], bound].concat())
        };
        let auditor = credential(&make(&one, "auditor", &[]));
        let custodian = credential(&make(&one, "custodian", &[]));
        let app = credential(&make(&one, "app", &["--app", "shop"]));
        let flow = make(&one, "flow", &["--flow", "card-summary"]);
        let flow_id = flow["credentialId"].as_str().unwrap().to_owned();
        let (flow, folders) = (credential(&flow), (first, second));
        Self { one, two, operator, auditor, custodian, app, flow, flow_id, folders, _postgres: postgres }
    }

    async fn capture(&self, node: &Serving) -> String {
        let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
        let answer = Actor::new(&node.private, Some(&self.app)).post("/v1/values", &items).await;
        let key = answer.json()["results"][0]["secureValueKey"].as_str().map(str::to_owned);
        key.unwrap_or_else(|| panic!("{}", answer.text))
    }

    async fn summary(&self, card: &str, node: &Serving) -> Answer {
        let inputs = json!({ "inputs": { "card": card } });
        Actor::new(&node.private, Some(&self.flow)).post("/v1/flows/card-summary/invoke", &inputs).await
    }

    /// A node serves, saw nothing altered, and the log that it shows verifies offline.
    async fn verify(&self, node: &Serving) {
        let metrics = Actor::new(&node.private, None).get("/metrics").await.expect(200).text;
        for line in ["siv_log_serving 1\n", "siv_log_alarms 0\n"] {
            assert!(metrics.contains(line), "{metrics}");
        }
        let folder = self.folders.0.folder.path();
        let vkey = node.command(&self.auditor, &["log", "vkey"]);
        let vkey = write(folder, "vkey", &text(&vkey.stdout));
        let own = tempfile::tempdir_in(folder).unwrap();
        let out = own.path().join("bundle").display().to_string();
        let exported = node.command(&self.auditor, &["log", "export", "--out", &out]);
        assert!(exported.status.success(), "{}", text(&exported.stderr));
        let checked = node.command("", &["log", "verify", &out, "--vkey", &vkey]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
    }
}

/// A change is effective on every node within a second.
fn settle() {
    std::thread::sleep(Duration::from_millis(1100));
}

/// Asks until the answer has this status; how long that took.
async fn until(status: u16, ask: impl AsyncFn() -> Answer) -> Duration {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        if answer.status == status {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "still {}: {}", answer.status, answer.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_with_one_use_is_used_once_by_whichever_node() {
    let nodes = Nodes::start();
    for round in 0..ROUNDS {
        let card = nodes.capture(if round % 2 == 0 { &nodes.one } else { &nodes.two }).await;
        let (one, two) = tokio::join!(nodes.summary(&card, &nodes.one), nodes.summary(&card, &nodes.two));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404], "{} {}", one.text, two.text);
    }
    nodes.verify(&nodes.two).await;
    nodes.one.stop();
    nodes.two.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_on_one_node_holds_on_the_other() {
    let nodes = Nodes::start();
    let folder = nodes.folders.0.folder.path();
    let flow = FLOW.replace("last4 = \"{{ inputs.card | last4 }}\"", "brand = \"{{ inputs.card | brand }}\"");
    let card = nodes.capture(&nodes.two).await;
    let answer = nodes.summary(&card, &nodes.two).await.expect(200);
    assert_eq!(answer.json()["outputs"]["last4"], "4242");
    run(&nodes.one, &nodes.operator, &["flow", "apply", &write(folder, "flow.toml", &flow), "--tenant", "acme"]);
    // The batch reads the generation: no run is decided under the flow that was.
    let card = nodes.capture(&nodes.two).await;
    let answer = nodes.summary(&card, &nodes.two).await.expect(200);
    assert!(answer.json()["outputs"]["brand"].is_string(), "{}", answer.text);
    let card = nodes.capture(&nodes.two).await;
    run(&nodes.one, &nodes.custodian, &["keys", "seal", "--tenant", "acme"]);
    let sealed = until(503, async || nodes.summary(&card, &nodes.two).await).await;
    run(&nodes.two, &nodes.custodian, &["keys", "unseal", "--tenant", "acme"]);
    let card = nodes.capture(&nodes.two).await;
    run(&nodes.one, &nodes.operator, &["credential", "revoke", &nodes.flow_id, "--tenant", "acme"]);
    let revoked = until(401, async || nodes.summary(&card, &nodes.two).await).await;
    println!("sealed after {sealed:?}, revoked after {revoked:?}");
    nodes.verify(&nodes.one).await;
    nodes.one.stop();
    nodes.two.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_frozen_uses_nothing_twice_and_knows_what_was_revoked_from_its_first_answer_on() {
    let is_long = std::env::var_os("SIV_TEST_ROUNDS").is_some();
    let nodes = Nodes::start();
    let mut cards = Vec::new();
    for _ in 0..8 {
        cards.push(nodes.capture(&nodes.two).await);
    }
    // Stopped with work in its hands.
    let held = futures_util::future::join_all(cards.iter().map(|card| nodes.summary(card, &nodes.two)));
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        nodes.two.signal(Signal::STOP);
        let mut used = Vec::new();
        for card in &cards {
            // A batch of the frozen node may hold a value until the server ends it.
            let answer = loop {
                let answer = nodes.summary(card, &nodes.one).await;
                if answer.status != 503 {
                    break answer;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            used.push(answer.status == 200);
        }
        // An open batch of the frozen node rests on the settings before, until the server ends it: a change waits for that.
        let revoke = ["credential", "revoke", &nodes.flow_id, "--tenant", "acme"];
        let begun = Instant::now();
        loop {
            let revoked = nodes.one.command(&nodes.operator, &revoke);
            if revoked.status.success() {
                break;
            }
            let why = text(&revoked.stderr);
            assert!(why.contains("503 store.unavailable") && begun.elapsed() < PATIENCE, "{why}");
        }
        tokio::time::sleep(Duration::from_secs(if is_long { 60 } else { 3 })).await;
        nodes.two.signal(Signal::CONT);
        let first = nodes.summary(&cards[0], &nodes.two).await;
        assert_eq!(first.status, 401, "{}", first.text);
        used
    };
    let (held, used) = tokio::join!(held, meanwhile);
    for (held, used) in held.iter().zip(used) {
        assert!(!(used && held.status == 200), "used twice: {}", held.text);
    }
    // Both go on, and nothing forked.
    nodes.capture(&nodes.one).await;
    until(200, async || {
        let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
        Actor::new(&nodes.two.private, Some(&nodes.app)).post("/v1/values", &items).await
    })
    .await;
    nodes.verify(&nodes.one).await;
    nodes.verify(&nodes.two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_leaves_nothing_undone_and_its_log_is_gone_on_with() {
    let nodes = Nodes::start();
    let mut cards = Vec::new();
    for _ in 0..10 {
        cards.push(nodes.capture(&nodes.one).await);
        cards.push(nodes.capture(&nodes.two).await);
    }
    nodes.one.signal(Signal::KILL);
    let mut last = None;
    for card in &cards {
        let answer = nodes.summary(card, &nodes.two).await.expect(200);
        assert_eq!(answer.json()["outputs"]["last4"], "4242");
        last = answer.json()["receipts"][0].as_str().map(str::to_owned);
    }
    let auditor = Actor::new(&nodes.two.private, Some(&nodes.auditor));
    let receipt = json!({ "receipt": last.unwrap() });
    let integrated = until(200, async || auditor.post("/v1/log/proof", &receipt).await).await;
    println!("integrated {integrated:?} after the last entry");
    nodes.verify(&nodes.two).await;
    nodes.two.stop();
}

#[test]
fn a_node_with_another_root_key_or_one_database_for_both_is_refused() {
    let postgres = Postgres::start();
    let (rows, keys) = (postgres.address(), postgres.create_database("siv_keys"));
    let first = described("one", &rows, &keys);
    let none = first.run(&["serve"]);
    assert!(text(&none.stderr).contains("siv init"), "{}", text(&none.stderr));
    first.init();
    let second = beside(&first, &rows, &keys);
    std::fs::write(second.folder.path().join("root/root.key"), [7; 32]).unwrap();
    let refused = second.run(&["serve"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("root key"), "{}", text(&refused.stderr));
    let same = described("one", &rows, &rows).run(&["init"]);
    let why = text(&same.stderr);
    assert!(why.contains("key_store") && why.contains("another database") && why.lines().count() == 1, "{why}");
    // Another installation's database of values.
    let other = beside(&first, &postgres.create_database("other"), &postgres.create_database("other_keys"));
    other.init();
    let mixed = beside(&first, &rows, &postgres.create_database("third_keys"));
    let mixed = mixed.run(&["init"]);
    assert!(text(&mixed.stderr).contains("another installation"), "{}", text(&mixed.stderr));
    // Swapped by mistake.
    let swapped = beside(&first, &keys, &rows).run(&["init"]);
    assert!(text(&swapped.stderr).contains("database of the values"), "{}", text(&swapped.stderr));
}
