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
