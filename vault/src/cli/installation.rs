//! Opening what an installation keeps: its key store and its database.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Database, Environment, KeyStore, RootKey, Settings};
use crate::domain::{Clock, chain};
use crate::keys::{self, Keys, Medium, RootKeySource, RootKind, SealedKeys};
use crate::store::{self, DatabaseSettings, KeyStoreDatabase, Store};

use super::failure::Failure;
use super::hsm;

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
    pub(super) async fn open(
        settings: &Settings,
        environment: &Environment,
        root: RootKeySource,
        making: Making,
    ) -> Result<Self, Failure> {
        // Before a key store is made: one beside a database that has rows would open none of them, and lie in the place
        // where the backup has to go.
        if making == Making::Yes && !has_key_store(settings).await? {
            // Of a database that does not answer nobody knows.
            let is_made = Store::is_made(&place_of(settings)).await;
            if is_made.map_err(|error| not_reached(settings, &error))? {
                return Err(lost(settings));
            }
        }
        // Likewise: a file must be there, or be wanted.
        database(settings, making)?;
        let keys = keys(settings, root, &Clock::System, making).await?;
        Self::with(settings, environment, keys, making).await
    }

    /// The same with keys that are open.
    pub(super) async fn with(
        settings: &Settings,
        environment: &Environment,
        keys: Keys,
        making: Making,
    ) -> Result<Self, Failure> {
        let (database, clock) = (database(settings, making)?, Clock::System);
        expect_filled(settings, &keys, making).await?;
        keys.use_hsms(hsm::setup(settings, environment));
        // What is made or mended rests on nothing that may be behind.
        let standby = settings.read_replica.as_ref().filter(|_| making == Making::No);
        let opened = Store::open_beside(&database, standby, keys.clone(), clock.clone()).await;
        let store = opened.map_err(|error| not_reached(settings, &error))?;
        Ok(Self { keys, store, clock })
    }
}

/// A database that does not open.
fn not_reached(settings: &Settings, error: &store::Error) -> Failure {
    let what = match &settings.database {
        _ if matches!(error, store::Error::WrongInstallation) => {
            "the database belongs to another installation than the key store".to_owned()
        }
        Database::Sqlite(path) => format!("the database at {} cannot be opened", path.display()),
        Database::Postgres { .. } => "the database cannot be opened".to_owned(),
    };
    let failure = Failure::new(what).because(chain(error));
    match (error, &settings.database) {
        (store::Error::WrongInstallation, _) => {
            failure.so("mend `database` or `key_store` in the settings, or put back the two that belong together")
        }
        (store::Error::Database(_), Database::Postgres { .. }) => failure
            .so("check `database` in the settings: that the server answers there and takes this user and password"),
        (store::Error::File(_) | store::Error::Database(_), _) => {
            failure.so("check that this user may read and write the file and its folder")
        }
        _ => failure,
    }
}

/// Opens the key store, or makes it where that is wanted.
pub(super) async fn keys(
    settings: &Settings,
    root: RootKeySource,
    clock: &Clock,
    making: Making,
) -> Result<Keys, Failure> {
    let (realm, create) = (settings.realm.clone(), making == Making::Yes);
    let opened = match &settings.key_store {
        KeyStore::Directory(folder) => Keys::create_or_open(folder, root, realm, clock.clone(), create).await,
        KeyStore::Postgres { .. } => match medium(settings, create).await? {
            Some(medium) => Keys::create_or_open_on(medium, root, realm, clock.clone(), create).await,
            None => Err(keys::Error::NoKeyStore),
        },
    };
    match opened {
        Ok(keys) => Ok(keys),
        Err(error) => Err(refused_or_lost(settings, &error).await),
    }
}

/// Finds the installation of a node whose root key is not here. What is missing is said now, and not to who brings it.
pub(super) async fn sealed_keys(settings: &Settings) -> Result<SealedKeys, Failure> {
    let place = database(settings, Making::No)?;
    match found(settings).await? {
        // One that does not answer now may do so when the passphrase is brought.
        Ok(_) if matches!(Store::is_made(&place).await, Ok(false)) => Err(not_filled(settings, true)),
        Ok(keys) => Ok(keys),
        Err(error) => Err(refused_or_lost(settings, &error).await),
    }
}

/// Whether there is a key store. One that does not open is one.
pub(super) async fn has_key_store(settings: &Settings) -> Result<bool, Failure> {
    Ok(!matches!(found(settings).await?, Err(keys::Error::NoKeyStore)))
}

async fn found(settings: &Settings) -> Result<Result<SealedKeys, keys::Error>, Failure> {
    let realm = settings.realm.clone();
    Ok(match &settings.key_store {
        KeyStore::Directory(folder) => SealedKeys::find(folder, realm, Clock::System).await,
        KeyStore::Postgres { .. } => match medium(settings, false).await? {
            Some(medium) => SealedKeys::find_on(medium, realm, Clock::System).await,
            None => Err(keys::Error::NoKeyStore),
        },
    })
}

async fn refused_or_lost(settings: &Settings, error: &keys::Error) -> Failure {
    // Only words depend on it here: of a database that does not answer now, less is said.
    let is_made = async || Store::is_made(&place_of(settings)).await.unwrap_or(false);
    if matches!(error, keys::Error::NoKeyStore) && is_made().await { lost(settings) } else { refused(settings, error) }
}

/// A database without its key store.
fn lost(settings: &Settings) -> Failure {
    Failure::new("the database is there, and its key store is not")
        .because(format!("{}: nothing in the database opens without it", not_opened(settings)))
        .so("put back the newest backup of the key store (docs/operations.md, Restore), or mend `key_store` in the settings")
}

/// The key store's own database; nothing if there is no key store in it.
async fn medium(settings: &Settings, create: bool) -> Result<Option<Arc<dyn Medium>>, Failure> {
    let KeyStore::Postgres { address, migration_lock } = &settings.key_store else { return Ok(None) };
    let medium = KeyStoreDatabase::open(address, *migration_lock, create).await;
    let medium = medium.map_err(|error| {
        let failure = not_opened(settings).because(chain(&error));
        if matches!(error, store::Error::Setting(_)) {
            // The server answered, and what it said names what to change.
            return failure;
        }
        failure.so("check `key_store` in the settings: that the server answers there and takes this user and password")
    })?;
    Ok(medium.map(|medium| -> Arc<dyn Medium> { Arc::new(medium) }))
}

fn not_opened(settings: &Settings) -> Failure {
    Failure::new(match &settings.key_store {
        KeyStore::Directory(folder) => format!("the key store at {} cannot be opened", folder.display()),
        KeyStore::Postgres { .. } => "the key store's database cannot be opened".to_owned(),
    })
}

/// Why the key store was not opened, and what to do about it.
fn refused(settings: &Settings, error: &keys::Error) -> Failure {
    if RootKeySource::is_absent(error)
        && let Some(failure) = no_root_key(&settings.root_key)
    {
        return failure;
    }
    let (what, why) = (not_opened(settings), chain(error));
    let failure = match headline(error) {
        Some(headline) => Failure::new(headline).because(format!("{what}: {why}")),
        None => what.because(why),
    };
    match advice(error) {
        Some(next) => failure.so(next),
        None => failure,
    }
}

/// A key store whose root key is not where the settings say: on a second node it was not copied yet.
fn no_root_key(named: &RootKey) -> Option<Failure> {
    let (what, next) = match named {
        RootKey::File(path) => (
            format!("there is no root key at {}", path.display()),
            "copy it from the first node, or from where a copy is kept (mode 0600), or mend `root_key` in the settings"
                .to_owned(),
        ),
        RootKey::Systemd(name) => (
            format!("systemd handed over no root key named {name}"),
            format!("add LoadCredentialEncrypted={name}:… to the unit, or mend `root_key` in the settings"),
        ),
        RootKey::PassphraseFile(_) | RootKey::Sealed => return None,
    };
    Some(Failure::new(what).because("the key store was made with one, and opens with no other").so(next))
}

/// What is wrong, where that is not the key store itself.
const fn headline(error: &keys::Error) -> Option<&'static str> {
    match error {
        keys::Error::NoKeyStore => Some("there is no key store yet"),
        keys::Error::InUse => Some("another process uses the key store"),
        keys::Error::OtherRealm => Some("`realm` in the settings is not that of the key store"),
        keys::Error::RootKey(_) => Some("the root key cannot be had"),
        keys::Error::WrongRootKey | keys::Error::OtherRootKind { .. } => {
            Some("the root key is not the one of this key store")
        }
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
        keys::Error::WrongRootKey => Some(
            "hand over the root key that it was made with (after `siv keys rotate-root` the new one: set root_key), or put \
                 back the key store that belongs to it",
        ),
        keys::Error::OtherRootKind { made_with, .. } => Some(match made_with {
            RootKind::File => "set root_key = \"file:…\" in the settings, and name the key file it was made with",
            RootKind::Passphrase => {
                "set root_key = \"sealed\" or \"passphrase-file:…\" in the settings, and bring the passphrase it was made with"
            }
            RootKind::Credential => {
                "set root_key = \"systemd:…\" in the settings, and start siv by the unit that hands the credential over"
            }
        }),
        _ => None,
    }
}

/// Where the database is. A file must be there, or be wanted.
fn database(settings: &Settings, making: Making) -> Result<DatabaseSettings, Failure> {
    if let Database::Sqlite(path) = &settings.database {
        if making == Making::Yes {
            make_folder(path.parent().unwrap_or_else(|| Path::new(".")))?;
        } else if !path.is_file() {
            return Err(not_filled(settings, false));
        }
    }
    Ok(place_of(settings))
}

/// Refuses a database without siv's tables where they have to be: one that was dropped and made anew waits for its backup,
/// and one of another name is another. Filled now, it would be in the backup's way and contradict what was signed.
async fn expect_filled(settings: &Settings, keys: &Keys, making: Making) -> Result<(), Failure> {
    // In this order: what is signed stood in the database before. A making that was killed earlier than that goes on.
    // Heads that cannot be read are those of something.
    let has_signed = !keys.read_heads().await.is_ok_and(|heads| heads.is_empty());
    if making == Making::Yes && !has_signed {
        return Ok(());
    }
    let is_made = Store::is_made(&place_of(settings)).await;
    if is_made.map_err(|error| not_reached(settings, &error))? { Ok(()) } else { Err(not_filled(settings, has_signed)) }
}

/// A database that is missing, or in which nothing is, and whether it had to have something by what the key store knows.
fn not_filled(settings: &Settings, had: bool) -> Failure {
    let failure = Failure::new(match &settings.database {
        Database::Sqlite(path) => format!("there is no database at {}", path.display()),
        Database::Postgres { .. } => "the database that `database` names holds no installation".to_owned(),
    });
    if had {
        failure
            .because("the key store has an installation whose database this is not: it has no tables of siv. Nothing was written to it")
            .so("put back the backup of the database and take it on with `siv recover` (docs/operations.md, Restore), or mend `database` in the settings")
    } else {
        failure.so("make one with `siv init`, or mend `database` in the settings")
    }
}

fn place_of(settings: &Settings) -> DatabaseSettings {
    match &settings.database {
        Database::Sqlite(path) => DatabaseSettings::Sqlite { path: path.clone() },
        Database::Postgres { address, migration_lock } => {
            DatabaseSettings::Postgres { address: address.clone(), migration_lock: *migration_lock }
        }
    }
}

/// Makes a folder that only its owner can open, with its parents.
pub(super) fn make_folder(folder: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Failure::new(format!("{} cannot be made", folder.display())).because(error))
}
