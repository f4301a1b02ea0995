//! What an operator and a custodian rely on: one first credential, whole lists, keys without detours, refusals that say why.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};
use tests::siv::binary;

use super::command_line::{Installation, SETTINGS, Serving, credential, text, write};

/// Runs a command that must succeed; its JSON.
fn run(serving: &Serving, who: &str, arguments: &[&str]) -> Value {
    let output = serving.command(who, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn another_database_on_a_used_key_store_gets_no_second_first_operator() {
    let installation = Installation::described();
    let first = installation.init();
    assert!(first["expiresAt"].is_string(), "credentials end: {first}");
    let serving = Serving::start(&installation);
    run(&serving, &credential(&first), &["tenant", "list"]);
    serving.stop();
    let rows = installation.folder.path().join("rows");
    std::fs::rename(&rows, installation.folder.path().join("rows-kept")).unwrap();
    let refused = installation.run(&["init"]);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    assert!(!text(&refused.stdout).contains("siv_op_"));
    assert!(text(&refused.stderr).contains("siv recover"), "{}", text(&refused.stderr));
    // With its own database nothing is lost, and the second attempt there stands in the log.
    std::fs::remove_dir_all(&rows).unwrap();
    std::fs::rename(installation.folder.path().join("rows-kept"), &rows).unwrap();
    assert!(text(&installation.run(&["init"]).stderr).contains("used already"));
    let serving = Serving::start(&installation);
    let operator = credential(&first);
    let auditor = run(&serving, &operator, &["credential", "create", "--kind", "auditor", "--name", "a"]);
    let listed = entries(&serving, &credential(&auditor), "action=admin.bootstrap.refused");
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    serving.stop();
}

fn entries(serving: &Serving, auditor: &str, query: &str) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let actor = tests::Actor::new(&serving.private, Some(auditor));
        actor.get(&format!("/v1/log/entries?{query}")).await.expect(200).json()
    })
}

#[test]
fn a_passphrase_that_can_be_tried_is_refused_in_one_line() {
    let installation = Installation::described();
    installation.rewrite("file:root/root.key", "passphrase-file:passphrase");
    let file = installation.folder.path().join("passphrase");
    for short in ["", "\n", "elevenchars", "elevenchars\r\n"] {
        std::fs::write(&file, short).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let refused = installation.run(&["init"]);
        assert_eq!(refused.status.code(), Some(1), "{short:?}");
        let why = text(&refused.stderr);
        assert!(why.contains("root_key") && why.lines().count() == 1, "{why}");
    }
    assert!(!installation.folder.path().join("key-store").exists(), "nothing was made");
}

#[test]
fn a_list_is_printed_whole() {
    let installation = Installation::described();
    let operator = credential(&installation.init());
    let serving = Serving::start(&installation);
    for number in 0..105 {
        let name = format!("auditor {number}");
        run(&serving, &operator, &["credential", "create", "--kind", "auditor", "--name", &name]);
    }
    let listed = run(&serving, &operator, &["credential", "list"]);
    assert_eq!(listed["data"].as_array().unwrap().len(), 106, "the first operator and all made since");
    assert_eq!(listed["page"], json!({ "next": null }));
    serving.stop();
}

#[test]
fn a_custodian_needs_to_name_no_tenant_and_can_try_a_rotation_dry() {
    let installation = Installation::described();
    let operator = credential(&installation.init());
    let serving = Serving::start(&installation);
    run(&serving, &operator, &["tenant", "create", "acme"]);
    let made = ["credential", "create", "--kind", "custodian", "--name", "c", "--tenant", "acme"];
    let custodian = credential(&run(&serving, &operator, &made));
    let dry = run(&serving, &custodian, &["keys", "rotate", "--dry-run"]);
    assert_eq!(dry["version"], 2, "{dry}");
    assert_eq!(run(&serving, &custodian, &["keys", "list"])["data"].as_array().unwrap().len(), 1);
    assert_eq!(run(&serving, &custodian, &["keys", "rotate"])["version"], 2);
    assert_eq!(run(&serving, &custodian, &["keys", "rewrap"])["dryRun"], false);
    let dry = |verb: &str| text(&serving.command(&custodian, &["keys", verb, "--dry-run"]).stdout);
    assert!(dry("seal").contains("acme is open now. It would be sealed"), "{}", dry("seal"));
    assert!(dry("list").contains("active") && !dry("list").contains("sealed"), "{}", dry("list"));
    assert_eq!(run(&serving, &custodian, &["keys", "seal"])["sealed"], true);
    assert!(dry("seal").contains("is sealed already"), "{}", dry("seal"));
    assert!(dry("unseal").contains("acme is sealed now. It would be unsealed"), "{}", dry("unseal"));
    assert_eq!(run(&serving, &custodian, &["keys", "unseal", "--dry-run"])["sealed"], true);
    assert!(dry("list").contains("acme (sealed)"), "{}", dry("list"));
    assert_eq!(run(&serving, &custodian, &["keys", "unseal"])["sealed"], false);
    serving.stop();
}

#[test]
fn an_operator_of_the_installation_is_told_to_name_the_tenant() {
    let installation = Installation::described();
    let operator = credential(&installation.init());
    let serving = Serving::start(&installation);
    let app = write(installation.folder.path(), "shop.toml", super::command_line::APP);
    let refused = serving.command(&operator, &["app", "apply", &app]);
    assert!(!refused.status.success());
    let why = text(&refused.stderr);
    assert!(why.contains("tenant: missing") && !why.contains("See errors"), "{why}");
    serving.stop();
}

#[test]
fn a_certificate_that_is_not_trusted_is_named_and_so_is_the_way_to_trust_it() {
    let installation = Installation::described();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = installation.folder.path();
    let certificate = write(folder, "private.pem", &made.cert.pem());
    let key = write(folder, "private-key.pem", &made.signing_key.serialize_pem());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let tls = "[private]\ntls_certificate = \"private.pem\"\ntls_key = \"private-key.pem\"";
    std::fs::write(installation.path(), SETTINGS.replace("[private]", tls)).unwrap();
    let operator = credential(&installation.init());
    let serving = Serving::start(&installation);
    let ask = |trusted: Option<&str>| {
        let mut command = Command::new(binary());
        command.args(["tenant", "list"]).env_clear().env("SIV_CREDENTIAL", &operator);
        command.env("SIV_URL", serving.private.replace("http://", "https://"));
        command.envs(trusted.map(|file| ("SSL_CERT_FILE", file))).output().unwrap()
    };
    let refused = ask(None);
    assert!(!refused.status.success());
    let why = text(&refused.stderr);
    assert!(why.contains("certificate") && why.contains("SSL_CERT_FILE") && !why.contains(&operator), "{why}");
    let trusted = ask(Some(&certificate));
    assert!(trusted.status.success(), "{}", text(&trusted.stderr));
    serving.stop();
}
