//! Rooms look inward only; files are small and have a subject.

use std::fs;

use crate::source::{base, code, files, names};

/// Rooms from the innermost outward; a room may use only rooms listed before it.
const ROOMS: [&str; 11] =
    ["domain", "crypto", "access_log", "keys", "store", "capture", "flows", "sequencer", "http", "console", "cli"];
/// Files beside the rooms; rooms get plain arguments instead of using them.
const BESIDE: [&str; 5] = ["lib", "main", "config", "telemetry", "wiping_allocator"];
/// Paths that may be named in the given rooms only.
const ONLY_IN: [(&str, &[&str]); 10] = [
    ("sqlx::", &["store"]),
    ("axum::", &["http", "console"]),
    ("aes_gcm_siv::", &["crypto", "keys"]),
    ("hpke::", &["crypto"]),
    ("aws_lc_rs::agreement", &["crypto"]),
    ("hsm::", &["keys", "cli"]),
    ("cryptoki::", &[]),
    ("crate::config", &["http", "console", "cli"]),
    ("crate::telemetry", &["http", "console", "cli"]),
    ("crate::wiping_allocator", &["cli"]),
];
/// Names that say nothing about what lives inside.
const NAMELESS: [&str; 7] = ["utils", "util", "helpers", "common", "misc", "types", "manager"];
const MAX_LINES: usize = 400;
/// The page's half of the client is one file by contract: served as it is, without imports and without a build step.
const ONE_FILE_BY_CONTRACT: (&str, usize) = ("client-js/page/secure-input.js", 600);

#[test]
fn rooms_look_inward_only() {
    let mut wrong = Vec::new();
    for (room, file) in files("vault/src", "rs") {
        if BESIDE.contains(&room.as_str()) {
            continue;
        }
        let Some(rank) = ROOMS.iter().position(|r| *r == room) else {
            wrong.push(format!("{} is in no room", file.display()));
            continue;
        };
        let text = code(&file);
        for outer in &ROOMS[rank + 1..] {
            if names(&text, &format!("crate::{outer}")) || names(&text, &format!("super::{outer}")) {
                wrong.push(format!("{} uses {outer}", file.display()));
            }
        }
        for escape in ["use crate::{", "super::super"] {
            if text.contains(escape) {
                wrong.push(format!("{} hides its rooms behind {escape}", file.display()));
            }
        }
        for (path, rooms) in ONLY_IN {
            if !rooms.contains(&room.as_str()) && names(&text, path) {
                wrong.push(format!("{} names {path}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_small_and_named() {
    let mut wrong = Vec::new();
    for (root, ending) in [
        ("vault/src", "rs"),
        ("hsm/src", "rs"),
        ("tests", "rs"),
        ("client-js", "js"),
        ("vault/src/cli/demo/shop", "js"),
    ] {
        for (_, file) in files(root, ending) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            let whole = file.ends_with(ONE_FILE_BY_CONTRACT.0);
            if lines > if whole { ONE_FILE_BY_CONTRACT.1 } else { MAX_LINES } {
                wrong.push(format!("{} has {lines} lines", file.display()));
            }
            let inside = file.strip_prefix(base(root)).unwrap().with_extension("");
            if inside.iter().any(|part| NAMELESS.contains(&part.to_str().unwrap())) {
                wrong.push(format!("{} has no subject", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_lives_in_it() {
    let mut wrong = Vec::new();
    for root in ["vault/src", "hsm/src", "tests"] {
        for (_, file) in files(root, "rs") {
            if !fs::read_to_string(&file).unwrap().starts_with("//! ") {
                wrong.push(file.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "without an opening //! line: {wrong:#?}");
}
