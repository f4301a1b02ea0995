//! A token's PIN and where it comes from. It is never printed, and stands neither in a configuration file, an argument nor the environment.

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cryptoki::types::AuthPin;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::error::HsmError;

/// A PIN of 1 to 255 bytes of UTF-8. Wiped on drop; its `Debug` shows nothing.
#[derive(Clone)]
pub struct Pin(SecretString);

/// Where the worker takes the PIN from at each connection.
#[derive(Debug, Clone)]
pub enum PinSource {
    /// A file of mode 0400 or 0600 that belongs to this process's user or to root: a secret file or a systemd credential.
    /// It is read by the worker, so the PIN never enters the caller's memory.
    File(PathBuf),
    /// Handed over by the caller, who keeps it sealed.
    Given(Pin),
}

/// Longest PIN in bytes.
const LONGEST: usize = 255;

impl Pin {
    /// Takes a PIN over; one newline at its end is dropped.
    ///
    /// # Errors
    /// [`HsmError::Configuration`] if it is empty (which would cost an attempt at the token), too long or not UTF-8.
    pub fn new(bytes: &[u8]) -> Result<Self, HsmError> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if bytes.is_empty() || bytes.len() > LONGEST {
            return Err(HsmError::Configuration("a PIN has 1 to 255 bytes".to_owned()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| HsmError::Configuration("a PIN is UTF-8 text".to_owned()))?;
        Ok(Self(SecretString::from(text)))
    }

    /// The form the module's login takes.
    pub(crate) fn auth(&self) -> &AuthPin {
        &self.0
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the frame that carries a sealed upload's PIN to the worker, wiped after it; and the HMAC by which a host knows it again"
    )]
    pub(crate) fn wire(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(…)")
    }
}

impl PinSource {
    /// The PIN as it is now.
    ///
    /// # Errors
    /// [`HsmError::Configuration`] if the file is missing, readable by others, or holds no PIN.
    pub fn read(&self) -> Result<Pin, HsmError> {
        match self {
            Self::File(path) => read_file(path),
            Self::Given(pin) => Ok(pin.clone()),
        }
    }
}

fn read_file(path: &Path) -> Result<Pin, HsmError> {
    let refuse = |why: &str| HsmError::Configuration(format!("the PIN file {why}"));
    // O_NONBLOCK: a fifo put in the file's place must not hold the worker.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(|e| refuse(&format!("cannot be opened: {}", e.kind())))?;
    let meta = file.metadata().map_err(|e| refuse(&format!("cannot be examined: {}", e.kind())))?;
    if !meta.is_file() {
        return Err(refuse("is not a regular file"));
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(refuse("belongs to another user"));
    }
    if meta.mode() & 0o177 != 0 {
        return Err(refuse("must have mode 0400 or 0600"));
    }
    let mut bytes = Zeroizing::new(vec![0_u8; LONGEST + 2]);
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..]).map_err(|e| refuse(&format!("cannot be read: {}", e.kind())))? {
            0 => break,
            n => length += n,
        }
    }
    Pin::new(&bytes[..length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(mode: u32, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pin");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_pin_file_is_read_when_nobody_else_can() {
        for mode in [0o400, 0o600] {
            let (_folder, path) = file(mode, b"1234567890\n");
            assert_eq!(PinSource::File(path).read().unwrap().wire(), b"1234567890");
        }
    }

    #[test]
    fn a_pin_file_that_others_can_read_or_that_holds_no_pin_is_refused() {
        for (mode, content) in [
            (0o440, &b"1234"[..]),
            (0o604, b"1234"),
            (0o700, b"1234"),
            (0o400, b""),
            (0o400, b"\n"),
            (0o400, &[b'1'; 300]),
        ] {
            let (_folder, path) = file(mode, content);
            assert!(PinSource::File(path).read().is_err(), "{mode:o}");
        }
        let (folder, _path) = file(0o400, b"1234");
        assert!(PinSource::File(folder.path().to_owned()).read().is_err());
    }

    #[test]
    fn a_pin_is_never_printed() {
        let pin = Pin::new(b"4711").unwrap();
        assert!(!format!("{pin:?} {:?}", PinSource::Given(pin.clone())).contains("4711"));
    }
}
