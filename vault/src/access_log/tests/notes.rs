//! Notes, keys, checkpoints and proofs in text: foreign vectors, and no byte that may be altered.

use ed25519_dalek::{Signer as _, SigningKey};

use super::{ORIGIN, checkpoint, mutations, signed, signing_key, tenant, time, verifier_key};
use crate::access_log::tree::tiles::Tiles;
use crate::access_log::tree::{inclusion_proof, leaf_hash};
use crate::access_log::{Certificate, Checkpoint, Error, LogProof, NodeIdentity, Note, Position, Receipt, VerifierKey};

/// From the documentation of Go's `golang.org/x/mod/sumdb/note`.
const NEUMANN: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NEUMANN_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n\n\
    — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn a_note_of_another_implementation_verifies() {
    let key: VerifierKey = NEUMANN.parse().unwrap();
    assert_eq!(key.to_string(), NEUMANN);
    let note = Note::parse(NEUMANN_NOTE).unwrap();
    assert!(note.open(&[verifier_key(), key]).unwrap().ends_with("your problem is.\n"));
    assert_eq!(note.open(&[verifier_key()]), Err(Error::Unsigned));
    assert_eq!(note.to_string(), NEUMANN_NOTE);
}

#[test]
fn no_byte_of_a_signed_checkpoint_may_be_altered() {
    let note = checkpoint(7, [3; 32]);
    assert_eq!(Checkpoint::open(&note, &[verifier_key()]).unwrap().size, 7);
    for altered in mutations(&note) {
        assert!(Checkpoint::open(&altered, &[verifier_key()]).is_err(), "{altered:?}");
    }
}

#[test]
fn no_byte_of_a_verifier_key_may_be_altered() {
    let line = verifier_key().to_string();
    for altered in mutations(&line) {
        assert!(altered.parse::<VerifierKey>().is_err(), "{altered:?}");
    }
    assert_eq!(VerifierKey::parse_file(&format!("# trusted\n{line}\n\n")).unwrap(), [verifier_key()]);
    assert_eq!(VerifierKey::parse_file("# none\n"), Err(Error::VerifierKey));
}

#[test]
fn signatures_of_unknown_keys_are_passed_over_and_wrong_ones_of_known_keys_refuse() {
    let text = Checkpoint { origin: ORIGIN.to_owned(), size: 0, root: [0; 32] }.to_text();
    let new = SigningKey::from_bytes(&[43; 32]);
    let new_key = VerifierKey::new(ORIGIN, new.verifying_key().to_bytes()).unwrap();
    let (old, own) = (signing_key().sign(text.as_bytes()).to_bytes(), new.sign(text.as_bytes()).to_bytes());
    // A rotation is signed by both keys: whoever trusts either accepts it.
    let rotated = Note::new(text.clone()).unwrap().signed(&verifier_key(), old).signed(&new_key, own).to_string();
    for trusted in [vec![verifier_key()], vec![new_key.clone()], vec![verifier_key(), new_key.clone()]] {
        assert!(Checkpoint::open(&rotated, &trusted).is_ok());
    }
    let forged = Note::new(text).unwrap().signed(&verifier_key(), own).signed(&new_key, own).to_string();
    assert_eq!(Checkpoint::open(&forged, &[verifier_key(), new_key.clone()]), Err(Error::Signature));
    assert!(Checkpoint::open(&forged, &[new_key]).is_ok());
    let foreign = format!("{rotated}— witness1.example mJirIkljAAAA\n");
    assert!(Checkpoint::open(&foreign, &[verifier_key()]).is_ok());
}

#[test]
fn the_key_of_one_log_does_not_sign_for_another() {
    let other = VerifierKey::new("siv/other/demo", signing_key().verifying_key().to_bytes()).unwrap();
    assert_eq!(Checkpoint::open(&checkpoint(7, [3; 32]), std::slice::from_ref(&other)), Err(Error::Origin));
    let text = Checkpoint { origin: "siv/other/demo".to_owned(), size: 7, root: [3; 32] }.to_text();
    assert_eq!(Checkpoint::open(&signed(text), &[verifier_key(), other]), Err(Error::Unsigned));
}

#[test]
fn a_checkpoint_has_one_spelling() {
    let good = Checkpoint { origin: ORIGIN.to_owned(), size: 10, root: [3; 32] }.to_text();
    assert!(Checkpoint::parse_text(&good).is_ok());
    for bad in [
        good.replace("\n10\n", "\n010\n"),
        good.replace("\n10\n", "\n+10\n"),
        good.replace("\n10\n", "\n18446744073709551616\n"),
        good.replace(ORIGIN, ""),
        format!("{good}extension\n"),
        format!("{good}\n"),
        good.trim_end().to_owned(),
    ] {
        assert_eq!(Checkpoint::parse_text(&bad), Err(Error::Checkpoint), "{bad:?}");
    }
}

#[test]
fn no_byte_of_a_proof_may_be_altered() {
    let leaves: Vec<_> = (0..11_u8).map(|at| leaf_hash(&[at])).collect();
    let mut tiles = Tiles::default();
    let (root, _) = tiles.append(0, &leaves).unwrap();
    let hashes = inclusion_proof(5, 11, &tiles).unwrap();
    let text = LogProof { extra: None, index: 5, hashes, checkpoint: checkpoint(11, root) }.to_string();
    let open = |text: &str| text.parse::<LogProof>().and_then(|proof| proof.verify(&leaves[5], &[verifier_key()]));
    assert_eq!(open(&text).unwrap().size, 11);
    assert!(text.parse::<LogProof>().unwrap().verify(&leaves[4], &[verifier_key()]).is_err());
    for altered in mutations(&text) {
        assert!(open(&altered).is_err(), "{altered:?}");
    }
    let with_extra = text.replace("@v1\n", "@v1\nextra AAEC\n");
    assert!(open(&with_extra).is_ok(), "extra data is allowed and means nothing");
}

#[test]
fn no_byte_of_a_receipt_may_be_altered() {
    let identity = NodeIdentity::generate("eu".parse().unwrap(), "node-1", "test", time()).unwrap();
    let certificate = identity.certificate(time());
    let position = Position { boot: identity.boot(), lane: 2, number: 9 };
    let text = identity.receipt(position, &tenant(), [5; 32]).to_string();
    let open = |text: &str| text.parse::<Receipt>().and_then(|receipt| receipt.verify(&tenant(), &certificate));
    assert_eq!(open(&text), Ok(()));
    for altered in mutations(&text) {
        assert!(open(&altered).is_err(), "{altered:?}");
    }
    let receipt: Receipt = text.parse().unwrap();
    assert!(receipt.verify(&"other".parse().unwrap(), &certificate).is_err(), "a receipt is of one tenant");
}

#[test]
fn no_byte_of_a_node_certificate_may_be_altered() {
    let identity = NodeIdentity::generate("eu".parse().unwrap(), "node-1", "siv-0.1.0", time()).unwrap();
    let note = signed(identity.certificate(time()).to_text());
    assert_eq!(Certificate::open(&note, &[verifier_key()]), Ok(identity.certificate(time())));
    for altered in mutations(&note) {
        assert!(Certificate::open(&altered, &[verifier_key()]).is_err(), "{altered:?}");
    }
    assert!(Certificate::open(&checkpoint(1, [0; 32]), &[verifier_key()]).is_err(), "a checkpoint is no certificate");
    assert!(NodeIdentity::generate("eu".parse().unwrap(), "a\nb", "x", time()).is_err());
}
