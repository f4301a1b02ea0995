//! A token that is lost: its tenant is moved to another one and goes on there. What only the lost one opens is told to be out of reach, and
//! stands in the way of nothing else.

use std::fs;

use serde_json::{Value, json};
use tests::custody::{Custody, Customer, text, until, words};
use tests::token::{PIN, Provider, Token};

const HOST: &str = "acquirer.example";

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
    until("its log is integrated", || async { custody.export(&acme).await.status != 409 }).await;
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
    let left = custody.keys(&acme, &["rewrap"])["left"].as_u64().unwrap();
    assert!(left > 0);
    let without = verified(&custody, &acme, "without");
    assert!(without["outOfReach"].as_u64().unwrap() > 0, "{without}");
    assert!(exports().await > 0);

    // Should it come back, nothing of it was lost.
    moved("away", "tokens");
    until("it is back", || async { custody.keys(&acme, &["rewrap"])["left"] == 0 }).await;
    custody.read(&acme, &key).await.expect(200);
    let whole = verified(&custody, &acme, "whole");
    assert_eq!(whole["outOfReach"], 0, "{whole}");
    assert!(whole["openings"].as_u64().unwrap() > without["openings"].as_u64().unwrap(), "{whole} {without}");
}
