//! A core of the process would hold neither the root key nor what lies in the key store: key-encryption keys of the built-in
//! KMS, erasure keys, the keys of MACs.
//!
//! Reads what the kernel would write into a core: every readable region that is not marked as left out of dumps.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aes_gcm_siv::aead::{Aead as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit as _, Nonce};
use serde_json::{Value, json};
use tests::installation::{Installation, SETTINGS, Serving};
use tests::{Actor, Served, bodies};
use vault::crypto::MacKey;
use vault::domain::{SecretId, lp};

/// Regions of a process with their flags (proc(5), `smaps`).
fn regions(pid: u32) -> Vec<(String, u64, u64, String)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the memory scan needs root");
    let mut regions: Vec<(String, u64, u64, String)> = Vec::new();
    for line in maps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let hex = |text| u64::from_str_radix(text, 16).ok();
        if let Some((Some(start), Some(end))) = range.map(|(start, end)| (hex(start), hex(end))) {
            regions.push((line.to_owned(), start, end, String::new()));
        } else if let (Some(flags), Some(region)) = (line.strip_prefix("VmFlags:"), regions.last_mut()) {
            region.3 = format!("{flags} ");
        }
    }
    regions
}

/// How often a needle stands in what a core would hold, and where.
fn in_a_core(pid: u32, needle: &[u8]) -> Vec<String> {
    let mut memory = File::open(format!("/proc/{pid}/mem")).expect("the memory scan needs root");
    let (finder, mut found, mut read) = (memchr::memmem::Finder::new(needle), Vec::new(), 0);
    for (line, start, end, flags) in regions(pid) {
        if flags.contains(" dd ") || flags.contains(" io ") || !flags.contains(" rd ") {
            continue;
        }
        let mut bytes = Vec::new();
        if memory.seek(SeekFrom::Start(start)).is_err()
            || memory.by_ref().take(end - start).read_to_end(&mut bytes).is_err()
        {
            continue;
        }
        read += 1;
        found.extend(finder.find_iter(&bytes).map(|at| format!("{at:x} of {line}")));
    }
    assert!(read > 10, "the memory was not read");
    found
}

/// HKDF-SHA256 for one block (RFC 5869), made of the vault's HMAC: a key shorter than a block is filled with zeros.
fn hkdf(secret: &[u8], salt: &[u8], info: &str) -> [u8; 32] {
    let id = || SecretId::from_bytes([0; 16]);
    let mut padded = [0; 32];
    padded[..salt.len()].copy_from_slice(salt);
    let extracted = MacKey::new(id(), &padded).mac(secret);
    MacKey::new(id(), &extracted).mac(&[info.as_bytes(), &[1]].concat())
}

fn file_of(kind: &str, tenant: &str, folder: &Path) -> PathBuf {
    let all = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    all(&folder.join("key-store").join(kind).join(tenant)).pop().expect("there is one")
}

/// A secret of the key store, opened as docs/formats.md section 4 says.
fn secret((kind, tenant): (&str, &str), folder: &Path, root: &[u8]) -> Vec<u8> {
    let identity = fs::read(folder.join("key-store/identity")).unwrap();
    let identity: Value = serde_json::from_slice(&identity[1..]).unwrap();
    let store: uuid::Uuid = identity["keyStoreId"].as_str().unwrap().parse().unwrap();
    let path = file_of(kind, tenant, folder);
    let (id, version) = path.file_name().unwrap().to_str().unwrap().rsplit_once('.').unwrap();
    let version: u32 = version.parse().unwrap();
    let aad = lp(&[kind.as_bytes(), b"test", tenant.as_bytes(), id.as_bytes(), &version.to_be_bytes()]);
    let sealed = fs::read(&path).unwrap();
    let key = hkdf(root, store.as_bytes(), &format!("siv/v1/root/{kind}"));
    let nonce = Nonce::try_from(&sealed[1..13]).unwrap();
    let payload = Payload { msg: &sealed[13..], aad: &aad };
    Aes256GcmSiv::new(&key.into()).decrypt(&nonce, payload).expect("it opens")
}

#[tokio::test]
async fn a_core_would_hold_neither_the_root_key_nor_a_kek_nor_what_rows_are_authenticated_with() {
    let served = Served::on_sqlite();
    for _ in 0..20 {
        let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}, {"field": "once", "value": "4242424242424242"}]});
        let put = served.app().post("/v1/values", &items).await.expect(200).json();
        let wish = json!({"inputs": {"card": put["results"][0]["secureValueKey"]}});
        served.flow("card-summary").post("/v1/flows/card-summary/invoke", &wish).await.expect(200);
    }
    let root = fs::read(served.folder().join("root/root.key")).unwrap();
    let system =
        ["config", "data-key", "credential", "node", "idempotency-lookup", "pepper"].map(|kind| (kind, "-system"));
    let kinds = [("kek", "acme"), ("erasure", "-system")].into_iter().chain(system);
    let stored = kinds.map(|kind| (kind.0, secret(kind, served.folder(), &root)));
    for (name, key) in [("the root key", root.clone())].into_iter().chain(stored) {
        assert_eq!(key.len(), 32);
        let key = &key;
        let found = in_a_core(served.pid(), key);
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
    // The scan finds what is there, and the pages the keys lie in are there and left out.
    assert!(!in_a_core(served.pid(), b"card-summary").is_empty());
    let apart = regions(served.pid())
        .iter()
        .filter(|(_, _, _, flags)| flags.contains(" dd ") && flags.contains(" lo "))
        .count();
    assert!(apart >= 1, "no pages are locked and left out of dumps");
    let metrics = served.stranger().get("/metrics").await.expect(200).text;
    assert!(metrics.contains("siv_key_memory_bytes{place=\"ordinary\"} 0"), "{metrics}");
}

#[tokio::test]
async fn a_passphrase_is_gone_from_memory_once_it_was_tried() {
    let installation = Installation::described_as(&SETTINGS.replacen("file:root/root.key", "sealed", 1));
    let outside = tempfile::tempdir().unwrap();
    let (right, wrong) = (bodies::canary(), bodies::canary());
    let file = outside.path().join("passphrase");
    fs::write(&file, &right).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let made = installation.run(&["init", "--passphrase-file", file.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let node = Serving::start(&installation);
    let stranger = Actor::new(&node.private, None);
    stranger.post("/v1/unseal", &json!({ "passphrase": wrong })).await.expect(422);
    let mut answer = stranger.post("/v1/unseal", &json!({ "passphrase": right })).await;
    for _ in 0..600 {
        if answer.status != 429 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = stranger.post("/v1/unseal", &json!({ "passphrase": right })).await;
    }
    answer.expect(204);
    for _ in 0..600 {
        if stranger.get("/readyz").await.json().get("tenants").is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // One that comes too late is wiped as well.
    stranger.post("/v1/unseal", &json!({ "passphrase": right })).await.expect(409);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let needles: Vec<Vec<u8>> = [right, wrong].iter().flat_map(|text| bodies::spellings(text)).collect();
    let lingering = super::copies(node.pid(), &needles);
    assert!(lingering.is_empty(), "{lingering:#?}");
    node.stop();
}
