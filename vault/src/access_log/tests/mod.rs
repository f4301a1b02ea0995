//! The room's tests: vectors, oracles, properties.

mod bundles;
mod lanes;
mod leaves;
mod notes;
mod trees;
mod vectors;

use ed25519_dalek::{Signer as _, SigningKey};

use crate::access_log::{Action, Checkpoint, Entry, Note, ObjectVersion, Outcome, VerifierKey};
use crate::domain::{
    Actor, ActorKind, BootId, CaptureSessionId, CredentialId, CredentialKind, DataKeyId, FieldType, KekId, RequestId,
    RetentionClass, RunId, TenantName, Timestamp, ValueId,
};

const ORIGIN: &str = "siv/0193a1de-0000-7000-8000-000000000000/demo";

fn time() -> Timestamp {
    Timestamp::from_millis(1_795_489_236_007)
}

fn tenant() -> TenantName {
    "demo".parse().unwrap()
}

/// Bytes of an id that say which one it is.
fn id(number: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    (bytes[6], bytes[8], bytes[15]) = (0x70, 0x80, number);
    bytes
}

fn boot() -> BootId {
    BootId::from_bytes(id(1))
}

/// An entry with every member, texts that need escapes included.
fn full_entry() -> Entry {
    let actor = Actor {
        id: CredentialId::from_bytes(id(2)).to_string(),
        kind: ActorKind::Credential(CredentialKind::Flow),
        name: Some("Caf\u{e9} \u{1f600}\u{2028}".to_owned()),
    };
    Entry {
        reason: Some("policy.denied"),
        on_behalf_of: Some("user-7".to_owned()),
        address: Some("192.0.2.7".to_owned()),
        app: Some("demo-shop".parse().unwrap()),
        flow: Some(("charge-card".parse().unwrap(), 3)),
        flow_digest: Some([0xab; 32]),
        rule: Some("flow.purpose"),
        purpose: Some("payment".parse().unwrap()),
        value_id: Some(ValueId::from_bytes(id(3))),
        field: Some("card-number".parse().unwrap()),
        kind: Some(FieldType::CardNumber),
        retention: Some(RetentionClass::Stored),
        run_id: Some(RunId::from_bytes(id(4))),
        reference: Some("order \"1\"\\\n".to_owned()),
        destination: Some("acquirer.example".to_owned()),
        kek_id: Some(KekId::from_bytes(id(5))),
        data_key_id: Some(DataKeyId::from_bytes(id(6))),
        state_version: Some(2),
        expires_at: Some(time()),
        uses: Some(0),
        count: Some(7),
        session: Some(CaptureSessionId::from_bytes(id(7))),
        object: Some(ObjectVersion { table: "flows", key: "a\u{2028}\"b".to_owned(), version: 4, digest: [1; 32] }),
        facts: vec![("boot", boot().to_string()), ("build", "siv-0.1.0".to_owned())],
        request_id: Some(RequestId::from_bytes(id(8))),
        ..Entry::by(tenant(), time(), Action::RelayIntent, Outcome::Denied, actor)
    }
}

fn small_entry(at: u64) -> Entry {
    let context = Actor { id: "-".to_owned(), kind: ActorKind::Anonymous, name: None };
    Entry::by(tenant(), Timestamp::from_millis(at), Action::LogRead, Outcome::Allowed, context)
}

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

fn verifier_key() -> VerifierKey {
    VerifierKey::new(ORIGIN, signing_key().verifying_key().to_bytes()).unwrap()
}

fn signed(text: String) -> String {
    let signature = signing_key().sign(text.as_bytes()).to_bytes();
    Note::new(text).unwrap().signed(&verifier_key(), signature).to_string()
}

fn checkpoint(size: u64, root: [u8; 32]) -> String {
    signed(Checkpoint { origin: ORIGIN.to_owned(), size, root }.to_text())
}

/// Every text with one byte flipped, cut off or added.
fn mutations(text: &str) -> impl Iterator<Item = String> {
    let bytes = text.as_bytes().to_vec();
    let flips = (0..bytes.len()).flat_map({
        let bytes = bytes.clone();
        move |at| {
            let bytes = bytes.clone();
            [1_u8, 0x20, 0x80].into_iter().map(move |bit| {
                let mut bytes = bytes.clone();
                bytes[at] ^= bit;
                bytes
            })
        }
    });
    let cuts = (0..bytes.len()).map({
        let bytes = bytes.clone();
        move |at| bytes[..at].to_vec()
    });
    let longer = [b"\n".as_slice(), b" ", b"A", b"="].into_iter().map(move |more| [bytes.as_slice(), more].concat());
    flips.chain(cuts).chain(longer).filter_map(|bytes| String::from_utf8(bytes).ok())
}
