//! Opening what an installation keeps: its key store and its database.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::config::{Database, Environment, KeyStore, RootKey, Settings};
use crate::domain::Clock;
use crate::keys::{self, Keys, RootKeySource};
use crate::store::{self, DatabaseSettings, KeyStoreDatabase, Store};

use super::failure::Failure;
use super::hsm;

/// Characters of a passphrase at least: what guards every key must not be found by trying.
const SHORTEST_PASSPHRASE: usize = 12;

/// Whether what is missing is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Making {
    /// `siv init`, `siv dev`.
    Yes,
    /// `siv serve`: an empty folder is a mistake, not a new installation.
    No,
}

/// An opened installation.
#[derive(Clone)]
pub(super) struct Installation {
    pub(super) keys: Keys,
    pub(super) store: Store,
    pub(super) clock: Clock,
}

impl Installation {
    /// Opens the key store first, then the database: rows are authenticated by keys.
    pub(super) async fn open(settings: &Settings, environment: &Environment, making: Making) -> Result<Self, Failure> {
        let database = database(settings, making)?;
        let clock = Clock::System;
        let keys = keys(settings, environment, &clock, making).await?;
        keys.use_hsms(hsm::setup(settings, environment)?);
        // What is made or mended rests on nothing that may be behind.
        let standby = settings.read_replica.as_ref().filter(|_| making == Making::No);
        let store = Store::open_beside(&database, standby, keys.clone(), clock.clone()).await.map_err(|error| {
            let what = match &settings.database {
                _ if matches!(error, store::Error::WrongInstallation) => {
                    "the database belongs to another installation than the key store".to_owned()
                }
                Database::Sqlite(path) => format!("the database at {} cannot be opened", path.display()),
                Database::Postgres { .. } => "the database cannot be opened".to_owned(),
            };
            Failure::new(what).because(chain(&error))
        })?;
        Ok(Self { keys, store, clock })
    }
}

/// Opens the key store, or makes it where that is wanted.
async fn keys(settings: &Settings, environment: &Environment, clock: &Clock, making: Making) -> Result<Keys, Failure> {
    let (root, realm, create) = (root_key(settings, environment)?, settings.realm.clone(), making == Making::Yes);
    let (what, opened) = match &settings.key_store {
        KeyStore::Directory(folder) => {
            let what = format!("the key store at {} cannot be opened", folder.display());
            (what, Keys::create_or_open(folder, root, realm, clock.clone(), create).await)
        }
        KeyStore::Postgres { address, migration_lock } => {
            let what = "the key store's database cannot be opened".to_owned();
            let medium = KeyStoreDatabase::open(address, *migration_lock, create).await;
            let medium = medium.map_err(|error| Failure::new(what.clone()).because(chain(&error)))?;
            let opened = match medium {
                Some(medium) => Keys::create_or_open_on(Arc::new(medium), root, realm, clock.clone(), create).await,
                None => Err(keys::Error::NoKeyStore),
            };
            (what, opened)
        }
    };
    opened.map_err(|error| {
        let failure = Failure::new(headline(&error).unwrap_or(&what)).because(format!("{what}: {}", chain(&error)));
        match advice(&error) {
            Some(next) => failure.so(next),
            None => failure,
        }
    })
}

/// What is wrong, where that is not the key store itself.
const fn headline(error: &keys::Error) -> Option<&'static str> {
    match error {
        keys::Error::NoKeyStore => Some("there is no key store yet"),
        keys::Error::InUse => Some("another process uses the key store"),
        keys::Error::OtherRealm => Some("`realm` in the settings is not that of the key store"),
        keys::Error::RootKey(_) => Some("the root key cannot be had"),
        keys::Error::WrongRootKey => Some("the root key is not the one of this key store"),
        keys::Error::Unavailable(_) => Some("the key store's database does not answer"),
        _ => None,
    }
}

/// What to do about it.
const fn advice(error: &keys::Error) -> Option<&'static str> {
    match error {
        keys::Error::NoKeyStore => Some("make one with `siv init`, or mend `key_store` in the settings"),
        keys::Error::InUse => Some("end that process; several nodes need a key store in a database"),
        keys::Error::OtherRealm => Some("give the settings the realm the installation was made with"),
        keys::Error::RootKey(_) => Some("mend `root_key` in the settings, or the mode and place of its file"),
        keys::Error::WrongRootKey => {
            Some("hand over the root key that it was made with, or put back the key store that belongs to it")
        }
        _ => None,
    }
}

/// Where the database is. A file must be there, or be wanted.
fn database(settings: &Settings, making: Making) -> Result<DatabaseSettings, Failure> {
    Ok(match &settings.database {
        Database::Sqlite(path) => {
            if making == Making::Yes {
                make_folder(path.parent().unwrap_or_else(|| Path::new(".")))?;
            } else if !path.is_file() {
                let failure = Failure::new(format!("there is no database at {}", path.display()));
                return Err(failure.so("make one with `siv init`, or mend `database` in the settings"));
            }
            DatabaseSettings::Sqlite { path: path.clone() }
        }
        Database::Postgres { address, migration_lock } => {
            DatabaseSettings::Postgres { address: address.clone(), migration_lock: *migration_lock }
        }
    })
}

fn root_key(settings: &Settings, environment: &Environment) -> Result<RootKeySource, Failure> {
    Ok(match &settings.root_key {
        RootKey::File(path) if settings.development => RootKeySource::FileBeside(path.clone()),
        RootKey::File(path) => RootKeySource::File(path.clone()),
        RootKey::Systemd(name) => {
            let folder = environment.credentials_directory.as_ref().ok_or_else(|| {
                Failure::new("root_key names a systemd credential, and systemd handed none over")
                    .so(format!("add LoadCredentialEncrypted={name}:… to the unit"))
            })?;
            RootKeySource::Systemd(folder.join(name))
        }
        RootKey::PassphraseFile(path) => {
            let text = std::fs::read_to_string(path)
                .map(Zeroizing::new)
                .map_err(|error| Failure::new("the passphrase of root_key cannot be read").because(error))?;
            let text = text.trim_end_matches(['\r', '\n']);
            if text.chars().count() < SHORTEST_PASSPHRASE {
                let why = format!(
                    "root_key: the passphrase has fewer than {SHORTEST_PASSPHRASE} characters: choose a longer one"
                );
                return Err(Failure::new(why));
            }
            RootKeySource::Passphrase(SecretString::from(text))
        }
    })
}

/// Makes a folder that only its owner can open, with its parents.
pub(super) fn make_folder(folder: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Failure::new(format!("{} cannot be made", folder.display())).because(error))
}

/// An error with its causes on one line. Only for errors of our own rooms: they hold no value.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
