//! The stored data key and the verifier key line as vectors in tests/vectors.

use serde_json::json;

use super::records::DataKeyRow;
use super::{LogSigner, wrapping};
use crate::crypto::{MacKey, envelope, vectors};
use crate::domain::text::hex;
use crate::domain::{DataKeyClass, DataKeyId, Epoch, KekId, Realm, SecretId, Timestamp};

#[test]
fn stored_data_key() {
    let realm: Realm = "eu-1".parse().unwrap();
    let (kek, erasure, data_key, nonce) = ([0x4b; 32], [0xe5; 32], [0xd2; 32], [0xa5; 12]);
    let mac = MacKey::new(SecretId::from_bytes([6; 16]), &[0x6d; 32]);
    let mut row = DataKeyRow {
        tenant: "demo".parse().unwrap(),
        data_key_id: DataKeyId::from_bytes([2; 16]),
        class: DataKeyClass::Session,
        epoch: Epoch(20_781),
        kek_id: KekId::from_bytes([3; 16]),
        kek_version: 1,
        mechanism: super::local_kms::MECHANISM.to_owned(),
        sealed: Vec::new(),
        created: Timestamp::from_millis(1_795_489_236_007),
        era: 0,
        part: 0,
        closed: false,
    };
    let context = wrapping::context(&realm, &row);
    let wrapped = envelope::seal_with_nonce(&nonce, &kek, &context, &data_key).unwrap();
    row.sealed = wrapping::stored_with_nonce(&nonce, &wrapped, &mac, &erasure, &realm, &row).unwrap();
    vectors::agree(
        "data-key.json",
        &json!({
            "realm": realm, "tenant": row.tenant, "class": row.class.as_str(), "epoch": row.epoch.0,
            "dataKeyId": row.data_key_id, "kekId": row.kek_id, "kekVersion": row.kek_version,
            "mechanism": row.mechanism, "dataKey": hex::encode(&data_key), "kek": hex::encode(&kek),
            "erasureKey": hex::encode(&erasure), "macKey": hex::encode(&[0x6d; 32]), "nonce": hex::encode(&nonce),
            "context": hex::encode(&context), "wrapped": hex::encode(&wrapped), "stored": hex::encode(&row.sealed),
        }),
    );
    row.sealed = hex::decode(vectors::committed("data-key.json")["stored"].as_str().unwrap()).unwrap();
    let again = wrapping::wrapped([&mac], Some(&erasure), &realm, &row).unwrap();
    assert_eq!(envelope::open(&kek, &context, &again).unwrap()[..], data_key);
}

#[test]
fn stored_data_key_without_an_erasure_key() {
    let vector = vectors::committed("data-key-unerased.json");
    let text = |member: &str| vector[member].as_str().unwrap();
    let bytes = |member: &str| hex::decode(text(member)).unwrap();
    let realm: Realm = text("realm").parse().unwrap();
    let row = DataKeyRow {
        tenant: text("tenant").parse().unwrap(),
        data_key_id: text("dataKeyId").parse().unwrap(),
        class: text("class").parse().unwrap(),
        epoch: Epoch(vector["epoch"].as_u64().unwrap()),
        kek_id: text("kekId").parse().unwrap(),
        kek_version: 1,
        mechanism: text("mechanism").to_owned(),
        sealed: bytes("stored"),
        created: Timestamp::from_millis(1_795_489_236_007),
        era: 0,
        part: 0,
        closed: false,
    };
    let context = wrapping::context(&realm, &row);
    assert_eq!(context, bytes("context"));
    let mac = MacKey::new(SecretId::from_bytes([6; 16]), &bytes("macKey").try_into().unwrap());
    assert_eq!(wrapping::stored(&bytes("wrapped"), &mac, None, &realm, &row).unwrap(), bytes("stored"));
    let wrapped = wrapping::wrapped([&mac], None, &realm, &row).unwrap();
    let kek = bytes("kek").try_into().unwrap();
    assert_eq!(envelope::open(&kek, &context, &wrapped).unwrap()[..], bytes("dataKey"));
}

#[test]
fn a_damaged_data_key_is_refused() {
    let realm: Realm = "eu-1".parse().unwrap();
    let mac = MacKey::new(SecretId::from_bytes([6; 16]), &[0x6d; 32]);
    for (file, class, erasure) in
        [("data-key.json", "session", Some(&[0xe5; 32])), ("data-key-unerased.json", "stored", None)]
    {
        let stored = hex::decode(vectors::committed(file)["stored"].as_str().unwrap()).unwrap();
        let mut row = DataKeyRow {
            tenant: "demo".parse().unwrap(),
            data_key_id: DataKeyId::from_bytes([2; 16]),
            class: class.parse().unwrap(),
            epoch: Epoch(20_781),
            kek_id: KekId::from_bytes([3; 16]),
            kek_version: 1,
            mechanism: super::local_kms::MECHANISM.to_owned(),
            sealed: stored.clone(),
            created: Timestamp::from_millis(1_795_489_236_007),
            era: 0,
            part: 0,
            closed: false,
        };
        assert!(wrapping::wrapped([&mac], erasure, &realm, &row).is_ok(), "{file}");
        for damaged in vectors::damages(&stored) {
            row.sealed = damaged;
            assert!(wrapping::wrapped([&mac], erasure, &realm, &row).is_err(), "{file}: {}", hex::encode(&row.sealed));
        }
    }
}

#[test]
fn verifier_key_line() {
    let signer = LogSigner::new("siv/01a20b7f-8427-7001-8001-010101010101/demo", &[0x51; 32]).unwrap();
    vectors::agree(
        "log-key.json",
        &json!({
            "origin": signer.origin(), "seed": hex::encode(&[0x51; 32]), "publicKey": hex::encode(signer.verifier().public()),
            "vkey": signer.vkey(), "message": "a message\n", "signature": hex::encode(&signer.sign(b"a message\n")),
        }),
    );
}
