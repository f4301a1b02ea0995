//! Whatever is flipped, cut, extended or moved does not open, and never panics (promises 4 and 5 of design.md).

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::fixture::{TEXT, data_key, key, metadata, other_data_key, plaintext};
use super::vectors::damages;
use super::{
    CaptureKeyPair, Durable, Error, MacKey, OpeningGrant, RecordKey, StateCode, ValueState, envelope, open_value,
    reseal_outer, seal_capture, seal_value, verifier, verifier_matches,
};
use crate::domain::{
    Binding, CaptureSessionId, FieldType, Metadata, RetentionClass, RunId, SecretId, SecureValueKey, Timestamp, ValueId,
};

/// The text, if the record opens.
#[expect(clippy::disallowed_methods, reason = "a test compares the text")]
fn opened(sealed: &[u8], key: &SecureValueKey, metadata: &Metadata) -> Result<String, Error> {
    let grant = OpeningGrant::issue_after_policy(metadata.value_id);
    let held = open_value(grant, sealed, key, metadata, &data_key())?;
    Ok(held.release(&Durable::after_commit()).expose_secret().to_owned())
}

fn refused<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Refused))
}

/// Every way of damaging some bytes: one bit flipped, cut, extended.
fn damaged(bytes: &[u8], (at, bit, cut, more): (usize, u8, usize, Vec<u8>)) -> [Vec<u8>; 3] {
    let mut flipped = bytes.to_vec();
    flipped[at % bytes.len()] ^= 1 << (bit % 8);
    [flipped, bytes[..cut % bytes.len()].to_vec(), [bytes, &more].concat()]
}

fn damage() -> impl Strategy<Value = (usize, u8, usize, Vec<u8>)> {
    (any::<usize>(), any::<u8>(), any::<usize>(), prop::collection::vec(any::<u8>(), 1..64))
}

#[test]
fn a_sealed_value_opens_for_its_key_and_metadata() {
    let sealed = seal_value(&plaintext(), &key(), &metadata(), &data_key()).unwrap();
    assert_eq!(sealed.len(), 1 + 12 + 64 + 16 + 16);
    assert_eq!(opened(&sealed, &key(), &metadata()).unwrap(), TEXT);
}

#[test]
fn every_bit_and_every_length_of_a_record_counts() {
    let sealed = seal_value(&plaintext(), &key(), &metadata(), &data_key()).unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut wrong = sealed.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(opened(&wrong, &key(), &metadata())), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert!(refused(opened(&sealed[..length], &key(), &metadata())), "{length} bytes");
    }
    let record = RecordKey::derive(&data_key(), "siv_flow_x", &[6; 32]);
    let answer = record.seal_answer(200, None, Timestamp::from_millis(5), b"{}").unwrap();
    for bit in 0..answer.len() * 8 {
        let mut wrong = answer.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(record.open_answer(200, None, Timestamp::from_millis(5), &wrong)), "bit {bit} of an answer");
    }
    for length in 0..answer.len() {
        let cut = record.open_answer(200, None, Timestamp::from_millis(5), &answer[..length]);
        assert!(refused(cut), "{length} bytes of an answer");
    }
}

#[test]
fn a_record_does_not_show_the_length_of_its_text() {
    let sealed = |text: &str| {
        let text = crate::domain::Plaintext::new(zeroize::Zeroizing::new(text.to_owned()));
        seal_value(&text, &key(), &metadata(), &data_key()).unwrap().len()
    };
    assert_eq!(sealed("1"), sealed(&"1".repeat(60)));
}

#[test]
fn every_single_member_of_the_metadata_is_bound() {
    let sealed = seal_value(&plaintext(), &key(), &metadata(), &data_key()).unwrap();
    let changes: [fn(&mut Metadata); 14] = [
        |m| m.realm = "us-1".parse().unwrap(),
        |m| m.tenant = "other".parse().unwrap(),
        |m| m.app = "other".parse().unwrap(),
        |m| m.field = "other".parse().unwrap(),
        |m| m.kind = FieldType::Password,
        |m| m.retention = RetentionClass::Stored,
        |m| m.created = Timestamp::from_millis(m.created.as_millis() + 1),
        |m| m.expires = None,
        |m| m.expires = m.expires.map(|at| Timestamp::from_millis(at.as_millis() + 1)),
        |m| m.uses = Some(4),
        |m| m.session = None,
        |m| m.subject = None,
        |m| m.binding = Binding { flows: m.binding.flows.clone(), purposes: ["support".parse().unwrap()].into() },
        |m| m.binding.flows = ["reveal-card".parse().unwrap()].into(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut moved = metadata();
        change(&mut moved);
        assert!(refused(opened(&sealed, &key(), &moved)), "change {number}");
    }
    let other = SecureValueKey::from_parts(ValueId::generate(Timestamp::from_millis(1)), *key().secret());
    let moved = Metadata { value_id: other.value_id(), ..metadata() };
    assert!(refused(opened(&sealed, &other, &moved)), "value id");
}

#[test]
fn neither_the_secret_nor_the_data_key_alone_opens() {
    let sealed = seal_value(&plaintext(), &key(), &metadata(), &data_key()).unwrap();
    let guess = SecureValueKey::from_parts(key().value_id(), [9; 20]);
    assert!(refused(opened(&sealed, &guess, &metadata())));
    let grant = OpeningGrant::issue_after_policy(key().value_id());
    assert!(refused(open_value(grant, &sealed, &key(), &metadata(), &other_data_key(3))));
}

#[test]
fn a_grant_opens_its_own_value_only() {
    let sealed = seal_value(&plaintext(), &key(), &metadata(), &data_key()).unwrap();
    let grant = OpeningGrant::issue_after_policy(ValueId::generate(Timestamp::from_millis(1)));
    assert!(refused(open_value(grant, &sealed, &key(), &metadata(), &data_key())));
}

#[test]
fn resealing_moves_a_value_to_another_data_key_without_its_secret() {
    let sealed = seal_value(&plaintext(), &key(), &metadata(), &other_data_key(4)).unwrap();
    let moved = reseal_outer(&sealed, &metadata(), &other_data_key(4), &data_key()).unwrap();
    assert_eq!(opened(&moved, &key(), &metadata()).unwrap(), TEXT);
    assert!(refused(reseal_outer(&sealed, &metadata(), &data_key(), &other_data_key(4))));
}

#[test]
fn a_repeated_nonce_shows_equality_and_nothing_else() {
    // P65: a snapshot or fork repeats the generator's output. With a stream cipher, the XOR of two ciphertexts would be
    // the XOR of the texts; here it is not.
    let (key, nonce) = ([7; 32], [1; 12]);
    let [a, b] = [[0x00_u8; 32], [0xff; 32]].map(|text| envelope::seal_with_nonce(&nonce, &key, b"", &text).unwrap());
    let xor: Vec<u8> = a[13..45].iter().zip(&b[13..45]).map(|(a, b)| a ^ b).collect();
    assert_ne!(xor, vec![0xff; 32]);
}

#[test]
fn a_verifier_belongs_to_one_secret_realm_and_tenant() {
    let pepper = MacKey::new(SecretId::from_bytes([1; 16]), &[2; 32]);
    let Metadata { realm, tenant, .. } = metadata();
    let stored = verifier(&pepper, &realm, &tenant, &key());
    assert!(verifier_matches(&stored, &pepper, &realm, &tenant, &key()));
    let guess = SecureValueKey::from_parts(key().value_id(), [9; 20]);
    assert!(!verifier_matches(&stored, &pepper, &realm, &tenant, &guess));
    assert!(!verifier_matches(&stored, &pepper, &realm, &"other".parse().unwrap(), &key()));
    assert!(!verifier_matches(&stored, &pepper, &"us-1".parse().unwrap(), &tenant, &key()));
}

#[test]
fn a_state_cannot_be_altered_or_moved() {
    let Metadata { realm, tenant, value_id, .. } = metadata();
    let state = ValueState {
        version: 2,
        code: StateCode::Active,
        uses_left: Some(1),
        expires: Some(Timestamp::from_millis(9)),
        failures: 1,
    };
    let mac = state.mac(&data_key(), &realm, &tenant, value_id);
    assert!(state.verify_mac(&data_key(), &realm, &tenant, value_id, &mac));
    for damaged in damages(&mac).into_iter().filter_map(|damaged| <[u8; 32]>::try_from(damaged).ok()) {
        assert!(!state.verify_mac(&data_key(), &realm, &tenant, value_id, &damaged));
    }
    for altered in [
        ValueState { version: 3, ..state },
        ValueState { code: StateCode::Spent, ..state },
        ValueState { uses_left: Some(2), ..state },
        ValueState { uses_left: None, ..state },
        ValueState { expires: None, ..state },
        ValueState { failures: 0, ..state },
    ] {
        assert!(!altered.verify_mac(&data_key(), &realm, &tenant, value_id, &mac), "{altered:?}");
    }
    let elsewhere = ValueId::generate(Timestamp::from_millis(1));
    assert!(!state.verify_mac(&data_key(), &realm, &tenant, elsewhere, &mac));
    assert!(!state.verify_mac(&data_key(), &realm, &"other".parse().unwrap(), value_id, &mac));
    assert!(!state.verify_mac(&other_data_key(3), &realm, &tenant, value_id, &mac));
}

#[test]
fn a_capture_opens_for_its_session_and_field_only() {
    let pair = CaptureKeyPair::generate().unwrap();
    let Metadata { app, field, session, .. } = metadata();
    let session = session.unwrap();
    let sealed = seal_capture(&pair.public_bytes(), &pair.key_id(), &app, session, &field, TEXT).unwrap();
    assert_eq!(sealed.len(), 1 + 16 + 65 + 64 + 16);
    assert_eq!(*pair.open(&sealed, &app, session, &field).unwrap().0, TEXT);
    let elsewhere = CaptureSessionId::generate(Timestamp::from_millis(1));
    assert!(refused(pair.open(&sealed, &app, elsewhere, &field)));
    assert!(refused(pair.open(&sealed, &"other".parse().unwrap(), session, &field)));
    assert!(refused(pair.open(&sealed, &app, session, &"card-cvc".parse().unwrap())));
    assert!(refused(CaptureKeyPair::generate().unwrap().open(&sealed, &app, session, &field)));
}

#[test]
fn a_capture_pair_survives_its_sealing_and_no_other_key_id() {
    let pair = CaptureKeyPair::generate().unwrap();
    let sealed = pair.seal_private(&data_key(), b"row").unwrap();
    let again = CaptureKeyPair::open_private(pair.key_id(), &data_key(), b"row", &sealed).unwrap();
    assert_eq!(again.public_bytes(), pair.public_bytes());
    assert!(refused(CaptureKeyPair::open_private([0; 16], &data_key(), b"row", &sealed)));
    assert!(refused(CaptureKeyPair::open_private(pair.key_id(), &data_key(), b"other", &sealed)));
    for damaged in damages(&sealed) {
        assert!(refused(CaptureKeyPair::open_private(pair.key_id(), &data_key(), b"row", &damaged)));
    }
}

#[test]
fn an_answer_opens_for_its_caller_and_record_only() {
    let (run, expires) = (Some(RunId::from_bytes([4; 16])), Timestamp::from_millis(5));
    let record = RecordKey::derive(&data_key(), "siv_flow_x", &[6; 32]);
    let sealed = record.seal_answer(200, run, expires, b"{}").unwrap();
    assert_eq!(*record.open_answer(200, run, expires, &sealed).unwrap(), b"{}");
    assert!(refused(record.open_answer(201, run, expires, &sealed)));
    assert!(refused(record.open_answer(200, None, expires, &sealed)));
    assert!(refused(record.open_answer(200, run, Timestamp::from_millis(6), &sealed)));
    for other in [
        RecordKey::derive(&data_key(), "siv_flow_y", &[6; 32]),
        RecordKey::derive(&data_key(), "siv_flow_x", &[7; 32]),
        RecordKey::derive(&other_data_key(3), "siv_flow_x", &[6; 32]),
    ] {
        assert!(refused(other.open_answer(200, run, expires, &sealed)));
        assert_ne!(other.body_mac(b"body"), record.body_mac(b"body"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_record_is_refused(damage in damage()) {
        let sealed = seal_value(&plaintext(), &key(), &metadata(), &data_key()).unwrap();
        for wrong in damaged(&sealed, damage) {
            prop_assert!(refused(opened(&wrong, &key(), &metadata())));
        }
    }

    #[test]
    fn a_damaged_answer_is_refused(damage in damage(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let record = RecordKey::derive(&data_key(), "siv_flow_x", &[6; 32]);
        let sealed = record.seal_answer(200, None, Timestamp::from_millis(5), &body).unwrap();
        for wrong in damaged(&sealed, damage) {
            prop_assert!(refused(record.open_answer(200, None, Timestamp::from_millis(5), &wrong)));
        }
    }

    #[test]
    fn any_bytes_at_all_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(refused(opened(&bytes, &key(), &metadata())));
        prop_assert!(refused(envelope::open(&[0; 32], b"", &bytes)));
    }

    #[test]
    fn every_text_that_fits_comes_back(text in "\\PC{0,300}") {
        let plaintext = crate::domain::Plaintext::new(zeroize::Zeroizing::new(text.clone()));
        let sealed = seal_value(&plaintext, &key(), &metadata(), &data_key()).unwrap();
        prop_assert_eq!(opened(&sealed, &key(), &metadata()).unwrap(), text);
    }
}

proptest! {
    // P-256 without optimisation is slow.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_capture_is_refused(damage in damage()) {
        let pair = CaptureKeyPair::generate().unwrap();
        let Metadata { app, field, session, .. } = metadata();
        let session = session.unwrap();
        let sealed = seal_capture(&pair.public_bytes(), &pair.key_id(), &app, session, &field, TEXT).unwrap();
        for wrong in damaged(&sealed, damage) {
            prop_assert!(refused(pair.open(&wrong, &app, session, &field)));
        }
    }
}
