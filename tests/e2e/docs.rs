//! The documents say what is true: their commands run, and the API's page lists the routes and codes there are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::Siv;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn document(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// The documents that show commands.
fn documents() -> Vec<String> {
    let mut names = vec!["README.md".to_owned(), "SECURITY.md".to_owned(), "client-js/README.md".to_owned()];
    for entry in std::fs::read_dir(repository().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    names
}

/// The shell blocks of a document.
fn blocks(document: &str) -> Vec<String> {
    document.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split("```").next()?.to_owned())).collect()
}

/// A folder that looks to the commands like the checkout beside a running `siv dev`.
fn checkout(siv: &Siv) -> PathBuf {
    let folder = siv.folder().join("checkout");
    std::fs::create_dir_all(folder.join("target/release")).unwrap();
    let link = |from: &Path, to: &str| std::os::unix::fs::symlink(from, folder.join(to)).unwrap();
    link(&repository().join("vault"), "vault");
    link(&siv.data(), "siv-data");
    link(&tests::siv::binary(), "target/release/siv");
    folder
}

/// A line that starts something of its own: it is looked up instead of run.
fn is_looked_up(line: &str) -> bool {
    let word = |start: &str| line.strip_prefix(start).and_then(|rest| rest.split_whitespace().next());
    if let Some(target) = word("make ") {
        assert!(document("Makefile").lines().any(|line| line.starts_with(&format!("{target}:"))), "{line}");
        return true;
    }
    if let Some(command) = word("cargo run --release -- ") {
        let output = Command::new(tests::siv::binary()).args([command, "--help"]).output().unwrap();
        assert!(output.status.success(), "{line}");
        return true;
    }
    false
}

#[tokio::test]
async fn the_commands_of_the_documents_run_as_they_stand() {
    let mut siv = Siv::unstarted();
    // As docs/hsm.md says; the file itself is written by its first block.
    let token = siv.folder().join("checkout/softhsm/softhsm2.conf").display().to_string();
    siv.set_environment(vec![("SOFTHSM2_CONF".to_owned(), token)]);
    siv.begin().unwrap();
    let folder = checkout(&siv);
    let (mut run, mut looked_up) = (0, 0);
    for name in documents() {
        for block in blocks(&document(&name)) {
            let (there, script): (Vec<&str>, Vec<&str>) = block.lines().partition(|line| is_looked_up(line));
            looked_up += there.len();
            if script.iter().all(|line| line.trim().is_empty()) {
                continue;
            }
            let script = script.join("\n").replace("http://127.0.0.1:8081", siv.stranger().base());
            let output = Command::new("bash").args(["-euo", "pipefail", "-c", &script]).current_dir(&folder).output();
            let output = output.unwrap();
            let said =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            assert!(output.status.success(), "{name}: {script}\n{said}");
            run += 1;
        }
    }
    assert!(run >= 1 && looked_up >= 3, "{run} blocks run, {looked_up} lines looked up");
    let bundles = std::fs::read_dir(siv.data()).unwrap().map(|entry| entry.unwrap());
    let bundles = bundles.filter(|entry| entry.file_name().to_string_lossy().starts_with("bundle-"));
    let exported: Vec<_> = bundles.filter(|entry| entry.path().join("checkpoint").is_file()).collect();
    assert_eq!(exported.len(), 1, "the README exports the log");
    assert!(siv.data().join("vkey").is_file(), "and keeps its key");
    assert!(folder.join("shredded.json").is_file(), "a tenant's end in its token is certified");
}

/// `METHOD /path` of every operation in a listener's own description, rests of paths spelled as the page spells them.
fn described(document: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        all.extend(methods.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    all
}

/// `METHOD /path` of every row of a section.
fn listed(page: &str, section: &str) -> BTreeSet<String> {
    let section = page.split(section).nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_page_of_the_interface_lists_every_route_and_every_code() {
    let siv = Siv::start();
    let page = document("docs/api.md");
    // What stands in no table of routes: the console's pages, and the description itself.
    let public = ["GET /v1/openapi.json"];
    let private = ["GET /console/", "GET /v1/openapi.json"];
    for (section, listener, beside) in
        [("## Public listener", siv.browser(), &public[..]), ("## Private listener", siv.stranger(), &private)]
    {
        let description = listener.get("/v1/openapi.json").await.expect(200).json();
        let mut there = described(&description);
        there.extend(beside.iter().map(|route| (*route).to_owned()));
        let listed = listed(&page, section);
        let differ: Vec<_> = there.symmetric_difference(&listed).collect();
        assert!(differ.is_empty(), "{section}: {differ:#?}");
        let codes = &description["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
        let codes: Vec<&str> = codes.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(codes.len() > 20);
        for code in codes {
            assert!(page.contains(&format!("`{code}`")), "docs/api.md does not name {code}");
        }
    }
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut wrong = Vec::new();
    for name in documents().into_iter().chain(["threat-model.md".to_owned(), "CONTRIBUTING.md".to_owned()]) {
        let folder = repository().join(&name).parent().unwrap().to_owned();
        for target in document(&name).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") && !folder.join(file).exists()
            {
                wrong.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
