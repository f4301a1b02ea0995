//! The client through a real Chromium: starts `siv dev` and runs the suite of this folder against it.

use std::path::PathBuf;
use std::process::Command;

use tests::Siv;

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
}
