//! Two modules that do much otherwise: NSS's softokn and openCryptoki's software token. `make test-long` runs them: the first
//! wants a string at its initialisation, the second is one for the whole machine and wants a daemon.

use hsm::check::{CheckOptions, Verdict};
use hsm::{Configuration, Host, HsmError, KekKind, Pin, PinSource, Profile};

use crate::token::{LONG, OPEN_CRYPTOKI_PIN, Provider, Token, data_key, kek, named, watched};

const CONTEXT: &[u8] = b"tenant, class, epoch, key";

#[test]
#[ignore = "make test-long: needs libnss3 and libnss3-tools"]
fn nss_wraps_and_unwraps_and_the_report_says_what_speaks_against_it() {
    let token = Token::new(Provider::Nss);
    let host = token.host();
    let kek = kek(&host, "kek", KekKind::Aes256);
    let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
    assert_eq!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap(), data_key());
    assert_eq!(host.unwrap(&kek, &wrapped, b"another", LONG).unwrap_err(), HsmError::Tampered);
    for at in 0..wrapped.len() {
        let mut altered = wrapped.clone();
        altered[at] ^= 0x40;
        assert_eq!(host.unwrap(&kek, &altered, CONTEXT, LONG).unwrap_err(), HsmError::Tampered, "byte {at}");
    }
    assert_eq!(host.status().starts, 1, "altered bytes restarted the worker");
    // What makes nothing tells what would be made.
    assert_eq!(host.probe_kind(KekKind::Aes256, LONG).unwrap().chosen, Some(kek.profile));
    let options = CheckOptions { kek: None, wrong_pin: false, rounds: 0 };
    let report = Host::check(&token.launch(), &token.configuration(), &options, LONG).unwrap();
    assert_eq!(kek.profile, Profile::AesGcmApplicationIv);
    assert_eq!(report.verdict, Verdict::FitWithReservations, "{:?}", report.reasons);
    host.destroy_kek(&kek.selector, None, LONG).unwrap();
    assert_eq!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap_err(), HsmError::KekNotFound);
}

#[test]
#[ignore = "make test-long: needs libnss3 and libnss3-tools"]
fn a_worker_with_nss_that_is_killed_comes_back_and_finds_its_key() {
    let token = Token::new(Provider::Nss);
    let host = token.host();
    let kek = watched(&host, "kek");
    let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
    token.inject("C_Decrypt crash\n");
    let fallen = host.unwrap(&kek, &wrapped, CONTEXT, LONG);
    assert!(fallen.as_ref().is_err_and(HsmError::is_outage), "{fallen:?}");
    token.inject("");
    assert!(host.wait(LONG, |status| status.starts > 1 && status.phase == hsm::Phase::Ready), "{:?}", host.status());
    assert_eq!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap(), data_key());
}

#[test]
#[ignore = "make test-long: needs opencryptoki, its daemon pkcsslotd, and root"]
fn open_cryptoki_serves_by_oaep_alone_and_an_aes_key_gets_no_profile() {
    let token = Token::new(Provider::OpenCryptoki);
    let pin = PinSource::Given(Pin::new(OPEN_CRYPTOKI_PIN.as_bytes()).unwrap());
    let host = token.host_with(Configuration { pin, ..token.configuration() }, Token::limits());
    let pair = kek(&host, "pair", KekKind::RSA_3072);
    assert_eq!(pair.profile, Profile::RsaOaepSha256);
    let wrapped = host.wrap(&pair, &data_key(), CONTEXT, LONG).unwrap();
    assert_eq!(host.unwrap(&pair, &wrapped, CONTEXT, LONG).unwrap(), data_key());
    assert_eq!(host.unwrap(&pair, &wrapped, b"another", LONG).unwrap_err(), HsmError::Tampered);
    let mut altered = wrapped;
    altered[100] ^= 1;
    assert_eq!(host.unwrap(&pair, &altered, CONTEXT, LONG).unwrap_err(), HsmError::Tampered);
    // As for a tenant's first key: AES first, and then a pair.
    assert_eq!(host.probe_kind(KekKind::RSA_3072, LONG).unwrap().chosen, Some(Profile::RsaOaepSha256));
    let aes = host.probe_kind(KekKind::Aes256, LONG).unwrap();
    assert_eq!(aes.chosen, None, "{aes:?}");
    host.create_kek(&named("aes"), KekKind::Aes256, LONG).unwrap();
    assert_eq!(host.probe(&named("aes"), LONG).unwrap().chosen, None);
    for made in [&pair.selector, &named("aes")] {
        host.destroy_kek(made, None, LONG).unwrap();
    }
}
