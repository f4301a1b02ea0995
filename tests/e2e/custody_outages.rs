//! A customer's token that goes away, comes back, refuses its PIN or loses its worker: what the tenant, its neighbours and
//! whoever watches see of it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::json;
use tests::custody::{Custody, OWN_KEY, text, until, words};
use tests::process;
use tests::token::{LABEL, PIN, Provider, Token};

/// Takes a token's store away, or puts it back.
fn moved(token: &Token, from: &str, to: &str) {
    fs::rename(token.folder().join(from), token.folder().join(to)).unwrap();
}

#[tokio::test]
async fn a_token_that_goes_away_stops_its_own_tenant_and_no_other_and_heals_by_itself() {
    let soft = Token::labelled(Provider::SoftHsm, "soft", PIN);
    let other = Token::labelled(Provider::Kryoptic, "other", PIN);
    let custody = Custody::of(&[&soft, &other]);
    let strict = custody.customer_in("strict", (&soft, "soft", PIN), 0);
    let neighbour = custody.customer_in("neighbour", (&other, "other", PIN), 0);
    let key = custody.put(&strict, "4242424242424242").await.unwrap();
    let theirs = custody.put(&neighbour, "5555555555554444").await.unwrap();
    custody.read(&strict, &key).await.expect(200);
    assert_eq!(custody.reasons(&strict).await, json!([]));

    moved(&soft, "tokens", "away");
    // A worker that has the store open may answer a few more.
    until("it is refused", || async { custody.read(&strict, &key).await.status != 200 }).await;
    let refused = custody.read(&strict, &key).await.expect(503);
    assert_eq!(refused.json()["code"], "kms.unavailable");
    until("it is told", || async { custody.reasons(&strict).await == json!(["kms"]) }).await;
    // Nobody erased what cannot be opened now.
    let entry = &custody.entries(&strict, "value.captured").await[0];
    assert!(entry["outOfReach"].is_array() && entry.get("erased").is_none(), "{entry}");
    assert_eq!(custody.export(&strict).await.expect(503).json()["code"], "kms.unavailable");
    custody.export(&neighbour).await.expect(200);
    custody.read(&neighbour, &theirs).await.expect(200);
    custody.put(&neighbour, "4111111111111111").await.unwrap();
    assert_eq!(custody.reasons(&neighbour).await, json!([]));
    until("it is counted", || async { custody.metrics().await.contains("siv_hsm_up{tenant=\"strict\"} 0\n") }).await;
    assert!(custody.metrics().await.contains("siv_hsm_up{tenant=\"neighbour\"} 1\n"));
    until("it is logged", || async { !custody.entries(&strict, "key.provider.unavailable").await.is_empty() }).await;
    let away = custody.entries(&strict, "key.provider.unavailable").await.remove(0);
    assert!(
        away["facts"]["tokenLabel"].is_string() && away["facts"]["why"].is_string(),
        "which token, and why: {away}"
    );

    moved(&soft, "away", "tokens");
    until("it heals", || async { custody.read(&strict, &key).await.status == 200 }).await;
    until("it is told", || async { custody.reasons(&strict).await == json!([]) }).await;
    until("it is logged", || async { !custody.entries(&strict, "key.provider.available").await.is_empty() }).await;
    let entry = &custody.entries(&strict, "value.captured").await[0];
    assert!(entry.get("outOfReach").is_none() && entry["origin"]["address"].is_string(), "{entry}");
    custody.export(&strict).await.expect(200);
    assert!(custody.entries(&strict, "key.provider.alarm").await.is_empty(), "an outage is no tampering");
}

#[tokio::test]
async fn a_strict_tenant_asks_its_token_for_every_read_and_another_serves_until_its_age() {
    let token = Token::shimmed(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let strict = custody.customer_in("strict", (&token, LABEL, PIN), 0);
    let cached = custody.customer_in("cached", (&token, LABEL, PIN), 5);
    let key = custody.put(&strict, "4242424242424242").await.unwrap();
    let kept = custody.put(&cached, "5555555555554444").await.unwrap();
    for _ in 0..3 {
        let before = token.calls("C_Decrypt");
        custody.read(&strict, &key).await.expect(200);
        // The value's data key, and the one that the openings of its entry are sealed under.
        assert!(token.calls("C_Decrypt") >= before + 2, "nothing that a read needs is served from memory");
    }
    custody.read(&cached, &kept).await.expect(200);
    moved(&token, "tokens", "away");
    // What was opened a moment ago still serves; a slow machine may need to warm it again first.
    let warm = custody.read(&cached, &kept).await.status;
    until("strict is strict", || async { custody.read(&strict, &key).await.status == 503 }).await;
    until("its age is over", || async { custody.read(&cached, &kept).await.status == 503 }).await;
    moved(&token, "away", "tokens");
    until("both heal", || async {
        custody.read(&cached, &kept).await.status == 200 && custody.read(&strict, &key).await.status == 200
    })
    .await;
    assert!(matches!(warm, 200 | 503), "{warm}");
}

#[tokio::test]
async fn a_worker_killed_under_load_costs_no_wrong_answer_and_comes_back() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Arc::new(Custody::of(&[&token]));
    let strict = Arc::new(custody.customer_in("strict", (&token, LABEL, PIN), 0));
    let key = custody.put(&strict, "4242424242424242").await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (custody, strict, key, ended) = (custody.clone(), strict.clone(), key.clone(), ended.clone());
            tokio::spawn(async move {
                let mut served = 0;
                while !ended.load(Ordering::SeqCst) {
                    let answer = custody.read(&strict, &key).await;
                    match answer.status {
                        200 => assert_eq!(answer.json()["outputs"]["last4"], "4242"),
                        503 => assert!(
                            ["kms.unavailable", "overloaded"].iter().any(|code| answer.json()["code"] == *code),
                            "{answer:?}"
                        ),
                        _ => panic!("{answer:?}"),
                    }
                    served += u32::from(answer.status == 200);
                }
                served
            })
        })
        .collect();
    for _ in 0..3 {
        let workers = custody.workers();
        workers.iter().for_each(|worker| process::signal(*worker, Signal::KILL));
        until("another one comes", || async {
            !custody.workers().is_empty() && custody.workers().iter().all(|worker| !workers.contains(worker))
        })
        .await;
        until("it serves again", || async { custody.read(&strict, &key).await.status == 200 }).await;
    }
    ended.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_refused_pin_is_not_tried_again_not_even_after_a_restart_until_a_person_changes_it() {
    let token = Token::shimmed(Provider::SoftHsm);
    let mut custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    // The PIN is changed at the token, behind the vault's back.
    token.logged_in(&["--change-pin", "--new-pin", "0987654321"]);
    let tried = token.calls("C_Login");
    custody.workers().iter().for_each(|worker| process::signal(*worker, Signal::KILL));
    until("it is quarantined", || async { !custody.entries(&acme, "key.provider.quarantined").await.is_empty() }).await;
    assert_eq!(token.calls("C_Login"), tried + 1, "one attempt");
    let is_down = async |custody: &Custody| custody.metrics().await.contains("siv_hsm_up{tenant=\"acme\"} 0\n");
    assert!(is_down(&custody).await);
    custody.read(&acme, &key).await.expect(503);
    assert!(is_down(&custody).await, "also when nobody tries it any more");
    custody.restart();
    // Before anybody asks for anything.
    until("it is known from its row", || is_down(&custody)).await;
    let told = "the PIN of a tenant's token was refused: the token is not asked";
    assert_eq!(custody.installation.log_text().matches(told).count(), 2, "by each start of the node");
    for _ in 0..3 {
        assert_eq!(custody.read(&acme, &key).await.expect(503).json()["code"], "kms.unavailable");
        assert_eq!(custody.reasons(&acme).await, json!(["kms"]));
    }
    assert_eq!(token.calls("C_Login"), tried + 1, "and no other after a restart");
    assert_eq!(custody.entries(&acme, "key.provider.quarantined").await.len(), 1);
    // A person says the new one.
    let options = custody.options(&token, LABEL, "0987654321");
    let done = custody.command(&acme.custodian, &[&["keys", "rotate"], &words(&options)[..]].concat());
    assert!(done.status.success(), "{}", text(&done));
    until("it serves", || async { custody.read(&acme, &key).await.status == 200 }).await;
    until("it is up", || async { !is_down(&custody).await }).await;
    assert_eq!(custody.entries(&acme, "admin.tenant.moved").await.len(), 0, "it is the same token");
    assert_eq!(custody.keys(&acme, &["rewrap"])["left"], 0);
    custody.restart();
    custody.read(&acme, &key).await.expect(200);
}

#[tokio::test]
async fn another_key_behind_the_label_is_an_alarm_and_serves_nobody() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let options = custody.own_key(&token);
    let acme = custody.customer("acme", &words(&options), 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    token.logged_in(&["--delete-object", "--type", "secrkey", "--label", OWN_KEY]);
    custody.own_key(&token);
    custody.workers().iter().for_each(|worker| process::signal(*worker, Signal::KILL));
    until("it is an alarm", || async { !custody.entries(&acme, "key.provider.alarm").await.is_empty() }).await;
    // As anything else that was tampered with: told from an outage inside, and not outside.
    let refused = custody.read(&acme, &key).await.expect(404);
    assert_eq!(refused.json()["code"], "value.not_found");
    assert!(!custody.metrics().await.contains("siv_hsm_alarms_total 0\n"));
    assert_eq!(custody.reasons(&acme).await, json!(["kms"]));
}

#[tokio::test]
async fn a_list_of_keys_says_of_each_version_whether_its_token_answers_now() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    let asked = custody.keys(&acme, &["rotate", "--key-provider", "local"]);
    custody.approve(&acme, &asked);
    let said = || {
        let listed = custody.keys(&acme, &["list"]);
        [0, 1].map(|at| listed["data"][at]["tokenAnswers"].clone())
    };
    assert_eq!(said(), [json!(true), json!(null)], "there is no token of the built-in KMS");
    moved(&token, "tokens", "away");
    until("it is refused", || async { custody.read(&acme, &key).await.status == 503 }).await;
    until("it is told", || std::future::ready(said() == [json!(false), json!(null)])).await;
    let table = text(&custody.command(&acme.custodian, &["keys", "list"]));
    let words: Vec<&str> = table.lines().map(|line| line.split_whitespace().nth_back(2).unwrap()).collect();
    assert!(words[0] == "tokenAnswers" && words[1] == "no", "{table}");
    moved(&token, "away", "tokens");
    until("it heals", || async { custody.read(&acme, &key).await.status == 200 }).await;
    until("it is told", || std::future::ready(said() == [json!(true), json!(null)])).await;
}

#[tokio::test]
async fn a_key_that_is_gone_from_a_token_that_answers_is_told_and_leads_to_its_loss() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    custody.put(&acme, "4242424242424242").await.unwrap();
    custody.keys(&acme, &["rotate"]);
    token.logged_in(&["--delete-object", "--type", "secrkey", "--label", "siv-acme-1"]);
    let listed = || custody.keys(&acme, &["list"])["data"].clone();
    until("it is told", || std::future::ready(listed()[0]["keyFault"] == "missing")).await;
    assert_eq!(listed()[0]["tokenAnswers"], true);
    assert_eq!(listed()[1]["keyFault"], json!(null), "the other key of that token is there");
    let table = text(&custody.command(&acme.custodian, &["keys", "list"]));
    assert!(table.contains("yes, key missing"), "{table}");
    let refused = |arguments: &[&str]| {
        let done = custody.command(&acme.custodian, &[&["keys"], arguments].concat());
        assert_eq!(done.status.code(), Some(1), "{}", text(&done));
        text(&done)
    };
    let left = refused(&["rewrap"]);
    assert!(left.contains("of version 1: the key is missing in its token"), "{left}");
    let ended = refused(&["state", "1", "destroyed"]);
    assert!(ended.contains("siv keys lost 1") && !ended.contains("rewrap"), "{ended}");
    let log = custody.installation.log_text();
    assert!(log.contains("the tenant's HSM: the token holds no key-encryption key"), "{log}");
}
