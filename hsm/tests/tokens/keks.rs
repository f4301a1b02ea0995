//! Exactly one KEK or none: duplicates, absence, replacement behind the label.

use hsm::{Anomaly, HsmError, KekKind, KekRef, NotMade, Profile};

use crate::token::{BOTH, LONG, Provider, Token, data_key, kek, named, watched};

#[test]
fn a_key_that_nobody_began_to_make_is_told_from_one_that_may_be_there() {
    let token = Token::shimmed(Provider::SoftHsm);
    let host = token.host();
    host.create_kek(&named("there"), KekKind::Aes256, LONG).unwrap();
    let making = || host.create_kek(&named("kek"), KekKind::Aes256, LONG).unwrap_err();
    // The token does not answer, before anything was made in it.
    token.inject("C_FindObjectsInit rv=0x30\nC_Initialize rv=0x5\n");
    let unmade = making();
    assert!(unmade.error.is_outage() && !unmade.may_be_there, "{unmade:?}");
    token.inject("");
    let begun = std::time::Instant::now();
    while host.describe(&named("there"), LONG).is_err() {
        assert!(begun.elapsed() < LONG, "it does not heal");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // It was told to make one, and does not say whether it did.
    token.inject("C_GenerateKey rv=0x30\n");
    let unmade = making();
    assert!(unmade.error.is_outage() && unmade.may_be_there, "{unmade:?}");
}

#[test]
fn two_keys_of_one_label_are_both_refused() {
    for provider in BOTH {
        let token = Token::new(provider);
        token.keygen("twice", &["--sensitive"]);
        token.keygen("twice", &["--sensitive"]);
        let host = token.host();
        let selector = hsm::KekSelector { label: Some("twice".to_owned()), id: None };
        assert_eq!(host.describe(&selector, LONG).unwrap_err(), HsmError::KekAmbiguous(2), "{provider:?}");
        let kek = KekRef { selector, profile: Profile::AesGcmApplicationIv };
        assert_eq!(host.wrap(&kek, &data_key(), b"", LONG).unwrap_err(), HsmError::KekAmbiguous(2));
    }
}

#[test]
fn a_key_is_found_by_one_search_whatever_its_kind_and_whatever_else_has_its_name() {
    let token = Token::shimmed(Provider::SoftHsm);
    let host = token.host();
    for kind in [KekKind::Aes256, KekKind::RSA_3072] {
        let selector = named(&format!("{kind:?}"));
        host.create_kek(&selector, kind, LONG).unwrap();
        // Neither a secret nor half of a pair.
        let (label, file) = (selector.label.clone().unwrap_or_default(), token.folder().join("data"));
        std::fs::write(&file, b"a note").unwrap();
        token.logged_in(&["--write-object", &file.display().to_string(), "--type", "data", "--label", &label]);
        let by_label = hsm::KekSelector { id: None, ..selector };
        let before = token.calls("C_FindObjectsInit");
        assert_eq!(host.describe(&by_label, LONG).map(|said| said.kind), Ok(kind));
        assert_eq!(token.calls("C_FindObjectsInit"), before + 1);
    }
}

#[test]
fn an_object_of_a_keys_name_that_does_not_say_what_it_is_or_says_that_it_is_a_key_lets_no_key_serve() {
    let token = Token::shimmed(Provider::SoftHsm);
    let host = token.host();
    let selector = named("kek");
    host.create_kek(&selector, KekKind::Aes256, LONG).unwrap();
    let by_label = hsm::KekSelector { id: None, ..selector };
    let file = token.folder().join("data");
    std::fs::write(&file, b"a note").unwrap();
    token.logged_in(&["--write-object", &file.display().to_string(), "--type", "data", "--label", "kek"]);
    let found = || host.describe(&by_label, LONG).map(|said| said.kind);
    let asked = || token.calls("CKA_CLASS");
    let before = asked();
    assert_eq!(found(), Ok(KekKind::Aes256));
    assert_eq!(asked(), before + 2, "each says once what it is");
    // Whichever of the two it is, and both.
    for (from, to) in [(1, 1), (2, 2), (1, 2)] {
        let silent = || {
            token.inject(&format!("CKA_CLASS class=none from={} to={}\n", asked() + from, asked() + to));
        };
        silent();
        let refused = found();
        assert!(matches!(refused, Err(HsmError::KekUnfit(_))), "{refused:?}");
        silent();
        let refused = host.destroy_kek(&by_label, None, LONG);
        assert!(matches!(refused, Err(HsmError::KekUnfit(_))), "nor is one taken for gone: {refused:?}");
    }
    // A note that says it is a secret key (CKO_SECRET_KEY).
    token.inject("CKA_CLASS class=0x4\n");
    assert_eq!(found(), Err(HsmError::KekAmbiguous(2)));
    token.inject("");
    assert_eq!(found(), Ok(KekKind::Aes256));
}

#[test]
fn an_absent_key_is_said_to_be_absent_and_tears_nothing_down() {
    for provider in BOTH {
        let token = Token::new(provider);
        let host = token.host();
        let absent = KekRef { selector: named("absent"), profile: Profile::AesGcmApplicationIv };
        assert_eq!(host.wrap(&absent, &data_key(), b"", LONG).unwrap_err(), HsmError::KekNotFound, "{provider:?}");
        assert!(matches!(host.describe(&hsm::KekSelector::default(), LONG), Err(HsmError::Configuration(_))));
        assert_eq!(host.status().starts, 1);
    }
}

#[test]
fn a_key_that_can_leave_the_token_cannot_serve() {
    let token = Token::new(Provider::SoftHsm);
    token.keygen("open", &["--extractable"]);
    let host = token.host();
    let selector = hsm::KekSelector { label: Some("open".to_owned()), id: None };
    assert!(matches!(host.describe(&selector, LONG), Err(HsmError::KekUnfit(_))));
}

#[test]
fn a_made_key_is_local_sensitive_and_never_extractable() {
    for (provider, kind) in [
        (Provider::SoftHsm, KekKind::Aes256),
        (Provider::Kryoptic, KekKind::Aes256),
        (Provider::Kryoptic, KekKind::RSA_3072),
    ] {
        let token = Token::new(provider);
        let host = token.host();
        host.create_kek(&named("kek"), kind, LONG).unwrap();
        let said = host.describe(&named("kek"), LONG).unwrap();
        assert_eq!(said.reservations(), Vec::<String>::new(), "{provider:?} {said:?}");
        assert_eq!(said.kind, kind);
        let taken = host.create_kek(&named("kek"), kind, LONG).unwrap_err();
        assert!(matches!(taken, NotMade { error: HsmError::Refused(_), may_be_there: false }), "{taken:?}");
        host.destroy_kek(&named("kek"), None, LONG).unwrap();
        host.create_kek(&named("kek"), kind, LONG).unwrap();
        let again = host.describe(&named("kek"), LONG).unwrap();
        // A token may give no check value of a secret key; where there is one it tells two keys apart.
        assert!(
            said.check_value.is_none() && kind == KekKind::Aes256 || said.check_value != again.check_value,
            "{said:?}"
        );
        host.destroy_kek(&named("kek"), None, LONG).unwrap();
        assert_eq!(host.describe(&named("kek"), LONG).unwrap_err(), HsmError::KekNotFound);
    }
}

#[test]
fn a_key_replaced_behind_its_label_is_found_before_anything_is_wrapped_under_it() {
    for provider in BOTH {
        let token = Token::new(provider);
        let host = token.host();
        let kek = watched(&host, "kek");
        let other = crate::token::kek(&host, "other", KekKind::Aes256);
        let wrapped = host.wrap(&kek, &data_key(), b"context", LONG).unwrap();
        // By somebody else, in a process of their own.
        let thief = token.host();
        thief.destroy_kek(&kek.selector, None, LONG).unwrap();
        thief.create_kek(&kek.selector, KekKind::Aes256, LONG).unwrap();
        drop(thief);
        let refusals = [
            host.unwrap(&kek, &wrapped, b"context", LONG).map(drop),
            host.wrap(&kek, &data_key(), b"c", LONG).map(drop),
        ];
        for refusal in refusals {
            assert_eq!(refusal.unwrap_err(), HsmError::KekReplaced, "{provider:?}");
        }
        let findings = host.ask_canaries(LONG).unwrap();
        assert!(matches!(&findings[..], [f] if f.kek == kek && f.what == Anomaly::Replaced), "{findings:?}");
        // The other KEK of the same token goes on.
        host.wrap(&other, &data_key(), b"context", LONG).unwrap();
    }
}

#[test]
fn a_replaced_key_is_also_found_by_a_worker_that_starts_anew() {
    let token = Token::new(Provider::SoftHsm);
    let host = token.host();
    let kek = kek(&host, "kek", KekKind::Aes256);
    let canary = host.make_canary(&kek, LONG).unwrap();
    host.destroy_kek(&kek.selector, None, LONG).unwrap();
    host.create_kek(&kek.selector, KekKind::Aes256, LONG).unwrap();
    drop(host);
    let mut configuration = token.configuration();
    configuration.canaries = vec![canary];
    let host = token.host_with(configuration, Token::limits());
    let findings = host.status().worker.unwrap().findings;
    assert!(matches!(&findings[..], [f] if f.what == Anomaly::Replaced), "{findings:?}");
    assert_eq!(host.wrap(&kek, &data_key(), b"c", LONG).unwrap_err(), HsmError::KekReplaced);
}

#[test]
fn a_replaced_key_is_noticed_though_nobody_asks_for_it() {
    let token = Token::new(Provider::SoftHsm);
    let limits = hsm::Limits { canary: std::time::Duration::from_millis(200), ..Token::limits() };
    let host = token.host_with(token.configuration(), limits);
    let kek = watched(&host, "kek");
    assert!(host.wait(LONG, |s| s.canaries_at.is_some() && s.worker.as_ref().is_some_and(|w| w.findings.is_empty())));
    let thief = token.host();
    thief.destroy_kek(&kek.selector, None, LONG).unwrap();
    let missing =
        |s: &hsm::Status| s.worker.as_ref().is_some_and(|w| w.findings.iter().any(|f| f.what == Anomaly::Missing));
    assert!(host.wait(LONG, missing), "{:?}", host.status());
    thief.create_kek(&kek.selector, KekKind::Aes256, LONG).unwrap();
    let replaced =
        |s: &hsm::Status| s.worker.as_ref().is_some_and(|w| w.findings.iter().any(|f| f.what == Anomaly::Replaced));
    assert!(host.wait(LONG, replaced), "{:?}", host.status());
}
