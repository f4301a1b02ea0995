//! Settings a node refuses to start with, each with the one line that says what to change. It mends nothing by itself.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::shape;
use super::{Database, Error, KeyStore, Listener, PostgresAddress, RootKey, Settings};

/// Longer than any balancer takes to see that a node is not ready: more is a slip.
const LONGEST_DRAIN: Duration = Duration::from_secs(300);

/// Refuses unsafe settings.
///
/// # Errors
/// [`Error::Setting`] for the first one found.
pub(super) fn check(settings: &Settings) -> Result<(), Error> {
    let rows = match &settings.database {
        Database::Sqlite(database) => Some(real(database.parent().unwrap_or(database))),
        Database::Postgres { .. } => None,
    };
    apart(rows.as_deref(), settings)?;
    if let KeyStore::Directory(folder) = &settings.key_store {
        closed("key_store", folder)?;
    }
    if let Database::Sqlite(database) = &settings.database {
        closed("database", database)?;
        if let Some(folder) = database.parent() {
            closed("database", folder)?;
        }
    }
    match &settings.root_key {
        RootKey::File(path) | RootKey::PassphraseFile(path) => closed("root_key", path)?,
        RootKey::Systemd(_) | RootKey::Sealed => {}
    }
    listener("public", "public.tls_key", &settings.public)?;
    listener("private", "private.tls_key", &settings.private)?;
    if settings.public.address == settings.private.address && settings.public.address.port() != 0 {
        return Err(Error::setting("private", "give the two listeners different addresses"));
    }
    settings.public_url.as_deref().map_or(Ok(()), public_url)?;
    if settings.node.is_empty() || !settings.node.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return Err(Error::setting("node", format!("set it to {}", shape::allowed("node"))));
    }
    if settings.hsm_modules.iter().flatten().any(|path| !path.is_absolute()) {
        return Err(Error::setting("hsm_modules", "name each module by its absolute path"));
    }
    proxies(&settings.trusted_proxies)?;
    limits(settings)
}

/// The database, the key store and the root key must not travel in one backup.
fn apart(rows: Option<&Path>, settings: &Settings) -> Result<(), Error> {
    let keys = match (&settings.key_store, &settings.database) {
        (KeyStore::Postgres { address, .. }, Database::Postgres { address: rows, .. })
            if address.is_same_database(rows) =>
        {
            return Err(Error::setting(
                "key_store",
                "name another database than `database`: one backup must not hold both",
            ));
        }
        (KeyStore::Postgres { .. }, _) => None,
        (KeyStore::Directory(folder), _) => Some(real(folder)),
    };
    if let (Some(keys), Some(rows)) = (&keys, rows)
        && (keys.starts_with(rows) || rows.starts_with(keys))
    {
        return Err(Error::setting(
            "key_store",
            "put it outside the folder of the database: one backup must not hold both",
        ));
    }
    let (RootKey::File(path) | RootKey::PassphraseFile(path)) = &settings.root_key else { return Ok(()) };
    let root = real(path);
    if [rows, keys.as_deref()].into_iter().flatten().any(|folder| root.starts_with(folder)) {
        return Err(Error::setting("root_key", "put it outside the folders of the database and of the key store"));
    }
    Ok(())
}

/// A file of settings that holds a database's password is for its owner only.
pub(super) fn closed_with_password(path: &Path, settings: &Settings) -> Result<(), Error> {
    if let Database::Postgres { address, .. } = &settings.database
        && address.has_password()
    {
        closed("database", path)?;
    }
    if settings.read_replica.as_ref().is_some_and(PostgresAddress::has_password) {
        closed("read_replica", path)?;
    }
    match &settings.key_store {
        KeyStore::Postgres { address, .. } if address.has_password() => closed("key_store", path),
        _ => Ok(()),
    }
}

/// What exists must be closed to everybody but its owner.
fn closed(key: &'static str, path: &Path) -> Result<(), Error> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
    if metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let mode = if metadata.is_dir() { "0700" } else { "0600" };
    Err(Error::setting(key, format!("others can open {}: run chmod {mode} on it", path.display())))
}

fn listener(key: &'static str, tls_key: &'static str, listener: &Listener) -> Result<(), Error> {
    if listener.behind_proxy && listener.tls_certificate.is_some() {
        return Err(Error::setting(
            key,
            "set behind_proxy or tls_certificate, not both: the first means that a proxy ends TLS",
        ));
    }
    match (&listener.tls_certificate, &listener.tls_key) {
        (Some(certificate), Some(private)) => {
            for path in [certificate, private] {
                if !path.is_file() {
                    return Err(Error::setting(key, format!("{} is not a file", path.display())));
                }
            }
            return closed(tls_key, private);
        }
        (None, None) => {}
        _ => return Err(Error::setting(key, "set both tls_certificate and tls_key, or neither")),
    }
    if listener.address.ip().is_loopback() || listener.behind_proxy {
        return Ok(());
    }
    Err(Error::setting(
        key,
        "set tls_certificate and tls_key, or listen on loopback, or set behind_proxy = true if a proxy ends TLS in front of it",
    ))
}

fn public_url(text: &str) -> Result<(), Error> {
    let no = || Error::setting("public_url", "set it to the exact origin browsers see, like \"https://vault.example\"");
    let url = url::Url::parse(text).map_err(|_| no())?;
    let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let secure = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    if secure && url.origin().ascii_serialization() == text { Ok(()) } else { Err(no()) }
}

/// Whoever may say from where a request comes chooses under which limit it falls and what the log shows.
fn proxies(nets: &[ipnet::IpNet]) -> Result<(), Error> {
    let is_wide = |net: &ipnet::IpNet| net.prefix_len() < if net.addr().is_ipv4() { 8 } else { 16 };
    if nets.iter().any(is_wide) {
        return Err(Error::setting(
            "trusted_proxies",
            "name the proxies' own addresses: a net this wide believes anybody",
        ));
    }
    Ok(())
}

fn limits(settings: &Settings) -> Result<(), Error> {
    let limits = &settings.limits;
    for (name, sound) in [
        ("drain_seconds", settings.drain <= LONGEST_DRAIN),
        ("limits.requests", limits.requests > 0),
        ("limits.request_seconds", (1..=300).contains(&limits.request_seconds)),
        ("limits.requests_per_second", limits.requests_per_second > 0),
        ("limits.captures_per_minute", limits.captures_per_minute > 0),
        ("limits.open_sessions_per_minute", limits.open_sessions_per_minute > 0),
        ("limits.credential_per_second", limits.credential_per_second > 0),
    ] {
        if !sound {
            return Err(Error::setting(name, format!("set it to {}", shape::allowed(name))));
        }
    }
    Ok(())
}

/// The path with its links followed as far as it exists.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !parent.as_os_str().is_empty() => real(parent).join(name),
        _ => Path::new(".").canonicalize().unwrap_or_default().join(path),
    }
}
