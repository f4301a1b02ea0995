//! The room's tests, on a real database and key store in throw-away folders.

mod integration;
mod recovering;
mod watching;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::integrate::Integrator;
use super::record::record;
use super::{LogReader, Part, Sink};
use crate::access_log::{Action, Entry, NodeIdentity, Outcome, VerifierKey};
use crate::domain::{Actor, Clock, Realm, TenantName, Timestamp};
use crate::keys::{Keys, RootKeySource};
use crate::store::{Committer, DatabaseSettings, Store};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_489_236_007);

/// A running installation; its folder goes with it.
pub(super) struct Vault {
    pub(super) dir: TempDir,
    pub(super) keys: Keys,
    pub(super) store: Store,
    pub(super) committer: Committer,
    pub(super) clock: Clock,
}

impl Vault {
    pub(super) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// Another start on the same folder.
    pub(super) async fn start_in(dir: TempDir) -> Self {
        let clock = Clock::held(NOW);
        let realm: Realm = "eu-1".parse().unwrap();
        let root = RootKeySource::File(dir.path().join("root-key"));
        let keys =
            Keys::create_or_open(&dir.path().join("keys"), root, realm.clone(), clock.clone(), true).await.unwrap();
        let settings = DatabaseSettings::Sqlite { path: database(dir.path()) };
        let store = Store::open(&settings, keys.clone(), clock.clone()).await.unwrap();
        let identity = NodeIdentity::generate(realm, "node-1", "test", NOW).unwrap();
        let committer = Committer::start(store.clone(), keys.clone(), clock.clone(), identity).await.unwrap();
        Self { dir, keys, store, committer, clock }
    }

    pub(super) fn reader(&self) -> LogReader {
        LogReader::new(self.store.clone(), self.keys.clone())
    }

    pub(super) fn integrator(&self) -> Integrator {
        Integrator::new(self.store.clone(), self.keys.clone(), self.store.log_health().clone())
    }

    pub(super) async fn vkey(&self, log: &TenantName) -> VerifierKey {
        self.keys.log_signer(log).await.unwrap().verifier().clone()
    }

    /// Writes so many entries into a tenant's log, in several commits.
    pub(super) async fn write(&self, count: u64) {
        let entry = |at| {
            let actor = Actor { name: Some("Ada".to_owned()), ..Actor::anonymous() };
            let mut entry = Entry::by(tenant(), self.clock.now(), Action::LogRead, Outcome::Allowed, actor);
            entry.count = Some(at);
            entry
        };
        let entries: Vec<Entry> = (0..count).map(entry).collect();
        let few = if count < 8 { 1 } else { 50 };
        for chunk in entries.chunks(few) {
            record(chunk.to_vec(), &self.committer, self.clock.now()).await.unwrap();
        }
    }

    /// Runs SQL behind the vault's back.
    pub(super) async fn meddle(&self, sql: &'static str) {
        crate::store::meddling::meddle(&database(self.dir.path()), sql).await;
    }

    pub(super) async fn bundle(&self, part: Part) -> Files {
        let mut files = Files::default();
        self.reader().export(&tenant(), part, &mut files).await.unwrap();
        files
    }

    /// Ends everything and gives the folder back.
    pub(super) async fn end(self) -> TempDir {
        let _ = self.committer.stop().await;
        self.store.close().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.dir
    }
}

/// A copy of the database's files, while nobody writes.
pub(super) fn copy_of_database(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in database_files(dir) {
        std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

/// Puts the copy back over what is there.
pub(super) fn put_back(copy: &Path, dir: &Path) {
    database_files(dir).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    for file in database_files(copy) {
        std::fs::copy(&file, dir.join(file.file_name().unwrap())).unwrap();
    }
}

fn database_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("siv.db"))).collect()
}

pub(super) fn tenant() -> TenantName {
    "demo".parse().unwrap()
}

fn database(dir: &Path) -> std::path::PathBuf {
    dir.join("siv.db")
}

/// A bundle in memory.
#[derive(Default)]
pub(super) struct Files(pub(super) BTreeMap<String, Vec<u8>>);

impl Sink for Files {
    async fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.0.insert(name.to_owned(), content.to_vec());
        Ok(())
    }
}
