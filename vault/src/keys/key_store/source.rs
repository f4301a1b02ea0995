//! Where the root key comes from: a key file, a passphrase, or a systemd credential.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::root_key::RootKey;
use crate::keys::Error;

/// What was being done where there is no root key.
const OPENING_FILE: &str = "opening the root key's file";
const OPENING_CREDENTIAL: &str = "opening the systemd credential";

/// Argon2id for a passphrase: 64 MiB, three passes, one lane (RFC 9106 section 4, second choice, with one lane).
const ARGON2: (u32, u32, u32) = (64 * 1024, 3, 1);

/// What kind of root key a key store was made with: told where another kind does not open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootKind {
    /// A key file.
    File,
    /// A passphrase.
    Passphrase,
    /// A systemd credential.
    Credential,
}

impl fmt::Display for RootKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a key file",
            Self::Passphrase => "a passphrase",
            Self::Credential => "a systemd credential",
        })
    }
}

/// Where the root key comes from.
#[derive(Debug)]
pub enum RootKeySource {
    /// A file of 32 random bytes with mode 0600 outside the key store's folder; made when the key store is.
    File(PathBuf),
    /// The same, but it may lie in the key store's folder: for `siv dev`.
    FileBeside(PathBuf),
    /// A passphrase, stretched by Argon2id under a stored salt.
    Passphrase(SecretString),
    /// A credential of systemd: the file of 32 bytes in its credentials folder.
    Systemd(PathBuf),
}

impl RootKeySource {
    /// Whether an error says that there is no root key where it was looked for.
    #[must_use]
    pub fn is_absent(error: &Error) -> bool {
        matches!(error, Error::Io { doing: OPENING_FILE | OPENING_CREDENTIAL, source } if source.kind() == ErrorKind::NotFound)
    }

    /// Which kind it is.
    pub(super) const fn kind(&self) -> RootKind {
        match self {
            Self::File(_) | Self::FileBeside(_) => RootKind::File,
            Self::Passphrase(_) => RootKind::Passphrase,
            Self::Systemd(_) => RootKind::Credential,
        }
    }

    /// The root key; a missing key file is made if the key store is being made.
    pub(super) fn root_key(&self, key_store: Option<&Path>, salt: &[u8; 16], create: bool) -> Result<RootKey, Error> {
        match self {
            Self::File(path) => {
                key_store.map_or(Ok(()), |folder| outside(path, folder))?;
                from_file(path, create)
            }
            Self::FileBeside(path) => from_file(path, create),
            Self::Passphrase(passphrase) => from_passphrase(passphrase, salt),
            // systemd guards the folder by an access list, which the mode shows as group bits: not judged here.
            Self::Systemd(path) => read_key(File::open(path).map_err(Error::io(OPENING_CREDENTIAL))?),
        }
    }
}

/// Who takes the key store's folder away must not take the root key with it.
fn outside(path: &Path, key_store: &Path) -> Result<(), Error> {
    let doing = "looking where the root key lies";
    let real = |path: &Path| fs::canonicalize(path).map_err(Error::io(doing));
    // What is there is judged by where it really lies; a file yet to be made by its nearest folder that exists.
    let named = Path::new(".").join(path);
    let near = named.ancestors().find(|at| at.exists()).unwrap_or_else(|| Path::new("/"));
    if real(near)?.starts_with(real(key_store)?) {
        return Err(Error::RootKey("its file must not lie in the folder of the key store"));
    }
    Ok(())
}

fn from_file(path: &Path, create: bool) -> Result<RootKey, Error> {
    if create {
        make_file(path)?;
    }
    let file = File::open(path).map_err(Error::io(OPENING_FILE))?;
    let facts = file.metadata().map_err(Error::io("looking at the root key's file"))?;
    if facts.mode() & 0o077 != 0 {
        return Err(Error::RootKey("its file must be readable by its owner only (mode 0600)"));
    }
    let (owner, me) = (facts.uid(), rustix::process::geteuid().as_raw());
    if owner != me && owner != 0 {
        return Err(Error::RootKey("its file belongs to another user"));
    }
    read_key(file)
}

/// Makes the file of 32 random bytes, unless there is one.
fn make_file(path: &Path) -> Result<(), Error> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(parent)
            .map_err(Error::io("making the root key's folder"))?;
    }
    let doing = "making the root key's file";
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = path.file_name().ok_or(Error::RootKey("its path names no file"))?;
    let temporary = folder.join(format!(".{}.new", name.to_string_lossy()));
    // What a making that was killed left, whole or torn.
    match fs::remove_file(&temporary) {
        Err(source) if source.kind() != ErrorKind::NotFound => return Err(Error::Io { doing, source }),
        _ => {}
    }
    if !path.exists() {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(&mut bytes[..]).map_err(Error::Random)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(Error::io(doing))?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(Error::io(doing))?;
        file.write_all(&bytes[..]).and_then(|()| file.sync_all()).map_err(Error::io(doing))?;
        // The name appears by `link`, which never replaces: a torn key never has the name that is read.
        match fs::hard_link(&temporary, path) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => return Err(Error::Io { doing, source }),
            _ => fs::remove_file(&temporary).map_err(Error::io(doing))?,
        }
    }
    // Also when it was there: whoever named it may not have synced yet.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(doing))
}

fn read_key(file: File) -> Result<RootKey, Error> {
    RootKey::try_init_with(|bytes| {
        let mut file = file;
        file.read_exact(bytes).map_err(|_| Error::RootKey("its file must hold exactly 32 bytes"))?;
        match file.read(&mut [0]) {
            Ok(0) => Ok(()),
            _ => Err(Error::RootKey("its file must hold exactly 32 bytes")),
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "input of Argon2id")]
fn from_passphrase(passphrase: &SecretString, salt: &[u8; 16]) -> Result<RootKey, Error> {
    let (memory, passes, lanes) = ARGON2;
    let refused = |_| Error::RootKey("the passphrase cannot be used");
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(refused)?;
    RootKey::try_init_with(|bytes| {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.expose_secret().as_bytes(), salt, bytes)
            .map_err(refused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_key_that_is_not_there_is_told_from_one_that_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let absent = |source: RootKeySource| {
            let error = source.root_key(None, &[0; 16], false).err().unwrap();
            RootKeySource::is_absent(&error)
        };
        assert!(absent(RootKeySource::File(dir.path().join("root-key"))));
        assert!(absent(RootKeySource::Systemd(dir.path().join("root-key"))));
        let closed = dir.path().join("closed");
        fs::write(&closed, [7; 32]).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!absent(RootKeySource::File(closed)), "it is there, and open to others");
    }

    #[test]
    fn a_making_that_was_killed_leaves_no_torn_key() {
        let dir = tempfile::tempdir().unwrap();
        let (path, torn) = (dir.path().join("root-key"), dir.path().join(".root-key.new"));
        for left in [&b""[..], b"torn", &[7; 32]] {
            fs::write(&torn, left).unwrap();
            make_file(&path).unwrap();
            let made = fs::read(&path).unwrap();
            assert!(made.len() == 32 && made != left && !torn.exists());
            make_file(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), made, "it is made once");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            fs::remove_file(&path).unwrap();
        }
    }
}
