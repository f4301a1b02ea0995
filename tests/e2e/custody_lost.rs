//! A token that is lost: its tenant is moved to another one and goes on there. What only the lost one opens is told to be out of reach, and
//! stands in the way of nothing else.

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::custody::{Custody, Customer, text, until, words};
use tests::token::{PIN, Provider, Token};

const HOST: &str = "acquirer.example";
/// So generous that only what never comes meets it.
const LONG: Duration = Duration::from_secs(180);

fn destination(custody: &Custody, secret: &str) -> Result<(), String> {
    let file = custody.file("secret", "of-the-acquirer");
    let set = ["destination", "set", "acquirer", "--host", HOST, "--secret", secret, "--from-file", &file];
    let done = custody.operate(&[&set[..], &["--tenant", "acme", "--json"]].concat());
    if done.status.success() { Ok(()) } else { Err(text(&done)) }
}

/// Exports the log and checks it offline: what the check says.
fn verified(custody: &Custody, customer: &Customer, name: &str) -> Value {
    let (bundle, vkey) =
        (custody.folder().join(name).display().to_string(), custody.command(&customer.auditor, &["log", "vkey"]));
    let vkey = custody.file("vkey", &String::from_utf8(vkey.stdout).unwrap());
    let exported = custody.command(&customer.auditor, &["log", "export", "--out", &bundle]);
    assert!(exported.status.success(), "{}", text(&exported));
    let checked = custody.command(&customer.auditor, &["log", "verify", &bundle, "--vkey", &vkey, "--json"]);
    assert!(checked.status.success(), "{}", text(&checked));
    serde_json::from_slice(&checked.stdout).unwrap()
}

#[tokio::test]
async fn a_tenant_whose_token_is_lost_goes_on_in_another_one() {
    let lost = Token::labelled(Provider::SoftHsm, "lost", PIN);
    let next = Token::labelled(Provider::Kryoptic, "next", PIN);
    let custody = Custody::of(&[&lost, &next]);
    let acme = custody.customer_in("acme", (&lost, "lost", PIN), 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    destination(&custody, "one").unwrap();
    let moved = |from: &str, to: &str| fs::rename(lost.folder().join(from), lost.folder().join(to)).unwrap();
    moved("tokens", "away");
    until("it is away", || async { custody.reasons(&acme).await == json!(["kms"]) }).await;
    // As long as it is the token in use it is waited for; and what was refused is no export.
    assert_eq!(custody.export(&acme).await.expect(503).json()["code"], "kms.unavailable");
    let exports = async || {
        let reads = custody.entries(&acme, "log.read").await;
        reads.iter().filter(|entry| entry["rule"] == "log.export").count()
    };
    assert_eq!(exports().await, 0);

    let into = custody.options(&next, "next", PIN);
    let rotate = [&["rotate"], &words(&into)[..]].concat();
    let asked = custody.keys(&acme, &rotate);
    custody.approve(&acme, &asked);
    assert_eq!(custody.keys(&acme, &rotate)["version"], 2);
    assert_eq!(custody.entries(&acme, "admin.tenant.moved").await.len(), 1, "another token is another place");
    // Captures, openings of entries and destinations rest on data keys of epochs that began before the move.
    until("values are taken in", || async { custody.put(&acme, "5555555555554444").await.is_ok() }).await;
    let after = custody.put(&acme, "4111111111111111").await.unwrap();
    custody.read(&acme, &after).await.expect(200);
    let missing = destination(&custody, "two").unwrap_err();
    assert!(missing.contains("secrets.one"), "{missing}");
    destination(&custody, "one").unwrap();
    destination(&custody, "two").unwrap();
    // What the lost one alone opens stays where it is, and is counted.
    assert_eq!(custody.read(&acme, &key).await.expect(503).json()["code"], "kms.unavailable");
    let left = refused(&custody, &acme, &["rewrap"]);
    assert!(left.contains("of version 1: its token does not answer") && left.contains("siv keys lost"), "{left}");
    let without = verified(&custody, &acme, "without");
    assert!(without["outOfReach"].as_u64().unwrap() > 0, "{without}");
    assert!(exports().await > 0);

    // Should it come back, nothing of it was lost.
    moved("away", "tokens");
    let rewrap = || custody.command(&acme.custodian, &["keys", "rewrap"]).status.success();
    until("it is back", || async { rewrap() }).await;
    custody.read(&acme, &key).await.expect(200);
    let whole = verified(&custody, &acme, "whole");
    assert_eq!(whole["outOfReach"], 0, "{whole}");
    // Exactly what was said to be out of reach came back, entry by entry.
    let lines = fs::read_to_string(custody.folder().join("whole/openings.jsonl")).unwrap();
    let index = |line: &str| serde_json::from_str::<Value>(line).unwrap()["index"].as_u64().unwrap();
    let of_then = lines.lines().filter(|line| index(line) < without["size"].as_u64().unwrap()).count() as u64;
    let [opened, away] = ["openings", "outOfReach"].map(|name| without[name].as_u64().unwrap());
    assert_eq!(of_then, opened + away, "{whole} {without}");
}

/// What `siv keys` refuses the custodian, and why.
fn refused(custody: &Custody, customer: &Customer, arguments: &[&str]) -> String {
    let done = custody.command(&customer.custodian, &[&["keys"], arguments].concat());
    assert!(!done.status.success(), "{arguments:?}: {}", text(&done));
    text(&done)
}

/// A token is silent after so long: the shortest that may be set.
const SOON: &str = "hsm_lost_after_seconds = 5";
const SILENT: Duration = Duration::from_secs(5);

/// Asks until its silence is heard: a node that still has a login says nothing of a loss. It was waited for all the time, through
/// attempts that failed. What was printed then.
async fn heard_as_silent(custody: &Custody, credential: &str, arguments: &[&str]) -> Output {
    let end = Instant::now() + LONG;
    loop {
        let asked = Instant::now();
        let said = custody.command(credential, &[&["keys"], arguments].concat());
        if said.status.success() {
            assert!(asked.elapsed() >= SILENT, "after {:?}: {}", asked.elapsed(), text(&said));
            return said;
        }
        assert!(Instant::now() < end, "it is not silent: {}", text(&said));
    }
}

/// The PINs in the key store's folder.
fn pins(folder: &std::path::Path) -> usize {
    let found = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let count = |path: std::path::PathBuf| match path.is_dir() {
        true => pins(&path),
        false => usize::from(path.display().to_string().contains("hsm-pin")),
    };
    found.map(count).sum()
}

#[tokio::test]
async fn a_version_whose_token_never_comes_back_ends_by_two_persons_and_its_tenant_goes_on() {
    let lost = Token::labelled(Provider::SoftHsm, "lost", PIN);
    let next = Token::labelled(Provider::Kryoptic, "next", PIN);
    let custody = Custody::with_settings(&[&lost, &next], SOON);
    let acme = custody.customer_in("acme", (&lost, "lost", PIN), 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    destination(&custody, "one").unwrap();
    let why = refused(&custody, &acme, &["lost", "1", "--dry-run"]);
    assert!(why.contains("in_use") && why.contains("siv keys rotate"), "{why}");
    let moved = |from: &str, to: &str| fs::rename(lost.folder().join(from), lost.folder().join(to)).unwrap();
    let into = custody.options(&next, "next", PIN);
    let rotate = [&["rotate"], &words(&into)[..]].concat();
    let asked = custody.keys(&acme, &rotate);
    custody.approve(&acme, &asked);
    assert_eq!(custody.keys(&acme, &rotate)["version"], 2);
    // As long as its token answers nothing is lost, and it says what to do instead.
    let why = refused(&custody, &acme, &["lost", "1"]);
    assert!(why.contains("answers") && why.contains("siv keys rewrap"), "{why}");
    moved("tokens", "away");
    until("values are taken in", || async { custody.put(&acme, "5555555555554444").await.is_ok() }).await;
    let after = custody.put(&acme, "4111111111111111").await.unwrap();
    until("its token is away", || async { custody.read(&acme, &key).await.status == 503 }).await;
    assert!(refused(&custody, &acme, &["state", "1", "destroyed"]).contains("in_use"));

    heard_as_silent(&custody, &acme.custodian, &["lost", "1", "--dry-run"]).await;
    let asked = custody.keys(&acme, &["lost", "1"]);
    let classes: Vec<&str> =
        asked["losses"].as_array().unwrap().iter().map(|loss| loss["class"].as_str().unwrap()).collect();
    assert!(["stored", "configuration", "log-opening"].iter().all(|class| classes.contains(class)), "{asked}");
    assert_eq!(asked["values"], 1, "{asked}");
    assert!(asked["seen"].as_str().unwrap().contains("as long as it was waited for"), "{asked}");
    let openings = asked["losses"].as_array().unwrap().iter().find(|loss| loss["class"] == "log-opening").unwrap();
    assert!(openings["values"].is_null() && openings["holds"].as_str().unwrap().contains("names"), "{openings}");
    // The second custodian sees the same before they approve.
    let listed = custody.keys(&acme, &["approvals"]);
    let shown = listed["data"].as_array().unwrap().iter().find(|one| one["act"] == "lose-version").unwrap().clone();
    assert_eq!((&shown["losses"], &shown["state"]), (&asked["losses"], &json!("requested")), "{shown}");
    // Should it come back before that, nothing is lost.
    moved("away", "tokens");
    let (id, digest) =
        (asked["approval"]["approvalId"].as_str().unwrap(), asked["approval"]["digest"].as_str().unwrap());
    let approve = ["approve", id, "--digest", digest];
    until("it is back", || async { custody.read(&acme, &key).await.status == 200 }).await;
    let why = text(&custody.command(&acme.second, &[&["keys"], &approve[..]].concat()));
    assert!(why.contains("answers"), "{why}");
    assert_eq!(custody.keys(&acme, &["list"])["data"][0]["state"], "deactivated");
    moved("tokens", "away");
    let file = custody.folder().join("certificate.json").display().to_string();
    let given = heard_as_silent(&custody, &acme.second, &[&approve[..], &["--out", &file]].concat()).await;
    assert!(text(&given).contains("stated lost"), "{}", text(&given));

    let listed = custody.keys(&acme, &["list"])["data"][0].clone();
    assert_eq!(
        (&listed["state"], &listed["ended"]),
        (&json!("lost"), &json!("stated lost by the custodians, not verified by the vault"))
    );
    let vkey = custody.command(&acme.auditor, &["log", "vkey"]);
    let vkey = custody.file("vkey-of-acme", &String::from_utf8(vkey.stdout).unwrap());
    let holds = custody.command(&acme.second, &["log", "verify-certificate", &file, "--vkey", &vkey, "--json"]);
    assert!(holds.status.success(), "{}", text(&holds));
    let document: Value = serde_json::from_slice(&holds.stdout).unwrap();
    let said = &document["certificate"]["destroyed"];
    assert_eq!((&said["what"], &said["values"], &said["losses"]), (&json!("version"), &json!(1), &asked["losses"]));
    let again = custody.keys(&acme, &["certificate", "--lost", said["end"]["kek"].as_str().unwrap()]);
    assert_eq!(again["certificate"], document["certificate"]);

    // What it alone opened is gone and says so; no one is accused of it. Everything else goes on.
    assert_eq!(custody.read(&acme, &key).await.expect(404).json()["code"], "value.not_found");
    let denied = custody.entries(&acme, "access.denied").await;
    assert_eq!(
        (&denied[0]["rule"], &denied[0]["reason"]),
        (&json!("value.key-lost"), &json!("value.not_found")),
        "{denied:?}"
    );
    custody.read(&acme, &after).await.expect(200);
    custody.put(&acme, "4111111111111111").await.unwrap();
    assert_eq!(custody.keys(&acme, &["rewrap"])["left"], 0);
    assert!(destination(&custody, "two").unwrap_err().contains("secrets.one"));
    destination(&custody, "one").unwrap();
    until("its log is integrated", || async { custody.export(&acme).await.status == 200 }).await;
    assert_eq!(verified(&custody, &acme, "after")["outOfReach"], 0);
    until("its PIN is gone", || async { pins(custody.folder()) == 1 }).await;
    // Though it be found: what was stated stays.
    moved("away", "tokens");
    assert!(refused(&custody, &acme, &["lost", "1"]).contains("transition"));
    custody.read(&acme, &key).await.expect(404);
    let asked = custody.keys(&acme, &["shred"]);
    assert_eq!(custody.approve(&acme, &asked)["state"], "completed");
}

/// A token behind the module that injects faults, in a file of its own.
fn in_a_file_of_its_own(label: &str) -> Token {
    let mut token = Token::labelled(Provider::SoftHsm, label, PIN).behind_faults();
    let file = token.folder().join("module.so");
    fs::copy(&token.module, &file).unwrap();
    token.module = file;
    token
}

#[tokio::test]
async fn a_token_that_is_slow_or_comes_back_and_a_node_that_cannot_ask_it_end_no_version() {
    let slow = in_a_file_of_its_own("slow");
    let next = Token::labelled(Provider::Kryoptic, "next", PIN);
    // Time for two attempts after the longest pause before each, though one be slow, on a machine that is busy.
    let custody = Custody::with_settings(&[&slow, &next], "hsm_lost_after_seconds = 15");
    let acme = custody.customer_in("acme", (&slow, "slow", PIN), 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    let into = custody.options(&next, "next", PIN);
    let rotate = [&["rotate"], &words(&into)[..]].concat();
    let asked = custody.keys(&acme, &rotate);
    custody.approve(&acme, &asked);
    custody.keys(&acme, &rotate);
    let is_there = || custody.keys(&acme, &["list"])["data"][0]["state"] == "deactivated";

    // Slower than any reader waits for, and than a worker may take for one.
    slow.inject("C_Decrypt delay=1500\n");
    for arguments in [&["lost", "1", "--dry-run"][..], &["lost", "1"]] {
        let why = refused(&custody, &acme, arguments);
        assert!(why.contains("answers"), "{why}");
    }
    assert!(is_there());
    slow.inject("");

    // Its module was replaced by an upgrade: that is no word of the token.
    let genuine = fs::read(&slow.module).unwrap();
    let replaced = slow.folder().join("other.so");
    fs::write(&replaced, [&genuine[..], b"\0"].concat()).unwrap();
    fs::rename(&slow.module, slow.folder().join("genuine.so")).unwrap();
    let why = refused(&custody, &acme, &["lost", "1"]);
    assert!(why.contains("not_asked") && why.contains("its module's file is not there"), "{why}");
    fs::rename(&replaced, &slow.module).unwrap();
    let why = refused(&custody, &acme, &["lost", "1"]);
    assert!(why.contains("not_asked") && why.contains("not the one that was taken on"), "{why}");
    fs::rename(slow.folder().join("genuine.so"), &slow.module).unwrap();
    assert!(is_there());

    // Silent when it was asked for; it is back, not at once, before the second custodian approves.
    let moved = |from: &str, to: &str| fs::rename(slow.folder().join(from), slow.folder().join(to)).unwrap();
    moved("tokens", "away");
    let asked = heard_as_silent(&custody, &acme.custodian, &["lost", "1", "--json"]).await;
    let asked: Value = serde_json::from_slice(&asked.stdout).unwrap();
    // Its first attempts fail, and then one takes its time: neither is silence.
    slow.inject("C_Initialize rv=0x5\n");
    moved("away", "tokens");
    let id = asked["approval"]["approvalId"].as_str().unwrap();
    let why = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(3));
            slow.inject("C_Login delay=1500\n");
        });
        text(&custody.command(&acme.second, &["keys", "approve", id]))
    });
    assert!(why.contains("answers"), "{why}");
    assert!(is_there());
    slow.inject("");
    until("it is back", || async { custody.read(&acme, &key).await.status == 200 }).await;
}
