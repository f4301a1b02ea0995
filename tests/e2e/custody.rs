//! A tenant whose key lives in the customer's own token, over the real binary and real tokens: made, used, rotated, moved.

use std::fs;
use std::path::Path;
use std::time::Instant;

use tests::custody::{Custody, OWN_KEY, text, words};
use tests::token::{LABEL, PIN, Provider, Token};

/// A PIN that stands nowhere else by chance.
const RARE_PIN: &str = "73519064287731";

#[tokio::test]
async fn a_tenant_made_in_a_token_captures_reads_restarts_rotates_and_is_wrapped_anew() {
    for provider in [Provider::SoftHsm, Provider::Kryoptic] {
        let token = Token::labelled(provider, "acme", RARE_PIN);
        let mut custody = Custody::of(&[&token]);
        let acme = custody.customer_in("acme", (&token, "acme", RARE_PIN), 60);
        let key = custody.put(&acme, "4242424242424242").await.unwrap();
        custody.read(&acme, &key).await.expect(200);

        let made = &custody.entries(&acme, "key.kek.created").await[0];
        for fact in ["moduleSha256", "tokenSerial", "kekAttributes", "kekLabel", "profile"] {
            assert!(made.to_string().contains(fact), "{fact}: {made}");
        }
        assert!(made.to_string().contains("extractable=false"), "{made}");

        custody.restart();
        custody.read(&acme, &key).await.expect(200);
        assert_eq!(custody.keys(&acme, &["rotate"])["version"], 2);
        let late = custody.put(&acme, "5555555555554444").await.unwrap();
        let done = custody.keys(&acme, &["rewrap"]);
        assert!(done["moved"].as_u64().unwrap() > 0 && done["left"] == 0, "{done}");
        custody.restart();
        for key in [&key, &late] {
            assert_eq!(
                custody.read(&acme, key).await.expect(200).json()["outputs"]["last4"].as_str().unwrap().len(),
                4
            );
        }
        let keks = custody.keys(&acme, &["list"]);
        for kek in keks["data"].as_array().unwrap() {
            assert!(!kek["mechanism"].as_str().unwrap().starts_with("local-"), "{kek}");
        }
        pin_is_nowhere(&custody);
    }
}

/// In no file of the installation, no output and no argument; the environment cannot be read from outside.
fn pin_is_nowhere(custody: &Custody) {
    let workers = custody.workers();
    assert!(!workers.is_empty(), "a worker holds the module");
    for pid in workers.iter().chain([&custody.pid()]) {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!holds(&arguments), "process {pid}");
    }
    let (mut folders, mut looked) = (vec![custody.folder().to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // The file the operator handed over is the one place it stands in.
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("pin-acme") {
                looked += 1;
                assert!(!holds(&fs::read(&path).unwrap()), "{}", path.display());
            }
        }
    }
    assert!(looked > 5 && holds(&fs::read(Path::new(&custody.folder()).join("pin-acme")).unwrap()));
}

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(RARE_PIN.len()).any(|part| part == RARE_PIN.as_bytes())
}

#[tokio::test]
async fn a_tenant_moves_into_a_token_and_back_and_nothing_is_sealed_anew() {
    let token = Token::new(Provider::SoftHsm);
    let mut custody = Custody::of(&[&token]);
    let acme = custody.customer("acme", &[], 60);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    let mut read = Vec::new();
    let options = custody.options(&token, LABEL, PIN);
    let into = [&["rotate"], &words(&options)[..]].concat();
    for (arguments, place) in [(&into[..], "hsm"), (&["rotate", "--key-provider", "local"], "local")] {
        let asked = custody.keys(&acme, arguments);
        if place == "local" {
            // From then on the vault has the tenant's key: the first custodian only asks for it.
            let id = asked["approval"]["approvalId"].as_str().unwrap();
            let alone = custody.command(&acme.custodian, &["keys", "approve", id]);
            assert!(!alone.status.success() && text(&alone).contains("second_person"), "{}", text(&alone));
            assert!(custody.entries(&acme, "admin.tenant.moved").await.len() == 1, "nothing moved yet");
            assert_eq!(custody.approve(&acme, &asked)["state"], "completed");
        }
        custody.read(&acme, &key).await.expect(200);
        let done = custody.keys(&acme, &["rewrap"]);
        assert!(done["moved"].as_u64().unwrap() > 0 && done["left"] == 0, "{done}");
        let tenants: serde_json::Value =
            serde_json::from_slice(&custody.operate(&["tenant", "list", "--json"]).stdout).unwrap();
        let own = tenants["data"].as_array().unwrap().iter().find(|tenant| tenant["name"] == "acme").unwrap();
        assert_eq!(own["keyProvider"], place);
        custody.restart();
        read.push(custody.read(&acme, &key).await.expect(200).json()["outputs"].clone());
    }
    assert_eq!(read[0], read[1]);
    assert_eq!(custody.entries(&acme, "admin.tenant.moved").await.len(), 2);
}

#[tokio::test]
async fn a_move_that_is_only_tried_says_what_would_be_done_and_makes_nothing() {
    for provider in [Provider::SoftHsm, Provider::Kryoptic] {
        let token = Token::new(provider);
        let custody = Custody::of(&[&token]);
        let acme = custody.customer("acme", &[], 60);
        let options = custody.options(&token, LABEL, PIN);
        let tried = |options: &[&str]| custody.keys(&acme, &[&["rotate", "--dry-run"], options].concat());
        let would = tried(&words(&options));
        assert_eq!((&would["version"], &would["token"], &would["takesTwo"]), (&2.into(), &LABEL.into(), &false.into()));
        assert!(!token.logged_in(&["--list-objects"]).contains("siv-acme"), "nothing is made in the token");
        assert_eq!(custody.keys(&acme, &["list"])["data"].as_array().unwrap().len(), 1);
        assert!(custody.workers().is_empty(), "the worker that tried it is gone");
        // It is what is done.
        let done = custody.keys(&acme, &[&["rotate"], &words(&options)[..]].concat());
        for member in ["version", "mechanism", "token", "serial", "keyProvider"] {
            assert_eq!(would[member], done[member], "{member}");
        }
        // A key that is there is looked at; one that is not, or is another version's, is refused as it would be.
        let own = custody.own_key(&token);
        assert_eq!(tried(&words(&own))["takesTwo"], false);
        let named = |label: &str| [&words(&options)[..], &["--kek", label]].concat().join(" ");
        for (label, said) in [("absent", "not_found"), ("siv-acme-2", "in_use")] {
            let named = named(label);
            let arguments: Vec<_> = ["keys", "rotate", "--dry-run"].into_iter().chain(named.split(' ')).collect();
            let refused = custody.command(&acme.custodian, &arguments);
            assert!(!refused.status.success() && text(&refused).contains(said), "{label}: {}", text(&refused));
        }
        // Leaving the token would take a second custodian.
        assert_eq!(tried(&["--key-provider", "local"])["takesTwo"], true);
    }
}

#[tokio::test]
async fn what_is_refused_leaves_neither_a_tenant_nor_a_key() {
    let token = Token::shimmed(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let create = |name: &str, options: &[&str]| {
        let done = custody.operate(&[&["tenant", "create", name], options].concat());
        (done.status.success(), text(&done))
    };
    let good = custody.options(&token, LABEL, PIN);
    let good = words(&good);
    let with = |at: usize, value: &'static str| {
        let mut options = good.clone();
        options[at] = value;
        options
    };
    let wrong_pin = custody.file("wrong", "0000");
    let mut wrong = good.clone();
    wrong[7] = &wrong_pin;
    let named = [&good[..], &["--kek", "absent"]].concat();
    for (options, said) in [
        (with(3, "/usr/lib/softhsm/absent.so"), "hsm.module"),
        (with(5, "another"), "hsm.token: unreachable (no token there has label \"another\": `pkcs11-tool"),
        (wrong, "hsm.pin"),
        (named, "or leave out the key's label (--kek)"),
    ] {
        let (done, told) = create("acme", &options);
        assert!(!done && told.contains(said), "{options:?}: {told}");
    }
    assert_eq!(token.calls("C_GenerateKey"), 0);
    let mut missing = good.clone();
    missing[7] = "no-such-file";
    let (done, told) = create("acme", &missing);
    assert!(!done && told.contains("  next  write the token's user PIN"), "{told}");
    // A key that turns out not to wrap is taken away again.
    token.inject("C_Encrypt rv=0x70\nC_WrapKey rv=0x70\nC_GenerateKeyPair rv=0x70");
    let (done, told) = create("acme", &good);
    assert!(!done && told.contains("hsm.kek"), "{told}");
    assert!(token.calls("C_GenerateKey") > 0);
    assert!(!token.logged_in(&["--list-objects"]).contains("siv-acme"), "nothing is left in the token");
    token.inject("");
    let (done, told) = create("acme", &good);
    assert!(done, "the name is free: {told}");
    // A key that is there already is taken on, and only if it is the one of its label.
    let own = custody.own_key(&token);
    let (done, told) = create("second", &words(&own));
    assert!(done, "{told}");
    let twice = custody.own_key(&token);
    let (done, told) = create("third", &words(&twice));
    assert!(!done && told.contains("ambiguous"), "{told}");
}

#[tokio::test]
async fn a_key_that_stands_behind_one_version_is_not_taken_for_another() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let options = custody.own_key(&token);
    let options = words(&options);
    let acme = custody.customer("acme", &options, 0);
    let key = custody.put(&acme, "4242424242424242").await.unwrap();
    let again = custody.command(&acme.custodian, &[&["keys", "rotate"], &options[..]].concat());
    assert!(!again.status.success() && text(&again).contains("in_use"), "{}", text(&again));
    custody.read(&acme, &key).await.expect(200);
    // The end of the old version is not the end of the new one, which has a key of its own.
    custody.keys(&acme, &["rotate"]);
    assert_eq!(custody.keys(&acme, &["rewrap"])["left"], 0);
    assert_eq!(custody.keys(&acme, &["state", "1", "destroyed"])["state"], "destroyed");
    assert!(!token.logged_in(&["--list-objects"]).contains(OWN_KEY));
    custody.read(&acme, &key).await.expect(200);
}

#[tokio::test]
async fn a_module_that_the_settings_do_not_name_is_not_loaded() {
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::with_settings(&[&token], "hsm_modules = [\"/opt/vendor/lib/pkcs11.so\"]");
    let options = custody.options(&token, LABEL, PIN);
    let refused = custody.operate(&[&["tenant", "create", "acme"], &words(&options)[..]].concat());
    assert!(!refused.status.success() && text(&refused).contains("not_allowed"), "{}", text(&refused));
    assert!(custody.workers().is_empty());
}

#[tokio::test]
async fn a_rewrap_that_takes_longer_than_a_stretch_is_gone_on_with_until_it_is_through() {
    let custody = Custody::of(&[]);
    let acme = custody.customer("acme", &[], 0);
    // With each compromise further data keys are begun.
    for version in ["1", "2", "3", "4", "5", "6"] {
        custody.put(&acme, "4242424242424242").await.unwrap();
        custody.keys(&acme, &["state", version, "compromised"]);
    }
    let wanted = custody.keys(&acme, &["rewrap", "--dry-run"])["moved"].as_u64().unwrap();
    assert!(wanted > 11, "{wanted} are no more than one stretch");
    let begun = Instant::now();
    let done = custody.command(&acme.custodian, &["keys", "rewrap", "--per-second", "1", "--json"]);
    let told = text(&done);
    assert!(done.status.success(), "{told}");
    let sum: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(sum["moved"].as_u64().unwrap() >= wanted && sum["left"] == 0, "{told}");
    assert!(told.contains(" data keys are wrapped anew, "), "it says how far it is: {told}");
    assert!(begun.elapsed().as_secs() + 2 >= wanted, "it keeps its pace over all stretches: {:?}", begun.elapsed());
    let ended = custody.entries(&acme, "key.rewrap.ended").await;
    assert_eq!(ended.len(), 1, "{ended:?}");
}
