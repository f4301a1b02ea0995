//! Wrapping and unwrapping on real tokens, by every profile that each can do.

use hsm::{HsmError, KekKind, LONGEST_CONTEXT, Profile, Trial};

use crate::token::{BOTH, LONG, Provider, Token, data_key, kek, named, with};

const CONTEXT: &[u8] = b"tenant, class, epoch, key";

#[test]
fn a_key_comes_back_under_its_context_and_under_no_other() {
    for provider in BOTH {
        let token = Token::new(provider);
        let host = token.host();
        let kek = kek(&host, "kek", KekKind::Aes256);
        assert_eq!(kek.profile, Profile::AesGcmApplicationIv, "{provider:?}");
        let (key, wrapped) = (data_key(), host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap());
        assert_eq!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap(), key);
        assert!(!wrapped.windows(32).any(|part| part == &key[..]));
        assert_eq!(host.unwrap(&kek, &wrapped, b"another", LONG).unwrap_err(), HsmError::Tampered, "{provider:?}");
        assert!(host.wrap(&kek, &key, &[0; LONGEST_CONTEXT + 1], LONG).is_err());
        assert!(host.wrap(&kek, &key, &[0; LONGEST_CONTEXT], LONG).is_ok());
    }
}

#[test]
fn every_profile_binds_every_byte_and_the_context() {
    let profiles = [
        (Provider::SoftHsm, &[Profile::AesGcmApplicationIv, Profile::AesKwpWrapKeyPad][..]),
        (Provider::Kryoptic, &[Profile::AesGcmApplicationIv, Profile::AesKwp, Profile::AesKwpWrapKey]),
    ];
    for (provider, profiles) in profiles {
        let token = Token::new(provider);
        let host = token.host();
        let kek = kek(&host, "kek", KekKind::Aes256);
        for profile in profiles {
            let kek = with(&kek, *profile);
            let wrapped =
                host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap_or_else(|e| panic!("{provider:?} {profile}: {e}"));
            assert_eq!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap(), data_key(), "{provider:?} {profile}");
            assert_eq!(
                host.unwrap(&kek, &wrapped, b"another", LONG).unwrap_err(),
                HsmError::Tampered,
                "{provider:?} {profile}"
            );
            for at in 0..wrapped.len() {
                let mut altered = wrapped.clone();
                altered[at] ^= 0x40;
                assert_eq!(
                    host.unwrap(&kek, &altered, CONTEXT, LONG).unwrap_err(),
                    HsmError::Tampered,
                    "{profile} byte {at}"
                );
            }
            for length in [0, 1, 2, wrapped.len() - 1] {
                assert_eq!(host.unwrap(&kek, &wrapped[..length], CONTEXT, LONG).unwrap_err(), HsmError::Tampered);
            }
        }
        assert_eq!(host.status().starts, 1, "altered bytes restarted the worker of {provider:?}");
    }
}

#[test]
fn what_one_profile_wrapped_no_other_opens() {
    let token = Token::new(Provider::Kryoptic);
    let host = token.host();
    let kek = kek(&host, "kek", KekKind::Aes256);
    let wrapped = host.wrap(&with(&kek, Profile::AesKwp), &data_key(), CONTEXT, LONG).unwrap();
    for other in [Profile::AesGcmApplicationIv, Profile::AesKwpWrapKey] {
        assert_eq!(host.unwrap(&with(&kek, other), &wrapped, CONTEXT, LONG).unwrap_err(), HsmError::Tampered);
    }
}

#[test]
fn a_pair_is_used_by_oaep_with_sha256() {
    let token = Token::new(Provider::Kryoptic);
    let host = token.host();
    let kek = kek(&host, "pair", KekKind::RSA_3072);
    assert_eq!(kek.profile, Profile::RsaOaepSha256);
    let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
    assert_eq!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap(), data_key());
    assert_eq!(host.unwrap(&kek, &wrapped, b"another", LONG).unwrap_err(), HsmError::Tampered);
    let mut altered = wrapped;
    altered[100] ^= 1;
    assert_eq!(host.unwrap(&kek, &altered, CONTEXT, LONG).unwrap_err(), HsmError::Tampered);
}

#[test]
fn a_pair_of_another_size_than_the_usual_ones_serves_too() {
    let token = Token::new(Provider::Kryoptic);
    let host = token.host();
    let kind = "rsa3200".parse().unwrap();
    let kek = kek(&host, "pair", kind);
    let said = host.describe(&kek.selector, LONG).unwrap();
    assert_eq!(said.kind, kind);
    let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
    assert_eq!(wrapped.len(), 402);
    assert_eq!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap(), data_key());
    let outside = said.public.unwrap().wrap(&data_key(), CONTEXT).unwrap();
    assert_eq!(host.unwrap(&kek, &outside, CONTEXT, LONG).unwrap(), data_key());
}

#[test]
fn a_key_is_wrapped_to_the_public_half_while_the_hsm_is_away_and_opened_when_it_is_back() {
    let token = Token::new(Provider::Kryoptic);
    let host = token.host();
    let kek = kek(&host, "pair", KekKind::RSA_3072);
    let said = host.describe(&kek.selector, LONG).unwrap();
    let public = said.public.unwrap();
    assert_eq!(said.check_value, Some(public.check_value()));
    drop(host);
    // As a caller keeps it.
    let public: hsm::PublicKek = serde_json::from_str(&serde_json::to_string(&public).unwrap()).unwrap();
    let wrapped = public.wrap(&data_key(), CONTEXT).unwrap();
    assert_ne!(wrapped, public.wrap(&data_key(), CONTEXT).unwrap());
    let host = token.host();
    assert_eq!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap(), data_key());
    assert_eq!(host.unwrap(&kek, &wrapped, b"another", LONG).unwrap_err(), HsmError::Tampered);
}

#[test]
fn a_token_that_has_oaep_with_sha1_only_gets_no_profile_for_its_pair_outside_tests() {
    let token = Token::new(Provider::SoftHsm);
    let host = token.host();
    host.create_kek(&named("pair"), KekKind::RSA_3072, LONG).unwrap();
    let found = host.probe(&named("pair"), LONG).unwrap();
    assert_eq!(found.chosen, None);
    assert!(matches!(&found.trials[..], [Trial { profile: Profile::RsaOaepSha256, refusal: Some(_) }]), "{found:?}");
    let sha1 = hsm::KekRef { selector: named("pair"), profile: Profile::TestRsaOaepSha1 };
    assert!(matches!(host.wrap(&sha1, &data_key(), CONTEXT, LONG), Err(HsmError::ProfileUnavailable(_))));
    drop(host);

    let mut configuration = token.configuration();
    configuration.sha1_for_tests = true;
    let host = token.host_with(configuration, Token::limits());
    assert_eq!(host.probe(&named("pair"), LONG).unwrap().chosen, Some(Profile::TestRsaOaepSha1));
    let wrapped = host.wrap(&sha1, &data_key(), CONTEXT, LONG).unwrap();
    assert_eq!(host.unwrap(&sha1, &wrapped, CONTEXT, LONG).unwrap(), data_key());
}

#[test]
fn sha1_is_refused_for_every_other_token_whatever_the_configuration_says() {
    let token = Token::new(Provider::Kryoptic);
    let mut configuration = token.configuration();
    configuration.sha1_for_tests = true;
    let host = token.host_with(configuration, Token::limits());
    host.create_kek(&named("pair"), KekKind::RSA_3072, LONG).unwrap();
    let sha1 = hsm::KekRef { selector: named("pair"), profile: Profile::TestRsaOaepSha1 };
    assert!(matches!(host.wrap(&sha1, &data_key(), CONTEXT, LONG), Err(HsmError::ProfileUnavailable(_))));
}

#[test]
fn the_mode_of_a_module_that_makes_the_iv_itself_is_found_by_doing_it() {
    for (mode, profile) in [("inplace", Profile::AesGcmModuleIv), ("appended", Profile::AesGcmAppendedIv)] {
        let token = Token::shimmed(Provider::SoftHsm);
        token.inject(&format!("C_EncryptInit iv={mode}\n"));
        let host = token.host();
        let kek = kek(&host, "kek", KekKind::Aes256);
        assert_eq!(kek.profile, profile);
        let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
        assert_eq!(host.unwrap(&kek, &wrapped, CONTEXT, LONG).unwrap(), data_key());
        assert_ne!(host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap(), wrapped, "an IV was repeated");
    }
}

#[test]
fn a_module_that_leaves_the_iv_zero_never_gets_that_mode() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_EncryptInit iv=zero\n");
    let host = token.host();
    host.create_kek(&named("kek"), KekKind::Aes256, LONG).unwrap();
    let found = host.probe(&named("kek"), LONG).unwrap();
    let zero = found.trials.iter().find(|t| t.profile == Profile::AesGcmModuleIv).unwrap();
    assert!(zero.refusal.as_ref().unwrap().contains("IV zero"), "{found:?}");
    assert_eq!(found.chosen, Some(Profile::AesKwpWrapKeyPad));
    let kek = hsm::KekRef { selector: named("kek"), profile: Profile::AesGcmModuleIv };
    assert!(matches!(host.wrap(&kek, &data_key(), CONTEXT, LONG), Err(HsmError::Refused(_))));
}
