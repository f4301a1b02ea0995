//! Two nodes on one PostgreSQL, and a tenant whose key lies in a token that both reach.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::custody::{Custody, Customer, text, until, words};
use tests::token::{LABEL, PIN, Provider, Token};
use tests::{Answer, Postgres};

/// A second is promised; the rest is for a machine that is busy with other tests.
const EVERYWHERE: Duration = Duration::from_secs(5);

struct Scene {
    token: Token,
    nodes: [Custody; 2],
    acme: Customer,
    _postgres: Postgres,
}

impl Scene {
    /// A strict tenant: whatever is captured or read needs the token.
    fn new() -> Self {
        let (postgres, token) = (Postgres::start(), Token::new(Provider::SoftHsm));
        let one = Custody::on_postgres(&[&token], &postgres);
        let acme = one.customer_in("acme", (&token, LABEL, PIN), 0);
        let two = one.beside(&postgres);
        Self { token, nodes: [one, two], acme, _postgres: postgres }
    }

    async fn both_answer(&self, what: &str, key: &str, is_it: impl Fn(&Answer) -> bool) {
        for node in &self.nodes {
            until(what, || async { is_it(&node.read(&self.acme, key).await) }).await;
        }
    }
}

fn is_outage(answer: &Answer) -> bool {
    answer.status == 503 && answer.json()["code"] == "kms.unavailable"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_custodian_does_on_one_node_holds_on_the_other_whose_worker_has_the_token_too() {
    let scene = Scene::new();
    let ([one, two], acme) = (&scene.nodes, &scene.acme);
    let mut keys = Vec::new();
    for node in [one, two] {
        keys.push(node.put(acme, "4242424242424242").await.unwrap());
    }
    for node in [one, two] {
        for key in &keys {
            assert_eq!(node.read(acme, key).await.expect(200).json()["outputs"]["last4"], "4242");
        }
        assert_eq!(node.workers().len(), 1, "each has a worker of its own");
    }

    one.keys(acme, &["seal"]);
    let begun = Instant::now();
    until("it is sealed", || async { two.read(acme, &keys[0]).await.json()["code"] == "tenant.sealed" }).await;
    println!("sealed on the other node after {:?}", begun.elapsed());
    assert!(begun.elapsed() < EVERYWHERE, "{:?}", begun.elapsed());
    assert!(two.put(acme, "4111111111111111").await.is_err());
    two.keys(acme, &["unseal"]);
    until("it is unsealed", || async { one.read(acme, &keys[0]).await.status == 200 }).await;

    // The version that one node made wraps on the other, and the end of the first one is no alarm there.
    assert_eq!(one.keys(acme, &["rotate"])["version"], 2);
    let done = two.keys(acme, &["rewrap"]);
    assert!(done["moved"].as_u64().unwrap() > 0 && done["left"] == 0, "{done}");
    keys.push(two.put(acme, "4242424242424242").await.unwrap());
    assert_eq!(one.keys(acme, &["state", "1", "destroyed"])["state"], "destroyed");
    assert!(!scene.token.logged_in(&["--list-objects"]).contains("siv-acme-1"));
    for node in [one, two] {
        for key in &keys {
            until("it is read", || async { node.read(acme, key).await.status == 200 }).await;
        }
        until("it is well", || async { node.reasons(acme).await == json!([]) }).await;
    }
    assert!(one.entries(acme, "key.provider.alarm").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_goes_away_stops_its_tenant_on_both_nodes_and_both_heal() {
    let scene = Scene::new();
    let key = scene.nodes[0].put(&scene.acme, "4242424242424242").await.unwrap();
    scene.both_answer("it serves", &key, |answer| answer.status == 200).await;
    let [there, away] = ["tokens", "away"].map(|name| scene.token.folder().join(name));
    fs::rename(&there, &away).unwrap();
    scene.both_answer("it is an outage", &key, is_outage).await;
    for node in &scene.nodes {
        until("it is told", || async { node.reasons(&scene.acme).await == json!(["kms"]) }).await;
        assert!(node.put(&scene.acme, "4242424242424242").await.is_err());
    }
    fs::rename(&away, &there).unwrap();
    scene.both_answer("it heals", &key, |answer| answer.status == 200).await;
    for node in &scene.nodes {
        until("it is told", || async { node.reasons(&scene.acme).await == json!([]) }).await;
        node.put(&scene.acme, "4242424242424242").await.unwrap();
    }
    // An outage is no tampering, and no attempt with the PIN was counted.
    for action in ["key.provider.alarm", "key.provider.quarantined"] {
        assert!(scene.nodes[0].entries(&scene.acme, action).await.is_empty(), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_of_a_tokens_pin_are_counted_on_both_nodes_and_over_a_restart() {
    let (postgres, token) = (Postgres::start(), Token::shimmed(Provider::SoftHsm));
    let mut one = Custody::on_postgres(&[&token], &postgres);
    let (owner, guest) = (one.customer_in("owner", (&token, LABEL, PIN), 0), one.customer("guest", &[], 0));
    let two = one.beside(&postgres);
    // A node logs in for the owner when something of theirs is first needed, be it by the node itself. From here on only guesses do.
    for node in [&one, &two] {
        until("it serves", || async { node.put(&owner, "4242424242424242").await.is_ok() }).await;
    }
    let tried = token.calls("C_Login");
    let guess = |node: &Custody, pin: &str| {
        let options = node.options(&token, LABEL, pin);
        let refused = node.command(&guest.custodian, &[&["keys", "rotate"], &words(&options)[..]].concat());
        assert!(!refused.status.success());
        text(&refused)
    };
    assert!(guess(&one, "0000000005").contains("hsm.pin"));
    assert!(guess(&two, "0000000006").contains("hsm.pin"));
    assert_eq!(token.calls("C_Login"), tried + 2);
    for (node, pin) in [(&one, "0000000007"), (&two, "0000000008")] {
        let why = guess(node, pin);
        assert!(why.contains("no other is tried"), "{why}");
    }
    one.restart();
    until("it serves", || async { one.put(&owner, "4242424242424242").await.is_ok() }).await;
    let begun = token.calls("C_Login");
    let why = guess(&one, "0000000009");
    assert!(why.contains("no other is tried"), "{why}");
    assert_eq!(token.calls("C_Login"), begun, "two in all, whichever node and however often it is started");
    // Whose token it is goes on, and brings a PIN that was changed.
    token.logged_in(&["--change-pin", "--new-pin", "0987654321"]);
    let options = one.options(&token, LABEL, "0987654321");
    one.keys(&owner, &[&["rotate"], &words(&options)[..]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_version_opened_leaves_the_memory_of_the_other_node() {
    let (postgres, lost) = (Postgres::start(), Token::new(Provider::SoftHsm));
    let mut one = Custody::on_postgres(&[&lost], &postgres);
    one.restart_with("hsm_lost_after_seconds = 5");
    let acme = one.customer_in("acme", (&lost, LABEL, PIN), 300);
    let key = one.put(&acme, "4242424242424242").await.unwrap();
    let two = one.beside(&postgres);
    let asked = one.keys(&acme, &["rotate", "--key-provider", "local"]);
    one.approve(&acme, &asked);
    until("it is opened on the other node", || async { two.read(&acme, &key).await.status == 200 }).await;
    fs::rename(lost.folder().join("tokens"), lost.folder().join("away")).unwrap();
    until("its token is away", || async { two.reasons(&acme).await == json!(["kms"]) }).await;
    two.read(&acme, &key).await.expect(200);

    let lost_version = ["keys", "lost", "1", "--json"];
    let mut asked = json!(null);
    until("its silence is heard", || {
        let said = one.command(&acme.custodian, &lost_version);
        if said.status.success() {
            asked = serde_json::from_slice(&said.stdout).unwrap();
        }
        std::future::ready(said.status.success())
    })
    .await;
    two.read(&acme, &key).await.expect(200);
    one.approve(&acme, &asked);
    let ended = Instant::now();
    until("it is gone", || async { two.read(&acme, &key).await.status == 404 }).await;
    assert!(ended.elapsed() < EVERYWHERE, "{:?}", ended.elapsed());
    two.put(&acme, "4111111111111111").await.unwrap();
}
