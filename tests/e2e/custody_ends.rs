//! How a tenant leaves its token, and how keys in tokens end: by two persons, and said as it was seen.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};
use tests::custody::{Custody, Customer, text, until, words};
use tests::token::{LABEL, PIN, Provider, Token};

fn rotate(options: &[String]) -> Vec<&str> {
    [&["rotate"], &words(options)[..]].concat()
}

/// What the second custodian is told, and the certificate it comes to.
async fn shredded(custody: &Custody, customer: &Customer, arguments: &[&str]) -> Value {
    let asked = custody.keys(customer, &[&["shred"], arguments].concat());
    let given = custody.approve(customer, &asked);
    if given["state"] == "completed" {
        return given["certificate"]["certificate"]["destroyed"]["ends"].clone();
    }
    // A node that still has a login says nothing of a loss: the next look asks again.
    assert!(given["state"] == "approved" && arguments == ["--token-lost"], "{given}");
    let certified = || custody.command(&customer.custodian, &["keys", "certificate"]);
    until("it is completed", || async { certified().status.success() }).await;
    custody.keys(customer, &["certificate"])["certificate"]["destroyed"]["ends"].clone()
}

/// The files of PINs in the key store.
fn pins(custody: &Custody, tenant: &str) -> usize {
    let mut folders = vec![custody.folder().to_owned()];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().contains(&format!("hsm-pin/{tenant}/")) {
                found += 1;
            }
        }
    }
    found
}

#[tokio::test]
async fn a_tenant_leaves_its_token_for_another_one_by_two_persons_whatever_the_other_one_calls_itself() {
    let (own, other) = (
        Token::labelled(Provider::SoftHsm, "acme", PIN),
        // Another token that says it is the one in use.
        Token::labelled(Provider::Kryoptic, "acme", PIN),
    );
    let custody = Custody::of(&[&own, &other]);
    let acme = custody.customer_in("acme", (&own, "acme", PIN), 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    let into = custody.options(&other, "acme", PIN);
    let asked = custody.keys(&acme, &rotate(&into));
    assert_eq!((&asked["approval"]["act"], &asked["approval"]["keyProvider"]), (&json!("leave-token"), &json!("hsm")));
    assert!(!other.logged_in(&["--list-objects"]).contains("siv-acme"), "what was tried there is taken away");
    assert_eq!(custody.keys(&acme, &["list"])["data"].as_array().unwrap().len(), 1);
    // Approved, it waits for the PIN, which only who asked has.
    assert_eq!(custody.approve(&acme, &asked)["state"], "approved");
    assert_eq!(custody.keys(&acme, &["list"])["data"].as_array().unwrap().len(), 1);
    assert_eq!(custody.keys(&acme, &rotate(&into))["version"], 2);
    custody.read(&acme, &key).await.expect(200);
    assert_eq!(custody.keys(&acme, &["rewrap"])["left"], 0);
    let listed = custody.keys(&acme, &["approvals"]);
    assert_eq!(listed["data"][0]["state"], "completed");
    // It is used once: the way back is asked for anew. In the token in use a new PIN takes nobody else.
    let back = custody.keys(&acme, &rotate(&custody.options(&own, "acme", PIN)));
    assert_eq!(back["approval"]["state"], "requested", "{back}");
    assert_eq!(custody.keys(&acme, &rotate(&into))["version"], 3);
    // The token that was left ends with its last version; its PIN goes with it.
    assert_eq!(custody.keys(&acme, &["rewrap"])["left"], 0);
    assert_eq!(pins(&custody, "acme"), 2);
    assert_eq!(custody.keys(&acme, &["state", "1", "destroyed"])["state"], "destroyed");
    assert_eq!(pins(&custody, "acme"), 1);
    custody.read(&acme, &key).await.expect(200);
}

#[tokio::test]
async fn one_key_of_a_token_serves_one_tenant() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let options = custody.own_key(&token);
    let options = words(&options);
    let acme = custody.customer("acme", &options, 0);
    let second = custody.operate(&[&["tenant", "create", "second"], &options[..]].concat());
    assert!(!second.status.success() && text(&second).contains("in_use"), "{}", text(&second));
    let moving = custody.customer("moving", &[], 0);
    let moved = custody.command(&moving.custodian, &[&["keys", "rotate"], &options[..]].concat());
    assert!(!moved.status.success() && text(&moved).contains("in_use"), "{}", text(&moved));
    custody.put(&acme, "4242424242424242").await.unwrap();
    assert_eq!(pins(&custody, "second") + pins(&custody, "moving"), 0, "what is refused leaves no PIN");
}

#[tokio::test]
async fn of_two_tenants_that_name_one_key_of_a_token_at_once_one_has_it() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    for round in 0..3 {
        let label = format!("own-{round}");
        token.keygen(&label, &["--sensitive"]);
        let options = custody.options(&token, LABEL, PIN);
        let options = [&words(&options)[..], &["--kek", &label]].concat();
        let make = |name: &str| custody.operate(&[&["tenant", "create", name], &options[..]].concat());
        let names = ["one", "two"].map(|name| format!("{name}-{round}"));
        let made = std::thread::scope(|scope| {
            let others = scope.spawn(|| make(&names[1]));
            [make(&names[0]), others.join().unwrap()]
        });
        assert!(made.iter().filter(|made| made.status.success()).count() <= 1, "both have it");
        // Two processes that open one token of SoftHSM at once may find it half written: who was told that asks again.
        let is_told = |made: &Output| made.status.success() || text(made).contains("in_use");
        let told: Vec<_> =
            names.iter().zip(made).map(|(name, made)| if is_told(&made) { made } else { make(name) }).collect();
        let refused: Vec<_> = told.iter().filter(|made| !made.status.success()).map(text).collect();
        assert!(refused.len() == 1 && refused[0].contains("in_use"), "{refused:?}");
        let tenants = text(&custody.operate(&["tenant", "list"]));
        let there = names.iter().filter(|name| tenants.contains(name.as_str()));
        assert_eq!(there.count(), 1, "{tenants}");
        assert!(token.logged_in(&["--list-objects"]).contains(&label), "the customer's own key stays");
    }
}

#[tokio::test]
async fn the_certificate_says_whether_a_key_was_destroyed_not_found_or_stated_to_be_lost() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::with_settings(&[&token], "hsm_lost_after_seconds = 5");
    let made = |name: &str| custody.customer_in(name, (&token, LABEL, PIN), 0);
    let (whole, hidden, lost) = (made("whole"), made("hidden"), made("lost"));
    custody.put(&lost, "4242424242424242").await.unwrap();
    let ends = shredded(&custody, &whole, &[]).await;
    assert_eq!((&ends[0]["how"], &ends[0]["tokenLabel"]), (&json!("destroyed by siv"), &json!(LABEL)), "{ends}");
    let serial = ends[0]["tokenSerial"].clone();
    assert!(serial.as_str().is_some_and(|serial| !serial.is_empty()), "{ends}");
    // Whoever rules the token took the key away, or shows another token.
    token.logged_in(&["--delete-object", "--type", "secrkey", "--label", "siv-hidden-1"]);
    let ends = shredded(&custody, &hidden, &[]).await;
    assert_eq!((&ends[0]["how"], &ends[0]["tokenSerial"]), (&json!("not found in the token"), &serial), "{ends}");
    let entry = &custody.entries(&hidden, "key.kek.destroyed").await[0];
    assert_eq!((&entry["facts"]["how"], &entry["facts"]["tokenSerial"]), (&ends[0]["how"], &serial));
    // A token that never comes back: nothing ends by itself, and by the word of two persons everything does.
    fs::rename(token.folder().join("tokens"), token.folder().join("away")).unwrap();
    until("it is away", || async { custody.reasons(&lost).await == json!(["kms"]) }).await;
    let ends = shredded(&custody, &lost, &["--token-lost"]).await;
    assert_eq!(ends[0]["how"], "by statement of the custodians, not verified by the vault", "{ends}");
    assert_eq!(ends[0]["tokenSerial"], Value::Null);
    for customer in [&whole, &hidden, &lost] {
        assert_eq!(pins(&custody, &customer.name), 0);
        assert_eq!(custody.reasons(customer).await, json!(["sealed"]), "no key provider is asked for it any more");
    }
    let local = custody.customer("local", &[], 0);
    let refused = custody.command(&local.custodian, &["keys", "shred", "--token-lost"]);
    assert!(!refused.status.success() && text(&refused).contains("tokenLost"), "{}", text(&refused));
}

#[tokio::test]
async fn an_active_key_in_a_token_that_is_away_can_be_said_to_be_compromised() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 60);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    fs::rename(token.folder().join("tokens"), token.folder().join("away")).unwrap();
    until("it is away", || async { custody.reasons(&acme).await == json!(["kms"]) }).await;
    let usual = custody.command(&acme.custodian, &["keys", "state", "1", "compromised"]);
    assert!(!usual.status.success(), "its successor cannot be made");
    let said = custody.keys(&acme, &["state", "1", "compromised", "--without-successor"]);
    assert_eq!(said["state"], "compromised");
    fs::rename(token.folder().join("away"), token.folder().join("tokens")).unwrap();
    let refused = custody.put(&acme, "5555555555554444").await.unwrap_err();
    assert!(refused.text.contains("kms.unavailable"), "nothing is taken in: {}", refused.text);
    until("a successor is made", || async { custody.command(&acme.custodian, &["keys", "rotate"]).status.success() })
        .await;
    until("it serves", || async { custody.read(&acme, &key).await.status == 200 }).await;
    custody.put(&acme, "5555555555554444").await.unwrap();
}

/// What the token no longer has the database of before still says is there; the PIN to ask the token went with the key.
#[tokio::test]
async fn a_tenant_shredded_in_its_token_comes_back_with_no_database_of_before() {
    let token = Token::new(Provider::SoftHsm);
    let mut custody = Custody::of(&[&token]);
    let options = custody.options(&token, LABEL, PIN);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    assert_eq!(custody.keys(&acme, &["rotate"])["version"], 2);
    let checkpoint = custody.checkpoint(&acme).await;
    let kept = custody.put_aside();
    let ends = shredded(&custody, &acme, &[]).await;
    assert_eq!((&ends[0]["how"], &ends[1]["how"]), (&json!("destroyed by siv"), &json!("destroyed by siv")), "{ends}");
    custody.put_back(&kept);
    let done = custody.recover(&acme, &checkpoint).await;
    assert_eq!(done["keysDestroyedAgain"], 2, "{done}");
    let listed = custody.keys(&acme, &["list"]);
    let states: Vec<_> = listed["data"].as_array().unwrap().iter().map(|version| &version["state"]).collect();
    assert_eq!(states, ["destroyed", "destroyed"]);
    let refused = custody.read(&acme, &key).await;
    assert!(refused.status == 503 && refused.text.contains("tenant.sealed"), "{}", refused.text);
    for again in [&["unseal"][..], &["rotate"], &rotate(&options), &["shred"]] {
        let refused = custody.command(&acme.custodian, &[&["keys"], again].concat());
        assert!(!refused.status.success(), "{again:?}: {}", text(&refused));
    }
    assert!(text(&custody.operate(&["tenant", "list"])).contains("shredded"));
}

/// The number of a version that ended stays its own: the end of the first would else be that of a second one.
#[tokio::test]
async fn a_version_made_after_a_restore_has_no_number_of_one_that_ended() {
    let token = Token::new(Provider::SoftHsm);
    let mut custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    let (checkpoint, kept) = (custody.checkpoint(&acme).await, custody.put_aside());
    assert_eq!(custody.keys(&acme, &["rotate"])["version"], 2);
    assert_eq!(custody.keys(&acme, &["rotate"])["version"], 3);
    assert_eq!(custody.keys(&acme, &["rewrap"])["left"], 0);
    assert_eq!(custody.keys(&acme, &["state", "2", "destroyed"])["state"], "destroyed");
    custody.put_back(&kept);
    assert_eq!(custody.recover(&acme, &checkpoint).await["keysDestroyedAgain"], 0);
    assert_eq!(custody.keys(&acme, &["rotate"])["version"], 3, "two had its end");
    assert_eq!(custody.keys(&acme, &["rewrap"])["left"], 0);
    custody.read(&acme, &key).await.expect(200);
}
