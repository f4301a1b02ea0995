//! A vendor's module: which file it is, and the one place where it is loaded, initialised and finalised. Tokens and sessions are elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::HsmError;
use crate::failure::Fault;
use crate::raw::Raw;

/// A module's file as it was examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleFile {
    /// The path with all links resolved.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: ModuleHash,
}

/// SHA-256 of a module's file; written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModuleHash(pub [u8; 32]);

/// A loaded module. One per canonical path and process: two contexts on one library crash some of them.
pub(crate) struct Module {
    pub(crate) safe: Pkcs11,
    pub(crate) raw: Raw,
}

/// Largest module read for its hash, in bytes.
const LARGEST: u64 = 512 << 20;

/// Every module this process has loaded. The lock also keeps two threads from initialising or finalising at once.
static LOADED: LazyLock<Mutex<HashMap<PathBuf, Arc<Module>>>> = LazyLock::new(Mutex::default);

impl ModuleFile {
    /// Resolves links, checks who can change the file, and hashes it.
    ///
    /// The file and every folder above it must belong to root or to this process's user and must not be writable by others (a sticky
    /// folder such as `/tmp` excepted): who can write them runs code in the worker.
    ///
    /// # Errors
    /// [`HsmError::Configuration`] with the reason.
    pub fn examine(path: &Path) -> Result<Self, HsmError> {
        if !path.is_absolute() {
            return Err(refuse("needs an absolute path: name the vendor's library from the root folder on"));
        }
        let path = path.canonicalize().map_err(|e| refuse(&format!("cannot be found: {}", cause(&e))))?;
        for part in path.ancestors() {
            trustworthy(part)?;
        }
        let mut file = File::open(&path).map_err(|e| refuse(&format!("cannot be opened: {}", cause(&e))))?;
        let meta = file.metadata().map_err(|e| refuse(&format!("cannot be examined: {}", cause(&e))))?;
        if !meta.is_file() || meta.len() > LARGEST {
            return Err(refuse("is not a regular file of at most 512 MiB: name the vendor's library itself"));
        }
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).map_err(|e| refuse(&format!("cannot be read: {}", cause(&e))))? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        Ok(Self { path, sha256: ModuleHash(hash.finalize().into()) })
    }
}

fn trustworthy(path: &Path) -> Result<(), HsmError> {
    let meta =
        path.symlink_metadata().map_err(|e| refuse(&format!("has a folder that cannot be examined: {}", cause(&e))))?;
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != me {
        return Err(refuse(
            "or a folder above it belongs to another user: let all of them belong to root or to the user siv runs as",
        ));
    }
    let sticky = meta.is_dir() && meta.mode() & 0o1000 != 0;
    if meta.mode() & 0o022 != 0 && !sticky {
        return Err(refuse(
            "or a folder above it can be written by others, who could put another library there: take that right away (chmod go-w)",
        ));
    }
    Ok(())
}

impl Module {
    /// The module of `file`, loaded and initialised. Loading a second time gives the same one.
    pub(crate) fn load(file: &ModuleFile) -> Result<Arc<Self>, Fault> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let module = match loaded.get(&file.path) {
            Some(module) => Arc::clone(module),
            None => {
                let module = Arc::new(Self { safe: Pkcs11::new(&file.path)?, raw: Raw::load(&file.path)? });
                loaded.insert(file.path.clone(), Arc::clone(&module));
                module
            }
        };
        initialise(&module.safe)?;
        Ok(module)
    }

    /// `C_Finalize`, then `C_Initialize`. No session of this module may be in use: the caller owns them all.
    pub(crate) fn reinitialise(&self) -> Result<(), Fault> {
        let _one_at_a_time = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        self.again()
    }

    fn again(&self) -> Result<(), Fault> {
        match self.safe.clone().finalize() {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiNotInitialized, _)) => {}
            Err(error) => return Err(error.into()),
        }
        initialise(&self.safe)
    }
}

/// The same for every module of this process. No session of any may be in use.
pub(crate) fn reinitialise_all() -> Result<(), Fault> {
    let loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    loaded.values().try_for_each(|module| module.again())
}

fn initialise(module: &Pkcs11) -> Result<(), Fault> {
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl fmt::Display for ModuleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<ModuleHash> for String {
    fn from(hash: ModuleHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for ModuleHash {
    type Error = HsmError;

    fn try_from(text: String) -> Result<Self, HsmError> {
        text.parse()
    }
}

impl FromStr for ModuleHash {
    type Err = HsmError;

    fn from_str(text: &str) -> Result<Self, HsmError> {
        let wrong = || HsmError::Configuration("a module's hash is 64 lower-case hexadecimal digits".to_owned());
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(wrong());
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(hash))
    }
}

/// Where a module is named: by an option of a command, in a request, and where the settings have a list, there as well.
pub(crate) const NAMED: &str = "--module, in a request hsm.module; where hsm_modules stands in siv.toml, one of them";

fn refuse(why: &str) -> HsmError {
    HsmError::Configuration(format!("the module {why} ({NAMED})"))
}

/// What the operating system found, and what to do about it. Its own words tell a person nothing.
fn cause(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            "no file has this path on the machine that siv runs on: install the vendor's library there, or name where it lies"
                .to_owned()
        }
        ErrorKind::PermissionDenied => {
            "the user siv runs as may not go there: let it enter each folder above the file, and read the file".to_owned()
        }
        ErrorKind::NotADirectory => "what stands in its path as a folder is a file: name where it lies".to_owned(),
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            "its links lead in a circle: name the file that they were to lead to".to_owned()
        }
        kind => format!("the operating system says: {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_module_is_examined_behind_its_links_and_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real.so");
        std::fs::write(&real, b"abc").unwrap();
        let link = folder.path().join("link.so");
        symlink(&real, &link).unwrap();
        let file = ModuleFile::examine(&link).unwrap();
        assert_eq!(file.path, real.canonicalize().unwrap());
        assert_eq!(file.sha256.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(file.sha256.to_string().parse::<ModuleHash>().unwrap(), file.sha256);
    }

    #[test]
    fn a_module_that_others_can_write_or_move_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let module = inner.join("m.so");
        std::fs::write(&module, b"abc").unwrap();
        assert!(ModuleFile::examine(&module).is_ok());
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(&module, 0o662);
        assert!(ModuleFile::examine(&module).is_err());
        mode(&module, 0o644);
        mode(&inner, 0o777);
        assert!(ModuleFile::examine(&module).is_err());
        mode(&inner, 0o755);
        assert!(ModuleFile::examine(&inner).is_err());
        assert!(ModuleFile::examine(Path::new("m.so")).is_err());
    }
}
