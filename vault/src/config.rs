//! The settings of a node: one TOML file, read once at start, unknown keys refused. The only place that reads the environment.
//!
//! It does not open a database, a key store or a socket; `config/refusals.rs` says which settings are too unsafe to start with.

mod environment;
mod refusals;
mod shape;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::domain::Realm;
use crate::store::settings::PostgresAddress;
use crate::telemetry::LogLevel;

pub use environment::Environment;

/// Why a node does not start: one line that says what to change. It never repeats a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("{0}: {1}: give the path of the settings with --config")]
    Unreadable(PathBuf, String),
    /// The file is not TOML of the shape of docs/siv.toml: which setting, and what it may be.
    #[error("{0}: {1}")]
    Shape(PathBuf, String),
    /// A setting has no meaning.
    #[error("{key}: {change}")]
    Setting {
        /// Its name in the file.
        key: &'static str,
        /// What to change.
        change: String,
    },
}

impl Error {
    fn setting(key: &'static str, change: impl Into<String>) -> Self {
        Self::Setting { key, change: change.into() }
    }
}

/// Where rows live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// One file, one node.
    Sqlite(PathBuf),
    /// A PostgreSQL, any number of nodes.
    Postgres {
        /// Where it is, and as whom.
        address: PostgresAddress,
        /// Whether migrations take an advisory lock.
        migration_lock: bool,
    },
}

/// Where what must not lie in the database's backups is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStore {
    /// A folder of one node.
    Directory(PathBuf),
    /// A second PostgreSQL database, for several nodes.
    Postgres {
        /// Where it is, and as whom.
        address: PostgresAddress,
        /// Whether migrations take an advisory lock.
        migration_lock: bool,
    },
}

/// Where the root key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootKey {
    /// A file of 32 bytes that only its owner can read.
    File(PathBuf),
    /// A credential of that name, handed over by systemd.
    Systemd(String),
    /// A file with a passphrase, stretched by Argon2id.
    PassphraseFile(PathBuf),
    /// A passphrase that a person brings: a node starts without it, sealed (`siv unseal`).
    Sealed,
}

/// One of the two listeners.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate chain (PEM).
    pub tls_certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub tls_key: Option<PathBuf>,
    /// Says that a proxy in front ends TLS and that the way to it is private.
    #[serde(default)]
    pub behind_proxy: bool,
}

/// How much one node takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections on each listener; 0 is half of the files the process may open.
    pub connections: usize,
    /// Requests under way on each listener; more are answered 503 at once.
    pub requests: usize,
    /// How long a public request may take; a private one may take twice as long.
    pub request_seconds: u64,
    /// Requests a second from one address on the public listener; more are answered 429.
    pub requests_per_second: u32,
    /// Captures a minute from one address.
    pub captures_per_minute: u32,
    /// Sessions a minute that one address opens by itself, in apps of session mode `open`.
    pub open_sessions_per_minute: u32,
    /// Requests a second with one credential on the private listener.
    pub credential_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 0,
            requests: 1024,
            request_seconds: 30,
            requests_per_second: 100,
            captures_per_minute: 300,
            open_sessions_per_minute: 60,
            credential_per_second: 2000,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    database: String,
    migration_lock: Option<bool>,
    read_replica: Option<String>,
    key_store: String,
    root_key: String,
    kek_rotation_days: Option<NonZeroU16>,
    realm: Realm,
    #[serde(default = "node_name")]
    node: String,
    public_url: String,
    #[serde(default)]
    trusted_proxies: Vec<IpNet>,
    hsm_modules: Option<Vec<PathBuf>>,
    #[serde(default = "hsm_workers")]
    hsm_workers: NonZeroU16,
    #[serde(default)]
    hsm_lost_after_seconds: LostAfter,
    #[serde(default)]
    drain_seconds: u16,
    #[serde(default)]
    plain_capture: bool,
    #[serde(default)]
    log_level: LogLevel,
    public: Listener,
    private: Listener,
    #[serde(default)]
    limits: Limits,
}

/// The settings of a node, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where rows live.
    pub database: Database,
    /// A standby of it that lists of the access log are read from.
    pub read_replica: Option<PostgresAddress>,
    /// What must not lie in the database's backups.
    pub key_store: KeyStore,
    /// What the key store is sealed under.
    pub root_key: RootKey,
    /// After so many days a tenant's active key of the built-in KMS gets a successor by itself.
    pub kek_rotation_days: Option<NonZeroU16>,
    /// The region in every AAD.
    pub realm: Realm,
    /// The node's name, as the access log shows it.
    pub node: String,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The PKCS#11 modules that may be loaded; any trustworthy file where it is left out.
    pub hsm_modules: Option<Vec<PathBuf>>,
    /// Workers with customers' modules that run at once.
    pub hsm_workers: NonZeroU16,
    /// So long a token that custodians call lost is waited for before it is silent.
    pub hsm_lost_after: Duration,
    /// So long it serves on after it was asked to end, and says that it is not ready.
    pub drain: Duration,
    /// The vault's origin as browsers see it; `None` takes the public listener's own address (`siv dev`).
    pub public_url: Option<String>,
    /// Whether captures may come unsealed inside TLS.
    pub plain_capture: bool,
    /// How much is told.
    pub log_level: LogLevel,
    /// Browsers' listener.
    pub public: Listener,
    /// Flows', administrators' and auditors' listener.
    pub private: Listener,
    /// How much one node takes.
    pub limits: Limits,
    /// `siv dev`: plain http to loopback destinations, no limit from loopback, root key beside the database.
    pub development: bool,
}

impl Settings {
    /// Reads the file and refuses what is unsafe. Relative paths start at the file's folder.
    ///
    /// # Errors
    /// [`Error`], one line that says what to change.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::Unreadable(path.to_owned(), shape::unreadable(error.kind())))?;
        let document: Document =
            toml::from_str(&text).map_err(|error| Error::Shape(path.to_owned(), shape::fault(&text, &error)))?;
        let settings = Self::from_document(document, folder_of(path))?;
        refusals::check(&settings)?;
        refusals::closed_with_password(path, &settings)?;
        Ok(settings)
    }

    /// The same settings with another root key, spelled as in the file at `path`; an unsafe one is refused.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn with_root_key(&self, text: &str, path: &Path) -> Result<Self, Error> {
        let settings = Self { root_key: root_key(text, folder_of(path))?, ..self.clone() };
        refusals::check(&settings).map(|()| settings)
    }

    /// The settings of `siv dev`: everything in one folder, on loopback.
    #[must_use]
    pub fn development(folder: &Path, public: SocketAddr, private: SocketAddr, realm: Realm) -> Self {
        let listener = |address| Listener { address, tls_certificate: None, tls_key: None, behind_proxy: false };
        Self {
            database: Database::Sqlite(folder.join("siv.db")),
            read_replica: None,
            key_store: KeyStore::Directory(folder.join("key-store")),
            root_key: RootKey::File(folder.join("root.key")),
            kek_rotation_days: None,
            realm,
            node: node_name(),
            trusted_proxies: Vec::new(),
            hsm_modules: None,
            hsm_workers: hsm_workers(),
            hsm_lost_after: LostAfter::default().into(),
            drain: Duration::ZERO,
            public_url: None,
            plain_capture: true,
            log_level: LogLevel::default(),
            public: listener(public),
            private: listener(private),
            limits: Limits::default(),
            development: true,
        }
    }

    fn from_document(document: Document, folder: &Path) -> Result<Self, Error> {
        let absolute = |listener: Listener| Listener {
            tls_certificate: listener.tls_certificate.map(|path| folder.join(path)),
            tls_key: listener.tls_key.map(|path| folder.join(path)),
            ..listener
        };
        if document.migration_lock.is_some() && !is_postgres(&document.database) && !is_postgres(&document.key_store) {
            return Err(Error::setting("migration_lock", "take it away: it is for PostgreSQL alone"));
        }
        Ok(Self {
            database: database(&document.database, document.migration_lock, folder)?,
            read_replica: document.read_replica.as_deref().map(|text| replica(text, &document.database)).transpose()?,
            key_store: key_store(&document.key_store, document.migration_lock, folder)?,
            root_key: root_key(&document.root_key, folder)?,
            kek_rotation_days: document.kek_rotation_days,
            realm: document.realm,
            node: document.node,
            trusted_proxies: document.trusted_proxies,
            hsm_modules: document.hsm_modules,
            hsm_workers: document.hsm_workers,
            hsm_lost_after: document.hsm_lost_after_seconds.into(),
            drain: Duration::from_secs(document.drain_seconds.into()),
            public_url: Some(document.public_url),
            plain_capture: document.plain_capture,
            log_level: document.log_level,
            public: absolute(document.public),
            private: absolute(document.private),
            limits: document.limits,
            development: false,
        })
    }
}

/// Where relative paths of a file of settings start.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Seconds: more than one login takes as a rule, and less than a request may.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u16")]
struct LostAfter(u16);

impl Default for LostAfter {
    fn default() -> Self {
        Self(25)
    }
}

impl TryFrom<u16> for LostAfter {
    type Error = &'static str;

    fn try_from(seconds: u16) -> Result<Self, Self::Error> {
        if (5..=45).contains(&seconds) { Ok(Self(seconds)) } else { Err("it is a number of seconds from 5 to 45") }
    }
}

impl From<LostAfter> for Duration {
    fn from(LostAfter(seconds): LostAfter) -> Self {
        Self::from_secs(seconds.into())
    }
}

/// Of a few megabytes each, and of more where a token holds many keys.
fn hsm_workers() -> NonZeroU16 {
    NonZeroU16::new(128).unwrap_or(NonZeroU16::MIN)
}

fn node_name() -> String {
    "node-1".to_owned()
}

fn database(text: &str, migration_lock: Option<bool>, folder: &Path) -> Result<Database, Error> {
    let no = |change: &str| Err(Error::setting("database", change));
    if is_postgres(text) {
        let address = PostgresAddress::parse(text).map_err(|change| Error::setting("database", change))?;
        return Ok(Database::Postgres { address, migration_lock: migration_lock.unwrap_or(true) });
    }
    let Some(path) = text.strip_prefix("sqlite:") else {
        return no("set it to \"sqlite:/path/to/siv.db\" or \"postgres://user@host/database?sslmode=verify-full\"");
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.contains('?') {
        return no("take away what stands after \"?\"; siv always runs SQLite with WAL and synchronous=FULL");
    }
    if path.is_empty() || path.contains(":memory:") {
        return no("name a file; a database in memory loses what was acknowledged");
    }
    Ok(Database::Sqlite(folder.join(path)))
}

fn replica(text: &str, database: &str) -> Result<PostgresAddress, Error> {
    if !is_postgres(database) {
        return Err(Error::setting("read_replica", "take it away: it is for PostgreSQL alone"));
    }
    PostgresAddress::parse(text).map_err(|change| Error::setting("read_replica", change))
}

fn key_store(text: &str, migration_lock: Option<bool>, folder: &Path) -> Result<KeyStore, Error> {
    if is_postgres(text) {
        let address = PostgresAddress::parse(text).map_err(|change| Error::setting("key_store", change))?;
        return Ok(KeyStore::Postgres { address, migration_lock: migration_lock.unwrap_or(true) });
    }
    match text.strip_prefix("dir:") {
        Some(path) if !path.is_empty() => Ok(KeyStore::Directory(folder.join(path))),
        _ => Err(Error::setting(
            "key_store",
            "set it to \"dir:/path/to/key-store\" or, for several nodes, to \"postgres://user@host/database?sslmode=verify-full\"",
        )),
    }
}

fn is_postgres(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

fn root_key(text: &str, folder: &Path) -> Result<RootKey, Error> {
    if text == "sealed" {
        return Ok(RootKey::Sealed);
    }
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(RootKey::File(folder.join(path))),
        Some(("passphrase-file", path)) if !path.is_empty() => Ok(RootKey::PassphraseFile(folder.join(path))),
        Some(("systemd", name)) if !name.is_empty() && !name.contains(['/', '.']) => {
            Ok(RootKey::Systemd(name.to_owned()))
        }
        _ => Err(Error::setting(
            "root_key",
            "set it to \"file:/path\", \"passphrase-file:/path\", \"systemd:credential-name\" or \"sealed\", never to the key itself",
        )),
    }
}

#[cfg(test)]
mod tests;
