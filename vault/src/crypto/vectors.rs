//! The bytes of docs/formats.md as vectors in tests/vectors: computed anew and compared with the committed files.

use std::convert::Infallible;

use hpke::aead::AesGcm256;
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Kem, OpModeS, Serializable};
use serde_json::{Value, json};

use super::fixture::{CREATED, TEXT, data_key, key, metadata, plaintext, uuid};
use super::{
    CaptureKeyPair, Durable, MacKey, OpeningGrant, RecordKey, StateCode, ValueState, aad, double_seal, open_value,
    padding, verifier,
};
use crate::domain::text::hex;
use crate::domain::{Metadata, RunId, SecretId, Timestamp, lp};

const NONCE: [u8; 12] = [0xa5; 12];

/// The committed vectors of a file.
pub(crate) fn committed(file: &str) -> Value {
    let path = format!("{}/../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Compares with the committed file; what it should hold is printed, so that a new vector can be reviewed and kept.
pub(crate) fn agree(file: &str, fresh: &Value) {
    assert!(committed(file) == *fresh, "tests/vectors/{file} should be:\n{fresh:#}\n");
}

/// Every bit flipped, every length cut to, and some bytes more.
pub(crate) fn damages(bytes: &[u8]) -> Vec<Vec<u8>> {
    let flipped = (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    let cut = (0..bytes.len()).map(|length| bytes[..length].to_vec());
    let extended = [&[0][..], &[0xff; 33]].map(|more| [bytes, more].concat());
    flipped.chain(cut).chain(extended).collect()
}

fn metadata_json() -> Value {
    let metadata = metadata();
    json!({
        "realm": metadata.realm, "tenant": metadata.tenant, "app": metadata.app, "valueId": metadata.value_id,
        "field": metadata.field, "type": metadata.kind.as_str(), "retention": metadata.retention.as_str(),
        "createdMillis": metadata.created.as_millis(), "expiresMillis": metadata.expires.map(Timestamp::as_millis),
        "uses": metadata.uses, "session": metadata.session, "subject": metadata.subject.map(|s| hex::encode(&s)),
        "flows": metadata.binding.flows, "purposes": metadata.binding.purposes,
    })
}

#[test]
fn secure_value_key() {
    let key = key();
    agree(
        "secure-value-key.json",
        &json!({
            "valueId": key.value_id(), "secret": hex::encode(key.secret()), "secureValueKey": *key.reveal_text(),
        }),
    );
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test compares the text")]
fn sealed_record() {
    use secrecy::ExposeSecret;
    let sealed = double_seal::seal_value_with_nonce(&NONCE, &plaintext(), &key(), &metadata(), &data_key()).unwrap();
    agree(
        "sealed-record.json",
        &json!({
            "plaintext": TEXT, "secureValueKey": *key().reveal_text(), "metadata": metadata_json(),
            "metadataBytes": hex::encode(&metadata().to_bytes()),
            "dataKeyId": data_key().id(), "dataKey": hex::encode(data_key().bytes()),
            "outerNonce": hex::encode(&NONCE), "innerAad": hex::encode(&aad::inner(&metadata())),
            "outerAad": hex::encode(&aad::outer(&metadata(), data_key().id())), "sealed": hex::encode(&sealed),
        }),
    );
    // What stands in the file opens: a record of this version must open for ever.
    let stored = hex::decode(committed("sealed-record.json")["sealed"].as_str().unwrap()).unwrap();
    let grant = OpeningGrant::issue_after_policy(key().value_id());
    let held = open_value(grant, &stored, &key(), &metadata(), &data_key()).unwrap();
    assert_eq!(held.release(&Durable::after_commit()).expose_secret(), TEXT);
}

#[test]
fn state_mac() {
    let Metadata { realm, tenant, value_id, .. } = metadata();
    let counted =
        ValueState { version: 2, code: StateCode::Active, uses_left: Some(1), expires: Some(CREATED), failures: 1 };
    let spent = ValueState { version: 3, code: StateCode::Spent, uses_left: None, expires: None, failures: 0 };
    let vectors: Vec<Value> = [counted, spent]
        .into_iter()
        .map(|state| {
            json!({
                "version": state.version, "state": state.code.as_u8(), "usesLeft": state.uses_left,
                "expiresMillis": state.expires.map(Timestamp::as_millis), "failures": state.failures,
                "mac": hex::encode(&state.mac(&data_key(), &realm, &tenant, value_id)),
            })
        })
        .collect();
    agree(
        "state.json",
        &json!({
            "realm": realm, "tenant": tenant, "valueId": value_id, "dataKeyId": data_key().id(),
            "dataKey": hex::encode(data_key().bytes()), "states": vectors,
        }),
    );
}

#[test]
fn verifiers() {
    let pepper = MacKey::new(SecretId::from_bytes(uuid(5)), &[0x9e; 32]);
    let Metadata { realm, tenant, .. } = metadata();
    agree(
        "verifier.json",
        &json!({
            "realm": realm, "tenant": tenant, "secureValueKey": *key().reveal_text(), "pepper": hex::encode(&[0x9e; 32]),
            "verifier": hex::encode(&verifier(&pepper, &realm, &tenant, &key())),
        }),
    );
}

#[test]
fn row_mac() {
    let config = MacKey::new(SecretId::from_bytes(uuid(6)), &[0xc0; 32]);
    let Metadata { realm, tenant, .. } = metadata();
    let body = br#"{"name":"charge-card"}"#;
    let message = lp(&[realm.as_bytes(), tenant.as_bytes(), b"flows", b"charge-card", &7_u64.to_be_bytes(), body]);
    agree(
        "row-mac.json",
        &json!({
            "realm": realm, "tenant": tenant, "table": "flows", "primaryKey": "charge-card", "rowVersion": 7,
            "columns": std::str::from_utf8(body).unwrap(), "configKey": hex::encode(&[0xc0; 32]),
            "message": hex::encode(&message), "mac": hex::encode(&config.mac(&message)),
        }),
    );
}

#[test]
fn idempotency() {
    let (lookup, run) = ([0x10; 32], RunId::from_bytes(uuid(7)));
    let record = RecordKey::derive(&data_key(), "siv_flow_example", &lookup);
    let body = br#"{"runId":"r"}"#;
    let sealed = record.seal_answer_with_nonce(&NONCE, (200, Some(run), CREATED), body).unwrap();
    agree(
        "idempotency.json",
        &json!({
            "dataKey": hex::encode(data_key().bytes()), "callerSecret": "siv_flow_example",
            "lookup": hex::encode(&lookup), "requestBody": "{}", "bodyMac": hex::encode(&record.body_mac(b"{}")),
            "status": 200, "runId": run, "expiresMillis": CREATED.as_millis(),
            "answer": std::str::from_utf8(body).unwrap(), "nonce": hex::encode(&NONCE), "sealed": hex::encode(&sealed),
        }),
    );
    let stored = hex::decode(committed("idempotency.json")["sealed"].as_str().unwrap()).unwrap();
    assert_eq!(*record.open_answer(200, Some(run), CREATED, &stored).unwrap(), body);
}

/// A sender whose ephemeral key is fixed.
struct Fixed(u8);

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes([self.0; 4]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_be_bytes([self.0; 8]))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(self.0);
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}

#[test]
fn capture() {
    let Metadata { app, field, session, .. } = metadata();
    let (session, key_id) = (session.unwrap(), uuid(8));
    let (private, public) = DhP256HkdfSha256::derive_keypair(&[0x42; 32]);
    let info = aad::capture(&key_id, &app, session, &field);
    let mut padded = padding::pad(TEXT).unwrap();
    let (enc, mut context) = hpke::setup_sender_with_rng::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
        &OpModeS::Base,
        &public,
        &info,
        &mut Fixed(0x24),
    )
    .unwrap();
    let tag = context.seal_inout_detached(InOutBuf::from(&mut padded[..]), &[]).unwrap();
    let sealed = [&[1][..], &key_id, &enc.to_bytes(), &padded, &tag.to_bytes()].concat();
    agree(
        "capture.json",
        &json!({
            "privateKey": hex::encode(&private.to_bytes()), "publicKey": hex::encode(&public.to_bytes()),
            "keyId": hex::encode(&key_id), "app": app, "session": session, "field": field,
            "info": hex::encode(&info), "plaintext": TEXT, "sealed": hex::encode(&sealed),
        }),
    );
    let stored = committed("capture.json");
    let bytes = |member: &str| hex::decode(stored[member].as_str().unwrap()).unwrap();
    let scalar: [u8; 32] = bytes("privateKey").try_into().unwrap();
    let pair = CaptureKeyPair::from_private(key_id, &scalar).unwrap();
    assert_eq!(pair.public_bytes()[..], bytes("publicKey"));
    assert_eq!(*pair.open(&bytes("sealed"), &app, session, &field).unwrap().0, TEXT);
}
