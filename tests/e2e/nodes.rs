//! Several nodes on one database and one key store: what one of them did holds on the other, and losing one loses nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Actor, Answer, Postgres, Served, bound};

use super::command_line::{APP, FLOW, Installation, Serving, credential, text, write};

/// Rounds in which both nodes want the same value.
const ROUNDS: usize = 20;
/// How often the node that integrates is frozen.
const FREEZES: u64 = 3;
/// What comes at all comes sooner.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The app with values that are used once.
fn app_of_single_uses() -> String {
    APP.replace("retention = \"stored\"", "uses      = 1")
}

/// Two nodes of one installation, and a tenant.
pub(super) struct Nodes {
    pub(super) one: Serving,
    pub(super) two: Serving,
    pub(super) operator: String,
    pub(super) auditor: String,
    pub(super) custodian: String,
    pub(super) app: String,
    pub(super) flow: String,
    pub(super) flow_id: String,
    pub(super) folders: (Installation, Installation),
    pub(super) postgres: Postgres,
}

pub(super) fn run(node: &Serving, who: &str, arguments: &[&str]) -> Value {
    let output = node.command(who, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

impl Nodes {
    pub(super) fn start() -> Self {
        let postgres = Postgres::start();
        let (rows, keys) = (postgres.address(), postgres.create_database("siv_keys"));
        let first = Installation::of_node("one", &rows, &keys);
        let operator = credential(&first.init());
        let second = first.beside(&rows, &keys);
        // Both at once.
        let (one, two) = std::thread::scope(|scope| {
            let two = scope.spawn(|| Serving::start(&second));
            (Serving::start(&first), two.join().unwrap())
        });
        run(&one, &operator, &["tenant", "create", "acme", "--cache-seconds", "60", "--json"]);
        // Each of what follows is asked of the node that did not do what it rests on.
        run(
            &two,
            &operator,
            &["app", "apply", &write(first.folder.path(), "shop.toml", &app_of_single_uses()), "--tenant", "acme"],
        );
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
        Self { one, two, operator, auditor, custodian, app, flow, flow_id, folders, postgres }
    }

    pub(super) async fn capture(&self, node: &Serving) -> String {
        let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
        let answer = Actor::new(&node.private, Some(&self.app)).post("/v1/values", &items).await;
        let key = answer.json()["results"][0]["secureValueKey"].as_str().map(str::to_owned);
        key.unwrap_or_else(|| panic!("{}", answer.text))
    }

    pub(super) async fn summary(&self, card: &str, node: &Serving) -> Answer {
        let inputs = json!({ "inputs": { "card": card } });
        Actor::new(&node.private, Some(&self.flow)).post("/v1/flows/card-summary/invoke", &inputs).await
    }

    /// A node serves, saw nothing altered, and the log that it shows verifies offline.
    pub(super) async fn verify(&self, node: &Serving) {
        self.verify_since(None, node).await;
    }

    /// The same, and it goes on from a checkpoint that was kept.
    async fn verify_since(&self, kept: Option<&str>, node: &Serving) {
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
        let mut verify = vec!["log", "verify", &out, "--vkey", &vkey];
        let kept = kept.map(|kept| write(own.path(), "kept", kept));
        verify.extend(kept.iter().flat_map(|kept| ["--since", kept.as_str()]));
        let checked = node.command("", &verify);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
    }
}

/// How many entries a node integrated.
async fn integrated(node: &Serving) -> u64 {
    Actor::new(&node.private, None).metric("siv_log_integrated_entries_total").await.unwrap() as u64
}

impl Nodes {
    /// Whether the first node integrates, and not the second: one does it for both.
    async fn integrating(&self) -> bool {
        let begun = Instant::now();
        loop {
            let before = (integrated(&self.one).await, integrated(&self.two).await);
            for _ in 0..5 {
                self.capture(&self.one).await;
                self.capture(&self.two).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            let after = (integrated(&self.one).await, integrated(&self.two).await);
            match (after.0 > before.0, after.1 > before.1) {
                (true, false) => return true,
                (false, true) => return false,
                // They changed places meanwhile.
                _ => assert!(begun.elapsed() < PATIENCE, "nobody integrates for both: {before:?} {after:?}"),
            }
        }
    }

    /// The node that integrates, and the other one.
    async fn by_office(&self) -> (&Serving, &Serving) {
        if self.integrating().await { (&self.one, &self.two) } else { (&self.two, &self.one) }
    }

    /// The node acknowledges a run and, alone, brings its entry into the tree within five seconds of a moment.
    async fn takes_over(&self, node: &Serving, moment: Instant, cards: &mut Vec<String>) {
        let before = integrated(node).await;
        let receipt = loop {
            // One whose use was refused may have been used all the same.
            let answer = self.summary(&cards.pop().expect("it acknowledges nothing"), node).await;
            if answer.status == 200 {
                assert_eq!(answer.json()["outputs"]["last4"], "4242");
                break json!({ "receipt": answer.json()["receipts"][0] });
            }
            assert_eq!(answer.status, 503, "{}", answer.text);
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let acknowledged = moment.elapsed();
        let auditor = Actor::new(&node.private, Some(&self.auditor));
        until(200, async || auditor.post("/v1/log/proof", &receipt).await).await;
        let took = moment.elapsed();
        println!("the other node acknowledged after {acknowledged:?}, and its entry was in the tree after {took:?}");
        assert!(integrated(node).await > before, "it was not the node that is left");
        let bound = bound(Duration::from_secs(5), Duration::from_secs(30));
        assert!(took < bound, "taken over after {took:?}");
    }

    async fn captures(&self, count: usize, node: &Serving) -> Vec<String> {
        let mut cards = Vec::new();
        for _ in 0..count {
            cards.push(self.capture(node).await);
        }
        cards
    }
}

/// Heads of one log that the nodes showed, in the order in which they were asked.
#[derive(Default)]
struct Heads {
    roots: BTreeMap<u64, String>,
}

impl Heads {
    /// None is smaller than one before, and none of the same size is another.
    async fn see(&mut self, node: &Serving, nodes: &Nodes) -> String {
        let note = Actor::new(&node.private, Some(&nodes.auditor)).checkpoint("").await;
        let mut lines = note.lines().skip(1);
        let (size, root) = (lines.next().unwrap().parse().unwrap(), lines.next().unwrap());
        assert!(self.roots.keys().all(|seen| *seen <= size), "{size} after {:?}", self.roots.keys());
        let seen = self.roots.entry(size).or_insert_with(|| root.to_owned());
        assert_eq!(seen, root, "two heads of {size} entries");
        note
    }
}

/// A change is effective on every node within a second.
pub(super) fn settle() {
    std::thread::sleep(Duration::from_millis(1100));
}

/// Asks until the answer has this status; how long that took.
pub(super) async fn until(status: u16, ask: impl AsyncFn() -> Answer) -> Duration {
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
async fn the_node_that_integrates_is_killed_and_the_other_takes_over_and_leaves_nothing_undone() {
    let nodes = Nodes::start();
    let mut cards = nodes.captures(10, &nodes.one).await;
    cards.extend(nodes.captures(10, &nodes.two).await);
    let (killed, left) = nodes.by_office().await;
    let moment = Instant::now();
    killed.signal(Signal::KILL);
    nodes.takes_over(left, moment, &mut cards).await;
    for card in &cards {
        let answer = nodes.summary(card, left).await.expect(200);
        assert_eq!(answer.json()["outputs"]["last4"], "4242");
    }
    nodes.verify(left).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_integrates_is_frozen_and_the_other_takes_over_and_no_second_head_is_written_when_it_goes_on() {
    let nodes = Nodes::start();
    let (mut heads, mut kept) = (Heads::default(), None);
    for round in 0..FREEZES {
        let mut cards = nodes.captures(40, &nodes.one).await;
        let (frozen, other) = nodes.by_office().await;
        // With entries in its hands, so that it is frozen at work.
        let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
        let app = Actor::new(&frozen.private, Some(&nodes.app));
        let held = futures_util::future::join_all((0..16).map(|_| app.post("/v1/values", &items)));
        let meanwhile = async {
            tokio::time::sleep(Duration::from_millis(5 + 70 * round)).await;
            let moment = Instant::now();
            frozen.signal(Signal::STOP);
            nodes.takes_over(other, moment, &mut cards).await;
            kept = Some(heads.see(other, &nodes).await);
            frozen.signal(Signal::CONT);
        };
        tokio::join!(held, meanwhile);
        // It goes on with the head that it knew, while both are given work.
        for _ in 0..10 {
            until(200, async || app.post("/v1/values", &items).await).await;
            nodes.capture(other).await;
            heads.see(frozen, &nodes).await;
            heads.see(other, &nodes).await;
        }
    }
    println!("{} heads, none of them twice", heads.roots.len());
    for node in [&nodes.one, &nodes.two] {
        nodes.verify_since(kept.as_deref(), node).await;
    }
    nodes.one.stop();
    nodes.two.stop();
}

#[test]
fn a_node_with_another_root_key_or_one_database_for_both_is_refused() {
    let postgres = Postgres::start();
    let (rows, keys) = (postgres.address(), postgres.create_database("siv_keys"));
    let first = Installation::of_node("one", &rows, &keys);
    let none = first.run(&["serve"]);
    assert!(text(&none.stderr).contains("siv init"), "{}", text(&none.stderr));
    first.init();
    let second = first.beside(&rows, &keys);
    std::fs::write(second.folder.path().join("root/root.key"), [7; 32]).unwrap();
    let refused = second.run(&["serve"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("root key"), "{}", text(&refused.stderr));
    let same = Installation::of_node("one", &rows, &rows).run(&["init"]);
    let why = text(&same.stderr);
    assert!(why.contains("key_store") && why.contains("another database") && why.lines().count() == 1, "{why}");
    // Another installation's database of values.
    let other_keys = postgres.create_database("other_keys");
    first.beside(&postgres.create_database("other"), &other_keys).init();
    let mixed = first.beside(&rows, &other_keys).run(&["init"]);
    assert!(text(&mixed.stderr).contains("another installation"), "{}", text(&mixed.stderr));
    // A key store that is lost is not made anew: its backup is put back into an empty database.
    let empty = postgres.create_database("third_keys");
    for command in ["init", "serve", "init"] {
        let lost = first.beside(&rows, &empty).run(&[command]);
        assert!(text(&lost.stderr).contains("its key store is not"), "{command}: {}", text(&lost.stderr));
    }
    // Swapped by mistake.
    let swapped = first.beside(&keys, &rows).run(&["init"]);
    assert!(text(&swapped.stderr).contains("database of the values"), "{}", text(&swapped.stderr));
}

#[test]
fn a_node_with_a_copy_of_another_ones_key_store_is_refused_while_that_one_lives_and_no_longer() {
    let postgres = Postgres::start();
    let mut one = Served::on_postgres(&postgres);
    // Copied while it runs.
    let copy = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp").arg("-a").arg(one.folder().join(".")).arg(copy.path()).status();
    assert!(copied.unwrap().success());
    let copy = Installation { folder: copy };
    let why = Serving::begin(&copy, &[]).err().expect("it does not serve beside the other one");
    assert!(why.contains("another node works on this database"), "{why}");
    // Its ghost keeps nobody out: neither itself nor whoever takes its place.
    one.kill();
    one.begin().unwrap();
    one.kill();
    let begun = Instant::now();
    Serving::start(&copy).stop();
    println!("in its place after {:?}", begun.elapsed());
}
