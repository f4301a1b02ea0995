//! What lies at the top of the repository.

use std::collections::BTreeSet;

use super::source;

#[test]
fn the_top_level_holds_what_the_plan_says_and_nothing_else() {
    let allowed: BTreeSet<&str> = [
        ".cargo",
        ".ci",
        ".config",
        ".gitignore",
        ".npmrc",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "Makefile",
        "README.md",
        "SECURITY.md",
        "client-js",
        "clippy.toml",
        "deny.toml",
        "docs",
        "hsm",
        "rustfmt.toml",
        "tests",
        "threat-model.md",
        "vault",
    ]
    .into();
    let listed = std::process::Command::new("git").arg("ls-files").current_dir(source::base("")).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let top: BTreeSet<&str> = text.lines().filter_map(|line| line.split('/').next()).collect();
    assert!(!top.is_empty(), "this is a checkout");
    let extra: Vec<_> = top.difference(&allowed).collect();
    assert!(extra.is_empty(), "{extra:?}");
}
