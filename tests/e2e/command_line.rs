//! The commands an operator types, on an installation made by `siv init`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tests::siv::binary;

pub(super) use tests::installation::{APP, FLOW, Installation, SETTINGS, Serving};

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn credential(document: &Value) -> String {
    document["credential"].as_str().unwrap().to_owned()
}

#[test]
fn the_first_credential_is_replaced_until_it_was_used_and_then_never_again() {
    let installation = Installation::described();
    let lost = credential(&installation.init());
    let first = credential(&installation.init());
    assert_ne!(lost, first);
    let serving = Serving::start(&installation);
    let refused = serving.command(&lost, &["tenant", "list"]);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("auth.invalid"), "{}", text(&refused.stderr));
    // Looking is using: no entry of an act of its own stands in any log.
    let listed = serving.command(&first, &["tenant", "list"]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    serving.stop();
    let again = installation.run(&["init"]);
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("used already"), "{}", text(&again.stderr));
    assert!(!text(&again.stdout).contains("siv_op_"));
}

#[test]
fn a_tenant_is_put_to_work_from_the_command_line() {
    let installation = Installation::described();
    let operator = credential(&installation.init());
    let serving = Serving::start(&installation);
    let folder = installation.folder.path();
    let run = |arguments: &[&str]| {
        let output = serving.command(&operator, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or(Value::Null)
    };
    run(&["tenant", "create", "acme", "--cache-seconds", "60", "--json"]);
    let app = write(folder, "shop.toml", APP);
    run(&["app", "apply", &app, "--tenant", "acme", "--json"]);
    let flow = write(folder, "card-summary.toml", FLOW);
    run(&["flow", "apply", &flow, "--tenant", "acme", "--json"]);
    let secret = write(folder, "secret.txt", "s3cr3t\n");
    let set = ["--host", "acquirer.example", "--secret", "apiKey", "--from-file", &secret, "--tenant", "acme"];
    // What a run would miss is said when the flow is applied, and not once it is there.
    let header = "headers = { x-key = \"{{ destination.acquirer.apiKey }}\" }\n[steps.http.response]";
    let sends = STEP.replace("URL", "https://acquirer.example/v1").replace("[steps.http.response]", header);
    let sends = FLOW.replace("[outputs]", &format!("{sends}[outputs]"));
    let sends = write(folder, "sends.toml", &sends);
    let warned = run(&["flow", "apply", &sends, "--tenant", "acme", "--json"]);
    let missing = "destination.acquirer.apiKey: there is no destination acquirer";
    assert!(warned["warnings"].as_array().unwrap().contains(&missing.into()), "{warned}");
    run(&[&["destination", "set", "acquirer"], &set[..]].concat());
    let set = run(&["destination", "list", "--tenant", "acme", "--json"]);
    assert_eq!(
        (&set["data"][0]["host"], &set["data"][0]["secrets"][0]),
        (&"acquirer.example".into(), &"apiKey".into())
    );
    assert!(!set.to_string().contains("s3cr3t"), "no secret comes out: {set}");
    let warned = run(&["flow", "apply", &sends, "--tenant", "acme", "--json"]);
    assert!(!warned.to_string().contains(missing), "{warned}");
    let kinds: [(&str, &[&str]); 4] = [
        ("auditor", &[]),
        ("custodian", &[]),
        ("app", &["--app", "shop"]),
        ("flow", &["--flow", "card-summary", "--expires-days", "30"]),
    ];
    for (kind, bound) in kinds {
        let named = ["credential", "create", "--kind", kind, "--name", kind, "--tenant", "acme", "--json"];
        let made = run(&[&named[..], bound].concat());
        assert!(credential(&made).starts_with("siv_"), "{made}");
        assert!(made["expiresAt"].is_string(), "credentials end: {made}");
    }
    let auditor = run(&["credential", "create", "--kind", "auditor", "--name", "of-all", "--json"]);
    let created = ["log", "entries", "--action", "admin.credential.created"];
    let log = text(&serving.command(&credential(&auditor), &created).stdout);
    assert!(log.contains("custodian credential ") && log.contains(", tenant acme"), "each is named: {log}");
    let listed = run(&["credential", "list", "--tenant", "acme", "--json"]);
    assert_eq!(listed["data"].as_array().unwrap().len(), 4, "{listed}");
    assert!(!listed.to_string().contains("siv_"), "a credential is shown once");
    let id = listed["data"][0]["credentialId"].as_str().unwrap();
    let revoked = run(&["credential", "revoke", id, "--tenant", "acme", "--json"]);
    assert_eq!(revoked, serde_json::json!({ "credentialId": id, "state": "revoked" }));
    let flows = run(&["flow", "list", "--tenant", "acme", "--json"]);
    assert_eq!(flows["data"][0]["name"], "card-summary");
    serving.stop();
}

#[test]
fn a_flow_that_leaks_is_refused_without_a_server() {
    let folder = TempDir::new().unwrap();
    let check = |document: &str| {
        let file = write(folder.path(), "flow.toml", document);
        Command::new(binary()).args(["flow", "check", &file]).env_clear().output().unwrap()
    };
    let sound = check(FLOW);
    assert!(sound.status.success(), "{}", text(&sound.stderr));
    let leaking = check(&FLOW.replace(" | last4", ""));
    assert!(!leaking.status.success());
    let why = text(&leaking.stderr);
    assert!(why.contains("inputs.card") && why.contains("outputs.last4"), "the path is named: {why}");
}

#[test]
fn an_address_that_no_vault_speaks_to_is_refused_without_a_server() {
    let folder = TempDir::new().unwrap();
    let check = |url: &str, more: &[&str]| {
        let steps = STEP.replace("URL", url);
        let file = write(folder.path(), "flow.toml", &FLOW.replace("[outputs]", &format!("{steps}[outputs]")));
        Command::new(binary()).args(["flow", "check", &file]).args(more).env_clear().output().unwrap()
    };
    let sound = check("https://acquirer.example/v1", &[]);
    assert!(sound.status.success(), "{}", text(&sound.stderr));
    for url in [
        "http://acquirer.example/v1",
        "http://127.0.0.1:9/v1",
        "https://127.0.0.1/v1",
        "https://10.1.2.3/v1",
        "https://169.254.169.254/v1",
        "https://[::1]/v1",
    ] {
        let refused = check(url, &[]);
        assert!(!refused.status.success(), "{url}");
        assert!(text(&refused.stderr).contains("is refused"), "{url}: {}", text(&refused.stderr));
    }
    let local = text(&check("http://127.0.0.1:9/v1", &[]).stderr);
    assert!(local.contains("steps.") && local.contains("--dev"), "the step is named, and what it may be for: {local}");
    assert!(!text(&check("https://10.1.2.3/v1", &[]).stderr).contains("--dev"));
    assert!(check("http://127.0.0.1:9/v1", &["--dev"]).status.success());
    assert!(!check("https://10.1.2.3/v1", &["--dev"]).status.success());
}

#[test]
fn a_node_refuses_unsafe_settings_in_one_line() {
    let installation = Installation::described();
    let private = "[private]\naddress = \"127.0.0.1:0\"";
    for (from, to, key) in [
        ("sqlite:rows/siv.db", "sqlite:rows/siv.db?synchronous=off", "database"),
        ("dir:key-store", "dir:rows/key-store", "key_store"),
        ("file:root/root.key", "file:rows/root.key", "root_key"),
        (private, "[private]\naddress = \"0.0.0.0:0\"", "private"),
        ("realm      = \"test\"", "realm = \"test\"\nunknown = 1", "unknown"),
        ("https://vault.example", "http://vault.example", "public_url"),
        ("realm      = \"test\"", "realm = \"test\"\nread_replica = \"postgres://siv@localhost/siv\"", "read_replica"),
    ] {
        installation.rewrite(from, to);
        for command in ["serve", "init"] {
            let output = installation.run(&[command]);
            assert_eq!(output.status.code(), Some(1), "{to}");
            let why = text(&output.stderr);
            assert!(why.starts_with("error: ") && why.contains(key), "{to}: {why}");
            assert_eq!(why.lines().count(), 1, "{why}");
        }
    }
    assert!(!installation.folder.path().join("key-store").exists(), "nothing was made");
}

#[test]
fn serving_without_an_installation_says_how_to_make_one() {
    let installation = Installation::described();
    let output = installation.run(&["serve"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("siv init"), "{}", text(&output.stderr));
}

#[test]
fn a_credential_is_never_sent_in_clear_to_another_machine() {
    let output = Command::new(binary())
        .args(["tenant", "list"])
        .env_clear()
        .env("SIV_URL", "http://vault.example:8081")
        .env("SIV_CREDENTIAL", "siv_op_x")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("https"), "{}", text(&output.stderr));
}

pub(super) fn write(folder: &Path, name: &str, document: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, document).unwrap();
    path.display().to_string()
}

const STEP: &str = r#"
[[steps]]
id = "tell"
[steps.http]
method = "POST"
url    = "URL"
json   = { number = "{{ inputs.card }}" }
[steps.http.response]
status = { from = "$.status", type = "enum", values = ["taken"] }
"#;
