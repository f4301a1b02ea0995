//! `DIR/dev.json`: the addresses and credentials of a `siv dev`, for the person who started it and for tests.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::failure::Failure;

/// What the file holds. The credentials stand in clear: the folder is the developer's own, the file 0600.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DevFile {
    pub(super) public: String,
    pub(super) private: String,
    pub(super) demo: String,
    pub(super) tenant: String,
    pub(super) app: String,
    pub(super) log_vkey: String,
    pub(super) credentials: DevCredentials,
}

/// The credentials; an empty one is yet to be made.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DevCredentials {
    pub(super) operator: String,
    pub(super) custodian: String,
    pub(super) app: String,
    pub(super) auditor: String,
    pub(super) flows: BTreeMap<String, String>,
}

impl DevFile {
    fn path(folder: &Path) -> PathBuf {
        folder.join("dev.json")
    }

    /// What an earlier `siv dev` on this folder left; empty where there was none.
    pub(super) fn read(folder: &Path) -> Result<Self, Failure> {
        let path = Self::path(folder);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::new(format!("{} cannot be read", path.display())).because(error)),
        };
        serde_json::from_str(&text).map_err(|_| {
            Failure::new(format!("{} is not what `siv dev` wrote", path.display()))
                .so("put it back, or begin anew with another --data-dir")
        })
    }

    /// Writes it as a whole: a reader sees the old or the new one.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::new("dev.json cannot be written").because(error);
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(&error))?;
        replace(&Self::path(folder), &text).map_err(|error| failed(&error))
    }
}

/// Replaces a file by a new one that only its owner can read, durably.
pub(super) fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_has_the_members_of_the_contract_and_is_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        DevFile::default().write(folder.path()).unwrap();
        let path = DevFile::path(folder.path());
        let document: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let members: Vec<_> = document.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["public", "private", "demo", "tenant", "app", "logVkey", "credentials"]);
        let kinds: Vec<_> = document["credentials"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(kinds, ["operator", "custodian", "app", "auditor", "flows"]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(DevFile::read(folder.path()).is_ok());
    }
}
