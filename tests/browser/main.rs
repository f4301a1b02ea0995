//! The client through a real Chromium: starts `siv dev` and runs the suite of this folder against it.

use std::path::PathBuf;
use std::process::Command;

use tests::Siv;
use tests::bodies::{scan, spellings};

/// What the suite types into fields; the first is typed by no other test.
const TYPED: [&str; 6] = [
    "4000056655665556",
    "4242424242424242",
    "4000000000000002",
    "correct horse battery staple",
    "unreachable text",
    "left behind",
];

#[test]
fn the_client_holds_its_promises_in_a_real_browser() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("browser");
    assert!(
        folder.join("node_modules/playwright-core").is_dir(),
        "the browser tests are not installed: npm ci --prefix tests/browser (make test does it)"
    );
    let siv = Siv::start();
    let status = Command::new("npm")
        .args(["test", "--silent"])
        .current_dir(&folder)
        .env("SIV_DEV_JSON", siv.data().join("dev.json"))
        .status()
        .expect("node and npm are installed");
    assert!(status.success(), "the suite above; alone: SIV_DEV_JSON=…/dev.json npm test --prefix tests/browser");
    // Nothing that was typed stands in the database, the key store or the log, which is at its most talkative.
    let suites: String = ["safety.test.js", "support/browser.js"].map(|file| read(folder.join(file))).concat();
    assert!(TYPED.iter().all(|text| suites.contains(text)), "the suite types something else");
    assert!(siv.log_text().contains("\"DEBUG\""));
    let typed: Vec<Vec<u8>> = TYPED.iter().flat_map(|text| spellings(text)).collect();
    scan(siv.folder(), &typed);
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(path).unwrap()
}
