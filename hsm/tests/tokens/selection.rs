//! The one token that a selector names, and how many sessions it gives.

use hsm::{Host, KekKind, Phase, Pkcs11Uri, TokenSelector};

use crate::token::{LONG, PIN, Provider, Token, data_key, kek};

#[test]
fn two_tokens_of_one_label_are_both_refused_and_a_serial_tells_them_apart() {
    let token = Token::new(Provider::SoftHsm);
    let single = token.host();
    let serial = single.status().worker.unwrap().token.serial;
    drop(single);
    token
        .run("softhsm2-util", &["--init-token", "--free", "--label", "siv-test", "--so-pin", "12345678", "--pin", PIN]);
    let host = Host::start(token.launch(), token.configuration(), Token::limits()).unwrap();
    assert!(host.wait(LONG, |s| s.last_error.as_ref().is_some_and(|e| e.contains("2 tokens"))), "{:?}", host.status());
    let mut exact = token.configuration();
    exact.token.serial = Some(serial.clone());
    host.reconfigure(exact);
    assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
    assert_eq!(host.status().worker.unwrap().token.serial, serial);
}

#[test]
fn a_token_that_is_not_there_is_waited_for() {
    let token = Token::new(Provider::SoftHsm);
    let mut absent = token.configuration();
    absent.token = TokenSelector { label: Some("later".to_owned()), ..TokenSelector::default() };
    let host = Host::start(token.launch(), absent, Token::limits()).unwrap();
    assert!(host.wait(LONG, |s| s.starts >= 3), "{:?}", host.status());
    assert!(host.status().last_error.unwrap().contains("no token"));
    token.run("softhsm2-util", &["--init-token", "--free", "--label", "later", "--so-pin", "12345678", "--pin", PIN]);
    assert!(host.wait(LONG, |s| s.phase == Phase::Ready), "{:?}", host.status());
}

#[test]
fn a_token_of_few_sessions_is_used_with_few() {
    for (most, used) in [(1, 1), (2, 1), (3, 2), (50, 4)] {
        let token = Token::shimmed(Provider::SoftHsm);
        token.inject(&format!("C_GetTokenInfo sessions={most}\n"));
        let host = token.host();
        assert_eq!(host.status().worker.unwrap().sessions, used, "{most}");
        let kek = kek(&host, "kek", KekKind::Aes256);
        host.wrap(&kek, &data_key(), b"", LONG).unwrap();
    }
}

#[test]
fn a_token_of_one_single_session_is_used_with_it() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_OpenSession rv=0xb1 from=2\n");
    let host = token.host();
    assert_eq!(host.status().worker.unwrap().sessions, 1);
    let kek = kek(&host, "kek", KekKind::Aes256);
    let wrapped = host.wrap(&kek, &data_key(), b"", LONG).unwrap();
    assert_eq!(host.unwrap(&kek, &wrapped, b"", LONG).unwrap(), data_key());
}

#[test]
fn a_uri_is_all_that_is_needed() {
    use std::os::unix::fs::PermissionsExt as _;
    let token = Token::new(Provider::Kryoptic);
    let pin = token.folder().join("pin");
    std::fs::write(&pin, PIN).unwrap();
    std::fs::set_permissions(&pin, std::fs::Permissions::from_mode(0o400)).unwrap();
    let (module, pin) = (token.module.display(), pin.display());
    let uri: Pkcs11Uri =
        format!("pkcs11:token=siv-test;object=kek?module-path={module}&pin-source={pin}").parse().unwrap();
    let host = token.host_with(hsm::Configuration::from_uri(&uri, None).unwrap(), Token::limits());
    let selector = uri.kek.unwrap();
    host.create_kek(&selector, KekKind::Aes256, LONG).unwrap();
    assert_eq!(host.describe(&selector, LONG).unwrap().kind, KekKind::Aes256);
}
