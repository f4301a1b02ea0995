//! The law of the key store: who gets in, what survives a crash, what lies in clear.

use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::{KeyStore, RootKeySource, RootVersion, SecretKind, SecretName};
use crate::crypto::vectors;
use crate::domain::text::hex;
use crate::domain::{DataKeyClass, Epoch, Realm, Timestamp};
use crate::keys::Error;
use crate::keys::fixture::bytes_of;

const NOW: Timestamp = Timestamp::from_millis(1_795_489_236_007);

fn realm() -> Realm {
    "eu-1".parse().unwrap()
}

async fn open(dir: &Path, create: bool) -> Result<KeyStore, Error> {
    let root = || RootKeySource::File(dir.join("root-key"));
    opened(async || KeyStore::open(&dir.join("keys"), root(), realm(), NOW, create).await).await
}

/// Opens a folder that is let go within a second: a process that another test starts holds, from its fork to its exec, a copy
/// of every lock, of those too that are let go meanwhile.
pub(super) async fn opened(open: impl AsyncFn() -> Result<KeyStore, Error>) -> Result<KeyStore, Error> {
    for _ in 0..50 {
        match open().await {
            Err(Error::InUse) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            done => return done,
        }
    }
    Err(Error::InUse)
}

fn erasure(epoch: u64) -> SecretName {
    SecretName::erasure(DataKeyClass::Session, Epoch(epoch))
}

/// Every path under a folder, the folder included.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    if folder.is_dir() {
        found.extend(fs::read_dir(folder).unwrap().flat_map(|entry| everything(&entry.unwrap().path())));
    }
    found
}

fn kind(result: Result<KeyStore, Error>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn a_secret_survives_a_restart_and_lies_nowhere_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), true).await.unwrap();
    let (id, made) = (store.installation_id(), store.create_key(&erasure(1)).await.unwrap());
    assert_eq!(bytes_of(&store.create_key(&erasure(1)).await.unwrap()), bytes_of(&made), "made once");
    drop(store);
    let store = open(dir.path(), false).await.unwrap();
    assert_eq!(store.installation_id(), id);
    assert_eq!(bytes_of(&store.load_key(&erasure(1)).await.unwrap().unwrap()), bytes_of(&made));
    let root = fs::read(dir.path().join("root-key")).unwrap();
    for file in everything(&dir.path().join("keys")).iter().filter(|path| path.is_file()) {
        let bytes = fs::read(file).unwrap();
        assert!(
            !bytes.windows(32).any(|window| window == &bytes_of(&made)[..] || window == root),
            "{}",
            file.display()
        );
    }
}

#[tokio::test]
async fn folders_are_0700_and_files_0600_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), true).await.unwrap();
    store.create_key(&erasure(1)).await.unwrap();
    assert!(store.swap_clear("heads", None, b"x".to_vec()).await.unwrap());
    for path in everything(&dir.path().join("keys")) {
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
    assert_eq!(fs::metadata(dir.path().join("root-key")).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_in_clear_is_replaced_only_where_it_is_the_one_that_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), true).await.unwrap();
    let swap = |old: Option<&str>, new: &str| {
        store.swap_clear("heads", old.map(|text| text.as_bytes().to_vec()), new.as_bytes().to_vec())
    };
    assert!(!swap(Some("a"), "b").await.unwrap(), "there is none");
    assert!(swap(None, "a").await.unwrap() && !swap(None, "b").await.unwrap());
    assert!(swap(Some("a"), "c").await.unwrap() && !swap(Some("a"), "d").await.unwrap());
    assert_eq!(store.read_clear("heads").await.unwrap(), Some(b"c".to_vec()));
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), true).await.unwrap();
    assert!(matches!(open(dir.path(), true).await, Err(Error::InUse)));
    drop(first);
    assert!(open(dir.path(), false).await.is_ok());
}

#[tokio::test]
async fn a_key_store_is_made_only_where_one_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(open(dir.path(), false).await, Err(Error::NoKeyStore)));
    assert!(!dir.path().join("keys").exists() && !dir.path().join("root-key").exists());
    drop(open(dir.path(), true).await.unwrap());
    // Its secrets would be orphaned by a new identity.
    let store = open(dir.path(), true).await.unwrap();
    store.create_key(&erasure(1)).await.unwrap();
    drop(store);
    fs::remove_file(dir.path().join("keys/identity")).unwrap();
    assert!(matches!(open(dir.path(), true).await, Err(Error::Damaged(_))));
}

#[tokio::test]
async fn a_lost_root_key_is_not_replaced_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), true).await.unwrap());
    fs::remove_file(dir.path().join("root-key")).unwrap();
    assert!(matches!(open(dir.path(), true).await, Err(Error::Io { .. })));
    assert!(!dir.path().join("root-key").exists());
}

#[tokio::test]
async fn another_root_key_realm_or_installation_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), true).await.unwrap());
    let file = dir.path().join("root-key");
    let keys = dir.path().join("keys");
    let other = KeyStore::open(&keys, RootKeySource::File(file.clone()), "us-1".parse().unwrap(), NOW, true);
    assert!(matches!(other.await, Err(Error::OtherRealm)));
    let identity = dir.path().join("keys/identity");
    let text = fs::read(&identity).unwrap();
    let at = text.windows(16).position(|window| window == b"\"installationId\"").unwrap() + 20;
    let mut changed = text.clone();
    changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
    fs::write(&identity, &changed).unwrap();
    assert!(matches!(open(dir.path(), false).await, Err(Error::WrongRootKey)));
    fs::write(&identity, &text).unwrap();
    fs::write(&file, [0; 32]).unwrap();
    assert!(matches!(open(dir.path(), false).await, Err(Error::WrongRootKey)));
}

#[tokio::test]
async fn a_root_key_kept_unsafely_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), true).await.unwrap());
    let file = dir.path().join("root-key");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    assert!(kind(open(dir.path(), false).await).contains("0600"));
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    for wrong in [&[0_u8; 31][..], &[0; 33]] {
        fs::write(&file, wrong).unwrap();
        assert!(kind(open(dir.path(), false).await).contains("32 bytes"));
    }
}

#[tokio::test]
async fn a_root_key_inside_the_key_store_is_refused_unless_it_is_for_development() {
    let dir = tempfile::tempdir().unwrap();
    let (store, inside) = (dir.path().join("keys"), dir.path().join("keys/root-key"));
    fs::create_dir(&store).unwrap();
    fs::set_permissions(&store, Permissions::from_mode(0o700)).unwrap();
    let refused = KeyStore::open(&store, RootKeySource::File(inside.clone()), realm(), NOW, true).await;
    assert!(kind(refused).contains("must not lie"));
    let winding = dir.path().join("keys/../keys/root-key");
    let refused = KeyStore::open(&store, RootKeySource::File(winding), realm(), NOW, true).await;
    assert!(kind(refused).contains("must not lie"));
    // A link that points into the folder is no other place.
    fs::write(&inside, [1; 32]).unwrap();
    fs::set_permissions(&inside, Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&inside, dir.path().join("elsewhere")).unwrap();
    let linked = RootKeySource::File(dir.path().join("elsewhere"));
    assert!(kind(KeyStore::open(&store, linked, realm(), NOW, true).await).contains("must not lie"));
    assert!(KeyStore::open(&store, RootKeySource::FileBeside(inside), realm(), NOW, true).await.is_ok());
}

#[tokio::test]
async fn a_passphrase_opens_what_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let source = |text: &str| RootKeySource::Passphrase(SecretString::from(text));
    drop(KeyStore::open(&dir.path().join("keys"), source("correct horse"), realm(), NOW, true).await.unwrap());
    assert!(KeyStore::open(&dir.path().join("keys"), source("correct horse"), realm(), NOW, false).await.is_ok());
    let wrong = KeyStore::open(&dir.path().join("keys"), source("correct horsf"), realm(), NOW, false).await;
    assert!(matches!(wrong, Err(Error::WrongRootKey)));
}

#[tokio::test]
async fn a_root_key_of_another_kind_is_told_which_kind_the_key_store_was_made_with() {
    let dir = tempfile::tempdir().unwrap();
    let (by_phrase, by_file) = (dir.path().join("by-phrase"), dir.path().join("by-file"));
    let phrase = || RootKeySource::Passphrase(SecretString::from("correct horse"));
    let file = dir.path().join("root-key");
    drop(KeyStore::open(&by_phrase, phrase(), realm(), NOW, true).await.unwrap());
    drop(KeyStore::open(&by_file, RootKeySource::File(file.clone()), realm(), NOW, true).await.unwrap());
    let told = async |store: &Path, source| kind(KeyStore::open(store, source, realm(), NOW, false).await);
    let absent = || RootKeySource::File(dir.path().join("absent"));
    for source in [RootKeySource::File(file.clone()), absent(), RootKeySource::Systemd(file.clone())] {
        let why = told(&by_phrase, source).await;
        assert!(why.starts_with("the key store was noted as made with a passphrase, and a "), "{why}");
    }
    assert!(told(&by_file, phrase()).await.contains("noted as made with a key file, and a passphrase"));
    // The same kind and another key, and the same key handed over in another way.
    assert!(told(&by_phrase, RootKeySource::Passphrase("other".into())).await.contains("is not the one"));
    assert!(told(&by_file, absent()).await.contains("opening the root key's file"));
    assert!(KeyStore::open(&by_file, RootKeySource::Systemd(file.clone()), realm(), NOW, false).await.is_ok());
    // One from before it was noted opens as ever, and says no more than it knows.
    let identity = by_phrase.join("identity");
    let text = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, text.replace(",\"rootKind\":\"passphrase\"", "")).unwrap();
    assert_ne!(fs::read_to_string(&identity).unwrap(), text);
    assert!(KeyStore::open(&by_phrase, phrase(), realm(), NOW, false).await.is_ok());
    assert!(told(&by_phrase, RootKeySource::File(file)).await.contains("is not the one"));
    // With another root key it notes the kind of that one.
    let store = KeyStore::open(&by_phrase, phrase(), realm(), NOW, false).await.unwrap();
    let next = dir.path().join("next");
    super::Rotation::new(&store, RootKeySource::File(next)).run(NOW, |_| ()).await.unwrap();
    drop(store);
    assert!(told(&by_phrase, phrase()).await.contains("made with a key file"));
}

#[tokio::test]
async fn a_folder_open_to_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), true).await.unwrap());
    fs::set_permissions(dir.path().join("keys"), Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(open(dir.path(), false).await, Err(Error::Damaged(_))));
    // A folder with things in it is not ours to close.
    let other = dir.path().join("shared");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter"), "x").unwrap();
    let result = KeyStore::open(&other, RootKeySource::File(dir.path().join("root-key")), realm(), NOW, true).await;
    assert!(matches!(result, Err(Error::Damaged(_))));
}

#[tokio::test]
async fn a_torn_temporary_file_is_no_secret_and_is_swept_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), true).await.unwrap();
    store.create_key(&erasure(1)).await.unwrap();
    // Killed between writing and naming: the name does not exist yet.
    let torn = dir.path().join("keys/erasure/-system/.tmp-00ff");
    fs::write(&torn, b"half a sec").unwrap();
    assert_eq!(store.list(SecretKind::Erasure).await.unwrap(), [erasure(1)]);
    drop(store);
    let store = open(dir.path(), false).await.unwrap();
    assert!(!torn.exists());
    assert_eq!(store.list(SecretKind::Erasure).await.unwrap(), [erasure(1)]);
}

#[tokio::test]
async fn a_secret_under_another_name_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), true).await.unwrap();
    store.create_key(&erasure(1)).await.unwrap();
    store.create_key(&erasure(2)).await.unwrap();
    let file = |name: &SecretName| dir.path().join("keys").join(name.path(RootVersion::FIRST));
    fs::copy(file(&erasure(1)), file(&erasure(2))).unwrap();
    assert!(matches!(store.load_key(&erasure(2)).await, Err(Error::Altered)));
    let mut bytes = fs::read(file(&erasure(1))).unwrap();
    for at in 0..bytes.len() {
        bytes[at] ^= 1;
        fs::write(file(&erasure(1)), &bytes).unwrap();
        assert!(matches!(store.load_key(&erasure(1)).await, Err(Error::Altered)), "byte {at}");
        bytes[at] ^= 1;
    }
}

#[tokio::test]
async fn destroying_can_be_repeated_where_a_crash_cut_it_short() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), true).await.unwrap();
    store.create_key(&erasure(1)).await.unwrap();
    // Killed after overwriting and before removing: nothing opens, and the next pass removes it.
    let file = dir.path().join("keys").join(erasure(1).path(RootVersion::FIRST));
    let length = fs::read(&file).unwrap().len();
    fs::write(&file, vec![0; length]).unwrap();
    assert!(store.load_key(&erasure(1)).await.is_err());
    assert!(store.destroy(&erasure(1)).await.unwrap());
    assert!(!file.exists());
    assert!(!store.destroy(&erasure(1)).await.unwrap());
    assert!(store.load_key(&erasure(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_key_store_opens_as_its_vector_says() {
    let vector = vectors::committed("key-store.json");
    let text = |member: &str| vector[member].as_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    let secret = keys.join(text("secretPath"));
    DirBuilder::new().mode(0o700).recursive(true).create(secret.parent().unwrap()).unwrap();
    for (path, bytes) in [
        (dir.path().join("root-key"), hex::decode(text("rootKey")).unwrap()),
        (keys.join("identity"), text("identity").as_bytes().to_vec()),
        (secret, hex::decode(text("secretFile")).unwrap()),
    ] {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    let store = open(dir.path(), false).await.unwrap();
    assert_eq!(store.installation_id().to_string(), text("installationId"));
    let opened = store.load_key(&erasure(20_781)).await.unwrap().unwrap();
    assert_eq!(hex::encode(&bytes_of(&opened)), text("secret"));
}

#[tokio::test]
async fn a_damaged_secret_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), true).await.unwrap();
    store.create_key(&erasure(1)).await.unwrap();
    let path = dir.path().join("keys").join(erasure(1).path(RootVersion::FIRST));
    let whole = fs::read(&path).unwrap();
    for damaged in vectors::damages(&whole) {
        fs::write(&path, &damaged).unwrap();
        let read = store.load_key(&erasure(1)).await;
        assert!(matches!(read, Err(Error::Altered)), "{}", hex::encode(&damaged));
    }
    fs::write(&path, &whole).unwrap();
    assert!(store.load_key(&erasure(1)).await.unwrap().is_some());
}
