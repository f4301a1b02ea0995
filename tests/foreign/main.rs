//! Bundles before verifiers that are not ours: Go's log library, OpenSSL, Python. Whatever is altered, each of them must see.

mod sample;

use std::path::{Path, PathBuf};
use std::process::Command;

use sample::Sample;

/// Runs a verifier; whether it said that everything holds.
fn accepts(verifier: &str, bundle: &Path, vkey: &Path, since: Option<&Path>) -> bool {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("foreign").join(verifier);
    let build = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("foreign");
    let mut command = Command::new(program);
    command.arg(bundle).arg(vkey).args(since).env("SIV_FOREIGN_BUILD", build);
    let output = command.output().expect("the verifier runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("No such file or directory") || said.contains("tile/") || said.contains("range"), "{said}");
    output.status.success()
}

const ALL: [&str; 3] = ["verify-go.sh", "verify-openssl.sh", "verify.py"];
/// Those that read entries and tiles, not only the signature.
const DEEP: [&str; 2] = ["verify-go.sh", "verify.py"];

#[test]
fn foreign_verifiers_accept_our_bundles() {
    for size in [1, 255, 256, 257, 700] {
        let sample = Sample::of(size, None);
        for verifier in ALL {
            assert!(accepts(verifier, sample.bundle(), sample.vkey(), None), "{verifier}: {size} entries");
        }
    }
}

#[test]
fn foreign_verifiers_accept_a_part_of_a_log() {
    let sample = Sample::of(700, Some((256, 512)));
    for verifier in ALL {
        assert!(accepts(verifier, sample.bundle(), sample.vkey(), None), "{verifier}");
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
            assert!(!accepts(verifier, sample.bundle(), sample.vkey(), None), "{verifier}: line {line}");
        }
    }
}

#[test]
fn foreign_verifiers_see_altered_entries_and_hashes() {
    for file in ["tile/entries/000", "tile/entries/001.p/44", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"] {
        let sample = Sample::of(300, None);
        sample.alter(file, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        for verifier in DEEP {
            assert!(!accepts(verifier, sample.bundle(), sample.vkey(), None), "{verifier}: {file}");
        }
        assert!(!accepts("verify-openssl.sh", sample.bundle(), sample.vkey(), None), "the manifest: {file}");
    }
}

#[test]
fn foreign_verifiers_see_another_key_and_a_rewritten_history() {
    let (one, other) = (Sample::of(300, None), Sample::forged(300));
    for verifier in ALL {
        assert!(!accepts(verifier, one.bundle(), other.vkey(), None), "{verifier}: another key");
    }
    let (old, longer, forked) = (Sample::of(200, None), Sample::of(300, None), Sample::other_history(300));
    for verifier in DEEP {
        assert!(accepts(verifier, longer.bundle(), longer.vkey(), Some(&old.checkpoint())), "{verifier}: grown");
        assert!(!accepts(verifier, old.bundle(), old.vkey(), Some(&longer.checkpoint())), "{verifier}: cut off");
        assert!(accepts(verifier, forked.bundle(), forked.vkey(), None), "{verifier}: sound on its own");
        assert!(!accepts(verifier, forked.bundle(), forked.vkey(), Some(&old.checkpoint())), "{verifier}: rewritten");
    }
}

#[test]
fn a_forged_opening_is_seen_by_a_foreign_reader() {
    let sample = Sample::of(3, None);
    sample.alter("openings.jsonl", |bytes| {
        let at = bytes.windows(7).position(|part| part == b"order-1").expect("it is there");
        bytes[at + 6] = b'2';
    });
    assert!(!accepts("verify.py", sample.bundle(), sample.vkey(), None));
}
