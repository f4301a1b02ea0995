//! One fixed value with its keys, for the tests of the room: nothing in it is random.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::DataKey;
use crate::domain::{
    Binding, CaptureSessionId, DataKeyId, FieldType, Metadata, Plaintext, RetentionClass, SecureValueKey, Timestamp,
    ValueId,
};

pub(super) const TEXT: &str = "4111111111111111";
pub(super) const CREATED: Timestamp = Timestamp::from_millis(1_795_489_236_007);

/// An id of the fixed time (UUID version 7) whose random part is `last`.
pub(super) fn uuid(last: u8) -> [u8; 16] {
    let mut bytes = [last; 16];
    bytes[..6].copy_from_slice(&CREATED.to_be_bytes()[2..]);
    (bytes[6], bytes[8]) = (0x70, 0x80);
    bytes
}

pub(super) fn key() -> SecureValueKey {
    SecureValueKey::from_parts(ValueId::from_bytes(uuid(1)), std::array::from_fn(|at| at as u8))
}

pub(super) fn data_key() -> DataKey {
    other_data_key(2)
}

pub(super) fn other_data_key(last: u8) -> DataKey {
    DataKey::init_with(DataKeyId::from_bytes(uuid(last)), |bytes| *bytes = [0xd0 | last; 32])
}

pub(super) fn plaintext() -> Plaintext {
    Plaintext::new(Zeroizing::new(TEXT.to_owned()))
}

pub(super) fn metadata() -> Metadata {
    Metadata {
        realm: "eu-1".parse().unwrap(),
        tenant: "demo".parse().unwrap(),
        app: "demo-shop".parse().unwrap(),
        value_id: key().value_id(),
        field: "card-number".parse().unwrap(),
        kind: FieldType::CardNumber,
        retention: RetentionClass::Session,
        created: CREATED,
        expires: Some(Timestamp::from_millis(CREATED.as_millis() + 1_800_000)),
        uses: Some(3),
        session: Some(CaptureSessionId::from_bytes(uuid(3))),
        subject: Some([0x5b; 32]),
        binding: Binding {
            flows: BTreeSet::from(["card-summary".parse().unwrap(), "charge-card".parse().unwrap()]),
            purposes: BTreeSet::from(["payment".parse().unwrap()]),
        },
    }
}
