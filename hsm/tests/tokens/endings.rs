//! The end of a key in its token: only of that key, said only by a login that is new enough, and looked at again.

use std::time::Duration;

use hsm::{Host, HsmError, KekKind, Limits, Phase};

use crate::token::{BOTH, LONG, Provider, Token, kek, watched};

/// What the host watches of `kek`.
fn canary(host: &Host, kek: &hsm::KekRef) -> hsm::Canary {
    host.make_canary(kek, LONG).unwrap()
}

#[test]
fn a_token_that_is_away_never_says_that_it_has_no_such_key() {
    let token = Token::shimmed(Provider::SoftHsm);
    let host = token.host();
    let kek = watched(&host, "kek");
    let canary = canary(&host, &kek);
    let (here, away) = (token.folder().join("tokens"), token.folder().join("away"));
    // The worker is logged in and was never told: what it finds now is nothing, without an error.
    std::fs::rename(&here, &away).unwrap();
    for _ in 0..3 {
        let error = host.destroy_kek(&kek.selector, Some(&canary), LONG).unwrap_err();
        assert!(error.is_outage(), "{error:?}");
    }
    std::fs::rename(&away, &here).unwrap();
    let until = std::time::Instant::now() + LONG;
    let ended = loop {
        match host.destroy_kek(&kek.selector, Some(&canary), LONG) {
            Ok(ended) => break ended,
            Err(error) => assert!(error.is_outage() && std::time::Instant::now() < until, "{error:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(ended.was_there, "it was there all the time");
}

#[test]
fn that_a_key_is_missing_is_said_by_a_login_made_after_the_question() {
    for provider in BOTH {
        let token = Token::shimmed(provider);
        let host = token.host();
        let kek = watched(&host, "kek");
        let canary = canary(&host, &kek);
        token.host().destroy_kek(&kek.selector, None, LONG).unwrap();
        for _ in 0..2 {
            let (initialised, logins) = (token.calls("C_Initialize"), token.calls("C_Login"));
            let ended = host.destroy_kek(&kek.selector, Some(&canary), LONG).unwrap();
            assert!(!ended.was_there && ended.token.label == "siv-test", "{ended:?}");
            assert!(token.calls("C_Initialize") > initialised && token.calls("C_Login") > logins, "{provider:?}");
        }
    }
}

#[test]
fn a_decoy_behind_the_label_is_neither_destroyed_nor_an_end() {
    for provider in BOTH {
        let token = Token::new(provider);
        let host = token.host();
        let kek = watched(&host, "kek");
        let canary = canary(&host, &kek);
        let thief = token.host();
        thief.destroy_kek(&kek.selector, None, LONG).unwrap();
        thief.create_kek(&kek.selector, KekKind::Aes256, LONG).unwrap();
        for _ in 0..2 {
            let refusal = host.destroy_kek(&kek.selector, Some(&canary), LONG).unwrap_err();
            assert_eq!(refusal, HsmError::KekReplaced, "{provider:?}");
        }
        assert!(thief.describe(&kek.selector, LONG).is_ok(), "what it is not asked about it does not touch");
    }
}

#[test]
fn a_module_that_only_says_that_it_destroyed_a_key_is_not_believed() {
    let token = Token::shimmed(Provider::SoftHsm);
    let host = token.host();
    let kek = kek(&host, "kek", KekKind::Aes256);
    let canary = canary(&host, &kek);
    token.inject("C_DestroyObject rv=0x0\n");
    let refusal = host.destroy_kek(&kek.selector, Some(&canary), LONG).unwrap_err();
    assert!(matches!(&refusal, HsmError::Refused(why) if why.contains("shows it still")), "{refusal:?}");
    // A refusal is an answer, and no silence, whatever the code.
    for code in ["0x1b", "0x5", "0x80000007"] {
        token.inject(&format!("C_DestroyObject rv={code}\n"));
        let refusal = host.destroy_kek(&kek.selector, Some(&canary), LONG).unwrap_err();
        assert!(matches!(refusal, HsmError::Refused(_)), "{refusal:?}");
    }
    token.inject("");
    assert!(host.destroy_kek(&kek.selector, Some(&canary), LONG).unwrap().was_there);
    assert_eq!(host.status().starts, 1);
}

#[test]
fn many_canaries_of_a_slow_token_are_no_hung_call() {
    let token = Token::shimmed(Provider::SoftHsm);
    let maker = token.host();
    let canaries: Vec<_> = (0..12)
        .map(|at| {
            let kek = kek(&maker, &format!("kek-{at}"), KekKind::Aes256);
            maker.make_canary(&kek, LONG).unwrap()
        })
        .collect();
    drop(maker);
    let mut configuration = token.configuration();
    configuration.canaries = canaries;
    // Twelve of them take three seconds; one call may take two.
    token.inject("C_DecryptInit delay=250\n");
    let limits = Limits { call: Duration::from_secs(2), canary: Duration::from_millis(50), ..Token::limits() };
    let host = token.host_with(configuration, limits);
    let first = host.status().canaries_at;
    assert!(host.wait(LONG, |s| s.canaries_at > first), "{:?}", host.status());
    let second = host.status().canaries_at;
    assert!(host.wait(LONG, |s| s.canaries_at > second), "{:?}", host.status());
    let status = host.status();
    assert_eq!((status.starts, status.phase), (1, Phase::Ready), "{status:?}");
    assert_eq!(host.ask_canaries(LONG).unwrap(), []);
}

#[test]
fn of_several_keys_of_one_name_none_is_destroyed_until_only_its_own_is_left() {
    for provider in BOTH {
        let token = Token::new(provider);
        let host = token.host();
        let kek = watched(&host, "kek");
        let canary = canary(&host, &kek);
        let named = ["--label", "kek", "--id", "6b656b"];
        token.logged_in(&[&["--keypairgen", "--key-type", "rsa:2048"], &named[..]].concat());
        for _ in 0..2 {
            let refused = host.destroy_kek(&kek.selector, Some(&canary), LONG).unwrap_err();
            assert_eq!(refused, HsmError::KekAmbiguous(2), "{provider:?}");
        }
        for half in ["privkey", "pubkey"] {
            token.logged_in(&[&["--delete-object", "--type", half], &named[..]].concat());
        }
        assert!(host.destroy_kek(&kek.selector, Some(&canary), LONG).unwrap().was_there, "{provider:?}");
    }
}
