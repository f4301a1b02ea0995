//! `siv keys rotate-root`: another root key for what is there, on both kinds of key store.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use tests::{Actor, Postgres};

use super::command_line::{Installation, Serving, credential, text};
use super::nodes::run;

fn entries(node: &Serving, auditor: &str) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let actor = Actor::new(&node.private, Some(auditor));
        actor.get("/v1/log/entries?action=key.root.rotated").await.expect(200).json()["data"].clone()
    })
}

fn rotate(installation: &Installation, more: &[&str]) -> Result<Value, String> {
    let done = installation.run(&[&["keys", "rotate-root", "--json"], more].concat());
    if done.status.success() { Ok(serde_json::from_slice(&done.stdout).unwrap()) } else { Err(text(&done.stderr)) }
}

/// Every file below a folder, by path, with its content.
fn files(folder: &std::path::Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push((path.clone(), std::fs::read(path).unwrap())) }
    }
    all.sort();
    all
}

#[test]
fn a_rotated_root_key_opens_everything_the_old_one_nothing_and_the_log_says_so() {
    let installation = Installation::described();
    let operator = credential(&installation.init());
    let node = Serving::start(&installation);
    let named = ["credential", "create", "--kind", "auditor", "--name", "a", "--json"];
    let auditor = credential(&run(&node, &operator, &named));
    let refused = rotate(&installation, &["--to", "file:root/second.key"]).unwrap_err();
    assert!(refused.contains("in use by another process"), "{refused}");
    node.stop();
    let key_store = installation.folder.path().join("key-store");
    let before = files(&key_store);
    let said = rotate(&installation, &["--to", "file:root/second.key", "--dry-run"]).unwrap();
    assert!(said["dryRun"] == true && said["secrets"].as_u64().unwrap() > 5, "{said}");
    assert!(files(&key_store) == before && !installation.folder.path().join("root/second.key").exists());
    for (to, why) in [
        ("file:key-store/second.key", "outside the folders"),
        ("file:root/root.key", "the new one is the one the key store has"),
        ("0123456789abcdef0123456789abcdef", "never to the key itself"),
    ] {
        let refused = rotate(&installation, &["--to", to]).unwrap_err();
        assert!(refused.contains(why), "{to}: {refused}");
    }
    assert!(files(&key_store) == before);
    let done = rotate(&installation, &["--to", "file:root/second.key"]).unwrap();
    assert_eq!((&done["secrets"], &done["rootVersion"]), (&said["secrets"], &json!(2)));
    // Nothing that was sealed under the old one is left.
    let after = files(&key_store);
    let kept = |bytes: &[u8]| bytes.len() > 30 && before.iter().any(|(_, old)| old == bytes);
    let same: Vec<_> = after.iter().filter(|(_, bytes)| kept(bytes)).map(|(path, _)| path).collect();
    assert!(same.iter().all(|path| path.ends_with("heads")), "{same:?}");
    let not = Serving::begin(&installation, &[]).err().expect("the old root key opens nothing");
    assert!(not.contains("the root key is not the one of this key store"), "{not}");
    installation.change("file:root/root.key", "file:root/second.key");
    for _ in 0..2 {
        let node = Serving::start(&installation);
        let entries = entries(&node, &auditor);
        assert_eq!(entries.as_array().map(Vec::len), Some(1), "once: {entries}");
        run(&node, &operator, &["tenant", "list", "--json"]);
        node.stop();
    }
}

#[test]
fn a_root_key_becomes_a_passphrase_that_a_person_brings() {
    let installation = Installation::described();
    let operator = credential(&installation.init());
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("passphrase");
    std::fs::write(&file, "correct horse battery\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = file.display().to_string();
    rotate(&installation, &["--to", "sealed", "--new-passphrase-file", &file]).unwrap();
    installation.change("file:root/root.key", "sealed");
    let node = Serving::start(&installation);
    let done = node.command("", &["unseal", "--passphrase-file", &file]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    run(&node, &operator, &["tenant", "list", "--json"]);
    node.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_store_that_nodes_share_is_rotated_once_they_are_stopped() {
    let postgres = Postgres::start();
    let (rows, keys) = (postgres.create_database("siv_rows"), postgres.create_database("siv_keys"));
    let installation = Installation::of_node("one", &rows, &keys);
    let operator = credential(&installation.init());
    let node = Serving::start(&installation);
    run(&node, &operator, &["tenant", "create", "acme", "--json"]);
    let refused = rotate(&installation, &["--to", "file:root/second.key"]).unwrap_err();
    assert!(refused.contains("stop every node"), "{refused}");
    node.stop();
    // Signs of life are told by the clock of the database: a node that stopped in order gives none.
    rotate(&installation, &["--to", "file:root/second.key"]).unwrap();
    let not = Serving::begin(&installation, &[]).err().expect("the old root key opens nothing");
    assert!(not.contains("the root key is not the one of this key store"), "{not}");
    installation.change("file:root/root.key", "file:root/second.key");
    let node = Serving::start(&installation);
    let ready = Actor::new(&node.private, None).get("/readyz").await.expect(200).json();
    assert_eq!(ready["tenants"]["acme"], json!([]), "{ready}");
    node.stop();
}
