//! `siv hsm check` against a real token of SoftHSM: what it says of one that is fit, and what when it is not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tests::siv::binary;

use super::command_line::{Installation, Serving, credential, write};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "4711";

/// A token in a folder of its own.
struct Token {
    folder: TempDir,
}

impl Token {
    fn new(label: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let tokens = folder.path().join("tokens");
        fs::create_dir(&tokens).unwrap();
        let settings =
            format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
        fs::write(folder.path().join("softhsm2.conf"), settings).unwrap();
        let token = Self { folder };
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "0815"])
            .env("SOFTHSM2_CONF", token.settings())
            .output()
            .expect("softhsm2-util is missing: apt-get install softhsm2");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        token
    }

    fn settings(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    fn pin_file(&self, pin: &str) -> PathBuf {
        let path = self.folder.path().join("pin");
        let _ = fs::remove_file(&path);
        fs::write(&path, pin).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        path
    }

    fn check(&self, pin_file: &Path, more: &[&str]) -> Output {
        Command::new(binary())
            .args(["hsm", "check", "--module", MODULE, "--token", "acme", "--pin-file"])
            .arg(pin_file)
            .args(more)
            .env_clear()
            .env("SOFTHSM2_CONF", self.settings())
            .output()
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_token_that_is_fit_gets_a_report_with_the_profile_to_pin() {
    let token = Token::new("acme");
    let pin = token.pin_file(PIN);
    let told = token.check(&pin, &["--rounds", "20", "--json"]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_ne!(report["verdict"], "unfit", "{report}");
    assert_eq!(report["profile"], "aes-gcm-application-iv", "{report}");
    assert_eq!(report["token"]["label"], "acme");
    assert_eq!(report["module"]["sha256"].as_str().map(str::len), Some(64));
    let latency = report["latency"].as_array().unwrap();
    assert_eq!(latency.iter().map(|row| row["sessions"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 4, 16]);
    assert!(!text(&told.stdout).contains(PIN) && !text(&told.stderr).contains(PIN));

    let shown = token.check(&pin, &["--rounds", "0"]);
    let table = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    for said in ["verdict: ", "profile to pin: aes-gcm-application-iv", "altered-bytes", "rsa-oaep-sha256"] {
        assert!(table.contains(said), "{said} is missing:\n{table}");
    }
}

#[test]
fn a_token_a_key_or_a_module_that_is_not_there_is_named_and_the_way_on_too() {
    let token = Token::new("other");
    let pin = token.pin_file(PIN);
    for (more, said) in [
        (&[][..], "no token there has label \"acme\": `pkcs11-tool --module"),
        (&["--token", "other", "--kek", "siv-kek-1"], "no key-encryption key"),
        (&["--token", "other", "--kek", "siv-kek-1"], "or leave out --kek"),
        (
            &["--module", "/usr/lib/softhsm/absent.so"],
            "the module cannot be found: no file has this path on the machine",
        ),
        (&["--module", "/etc/passwd/absent.so"], "what stands in its path as a folder is a file"),
        (&["--module", "/etc/passwd"], "the module cannot be loaded: it is no library"),
        (&["--module", "/etc/passwd"], "--module, in a request hsm.module; where hsm_modules stands in siv.toml"),
        // A file of this folder, and not one that the system's search path finds.
        (&["--module", "libsofthsm2.so"], "the module cannot be found"),
    ] {
        // An option that comes twice is refused: each case names its own.
        let mut arguments: Vec<&str> = vec!["hsm", "check", "--rounds", "0"];
        for (name, usual) in [("--module", MODULE), ("--token", "acme")] {
            if !more.contains(&name) {
                arguments.extend([name, usual]);
            }
        }
        let refused = Command::new(binary())
            .args(&arguments)
            .args(more)
            .arg("--pin-file")
            .arg(&pin)
            .env_clear()
            .env("SOFTHSM2_CONF", token.settings())
            .output()
            .unwrap();
        let why = text(&refused.stderr);
        assert!(!refused.status.success() && why.contains(said) && why.contains("next"), "{more:?}: {why}");
    }
}

#[test]
fn a_wrong_pin_is_tried_once_and_a_readable_pin_file_not_at_all() {
    let token = Token::new("acme");
    let refused = token.check(&token.pin_file("0000"), &["--rounds", "0"]);
    let why = text(&refused.stderr);
    assert!(!refused.status.success() && why.contains("PIN") && !why.contains("0000"), "{why}");
    let open = token.pin_file(PIN);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = token.check(&open, &["--rounds", "0"]);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    // One try was wrong: the token counts it and goes on with the right one.
    fs::set_permissions(&open, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(token.check(&open, &["--rounds", "0"]).status.success());
}

#[test]
fn a_signed_report_verifies_with_the_installations_key_and_an_altered_one_does_not() {
    let (token, installation) = (Token::new("acme"), Installation::described());
    let operator = credential(&installation.init());
    let node = Serving::start(&installation);
    let named = ["credential", "create", "--kind", "auditor", "--name", "a", "--json"];
    let auditor = credential(&serde_json::from_slice(&node.command(&operator, &named).stdout).unwrap());
    let folder = token.folder.path();
    let vkey = write(folder, "vkey", &text(&node.command(&auditor, &["log", "vkey"]).stdout));
    let (pin, out) = (token.pin_file(PIN), folder.join("report.note").display().to_string());
    let config = installation.path().display().to_string();
    let signing = ["--rounds", "0", "--json", "--out", &out, "--config", &config];
    // While the node runs the key is the node's; without an installation there is none.
    let busy = token.check(&pin, &signing);
    assert!(!busy.status.success() && text(&busy.stderr).contains("in use by another process"), "{busy:?}");
    let unsigned = token.check(&pin, &["--rounds", "0", "--out", &out]);
    assert!(!unsigned.status.success() && text(&unsigned.stderr).contains("--config"), "{}", text(&unsigned.stderr));
    node.stop();
    let told = token.check(&pin, &signing);
    assert!(told.status.success(), "{}", text(&told.stderr));
    let again = token.check(&pin, &signing);
    assert!(!again.status.success() && text(&again.stderr).contains("is there already"), "{}", text(&again.stderr));
    let verify = |report: &str| {
        let mut command = Command::new(binary());
        command.args(["hsm", "verify", report, "--vkey", &vkey, "--json"]).env_clear().output().unwrap()
    };
    let verified = verify(&out);
    assert!(verified.status.success(), "{}", text(&verified.stderr));
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(verified["report"], report);
    let note = fs::read_to_string(&out).unwrap();
    assert!(note.starts_with("siv/v1/hsm-report\n20") && !note.contains(PIN));
    for (from, to) in [("\"verdict\":\"", "\"verdict\":\"un"), ("\n20", "\n21"), ("hsm-report", "hsm-repork")] {
        let altered = write(folder, "altered", &note.replacen(from, to, 1));
        let refused = verify(&altered);
        assert!(!refused.status.success() && text(&refused.stderr).contains("no report that this key signed"), "{to}");
    }
    // Another installation's is not this one's.
    let other = Installation::described();
    other.init();
    let foreign = folder.join("foreign.note").display().to_string();
    let config = other.path().display().to_string();
    assert!(token.check(&pin, &["--rounds", "0", "--out", &foreign, "--config", &config]).status.success());
    assert!(text(&verify(&foreign).stderr).contains("no signature of a trusted key"));
}
