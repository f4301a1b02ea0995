//! The bytes of docs/formats.md section 8 as vectors in tests/vectors.

use ed25519_dalek::SigningKey;
use serde_json::json;

use super::{boot, full_entry, signed, signing_key, small_entry, tenant, time, verifier_key};
use crate::access_log::node::LaneEnd;
use crate::access_log::tree::entries::push_entry;
use crate::access_log::tree::tiles::Tiles;
use crate::access_log::tree::{consistency_proof, inclusion_proof};
use crate::access_log::{Batch, Checkpoint, Group, Leaf, LogProof, NodeIdentity, Opening, Personal, Position, Salts};
use crate::access_log::{VerifierKey, leaf_hash};
use crate::crypto::vectors::{agree, committed};
use crate::domain::text::hex;

fn identity() -> NodeIdentity {
    NodeIdentity::from_parts("eu-1".parse().unwrap(), "node-1", "siv-0.1.0", boot(), &[0x33; 32]).unwrap()
}

#[test]
fn leaves_and_commitments() {
    let position = Position { boot: boot(), lane: 1, number: 41 };
    let salts = || Salts::from_bytes([[0xc0; 32], [0xc1; 32], [0xc2; 32], [0xc3; 32]]);
    let of = |entry| {
        let (leaf, openings) = Leaf::seal(&entry, &position, &salts()).unwrap();
        let lines: Vec<_> = openings.iter().map(|opening| opening.to_line(12)).collect();
        let sealed: Vec<_> = openings.iter().map(|opening| hex::encode(&opening.to_bytes())).collect();
        let text = String::from_utf8(leaf.as_bytes()[1..].to_vec()).unwrap();
        let display = Leaf::parse(leaf.as_bytes()).unwrap().to_json(Some(12), &openings).unwrap();
        json!({
            "leafVersion": leaf.as_bytes()[0], "leafText": text, "leafHash": hex::encode(&leaf.hash()),
            "openings": lines, "openingPlaintexts": sealed, "display": display,
        })
    };
    let aad = |member| hex::encode(&Opening::aad(member, &position, &tenant()));
    let aads: Vec<_> = Personal::ALL.into_iter().map(|member| (member.as_str(), aad(member))).collect();
    agree(
        "log-leaf.json",
        &json!({ "everyMember": of(full_entry()), "fewestMembers": of(small_entry(0)), "openingAads": aads }),
    );
}

#[test]
fn batches_receipts_and_heartbeats() {
    let identity = identity();
    let leaves: Vec<_> = (0..3_u8).map(|at| vec![1, b'{', at, b'}']).collect();
    let group = |name: &str, first, range: std::ops::Range<usize>| Group {
        tenant: name.parse().unwrap(),
        first,
        count: range.len() as u64,
        salt: [0x5a; 16],
        digest: Group::digest_of(leaves[range].iter().map(Vec::as_slice)),
    };
    let groups = [group("acme", 4, 0..1), group("demo", 7, 1..3)];
    let root = crate::access_log::tree::root_of_hashes(&groups.each_ref().map(|group| leaf_hash(&group.to_bytes())));
    let mut batch = Batch {
        boot: boot(),
        lane: 1,
        first: 11,
        count: 3,
        time: time(),
        previous: [0x77; 32],
        root,
        signature: [0; 64],
    };
    let bytes = batch.signed_bytes(identity.realm(), identity.node());
    batch.signature = identity.sign(&bytes);
    batch.verify(&groups, &identity.certificate(time())).unwrap();
    let position = Position { boot: boot(), lane: 1, number: 7 };
    let receipt = identity.receipt(position, &tenant(), leaf_hash(&leaves[1]));
    let heartbeat = identity.heartbeat(time(), vec![LaneEnd { lane: 1, next: 14, previous: batch.end().previous }]);
    agree(
        "log-node.json",
        &json!({
            "seed": hex::encode(&[0x33; 32]), "publicKey": hex::encode(&identity.public()),
            "realm": identity.realm(), "node": identity.node(), "boot": boot(), "timeMillis": time().as_millis(),
            "leaves": leaves.iter().map(|leaf| hex::encode(leaf)).collect::<Vec<_>>(),
            "groups": groups.each_ref().map(|group| hex::encode(&group.to_bytes())), "root": hex::encode(&root),
            "batch": hex::encode(&bytes), "batchSignature": hex::encode(&batch.signature),
            "previousOfNext": hex::encode(&batch.end().previous),
            "receipt": receipt.to_string(), "heartbeat": hex::encode(&heartbeat.signed_bytes(identity.realm(), "node-1")),
            "heartbeatSignature": hex::encode(&heartbeat.signature), "certificate": identity.certificate(time()).to_text(),
        }),
    );
}

#[test]
fn checkpoints_and_proofs() {
    let leaves: Vec<_> = (0..11_u8).map(|at| leaf_hash(&[at])).collect();
    let mut tiles = Tiles::default();
    let (root, _) = tiles.append(0, &leaves).unwrap();
    let mut bundle = Vec::new();
    (0..11_u8).for_each(|at| push_entry(&[at], &mut bundle).unwrap());
    let checkpoint = signed(Checkpoint { origin: verifier_key().name().to_owned(), size: 11, root }.to_text());
    let hashes = inclusion_proof(5, 11, &tiles).unwrap();
    let proof = LogProof { extra: None, index: 5, hashes, checkpoint: checkpoint.clone() };
    let consistency = consistency_proof(6, 11, &tiles).unwrap();
    agree(
        "log-proof.json",
        &json!({
            "seed": hex::encode(&signing_key().to_bytes()), "vkey": verifier_key().to_string(),
            "entryBundle": hex::encode(&bundle), "tile": hex::encode(&tiles.bytes(0, 0, 11).unwrap()),
            "checkpoint": checkpoint, "proofOfFive": proof.to_string(),
            "consistencyOfSix": consistency.iter().map(|hash| hex::encode(hash)).collect::<Vec<_>>(),
        }),
    );
}

#[test]
fn the_key_store_spells_a_verifier_key_as_we_do() {
    let vector = committed("log-key.json");
    let seed: [u8; 32] = hex::decode(vector["seed"].as_str().unwrap()).unwrap().try_into().unwrap();
    let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let key = VerifierKey::new(vector["origin"].as_str().unwrap(), public).unwrap();
    assert_eq!(key.to_string(), vector["vkey"].as_str().unwrap());
}
