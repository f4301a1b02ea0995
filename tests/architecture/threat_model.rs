//! The threat model names tests, and they are run.

use std::collections::BTreeSet;
use std::fs;

use super::source;

/// The names of all tests: what `#[test]` or `#[tokio::test]` stands over, what a contract runs on every engine, and the
/// sentences of the JavaScript suites.
fn tests_that_run() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for root in ["vault/src", "hsm/src", "hsm/tests", "tests"] {
        for (_, file) in source::files(root, "rs") {
            names.extend(rust_tests(&source::code(&file)));
        }
    }
    for (root, skip) in [("tests/browser", "support"), ("client-js/tests", "")] {
        for (folder, file) in source::files(root, "js") {
            if folder != skip {
                names.extend(script_tests(&source::code(&file)));
            }
        }
    }
    names
}

fn rust_tests(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if !line.starts_with("#[") {
            let function = line.trim_start_matches("async ").strip_prefix("fn ");
            if let (true, Some(function)) = (marked, function) {
                names.extend(function.split(['(', '<']).next().map(str::to_owned));
            }
            marked = false;
        }
    }
    let engines = ["on_every_engine!(", "on_sqlite!(", "on_postgres!("];
    let lists = engines.into_iter().flat_map(|list| text.split(list).skip(1));
    for listed in lists.filter_map(|rest| rest.split(')').next()) {
        let run = listed.split(',').map(str::trim).filter(|name| text.contains(&format!("async fn {name}(")));
        names.extend(run.map(str::to_owned));
    }
    // proptest! { #[test] fn … } is found as the rest is: its attribute stands on the line before.
    names
}

fn script_tests(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().map(str::trim_start) {
        let Some(call) = line.strip_prefix("test(").or_else(|| line.strip_prefix("await t.test(")) else { continue };
        let Some(quote) = call.chars().next().filter(|quote| ['\'', '"', '`'].contains(quote)) else { continue };
        let name = call[1..].split(quote).next().unwrap_or_default();
        names.insert(name.replace("\\u2019", "\u{2019}").replace(' ', "_"));
    }
    names
}

/// What is wrong with a table of the model: names of tests that are not run, and promises kept by no test.
fn faults(model: &str, run: &BTreeSet<String>) -> (Vec<String>, usize) {
    let (mut wrong, mut named) = (Vec::new(), 0);
    for line in model.lines().filter(|line| line.starts_with("| ") && !line.contains("---")) {
        let cells: Vec<&str> = line.trim_matches(['|', ' ']).split(" | ").collect();
        let (Some(row), Some(last)) = (cells.first(), cells.last()) else { continue };
        let threat = row.starts_with('T') && row.len() == 3;
        let promise = row.parse::<u8>().is_ok();
        if !threat && !promise {
            continue; // another table: its last cell names no tests
        }
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        named += names.len();
        wrong.extend(names.iter().filter(|name| !run.contains(**name)).map(|name| format!("{row}: {name} is not run")));
        let done = threat && cells.get(cells.len() - 2).is_some_and(|state| state.starts_with("done"));
        if (done || promise) && names.is_empty() {
            wrong.push(format!("{row} is done and no test is named"));
        }
    }
    (wrong, named)
}

#[test]
fn every_test_the_threat_model_names_exists() {
    let model = fs::read_to_string(source::base("threat-model.md")).unwrap();
    let (wrong, named) = faults(&model, &tests_that_run());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(named > 80, "the threat model names its tests: {named}");
}

#[test]
fn a_function_that_nobody_runs_is_no_test() {
    let text = "async fn listed(vault: Vault) {}\nasync fn forgotten(vault: Vault) {}\nasync fn own(vault: Vault) {}\n\
        on_every_engine!(\n    listed,\n    gone,\n);\non_sqlite!(own);\n\
        #[test]\n#[ignore]\nfn marked() {}\nfn helper() {}\n#[tokio::test(flavor = \"x\")]\nasync fn slow() {}";
    let run = rust_tests(text);
    assert_eq!(run, ["listed", "marked", "own", "slow"].map(str::to_owned).into());
    let scripts = script_tests("test('a b', () => {});\n  // test('c', x)\n  test(\"d's\", async (t) => {});");
    assert!(scripts.contains("a_b") && scripts.contains("d's"), "{scripts:?}");
    let model = "| T01 | x | done | `listed` |\n| T02 | x | done | none |\n| T03 | x | done: y | `forgotten` |\n\
        | T04 | x | **open** | none yet |\n| 1 | promise | |";
    let (wrong, named) = faults(model, &run);
    assert_eq!((wrong.len(), named), (3, 2), "{wrong:#?}");
}
