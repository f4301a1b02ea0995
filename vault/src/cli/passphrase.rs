//! The root key's passphrase as a person gives it: typed on the terminal without an echo, or from a file or a pipe; never from
//! an argument or the environment.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::failure::Failure;

/// Characters at least: what guards every key must not be found by trying.
const SHORTEST: usize = 12;
/// Bytes at most.
const LONGEST: usize = 1024;

/// Where a passphrase comes from.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct PassphraseFrom {
    /// Read the passphrase of the root key from a file of mode 0400 or 0600 instead of the terminal; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
}

impl PassphraseFrom {
    /// The passphrase that is there already.
    pub(super) fn read(&self) -> Result<SecretString, Failure> {
        match &self.passphrase_file {
            Some(path) => from_file(path),
            None => asked("passphrase of the root key: ", "--passphrase-file"),
        }
    }

    /// A passphrase that will be one from now on: long enough, and on a terminal typed twice. `option` names a file instead.
    pub(super) fn choose(&self, option: &str) -> Result<SecretString, Failure> {
        let Some(path) = &self.passphrase_file else {
            let first = long_enough(asked("new passphrase of the root key: ", option)?)?;
            if !is_same(&first, &asked("the same again: ", option)?) {
                return Err(Failure::new("the two passphrases differ").so("run the command again"));
            }
            return Ok(first);
        };
        long_enough(from_file(path)?)
    }
}

/// A passphrase in a file; one that others on this machine can read is none.
pub(super) fn from_file(path: &Path) -> Result<SecretString, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("the passphrase in {} cannot be read", path.display())).because(error)
    };
    if path.as_os_str() == "-" {
        return text(std::io::stdin().lock(), false);
    }
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(Failure::new(format!("others can open {}: run chmod 0600 on it", path.display())));
    }
    text(file, false)
}

/// Refuses a passphrase that is short.
#[expect(clippy::disallowed_methods, reason = "its characters are counted")]
pub(super) fn long_enough(passphrase: SecretString) -> Result<SecretString, Failure> {
    if passphrase.expose_secret().chars().count() >= SHORTEST {
        return Ok(passphrase);
    }
    let why = format!("root_key: the passphrase has fewer than {SHORTEST} characters: choose a longer one");
    Err(Failure::new(why))
}

#[expect(clippy::disallowed_methods, reason = "what a person typed twice is compared on their own terminal")]
fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

/// Asks on the terminal, whatever standard input is.
fn asked(question: &str, option: &str) -> Result<SecretString, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new("the passphrase cannot be asked for").because(error).so(format!("name a file with {option}"))
    };
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let silent = Silent::new(&terminal).map_err(|error| failed(error.into()))?;
    write!(&terminal, "{question}").map_err(failed)?;
    let typed = text(&terminal, true);
    drop(silent);
    let _ = writeln!(&terminal);
    typed
}

/// What can be read, up to the end of the first line or of everything. Byte by byte, so that nothing of it stays in a buffer of
/// a library.
fn text(mut from: impl std::io::Read, first_line: bool) -> Result<SecretString, Failure> {
    let no = |why: &str| Failure::new(format!("the passphrase {why}"));
    let (mut text, mut byte) = (Zeroizing::new(Vec::with_capacity(LONGEST)), Zeroizing::new([0_u8; 1]));
    while from.by_ref().read(&mut byte[..]).map_err(|error| no("cannot be read").because(error))? == 1 {
        match byte[0] {
            b'\n' if first_line => break,
            _ if text.len() == LONGEST => return Err(no("is too long")),
            other => text.push(other),
        }
    }
    let text = std::str::from_utf8(&text).map_err(|_| no("is not UTF-8 text"))?.trim_end_matches(['\r', '\n']);
    Ok(SecretString::from(text))
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silent<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn new(terminal: &'a File) -> rustix::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a made-up passphrase")]
    fn a_passphrase_ends_before_the_end_of_its_line() {
        for given in ["correct horse", "correct horse\n", "correct horse\r\n"] {
            assert_eq!(text(given.as_bytes(), false).unwrap().expose_secret(), "correct horse");
        }
        assert_eq!(text(&b"typed\nlater"[..], true).unwrap().expose_secret(), "typed");
        assert_eq!(text(&b"one\ntwo\n"[..], false).unwrap().expose_secret(), "one\ntwo");
        assert!(text(&[0xff][..], false).is_err());
        assert!(text(&[b'a'; LONGEST][..], false).is_ok() && text(&[b'a'; LONGEST + 1][..], false).is_err());
    }
}
