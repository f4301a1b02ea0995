//! Bundles before verifiers that are not ours: Go's log library, OpenSSL, Python. Whatever is altered, each of them must
//! see, and for the right reason.

mod node;
mod sample;
mod verifier;

use sample::Sample;
use verifier::{accepts, refuses};

const ALL: [&str; 3] = ["verify-go.sh", "verify-openssl.sh", "verify.py"];
/// Those that read entries and tiles, not only the signature.
const DEEP: [&str; 2] = ["verify-go.sh", "verify.py"];
/// How each of them says that a signature does not hold, or is another's.
const NOT_SIGNED: [&str; 8] = [
    "invalid signature",
    "no verifiable signatures",
    "malformed note",
    "InvalidSignature",
    "not one of the trusted key",
    "Signature Verification Failure",
    "the checkpoint names another key",
    "the checkpoint is of another log",
];

#[test]
fn foreign_verifiers_accept_our_bundles() {
    for size in [1, 255, 256, 257, 700] {
        let sample = Sample::of(size, None);
        for verifier in ALL {
            accepts(verifier, sample.bundle(), sample.vkey(), None);
        }
    }
}

#[test]
fn foreign_verifiers_accept_a_part_of_a_log() {
    let sample = Sample::of(700, Some((256, 512)));
    for verifier in ALL {
        accepts(verifier, sample.bundle(), sample.vkey(), None);
    }
}

#[test]
fn foreign_verifiers_see_an_altered_checkpoint() {
    for line in 0..3 {
        let sample = Sample::of(300, None);
        sample.alter("checkpoint", |bytes| {
            let start = bytes.split(|b| *b == b'\n').take(line).map(|l| l.len() + 1).sum::<usize>();
            bytes[start] = if bytes[start] == b'9' { b'8' } else { b'9' };
        });
        for verifier in ALL {
            refuses(verifier, sample.bundle(), sample.vkey(), None, &NOT_SIGNED);
        }
    }
}

#[test]
fn foreign_verifiers_see_altered_entries_and_hashes() {
    let entry = ["is not the one in", "was altered", "breaks off"];
    let hash = ["is not the one in", "over all hashes is not", "over all entries is not"];
    let upper = ["tile/1/000.p/1: hash 0", "tile/1: does not fit"];
    for (file, reasons) in [
        ("tile/entries/000", &entry[..]),
        ("tile/entries/001.p/44", &entry),
        ("tile/0/000", &hash),
        ("tile/0/001.p/44", &hash),
        ("tile/1/000.p/1", &upper),
    ] {
        let sample = Sample::of(300, None);
        sample.alter(file, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        for verifier in DEEP {
            refuses(verifier, sample.bundle(), sample.vkey(), None, reasons);
        }
        let manifest = format!("{file}: FAILED");
        refuses("verify-openssl.sh", sample.bundle(), sample.vkey(), None, &[&manifest]);
    }
}

#[test]
fn foreign_verifiers_see_another_key_and_a_rewritten_history() {
    let (one, other) = (Sample::of(300, None), Sample::forged(300));
    for verifier in ALL {
        refuses(verifier, one.bundle(), other.vkey(), None, &NOT_SIGNED);
    }
    let (old, longer, forked) = (Sample::of(200, None), Sample::of(300, None), Sample::other_history(300));
    let broken = ["does not continue the older checkpoint"];
    for verifier in DEEP {
        accepts(verifier, longer.bundle(), longer.vkey(), Some(&old.checkpoint()));
        refuses(verifier, old.bundle(), old.vkey(), Some(&longer.checkpoint()), &broken);
        accepts(verifier, forked.bundle(), forked.vkey(), None);
        refuses(verifier, forked.bundle(), forked.vkey(), Some(&old.checkpoint()), &broken);
    }
}

#[test]
fn a_forged_opening_is_seen_by_a_foreign_reader() {
    let sample = Sample::of(3, None);
    sample.alter("openings.jsonl", |bytes| {
        let at = bytes.windows(7).position(|part| part == b"order-1").expect("it is there");
        bytes[at + 6] = b'2';
    });
    refuses("verify.py", sample.bundle(), sample.vkey(), None, &["reference is not what was committed to"]);
}
