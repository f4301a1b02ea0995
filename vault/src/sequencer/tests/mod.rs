//! The room's tests, on a real database and key store in throw-away folders.

mod closing;
mod forging;
mod integration;
mod recovering;
mod resting;
mod skipping;
mod watching;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::heads::HeadWatch;
use super::integrate::Integrator;
use super::record::record;
use super::{LogReader, Part, Sink};
use crate::access_log::{Action, Distrust, Entry, Leaf, NodeIdentity, Outcome, ParsedEntry, VerifierKey};
use crate::domain::{Actor, BootId, Clock, Realm, TenantName, Timestamp};
use crate::keys::{Keys, RootKeySource};
use crate::store::{Committer, DatabaseSettings, EntryFilter, FirstWords, Store};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_489_236_007);

/// A running installation; its folder goes with it.
pub(super) struct Vault {
    pub(super) dir: TempDir,
    pub(super) keys: Keys,
    pub(super) store: Store,
    pub(super) committer: Committer,
    pub(super) clock: Clock,
}

/// An installation that nobody writes yet.
pub(super) struct Opened {
    dir: TempDir,
    pub(super) keys: Keys,
    pub(super) store: Store,
    clock: Clock,
}

impl Opened {
    pub(super) async fn open(dir: TempDir, now: Timestamp) -> Self {
        let clock = Clock::held(now);
        let root = RootKeySource::File(dir.path().join("root-key"));
        let realm: Realm = "eu-1".parse().unwrap();
        let keys = Keys::create_or_open(&dir.path().join("keys"), root, realm, clock.clone(), true).await.unwrap();
        let settings = DatabaseSettings::Sqlite { path: database(dir.path()) };
        let store = Store::open(&settings, keys.clone(), clock.clone()).await.unwrap();
        Self { dir, keys, store, clock }
    }

    pub(super) fn identity(&self) -> NodeIdentity {
        NodeIdentity::generate(self.keys.realm().clone(), "node-1", "test", self.clock.now()).unwrap()
    }

    pub(super) async fn start_after(self, words: FirstWords, identity: NodeIdentity) -> Vault {
        let Self { dir, keys, store, clock } = self;
        let (of, with, by) = (store.clone(), keys.clone(), clock.clone());
        let committer = Committer::start_after(words, of, with, by, identity).await.unwrap();
        Vault { dir, keys, store, committer, clock }
    }

    pub(super) async fn end(self) -> TempDir {
        self.store.close().await;
        self.dir
    }
}

impl Vault {
    pub(super) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// Another start on the same folder.
    pub(super) async fn start_in(dir: TempDir) -> Self {
        Self::start_at(NOW, dir).await
    }

    /// The same, later.
    pub(super) async fn start_at(now: Timestamp, dir: TempDir) -> Self {
        let opened = Opened::open(dir, now).await;
        let identity = opened.identity();
        opened.start_after(FirstWords::new(), identity).await
    }

    pub(super) fn reader(&self) -> LogReader {
        LogReader::new(self.store.clone(), self.keys.clone())
    }

    pub(super) fn integrator(&self) -> Integrator {
        Integrator::new(self.store.clone(), self.keys.clone(), self.store.log_health().clone())
    }

    /// Integrates all that waits and gives the lanes that were refused.
    pub(super) async fn integrate(&self) -> Vec<(BootId, u32)> {
        let mut integrator = self.integrator();
        integrator.run(Duration::MAX).await.unwrap();
        integrator.refused().iter().copied().collect()
    }

    /// What a watch over the heads says now.
    pub(super) async fn look(&self) -> Option<Distrust> {
        HeadWatch::new(self.store.clone(), self.keys.clone()).look(self.store.log_health()).await.unwrap()
    }

    pub(super) fn alarms(&self) -> String {
        self.store.log_health().self_check().alarms.join("\n")
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
    pub(super) async fn meddle(&self, sql: impl Into<String>) {
        crate::store::meddling::meddle(&database(self.dir.path()), sql.into().leak()).await;
    }

    pub(super) async fn bundle(&self, part: Part) -> Files {
        let mut files = Files::default();
        self.reader().export(&tenant(), part, &mut files).await.unwrap();
        files
    }

    /// Ends without a word, as a power cut does, and gives the folder back.
    pub(super) async fn crash(self) -> TempDir {
        self.store.close().await;
        drop(self.committer);
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.dir
    }

    /// The entries of an action in a log, waiting ones too.
    pub(super) async fn entries_of(&self, action: &str, log: &TenantName) -> Vec<ParsedEntry> {
        let filter = EntryFilter { action: Some(action.to_owned()), ..EntryFilter::default() };
        let page = self.store.entries(log, &filter, None, 1000).await.unwrap();
        page.entries.iter().map(|entry| Leaf::parse(&entry.leaf).unwrap()).collect()
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
pub(super) struct Files(pub(super) BTreeMap<String, Vec<u8>>, String);

impl Sink for Files {
    async fn begin(&mut self, name: &str, _: u64) -> io::Result<()> {
        self.1 = name.to_owned();
        self.0.insert(name.to_owned(), Vec::new());
        Ok(())
    }

    async fn more(&mut self, content: &[u8]) -> io::Result<()> {
        self.0.get_mut(&self.1).unwrap().extend_from_slice(content);
        Ok(())
    }

    async fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}
