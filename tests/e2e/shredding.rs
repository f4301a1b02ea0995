//! The end of a tenant's keys by two custodians: over the command line, proven by a certificate that this file verifies with
//! code of its own, and effective on a database that is put back beside the same key store.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64ct::{Base64, Encoding};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::served::Served;
use tests::{Actor, Postgres};

/// A log's public key by its verifier key line (c2sp.org/signed-note): name, key id, kind of signature and key.
struct LogKey {
    name: String,
    key_id: Vec<u8>,
    key: VerifyingKey,
}

impl LogKey {
    fn read(line: &str) -> Self {
        let (name, rest) = line.trim().split_once('+').unwrap();
        let (id, key) = rest.split_once('+').unwrap();
        let key = Base64::decode_vec(key).unwrap();
        assert_eq!(key[0], 1, "Ed25519");
        let key_id = (0..4).map(|at| u8::from_str_radix(&id[at * 2..at * 2 + 2], 16).unwrap()).collect();
        Self { name: name.to_owned(), key_id, key: VerifyingKey::from_bytes(key[1..].try_into().unwrap()).unwrap() }
    }

    /// The text of a note that this key signed.
    fn opened<'a>(&self, note: &'a str) -> &'a str {
        let (text, signatures) = note.split_once("\n\n").unwrap();
        let text = &note[..=text.len()];
        let line = signatures.lines().find(|line| line.starts_with(&format!("\u{2014} {} ", self.name))).unwrap();
        let bytes = Base64::decode_vec(line.rsplit(' ').next().unwrap()).unwrap();
        assert_eq!(bytes[..4], self.key_id[..]);
        let signature = Signature::from_bytes(bytes[4..].try_into().unwrap());
        self.key.verify_strict(text.as_bytes(), &signature).expect("the log's key signed it");
        text
    }
}

fn hash(prefix: u8, parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest([&[prefix][..], &parts.concat()].concat()).to_vec()
}

/// The root that an inclusion proof leads to (RFC 9162 section 2.1.3.2).
fn root(leaf: Vec<u8>, index: u64, size: u64, path: &[Vec<u8>]) -> Vec<u8> {
    let (mut at, mut last, mut root) = (index, size - 1, leaf);
    for sibling in path {
        assert!(last > 0, "the proof is too long");
        if at % 2 == 1 || at == last {
            root = hash(1, &[sibling, &root]);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            root = hash(1, &[&root, sibling]);
        }
        (at, last) = (at / 2, last / 2);
    }
    assert_eq!(last, 0, "the proof is too short");
    root
}

/// Verifies a certificate with nothing but the log's public key; the certificate and its entry.
fn verified(document: &Value, vkey: &str) -> (Value, Value) {
    let key = LogKey::read(vkey);
    let text = key.opened(document["note"].as_str().unwrap());
    let (first, certificate) = text.split_once('\n').unwrap();
    assert_eq!(first, "siv/v1/destruction-certificate");
    let certificate: Value = serde_json::from_str(certificate).unwrap();
    assert_eq!(certificate, document["certificate"]);
    let leaf = document["leaf"].as_str().unwrap();
    let leaf_hash = hash(0, &[&[1], leaf.as_bytes()]);
    let spelled: String = leaf_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(certificate["leafHash"], spelled);
    // The tree that the same key signed holds that leaf.
    let proof = document["proof"].as_str().expect("it is integrated");
    let (head, checkpoint) = proof.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("c2sp.org/tlog-proof@v1"));
    let index: u64 = lines.next().unwrap().strip_prefix("index ").unwrap().parse().unwrap();
    let path: Vec<Vec<u8>> = lines.map(|line| Base64::decode_vec(line).unwrap()).collect();
    let tree: Vec<&str> = key.opened(checkpoint).lines().collect();
    assert_eq!(tree[0], key.name);
    let signed = Base64::decode_vec(tree[2]).unwrap();
    assert_eq!(root(leaf_hash, index, tree[1].parse().unwrap(), &path), signed);
    let entry: Value = serde_json::from_str(leaf).unwrap();
    assert_eq!((&entry["position"], &entry["time"]), (&certificate["position"], &certificate["time"]));
    (certificate, entry)
}

/// The same by the command, and an altered one is refused with the member named.
async fn verified_by_command(served: &Served, file: &Path) {
    let key = served.folder().join("vkey");
    fs::write(&key, vkey(served).await).unwrap();
    let verify = |file: &Path| {
        let mut command = Command::new(tests::siv::binary());
        command.args(["log", "verify-certificate", "--json", "--vkey"]).arg(&key).arg(file).env_clear();
        command.output().unwrap()
    };
    let holds = verify(file);
    assert!(holds.status.success(), "{}", String::from_utf8_lossy(&holds.stderr));
    let proven: Value = serde_json::from_slice(&holds.stdout).unwrap();
    assert_eq!((&proven["holds"], &proven["certificate"]["tenant"]), (&json!(true), &json!("acme")));
    let altered = file.with_extension("altered");
    let whole: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    for (member, from, to, named) in [
        ("certificate", "acme", "acne", "certificate: "),
        ("note", "acme", "acne", "note: "),
        ("leaf", "acme", "acne", "leaf: "),
        ("proof", "index ", "index 1", "proof: "),
    ] {
        let mut document = whole.clone();
        let text = document[member].to_string().replacen(from, to, 1);
        document[member] = serde_json::from_str(&text).unwrap();
        fs::write(&altered, document.to_string()).unwrap();
        let refused = verify(&altered);
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && why.contains(named), "{member}: {why}");
    }
}

async fn custodian(served: &Served, name: &str) -> String {
    let body = json!({"kind": "custodian", "name": name});
    let made = served.operator().post("/v1/credentials?tenant=acme", &body).await.expect(201).json();
    made["credential"].as_str().unwrap().to_owned()
}

fn run(served: &Served, credential: &str, arguments: &[&str]) -> Value {
    let output = served.command(credential, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn vkey(served: &Served) -> String {
    served.auditor().get("/v1/log/vkey").await.expect(200).text
}

/// Everything that could give a value away; none does.
async fn nothing_opens(served: &Served, cards: &[String]) {
    for card in cards {
        let inputs = json!({"inputs": {"card": card}});
        let run = served.flow("card-summary").post("/v1/flows/card-summary/invoke", &inputs).await;
        assert_eq!((run.status, &run.json()["code"]), (503, &json!("tenant.sealed")), "{}", run.text);
        let found = served.app().post("/v1/values/lookup", &json!({"secureValueKey": card})).await;
        assert_eq!(found.status, 503, "{}", found.text);
    }
    assert!(served.put("card-number").await.is_err(), "nothing new is taken either");
}

/// The names of all secrets of a tenant in a folder of keys.
fn secrets_of(tenant: &str, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(secrets_of(tenant, &path));
        } else if path.display().to_string().contains(tenant) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Shreds a tenant between a backup of the database and its restore.
async fn shredded_and_put_back(mut served: Served, mut backup: impl FnMut(&Served), mut restore: impl FnMut(&Served)) {
    let (one, two) = (custodian(&served, "one").await, custodian(&served, "two").await);
    let cards = served.put_all("card-number", &["4242424242424242", "5555555555554444"]).await;
    let inputs = json!({"inputs": {"card": cards[0]}});
    served.flow("card-summary").post("/v1/flows/card-summary/invoke", &inputs).await.expect(200);
    served.verify_log().unwrap();
    let checkpoint = served.auditor().checkpoint("").await;
    fs::write(served.folder().join("checkpoint"), checkpoint).unwrap();
    assert_eq!(served.terminate(), Some(0));
    backup(&served);
    served.begin().unwrap_or_else(|why| panic!("{why}"));

    let dry = run(&served, &one, &["keys", "shred", "--tenant", "acme", "--dry-run"]);
    assert_eq!((&dry["values"], &dry["dryRun"]), (&json!(2), &json!(true)));
    let asked = run(&served, &one, &["keys", "shred", "--tenant", "acme"])["approval"].clone();
    let (id, digest) = (asked["approvalId"].as_str().unwrap(), asked["digest"].as_str().unwrap());
    let alone = served.command(&one, &["keys", "approve", id]);
    assert!(!alone.status.success() && String::from_utf8_lossy(&alone.stderr).contains("policy.denied"));
    served.flow("card-summary").post("/v1/flows/card-summary/invoke", &inputs).await.expect(200);
    let file = served.folder().join("certificate.json");
    // What cannot be written is found before anything is destroyed.
    std::fs::write(&file, "another's").unwrap();
    let refused = served.command(&two, &["keys", "approve", id, "--out", file.to_str().unwrap()]);
    assert!(!refused.status.success());
    assert!(
        run(&served, &two, &["keys", "list"])["data"].as_array().unwrap().iter().all(|kek| kek["state"] == "active")
    );
    std::fs::remove_file(&file).unwrap();
    let given = run(&served, &two, &["keys", "approve", id, "--digest", digest, "--out", file.to_str().unwrap()]);
    assert_eq!(given["state"], "completed");
    nothing_opens(&served, &cards).await;

    let document: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(document["receipt"].as_str().unwrap().starts_with("siv-receipt.1."));
    let (certificate, entry) = verified(&document, &vkey(&served).await);
    assert_eq!(certificate["tenant"], "acme");
    let destroyed = &certificate["destroyed"];
    assert_eq!((&destroyed["what"], &destroyed["values"]), (&json!("tenant"), &json!(2)));
    assert_eq!((&destroyed["approval"], &destroyed["requestedBy"]), (&asked["approvalId"], &asked["requestedBy"]));
    assert_ne!(destroyed["requestedBy"], destroyed["approvedBy"]);
    assert_eq!(entry["action"], "key.tenant.shredded");
    verified_by_command(&served, &file).await;
    // It can be fetched later: the same note, made again.
    let later = run(&served, &one, &["keys", "certificate"]);
    assert_eq!(later["note"], document["note"]);
    served.verify_log().unwrap();

    // The copy of the database from before, beside the same key store: it is not served until it is taken on by name.
    assert_eq!(served.terminate(), Some(0));
    restore(&served);
    served.begin().unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(served.stranger().get("/readyz").await.status, 503);
    assert_eq!(served.terminate(), Some(0));
    let checkpoint = served.folder().join("checkpoint");
    let recovered = served.run(&["recover", "--accept-database-of", checkpoint.to_str().unwrap(), "--json"]);
    assert!(recovered.status.success(), "{}", String::from_utf8_lossy(&recovered.stderr));
    let recovered: Value = serde_json::from_slice(&recovered.stdout).unwrap();
    served.begin().unwrap_or_else(|why| panic!("{why}"));
    let operator = Actor::new(served.stranger().base(), recovered["credential"].as_str());
    let listed = operator.get("/v1/credentials?tenant=acme&limit=1000").await.expect(200).json();
    for credential in listed["data"].as_array().unwrap() {
        let id = credential["credentialId"].as_str().unwrap();
        operator.post(&format!("/v1/credentials/{id}/confirm?tenant=acme"), &json!({})).await.expect(204);
    }
    nothing_opens(&served, &cards).await;
    let unsealed = served.command(&one, &["keys", "unseal"]);
    assert!(!unsealed.status.success(), "a custodian of the copy brings nothing back");
    nothing_opens(&served, &cards).await;
    let keks: Vec<String> = secrets_of("acme", &served.folder().join("key-store"));
    assert!(keks.iter().all(|name| !name.contains("/kek")), "{keks:?}");
    served.verify_log().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shredded_tenant_opens_from_no_backup_of_its_file() {
    let copy = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    let (rows, kept) = (|served: &Served| served.folder().join("rows"), |served: &Served| served.folder().join("kept"));
    let backup = |served: &Served| copy(&rows(served), &kept(served));
    let restore = |served: &Served| copy(&kept(served), &rows(served));
    shredded_and_put_back(Served::on_sqlite(), backup, restore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shredded_tenant_opens_from_no_backup_of_its_server() {
    let postgres = Postgres::start();
    let served = Served::on(&postgres.create_database("siv_rows"), "");
    let backup = |_: &Served| postgres.replace_database("siv_rows", "siv_kept");
    let restore = |_: &Served| postgres.replace_database("siv_kept", "siv_rows");
    shredded_and_put_back(served, backup, restore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_value_is_certified_and_a_value_that_is_there_is_not() {
    let served = Served::on_sqlite();
    let custodian = custodian(&served, "one").await;
    let cards = served.put_all("card-number", &["4242424242424242", "5555555555554444"]).await;
    let value_id = async |card: &str| {
        let found = served.app().post("/v1/values/lookup", &json!({"secureValueKey": card})).await.expect(200).json();
        found["valueId"].as_str().unwrap().to_owned()
    };
    let (gone, there) = (value_id(&cards[0]).await, value_id(&cards[1]).await);
    served.app().post("/v1/values/delete", &json!({"secureValueKey": cards[0]})).await.expect(204);
    let document = run(&served, &custodian, &["keys", "certificate", "--value", &gone]);
    let (certificate, entry) = verified(&document, &vkey(&served).await);
    assert_eq!(
        (&certificate["destroyed"]["what"], &certificate["destroyed"]["valueId"]),
        (&json!("value"), &json!(gone))
    );
    assert_eq!((&entry["action"], &entry["valueId"]), (&json!("value.deleted"), &json!(gone)));
    let refused = served.command(&custodian, &["keys", "certificate", "--value", &there]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("not_found"));
    let alive = served.command(&custodian, &["keys", "certificate"]);
    assert!(!alive.status.success(), "the tenant's keys are there");
    // Asking is an entry.
    let read = served.entries(&format!("valueId={gone}&action=log.read")).await;
    assert!(read.iter().any(|entry| entry["rule"] == "log.certificate"), "{read:?}");
}
