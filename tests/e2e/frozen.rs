//! A node that is frozen and goes on: it may know nothing of what was changed meanwhile, and nothing may be let through
//! by it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Actor, Answer, process};

use super::command_line::{FLOW, Serving, text, write};
use super::nodes::{Nodes, PATIENCE, run, until};

/// A change that was acknowledged holds on every node so soon.
const BOUND: Duration = Duration::from_secs(1);

/// Attempts on the node that did not make the change: when each was begun, and whether it was let through.
#[derive(Default)]
struct Attempts(Mutex<Vec<(Instant, bool)>>);

impl Attempts {
    /// Tries again and again until it was refused often enough after the bound.
    async fn go_on(&self, admitted: impl AsyncFn() -> bool, acknowledged: &Mutex<Option<Instant>>) {
        let mut after = 0;
        while after < 20 {
            let begun = Instant::now();
            let was = admitted().await;
            self.0.lock().unwrap().push((begun, was));
            let is_after = acknowledged.lock().unwrap().is_some_and(|at| begun >= at + BOUND);
            after += usize::from(is_after);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How many were let through before the change was acknowledged, and a second after it or later.
    fn admitted(&self, acknowledged: Instant) -> (usize, usize) {
        let all = self.0.lock().unwrap();
        let count = |is: &dyn Fn(Instant) -> bool| all.iter().filter(|(at, was)| *was && is(*at)).count();
        (count(&|at| at < acknowledged), count(&|at| at >= acknowledged + BOUND))
    }
}

/// Makes a change while attempts go on elsewhere: some are let through before it, none that begins a second after it was
/// acknowledged.
async fn holds_after_a_second(what: &str, change: impl FnOnce(), admitted: impl AsyncFn() -> bool) {
    let (attempts, acknowledged) = (Attempts::default(), Mutex::new(None));
    let changed = async {
        while attempts.0.lock().unwrap().iter().filter(|(_, was)| *was).count() < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::task::block_in_place(change);
        *acknowledged.lock().unwrap() = Some(Instant::now());
    };
    let both = async { tokio::join!(attempts.go_on(&admitted, &acknowledged), changed) };
    tokio::time::timeout(PATIENCE, both).await.unwrap_or_else(|_| panic!("{what}: too few attempts"));
    let at = acknowledged.lock().unwrap().unwrap();
    let (before, after) = attempts.admitted(at);
    assert!(before >= 5, "{what}: only {before} let through before");
    assert_eq!(after, 0, "{what}: let through a second and more after it was acknowledged");
}

/// Values captured ahead, each to be used once.
struct Cards(Vec<String>, AtomicUsize);

impl Cards {
    async fn of(nodes: &Nodes) -> Self {
        let item = json!({"field": "card-number", "value": "4242424242424242"});
        let items = json!({ "items": vec![item; 1000] });
        let answer = Actor::new(&nodes.one.private, Some(&nodes.app)).post("/v1/values", &items).await.expect(200);
        let keys = answer.json()["results"].as_array().unwrap().clone();
        let keys = keys.iter().map(|one| one["secureValueKey"].as_str().unwrap().to_owned()).collect();
        Self(keys, AtomicUsize::new(0))
    }

    fn next(&self) -> &str {
        &self.0[self.1.fetch_add(1, Ordering::Relaxed)]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_let_through_on_another_node_a_second_after_a_change_was_acknowledged() {
    let nodes = Nodes::start();
    let cards = Cards::of(&nodes).await;
    let flow = FLOW.replace("last4 = \"{{ inputs.card | last4 }}\"", "brand = \"{{ inputs.card | brand }}\"");
    let file = write(nodes.folders.0.folder.path(), "flow.toml", &flow);
    holds_after_a_second(
        "a flow's new version",
        || drop(run(&nodes.one, &nodes.operator, &["flow", "apply", &file, "--tenant", "acme"])),
        async || nodes.summary(cards.next(), &nodes.two).await.json()["outputs"]["last4"].is_string(),
    )
    .await;
    // A look-up writes nothing: what it rests on is what the node remembers.
    let looked = cards.next().to_owned();
    let lookup = async |node: &Serving| {
        let asked = json!({ "secureValueKey": looked });
        Actor::new(&node.private, Some(&nodes.app)).post("/v1/values/lookup", &asked).await.status == 200
    };
    holds_after_a_second(
        "a tenant's seal",
        || drop(run(&nodes.one, &nodes.custodian, &["keys", "seal", "--tenant", "acme"])),
        async || nodes.summary(cards.next(), &nodes.two).await.status == 200,
    )
    .await;
    run(&nodes.one, &nodes.custodian, &["keys", "unseal", "--tenant", "acme"]);
    until(200, async || nodes.summary(cards.next(), &nodes.two).await).await;
    holds_after_a_second(
        "a flow's credential",
        || drop(run(&nodes.one, &nodes.operator, &["credential", "revoke", &nodes.flow_id, "--tenant", "acme"])),
        async || nodes.summary(cards.next(), &nodes.two).await.status == 200,
    )
    .await;
    let listed = run(&nodes.one, &nodes.operator, &["credential", "list", "--tenant", "acme", "--json"]);
    let of_app = listed["data"].as_array().unwrap().iter().find(|one| one["kind"] == "app").unwrap();
    let of_app = of_app["credentialId"].as_str().unwrap().to_owned();
    holds_after_a_second(
        "an app's credential, for look-ups",
        || drop(run(&nodes.one, &nodes.operator, &["credential", "revoke", &of_app, "--tenant", "acme"])),
        async || lookup(&nodes.two).await,
    )
    .await;
    nodes.verify(&nodes.two).await;
    nodes.one.stop();
    nodes.two.stop();
}

/// Does something on the first node while the second is frozen, and asks the second for a run twenty times: it gets the
/// requests before it goes on.
async fn resumed_after(who: &str, change: &[&str], cards: &Cards, nodes: &Nodes) -> Vec<Answer> {
    nodes.two.signal(Signal::STOP);
    let begun = Instant::now();
    // An open batch of the frozen node holds the tenant's settings until the server ends it.
    loop {
        let done = nodes.one.command(who, change);
        if done.status.success() {
            break;
        }
        let why = text(&done.stderr);
        assert!(why.contains("503 store.unavailable") && begun.elapsed() < PATIENCE, "{why}");
    }
    tokio::time::sleep(BOUND).await;
    let asked = futures_util::future::join_all((0..20).map(|_| nodes.summary(cards.next(), &nodes.two)));
    let resumed = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        nodes.two.signal(Signal::CONT);
    };
    tokio::join!(asked, resumed).0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_frozen_lets_nothing_through_that_was_withdrawn_meanwhile() {
    let nodes = Nodes::start();
    let cards = Cards::of(&nodes).await;
    nodes.summary(cards.next(), &nodes.two).await.expect(200);
    let flow = FLOW.replace("last4 = \"{{ inputs.card | last4 }}\"", "brand = \"{{ inputs.card | brand }}\"");
    let file = write(nodes.folders.0.folder.path(), "flow.toml", &flow);
    let applied = ["flow", "apply", &file, "--tenant", "acme"];
    for answer in resumed_after(&nodes.operator, &applied, &cards, &nodes).await {
        assert!(answer.json()["outputs"]["last4"].is_null(), "by the flow that was: {}", answer.text);
    }
    let sealed = ["keys", "seal", "--tenant", "acme"];
    for answer in resumed_after(&nodes.custodian, &sealed, &cards, &nodes).await {
        assert_ne!(answer.status, 200, "though the tenant was sealed: {}", answer.text);
    }
    run(&nodes.one, &nodes.custodian, &["keys", "unseal", "--tenant", "acme"]);
    until(200, async || nodes.summary(cards.next(), &nodes.two).await).await;
    let revoked = ["credential", "revoke", &nodes.flow_id, "--tenant", "acme"];
    for answer in resumed_after(&nodes.operator, &revoked, &cards, &nodes).await {
        assert_ne!(answer.status, 200, "with a credential that was revoked: {}", answer.text);
    }
    nodes.verify(&nodes.two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_frozen_uses_nothing_twice_and_knows_what_was_revoked_from_its_first_answer_on() {
    // Less than what lets another node close it.
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
        tokio::time::sleep(Duration::from_secs(if is_long { 20 } else { 3 })).await;
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

/// Entries of the tenant's log that one boot wrote.
async fn written_by(boot: &str, nodes: &Nodes) -> usize {
    let auditor = Actor::new(&nodes.one.private, Some(&nodes.auditor));
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let page = auditor.get(&format!("/v1/log/entries?limit=100{cursor}")).await.expect(200).json();
        let entries = page["data"].as_array().unwrap();
        count += entries.iter().filter(|entry| entry["position"]["boot"] == boot).count();
        match page["page"]["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return count,
        }
    }
}

/// Waits until another node noted the end of a boot.
async fn closing_of(nodes: &Nodes) -> Duration {
    let auditor = Actor::new(&nodes.one.private, Some(&nodes.auditor));
    let begun = Instant::now();
    let is_closed = |page: &Value| page["data"].as_array().unwrap().iter().any(|entry| entry["outcome"] == "unknown");
    while !is_closed(&auditor.get("/v1/log/entries?action=node.stopped").await.expect(200).json()) {
        assert!(begun.elapsed() < 4 * PATIENCE, "nobody closes the boot that is frozen");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute: make test-long runs it"]
async fn a_node_that_another_closed_while_it_was_frozen_writes_nothing_more_and_ends() {
    let mut nodes = Nodes::start();
    let mut cards = Vec::new();
    for _ in 0..8 {
        cards.push(nodes.capture(&nodes.two).await);
    }
    let auditor = Actor::new(&nodes.one.private, Some(&nodes.auditor));
    let captured = auditor.get("/v1/log/entries?action=value.captured&limit=1").await.expect(200).json();
    let boot = captured["data"][0]["position"]["boot"].as_str().unwrap().to_owned();
    // Frozen with work in its hands, some of it acknowledged by nobody.
    let held = futures_util::future::join_all((0..16).map(|_| {
        let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
        let actor = Actor::new(&nodes.two.private, Some(&nodes.app));
        async move { actor.post("/v1/values", &items).await }
    }));
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(3)).await;
        nodes.two.signal(Signal::STOP);
        let took = closing_of(&nodes).await;
        println!("closed {took:?} after it was frozen");
        let there = written_by(&boot, &nodes).await;
        nodes.two.signal(Signal::CONT);
        there
    };
    let (held, there) = tokio::join!(held, meanwhile);
    for answer in &held {
        // What it committed before it was frozen it may still tell.
        cards.extend(answer.json()["results"][0]["secureValueKey"].as_str().map(str::to_owned));
    }
    let begun = Instant::now();
    while process::is_alive(nodes.two.pid()) {
        assert!(begun.elapsed() < PATIENCE, "it goes on");
        let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
        let late = Actor::new(&nodes.two.private, Some(&nodes.app)).post("/v1/values", &items).await;
        assert!(matches!(late.status, 0 | 503), "{}", late.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = std::fs::read_to_string(nodes.folders.1.folder.path().join("stderr")).unwrap();
    assert!(said.contains("another node closed its part of the log"), "{said}");
    assert_eq!(written_by(&boot, &nodes).await, there, "something was written behind the end that is noted");
    for card in &cards {
        let answer = nodes.summary(card, &nodes.one).await.expect(200);
        assert_eq!(answer.json()["outputs"]["last4"], "4242");
    }
    nodes.verify(&nodes.one).await;
    // Its supervisor starts it again.
    nodes.two = Serving::start(&nodes.folders.1);
    let card = nodes.capture(&nodes.two).await;
    nodes.summary(&card, &nodes.one).await.expect(200);
    nodes.verify(&nodes.two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute: make test-long runs it"]
async fn a_database_that_was_away_for_long_closes_nobody() {
    let nodes = Nodes::start();
    let card = nodes.capture(&nodes.two).await;
    nodes.postgres.freeze();
    tokio::time::sleep(Duration::from_secs(50)).await;
    nodes.postgres.thaw();
    until(200, async || nodes.summary(&card, &nodes.two).await).await;
    // Longer than it takes to be taken for dead.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(50) {
        assert!(process::is_alive(nodes.one.pid()) && process::is_alive(nodes.two.pid()));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let auditor = Actor::new(&nodes.one.private, Some(&nodes.auditor));
    let closed = auditor.get("/v1/log/entries?action=node.stopped").await.expect(200).json();
    assert_eq!(closed["data"], json!([]), "both were there all the time");
    nodes.verify(&nodes.one).await;
    nodes.one.stop();
    nodes.two.stop();
}
