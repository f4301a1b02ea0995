//! What a token says is believed only as far as it was asked, and it is not asked in vain: ends of keys, PINs, keys that
//! somebody may know, the program that asks.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::custody::{Custody, Customer, text, until};
use tests::process;
use tests::token::{LABEL, PIN, Provider, Token};

fn moved(token: &Token, from: &str, to: &str) {
    fs::rename(token.folder().join(from), token.folder().join(to)).unwrap();
}

/// The first version as it is listed.
fn first(custody: &Custody, customer: &Customer) -> Value {
    custody.keys(customer, &["list"])["data"][0].clone()
}

/// Asks for the tenant's end and approves it; whether the approval was answered with success.
fn shred(custody: &Custody, customer: &Customer, more: &[&str]) -> bool {
    let asked = custody.keys(customer, &[&["shred"], more].concat());
    let (id, digest) = (&asked["approval"]["approvalId"], &asked["approval"]["digest"]);
    let (id, digest) = (id.as_str().unwrap(), digest.as_str().unwrap());
    custody.command(&customer.second, &["keys", "approve", id, "--digest", digest]).status.success()
}

fn kill_workers(custody: &Custody) {
    custody.workers().iter().for_each(|worker| process::signal(*worker, Signal::KILL));
}

#[tokio::test]
async fn a_key_whose_token_has_just_gone_away_is_not_said_to_be_gone() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    custody.put(&acme, "4242424242424242").await.unwrap();
    // Its worker is logged in, and nobody has noticed yet: a search finds nothing, without an error.
    moved(&token, "tokens", "away");
    shred(&custody, &acme, &[]);
    assert_eq!(first(&custody, &acme)["state"], "destroying");
    moved(&token, "away", "tokens");
    assert!(token.logged_in(&["--list-objects"]).contains("siv-acme-1"), "it was there all the time");
    until("it ends", || async { first(&custody, &acme)["state"] == "destroyed" }).await;
    assert_eq!(first(&custody, &acme)["ended"], "destroyed by siv");
    assert!(!token.logged_in(&["--list-objects"]).contains("siv-acme-1"));
}

#[tokio::test]
async fn a_token_that_is_only_slow_is_not_lost_by_statement() {
    let token = Token::shimmed(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    let asked = custody.keys(&acme, &["shred", "--token-lost"]);
    // Right before it is approved, so that the token is asked while its worker starts: each step within what it may take.
    token.inject("C_Initialize delay=4800\nC_Login delay=5300\nC_OpenSession delay=600\n");
    kill_workers(&custody);
    let (id, digest) = (&asked["approval"]["approvalId"], &asked["approval"]["digest"]);
    custody.command(&acme.second, &["keys", "approve", id.as_str().unwrap(), "--digest", digest.as_str().unwrap()]);
    until("it ends", || async { first(&custody, &acme)["state"] == "destroyed" }).await;
    assert_eq!(first(&custody, &acme)["ended"], "destroyed by siv");
    assert!(!token.logged_in(&["--list-objects"]).contains("siv-acme-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_nobody_could_ask_because_all_workers_were_at_work_is_not_lost_by_statement() {
    let token = Token::shimmed(Provider::SoftHsm);
    let custody = Custody::with_settings(&[&token], "hsm_workers = 1");
    let [acme, other] = ["acme", "other"].map(|name| custody.customer_in(name, (&token, LABEL, PIN), 0));
    let key = custody.put(&other, "4242424242424242").await.unwrap();
    let asked = custody.keys(&acme, &["shred", "--token-lost"]);
    until("the other has the worker", || async { custody.read(&other, &key).await.status == 200 }).await;
    // Its neighbour's worker is at work, again and again, for longer than any start is waited for.
    token.inject("C_Decrypt delay=1100\n");
    let (id, digest) = (&asked["approval"]["approvalId"], &asked["approval"]["digest"]);
    let approve = ["keys", "approve", id.as_str().unwrap(), "--digest", digest.as_str().unwrap()];
    std::thread::scope(|scope| {
        let approving = scope.spawn(|| custody.command(&acme.second, &approve));
        while !approving.is_finished() {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    futures_util::future::join(custody.read(&other, &key), custody.read(&other, &key)).await
                })
            });
        }
    });
    token.inject("");
    until("it ends", || async { first(&custody, &acme)["state"] == "destroyed" }).await;
    assert_eq!(first(&custody, &acme)["ended"], "destroyed by siv");
}

#[tokio::test]
async fn a_token_that_refuses_to_destroy_a_key_has_answered() {
    let token = Token::shimmed(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    // CKR_ACTION_PROHIBITED.
    token.inject("C_DestroyObject rv=0x1b\n");
    shred(&custody, &acme, &["--token-lost"]);
    assert_eq!(first(&custody, &acme)["state"], "destroying", "nobody can say that this token is lost");
    token.inject("");
    until("it ends", || async { first(&custody, &acme)["state"] == "destroyed" }).await;
    assert_eq!(first(&custody, &acme)["ended"], "destroyed by siv");
}

#[tokio::test]
async fn a_decoy_in_the_place_of_a_key_is_an_alarm_and_no_end() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    let listed = token.logged_in(&["--list-objects", "--type", "secrkey"]);
    let id = listed.lines().find_map(|line| line.trim().strip_prefix("ID:")).expect(&listed).trim().to_owned();
    // Whoever rules the token hides the key, and shows another one by its name.
    let named = ["--label", "siv-acme-1", "--id", &id];
    token.logged_in(&[&["--delete-object", "--type", "secrkey"], &named[..]].concat());
    token.logged_in(&[&["--keygen", "--key-type", "AES:32", "--sensitive"], &named[..]].concat());
    shred(&custody, &acme, &[]);
    assert_eq!(first(&custody, &acme)["state"], "destroying");
    assert!(token.logged_in(&["--list-objects"]).contains("siv-acme-1"), "what is not the key is left alone");
    until("it is an alarm", || async { !custody.entries(&acme, "key.provider.alarm").await.is_empty() }).await;
    assert!(shred(&custody, &acme, &["--token-lost"]));
    let ended = "another key in its place in the token: by statement of the custodians, not verified by the vault";
    assert_eq!(first(&custody, &acme)["ended"], ended);
}

#[tokio::test]
async fn a_pin_that_changed_is_tried_once_for_all_tenants_of_its_token() {
    let token = Token::shimmed(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let tenants = ["one", "two", "three"].map(|name| custody.customer_in(name, (&token, LABEL, PIN), 0));
    token.logged_in(&["--change-pin", "--new-pin", "0987654321"]);
    // For two seconds after a login that was accepted the others with that PIN need not wait for each other.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let tried = token.calls("C_Login");
    kill_workers(&custody);
    for tenant in &tenants {
        until("it is quarantined", || async { !custody.entries(tenant, "key.provider.quarantined").await.is_empty() })
            .await;
    }
    assert_eq!(token.calls("C_Login"), tried + 1, "one attempt in all");
}

#[tokio::test]
async fn a_pin_that_is_refused_at_onboarding_has_its_entry_and_guessing_ends_early() {
    let token = Token::shimmed(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let (owner, guest) = (custody.customer_in("owner", (&token, LABEL, PIN), 0), custody.customer("guest", &[], 0));
    let tried = token.calls("C_Login");
    let guess = |pin: &str| {
        let options = custody.options(&token, LABEL, pin);
        let rotate: Vec<&str> = ["keys", "rotate"].into_iter().chain(options.iter().map(String::as_str)).collect();
        let refused = custody.command(&guest.custodian, &rotate);
        assert!(!refused.status.success());
        text(&refused)
    };
    for pin in ["0000000005", "0000000005", "0000000006"] {
        let why = guess(pin);
        assert!(why.contains("hsm.pin"), "{why}");
    }
    let why = guess("0000000007");
    assert!(why.contains("no other is tried"), "{why}");
    assert_eq!(token.calls("C_Login"), tried + 2, "the same PIN not twice, and no third one");
    let entries = custody.entries(&guest, "key.provider.quarantined").await;
    assert_eq!(entries.len(), 3, "{entries:?}");
    assert_eq!(entries[0]["facts"]["tokenLabel"], LABEL);
    // Whose token it is goes on, also from a new worker.
    kill_workers(&custody);
    until("it serves", || async { custody.put(&owner, "4242424242424242").await.is_ok() }).await;
    let made = custody.operate(
        &[
            &["tenant", "create", "late"],
            &custody.options(&token, LABEL, "0000000008").iter().map(String::as_str).collect::<Vec<_>>()[..],
        ]
        .concat(),
    );
    assert!(!made.status.success(), "{}", text(&made));
}

#[tokio::test]
async fn a_key_that_was_not_made_in_its_token_is_not_taken_on() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    bring(&token, "known", 7);
    let options = custody.options(&token, LABEL, PIN);
    let options: Vec<&str> = options.iter().map(String::as_str).chain(["--kek", "known"]).collect();
    let made = custody.operate(&[&["tenant", "create", "acme"], &options[..]].concat());
    assert!(!made.status.success() && text(&made).contains("outside the token"), "{}", text(&made));
    // The one who could gain by it: a custodian who has the PIN of the token in use.
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    let moved = custody.command(&acme.custodian, &[&["keys", "rotate"], &options[..]].concat());
    assert!(!moved.status.success() && text(&moved).contains("hsm.kek"), "{}", text(&moved));
    assert_eq!(custody.keys(&acme, &["list"])["data"].as_array().unwrap().len(), 1);
}

/// A key whose bytes somebody knows, brought into the token.
fn bring(token: &Token, label: &str, byte: u8) {
    let bytes = token.folder().join(label);
    fs::write(&bytes, [byte; 32]).unwrap();
    let written = ["--write-object", bytes.to_str().unwrap(), "--type", "secrkey", "--key-type", "AES:32"];
    let id = format!("{byte:02x}");
    token.logged_in(&[&written[..], &["--label", label, "--id", &id, "--sensitive"]].concat());
}

#[tokio::test]
async fn a_key_that_somebody_may_know_is_taken_on_by_a_waiver_that_the_log_keeps_and_that_takes_two_in_a_token() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    bring(&token, "first", 7);
    bring(&token, "second", 9);
    let options = custody.options(&token, LABEL, PIN);
    let named = |label: &'static str| -> Vec<&str> {
        options.iter().map(String::as_str).chain(["--kek", label, "--waive"]).collect()
    };
    let made = custody.operate(&[&["tenant", "create", "brought"], &named("first")[..]].concat());
    assert!(made.status.success(), "{}", text(&made));
    assert!(text(&made).contains("CKA_LOCAL"), "what is waived is said: {}", text(&made));
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    let rotate = [&["rotate"], &named("second")[..]].concat();
    let asked = custody.keys(&acme, &rotate);
    assert_eq!(asked["approval"]["hsm"]["waive"], true, "{asked}");
    let serial = asked["approval"]["hsm"]["serial"].as_str().unwrap_or_default();
    assert!(!serial.is_empty(), "it is bound to the token that answered: {asked}");
    assert_eq!(custody.keys(&acme, &["list"])["data"].as_array().unwrap().len(), 1);
    let requests = custody.entries(&acme, "key.approval.requested").await;
    assert_eq!(
        requests[0]["facts"]["waived"], "reservations",
        "the second person reads it, and the log too: {requests:?}"
    );
    // Who approves reads what is waived.
    let block = text(&custody.command(&acme.second, &["keys", "approvals"]));
    for said in
        ["waived", "CKA_LOCAL", "CKA_NEVER_EXTRACTABLE", "CKA_ALWAYS_SENSITIVE", "second, which is there already"]
    {
        assert!(block.contains(said), "{said}: {block}");
    }
    custody.approve(&acme, &asked);
    let rotated = custody.command(&acme.custodian, &[&["keys"], &rotate[..]].concat());
    assert!(text(&rotated).contains("version 2 ") && text(&rotated).contains("CKA_LOCAL"), "{}", text(&rotated));
    let entries = custody.entries(&acme, "key.kek.rotated").await;
    assert_eq!(entries[0]["facts"]["waived"], "reservations", "{entries:?}");
    assert!(entries[0]["facts"]["reservations"].as_str().unwrap().contains("CKA_LOCAL"), "{entries:?}");
}

#[tokio::test]
async fn one_worker_serves_the_tokens_of_all_tenants_one_after_the_other_where_no_more_may_run() {
    let token = Token::shimmed(Provider::SoftHsm);
    let custody = Custody::with_settings(&[&token], "hsm_workers = 1");
    let tenants = ["one", "two"].map(|name| custody.customer_in(name, (&token, LABEL, PIN), 0));
    let mut keys = Vec::new();
    for tenant in &tenants {
        until("its turn comes", || async { custody.put(tenant, "4242424242424242").await.is_ok() }).await;
        keys.push(custody.put(tenant, "4242424242424242").await.unwrap());
    }
    // A start takes longer than a request is kept waiting, as that of an HSM behind a network does.
    token.inject("C_Initialize delay=1500\n");
    for _ in 0..3 {
        for (tenant, key) in tenants.iter().zip(&keys) {
            until("its turn comes", || async { custody.read(tenant, key).await.status == 200 }).await;
            assert!(custody.workers().len() <= 1, "{:?}", custody.workers());
        }
    }
    // That a worker ended is no outage, nor that the next one takes its time.
    for tenant in &tenants {
        assert_eq!(custody.reasons(tenant).await, json!([]));
        assert!(custody.entries(tenant, "key.provider.unavailable").await.is_empty());
    }
}

#[tokio::test]
async fn what_is_refused_while_a_worker_is_on_its_way_beside_a_full_house_has_its_names() {
    let token = Token::shimmed(Provider::SoftHsm);
    let custody = Custody::with_settings(&[&token], "hsm_workers = 1");
    let [acme, other] = ["acme", "other"].map(|name| custody.customer_in(name, (&token, LABEL, PIN), 0));
    let key = custody.put(&other, "4242424242424242").await.unwrap();
    // Longer than half of the time that an answer may take, and shorter than a call waits for a start.
    token.inject("C_Initialize delay=950\n");
    for _ in 0..3 {
        until("the other has the only worker", || async { custody.read(&other, &key).await.status == 200 }).await;
        custody.read(&acme, &key).await.expect(404);
    }
    token.inject("");
    let mut denied = Vec::new();
    let mut is_read = async || {
        denied = custody.entries(&acme, "access.denied").await;
        denied.len() == 3 && denied.iter().all(|entry| entry.get("outOfReach").is_none())
    };
    while !is_read().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A machine that is busy with other things may be late once.
    let named = denied.iter().filter(|entry| entry["origin"]["address"].is_string()).count();
    assert!(named > 0, "{denied:?}");
}

#[tokio::test]
async fn a_worker_is_the_program_of_its_node_after_an_upgrade_too() {
    let token = Token::new(Provider::SoftHsm);
    let mut custody = Custody::of(&[&token]);
    let program = custody.serve_from_a_copy();
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    // A package manager renames the new version over the old one.
    let other = program.with_extension("new");
    fs::copy("/bin/false", &other).unwrap();
    fs::rename(&other, &program).unwrap();
    let workers = custody.workers();
    kill_workers(&custody);
    until("another one comes", || async {
        !custody.workers().is_empty() && custody.workers().iter().all(|worker| !workers.contains(worker))
    })
    .await;
    until("it serves", || async { custody.read(&acme, &key).await.status == 200 }).await;
    assert_eq!(custody.reasons(&acme).await, json!([]));
}
