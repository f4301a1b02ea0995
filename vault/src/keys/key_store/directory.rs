//! A key store in a folder of one node: 0700, files 0600, create-if-absent, everything synced before it is believed.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::secret_name::{RootVersion, SecretKind, SecretName};
use crate::domain::text::hex;
use crate::keys::Error;

const LOCK: &str = "lock";
/// Begins the name of a file that is being written; one that a crash left is no secret and is swept at start.
const TEMPORARY: &str = ".tmp-";
/// What was being done where a folder's sync failed.
const SYNCING: &str = "syncing a folder";

/// The folder, locked for this process.
pub(super) struct Directory {
    dir: PathBuf,
    _lock: File,
    /// Held alone by who writes, together by who reads: a name that is not yet synced is read by nobody.
    doubt: RwLock<Doubt>,
}

/// What a sync that failed leaves. Nothing is written any more: the next one may succeed though a name before it is lost
/// (PostgreSQL's lesson of 2018), so only a restart, which syncs all, may go on.
#[derive(Default)]
struct Doubt {
    is_any: bool,
    /// A name that may be lost: what is sealed under its key would be, too.
    name: Option<PathBuf>,
}

impl Directory {
    /// Opens the folder for this process alone, and sweeps what a crash left half written.
    pub(super) fn open(dir: &Path, create: bool) -> Result<Self, Error> {
        let identity = dir.join(super::identity::FILE).exists();
        match fs::metadata(dir) {
            Ok(facts) if !facts.is_dir() => return Err(Error::Damaged("it is not a folder")),
            Ok(_) if !identity && !create => return Err(Error::NoKeyStore),
            Ok(facts) if facts.mode() & 0o077 == 0 => {}
            // An empty folder somebody made for us may be closed; one with things in it is not ours to change.
            Ok(_) if !identity && entries(dir)?.is_empty() => {
                fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
                    .map_err(Error::io("guarding its folder"))?;
            }
            Ok(_) => return Err(Error::Damaged("its folder is open to other users (want mode 0700)")),
            Err(error) if error.kind() == ErrorKind::NotFound && create => make_folders(dir)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::NoKeyStore),
            Err(source) => return Err(Error::Io { doing: "opening its folder", source }),
        }
        let lock = lock(&dir.join(LOCK))?;
        let directory = Self { dir: dir.to_owned(), _lock: lock, doubt: RwLock::default() };
        directory.sweep(&directory.dir)?;
        Ok(directory)
    }

    /// Writes, alone, unless a folder's sync failed before; one that fails now is remembered, with the name it was for.
    fn writing<T>(&self, name: Option<&Path>, write: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let mut doubt = self.doubt.write().unwrap_or_else(PoisonError::into_inner);
        if doubt.is_any {
            return Err(doubtful(SYNCING));
        }
        let written = write();
        if matches!(written, Err(Error::Io { doing: SYNCING, .. })) {
            *doubt = Doubt { is_any: true, name: name.map(Path::to_owned) };
        }
        written
    }

    /// Writes a file that must not exist yet, durably; false if it exists.
    ///
    /// The name appears by `link`, which never replaces: a torn file never has a name that is read.
    pub(super) fn create(&self, path: &Path, bytes: &[u8]) -> Result<bool, Error> {
        self.writing(Some(path), || self.create_synced(path, bytes))
    }

    fn create_synced(&self, path: &Path, bytes: &[u8]) -> Result<bool, Error> {
        let path = self.dir.join(path);
        let folder = path.parent().unwrap_or(&self.dir);
        make_folders(folder)?;
        let opened = open(folder)?;
        let temporary = write_temporary(folder, bytes)?;
        let linked = fs::hard_link(&temporary, &path);
        fs::remove_file(&temporary).map_err(Error::io("removing a temporary file"))?;
        let created = match linked {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(source) => return Err(Error::Io { doing: "naming a new secret", source }),
        };
        // Also when it was there: a process before this one may not have synced it.
        sync(&opened)?;
        Ok(created)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Replaces a file at the top as a whole, durably, if it is still `old`.
    pub(super) fn swap(&self, file: &str, old: Option<&[u8]>, new: &[u8]) -> Result<bool, Error> {
        self.writing(None, || self.swap_synced(file, old, new))
    }

    fn swap_synced(&self, file: &str, old: Option<&[u8]>, new: &[u8]) -> Result<bool, Error> {
        // No other process has the folder.
        if self.content(Path::new(file))?.as_deref() != old {
            return Ok(false);
        }
        let opened = open(&self.dir)?;
        let temporary = write_temporary(&self.dir, new)?;
        fs::rename(&temporary, self.dir.join(file)).map_err(Error::io("replacing a file"))?;
        sync(&opened)?;
        Ok(true)
    }

    /// A file's content, if it is there.
    pub(super) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let doubt = self.doubt.read().unwrap_or_else(PoisonError::into_inner);
        if doubt.name.as_deref() == Some(path) { Err(doubtful("reading a secret")) } else { self.content(path) }
    }

    fn content(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        match fs::read(self.dir.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { doing: "reading a secret", source }),
        }
    }

    /// The names of all secrets of a kind.
    pub(super) fn list(&self, root: RootVersion, kind: SecretKind) -> Result<Vec<SecretName>, Error> {
        let mut names = Vec::new();
        for tenant in entries(&self.dir.join(root.folder()).join(kind.as_str()))? {
            let Some(owner) = tenant.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
            for file in entries(&tenant)? {
                let name = file.file_name().and_then(|name| name.to_str());
                names.extend(name.and_then(|name| SecretName::of_file(kind, &owner, name)));
            }
        }
        Ok(names)
    }

    /// Overwrites and removes a file, durably; false if it was not there.
    pub(super) fn destroy(&self, path: &Path) -> Result<bool, Error> {
        self.writing(None, || self.destroy_synced(path))
    }

    fn destroy_synced(&self, path: &Path) -> Result<bool, Error> {
        let path = self.dir.join(path);
        let folder = path.parent().unwrap_or(&self.dir);
        let opened = if folder.exists() { open(folder)? } else { return Ok(false) };
        let mut file = match OpenOptions::new().write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(Error::Io { doing: "opening a secret to destroy it", source }),
        };
        // Worth little on media that write elsewhere (docs/formats.md section 4), and costs nothing.
        let length = file.metadata().map_err(Error::io("destroying a secret"))?.len();
        let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
        file.write_all(&zeros).and_then(|()| file.sync_all()).map_err(Error::io("overwriting a secret"))?;
        fs::remove_file(&path).map_err(Error::io("removing a secret"))?;
        sync(&opened)?;
        Ok(true)
    }

    /// The versions of the root key of which there are folders.
    pub(super) fn root_versions(&self) -> Result<Vec<RootVersion>, Error> {
        let mut versions = Vec::new();
        for path in entries(&self.dir)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            versions.extend(RootVersion::of_folder(name));
        }
        if SecretKind::ALL.iter().any(|kind| self.dir.join(kind.as_str()).exists()) {
            versions.push(RootVersion::FIRST);
        }
        Ok(versions)
    }

    /// Overwrites and removes all secrets of a version of the root key, durably; cut short, it can be done again.
    pub(super) fn remove_root(&self, root: RootVersion) -> Result<(), Error> {
        self.writing(None, || match root {
            RootVersion::FIRST => {
                SecretKind::ALL.iter().try_for_each(|kind| self.remove_tree(Path::new(kind.as_str())))
            }
            root => self.remove_tree(&root.folder()),
        })
    }

    fn remove_tree(&self, folder: &Path) -> Result<(), Error> {
        let place = self.dir.join(folder);
        if !place.exists() {
            return Ok(());
        }
        for path in entries(&place)? {
            let inside = path.strip_prefix(&self.dir).unwrap_or(&path);
            if path.is_dir() {
                self.remove_tree(inside)?;
            } else {
                self.destroy_synced(inside)?;
            }
        }
        let above = open(place.parent().unwrap_or(&self.dir))?;
        fs::remove_dir(&place).map_err(Error::io("removing a folder of secrets"))?;
        sync(&above)
    }

    /// Whether nothing lies here but the lock.
    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        Ok(entries(&self.dir)?.iter().all(|path| path.ends_with(LOCK) || !path.is_dir()))
    }

    /// Removes temporary files (the lock says that nobody is writing one) and syncs what a killed process may have
    /// named without syncing.
    fn sweep(&self, folder: &Path) -> Result<(), Error> {
        for path in entries(folder)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                self.sweep(&path)?;
            } else if name.starts_with(TEMPORARY) {
                fs::remove_file(&path).map_err(Error::io("sweeping a temporary file"))?;
            }
        }
        sync(&open(folder)?)
    }
}

/// The folder's entries; none if there is no folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let doing = "listing secrets";
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
    .map_err(Error::io(doing))
}

/// Makes a folder and its parents with mode 0700 and syncs each parent, so that a new folder survives as its files do.
fn make_folders(folder: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists()).collect();
    for folder in missing.into_iter().rev() {
        let above = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let above = open(above)?;
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::Io { doing: "making a folder", source }),
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(Error::io("guarding a folder"))?;
        sync(&above)?;
    }
    Ok(())
}

fn write_temporary(folder: &Path, bytes: &[u8]) -> Result<PathBuf, Error> {
    let doing = "writing a temporary file";
    let temporary = folder.join(format!("{TEMPORARY}{}", hex::encode(&crate::crypto::random::<16>()?)));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(Error::io(doing))?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(Error::io(doing))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(source) = written {
        // A full disk must not leave litter; if even this fails, the next start sweeps.
        let _ = fs::remove_file(&temporary);
        return Err(Error::Io { doing, source });
    }
    Ok(temporary)
}

/// Opens a folder that will be synced: before anything is changed in it, so that nothing but the sync itself can fail then.
fn open(folder: &Path) -> Result<File, Error> {
    File::open(folder).map_err(Error::io("opening a folder to sync it"))
}

fn sync(folder: &File) -> Result<(), Error> {
    folder.sync_all().map_err(Error::io(SYNCING))
}

fn doubtful(doing: &'static str) -> Error {
    Error::Io { doing, source: io::Error::other("a sync failed before: restart this node") }
}

/// Takes the lock that keeps a second node out; the system lets it go when the process ends, however it ends.
fn lock(path: &Path) -> Result<File, Error> {
    let doing = "locking it";
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(Error::io(doing))?;
    file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(Error::io(doing))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse),
        Err(TryLockError::Error(source)) => Err(Error::Io { doing, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_sync_that_failed_nothing_is_written_before_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Directory::open(dir.path(), true).unwrap();
        let directory = open();
        for name in ["kept", "lost"] {
            assert!(directory.create(Path::new(name), b"1").unwrap());
        }
        // It is there and named, and whether the name is on the disk nobody knows.
        let failed = || Err::<(), _>(Error::Io { doing: SYNCING, source: ErrorKind::Other.into() });
        assert!(directory.writing(Some(Path::new("lost")), failed).is_err());
        assert!(directory.read(Path::new("lost")).is_err(), "nothing is sealed under what may be gone");
        assert_eq!(directory.read(Path::new("kept")).unwrap().as_deref(), Some(&b"1"[..]));
        assert!(directory.create(Path::new("lost"), b"1").is_err(), "that it is there says nothing");
        assert!(directory.create(Path::new("new"), b"2").is_err());
        assert!(directory.swap("kept", Some(b"1"), b"2").is_err());
        assert!(directory.destroy(Path::new("kept")).is_err());
        assert!(directory.remove_root(RootVersion::FIRST).is_err());
        drop(directory);
        assert_eq!(open().read(Path::new("lost")).unwrap().as_deref(), Some(&b"1"[..]));
        assert!(open().create(Path::new("new"), b"2").unwrap());
    }

    #[test]
    fn what_fails_for_another_reason_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path(), true).unwrap();
        let full = || Err::<(), _>(Error::Io { doing: "naming a new secret", source: ErrorKind::StorageFull.into() });
        assert!(directory.writing(Some(Path::new("new")), full).is_err());
        assert!(directory.create(Path::new("new"), b"1").unwrap());
    }
}
