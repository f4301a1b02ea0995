//! The options that name where a tenant's key lives: the built-in KMS, or a customer's token with its PIN.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::failure::Failure;

/// A PIN's file is read no further, in bytes.
const LONGEST: u64 = 257;

/// Where a tenant's keys live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyProvider {
    /// The built-in KMS.
    Local,
    /// A token of the customer's, over PKCS#11.
    Hsm,
}

/// A customer's token.
#[derive(Debug, Args)]
pub(super) struct Token {
    /// The vendor's PKCS#11 module: an absolute path on the vault's machine.
    #[arg(long, value_name = "PATH")]
    module: Option<PathBuf>,
    /// The token's label.
    #[arg(long, value_name = "LABEL")]
    token: Option<String>,
    /// The token's serial number, where a label is not enough.
    #[arg(long)]
    serial: Option<String>,
    /// A file of mode 0400 or 0600 with the user PIN, on this machine; the vault keeps the PIN sealed in its key store.
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
    /// Label of a key-encryption key that is in the token already; without it one is made there.
    #[arg(long, value_name = "LABEL")]
    kek: Option<String>,
    /// Take that key on though the token does not vouch for it: waived is that it was made there (`CKA_LOCAL`), never left it
    /// (`CKA_NEVER_EXTRACTABLE`) and was never readable (`CKA_ALWAYS_SENSITIVE`). Somebody may know its bytes. A key that can be read or
    /// taken out now is refused all the same. The log says what was waived. For a tenant with a token a second custodian approves.
    #[arg(long, requires = "kek")]
    waive: bool,
}

impl Token {
    /// Whether nothing is said of a token.
    const fn is_empty(&self) -> bool {
        self.module.is_none()
            && self.token.is_none()
            && self.serial.is_none()
            && self.pin_file.is_none()
            && self.kek.is_none()
    }

    /// The members of a request that name the token; nothing where none is named.
    pub(super) fn members(self, provider: Option<KeyProvider>) -> Result<Option<Value>, Failure> {
        if self.is_empty() {
            return Ok(None);
        }
        if provider != Some(KeyProvider::Hsm) {
            return Err(Failure::new("a token is named, and no key is to live in one").so("add --key-provider hsm"));
        }
        let missing = |option: &str| {
            Failure::new(format!("{option} is missing")).so("a token needs --module, --token and --pin-file")
        };
        let module = self.module.ok_or_else(|| missing("--module"))?;
        let pin = read_pin(&self.pin_file.ok_or_else(|| missing("--pin-file"))?)?;
        let text = std::str::from_utf8(&pin).map_err(|_| Failure::new("the PIN is not UTF-8 text"))?;
        let members = json!({
            "module": module, "token": self.token, "serial": self.serial, "kek": self.kek, "waive": self.waive,
            "pin": text.trim_end_matches(['\r', '\n']),
        });
        Ok(Some(members))
    }
}

/// A PIN that others on this machine can read is none.
fn read_pin(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| {
        let failure = Failure::new(format!("the PIN's file {} cannot be read", path.display())).because(error);
        failure.so("write the token's user PIN into a file of mode 0400, and name that with --pin-file")
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.mode() & 0o077 != 0 {
        let failure = Failure::new(format!("{} is no file that only its owner can read", path.display()));
        return Err(failure.so("run chmod 0400 on it"));
    }
    let mut pin = Zeroizing::new(Vec::with_capacity(usize::try_from(LONGEST).unwrap_or_default()));
    file.take(LONGEST).read_to_end(&mut pin).map_err(failed)?;
    Ok(pin)
}
