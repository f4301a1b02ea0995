//! Files that prove something later: made once, never overwritten.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::failure::Failure;

/// A new file.
pub(super) fn create(path: &Path) -> Result<File, Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    made.map_err(|error| {
        let next = if error.kind() == ErrorKind::AlreadyExists {
            "evidence is never overwritten: name another file"
        } else {
            "name a file that can be written"
        };
        failed(path, &error).so(next)
    })
}

/// Fills it, and has it on the disk.
pub(super) fn fill(mut file: File, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = file.write_all(bytes).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
    written.map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{} could not be written", path.display())).because(error)
}
