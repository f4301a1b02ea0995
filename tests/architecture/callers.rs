//! Who may call what: the doors through which a plaintext, a commit's proof or unsafe code could slip.

use crate::source::{base, code, files, shipped};

/// Files of `vault/src` whose code holds `text`, as paths within it.
fn holders(text: &str, only_shipped: bool) -> Vec<String> {
    files("vault/src", "rs")
        .into_iter()
        .filter(|(_, file)| if only_shipped { shipped(file) } else { code(file) }.contains(text))
        .map(|(_, file)| file.strip_prefix(base("vault/src")).unwrap().display().to_string())
        .collect()
}

fn outside(found: &[String], allowed: &[&str]) -> Vec<String> {
    found.iter().filter(|file| !allowed.iter().any(|place| file.starts_with(place))).cloned().collect()
}

#[test]
fn only_the_flows_policy_issues_a_grant_to_open() {
    let found = holders("issue_after_policy", true);
    assert!(found.iter().any(|file| file.starts_with("flows/policy")), "nobody issues grants: {found:?}");
    let wrong = outside(&found, &["flows/policy", "crypto/grant.rs"]);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_committer_says_that_something_is_durable() {
    let found = holders("after_commit", true);
    assert!(found.iter().any(|file| file.starts_with("store/committer")), "nobody proves a commit: {found:?}");
    let wrong = outside(&found, &["store/committer", "crypto/"]);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_a_run_of_one_commit_works_on_values_inside_the_batch() {
    let found = holders("WithinBatch::of_a_run", true);
    assert_eq!(found, ["flows/run_at_once.rs"]);
}

#[test]
fn a_plaintext_leaves_only_where_a_reason_is_written() {
    let mut wrong = Vec::new();
    for (_, file) in files("vault/src", "rs") {
        let text = code(&file);
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if !line.contains(".expose_secret()") {
                continue;
            }
            // The reason stands on the function (or statement) around it; clippy checks the scope, this checks that it exists.
            let near = lines[at.saturating_sub(40)..at].iter().any(|line| line.contains("clippy::disallowed_methods"));
            let reason = lines[at.saturating_sub(40)..at].iter().any(|line| line.contains("reason = \""));
            if !near || !reason {
                wrong.push(format!("{}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_lives_in_three_named_modules_alone() {
    // The shim is a C module, which no program of siv's is built with.
    let named = [
        "src/wiping_allocator.rs",
        "crypto/locked.rs",
        "hsm/src/raw.rs",
        "architecture/callers.rs",
        "hsm-shim/src/lib.rs",
        "hsm-shim/src/gcm.rs",
    ];
    let mut wrong = Vec::new();
    for root in ["vault/src", "hsm/src", "tests"] {
        for (_, file) in files(root, "rs") {
            if named.iter().any(|place| file.ends_with(place)) {
                continue;
            }
            let text = code(&file);
            if ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|word| text.contains(word)) {
                wrong.push(file.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_environment_is_read_in_one_place() {
    let found = holders("env::var", false);
    assert_eq!(outside(&found, &["config/environment.rs"]), Vec::<String>::new());
}

#[test]
fn statements_are_never_put_together() {
    let found = holders("AssertSqlSafe", false);
    assert!(found.is_empty(), "{found:#?}");
}
