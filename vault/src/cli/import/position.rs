//! How far an import is, in a file that is replaced whole: what is done, and since when something may be under way.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Format;
use crate::cli::failure::Failure;
use crate::domain::{AppName, Timestamp};

/// The vault keeps an answer for a day. After that it would take the same request for a new one.
const KEPT: Duration = Duration::from_secs(23 * 60 * 60);
const VERSION: u8 = 1;

/// What must be the same when an import goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Arguments {
    pub(super) app: Option<AppName>,
    pub(super) format: Format,
    pub(super) field_columns: Vec<String>,
    pub(super) batch: u16,
    pub(super) out: PathBuf,
    pub(super) rejects: Option<PathBuf>,
}

/// Where an import stands. It holds nothing of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Position {
    version: u8,
    pub(super) import_id: String,
    arguments: Arguments,
    /// Batches whose results are in the files.
    pub(super) done: u64,
    /// Bytes of the input up to there, and the line its last value begins on.
    pub(super) bytes: u64,
    pub(super) line: u64,
    /// Bytes of the files up to there.
    pub(super) out: u64,
    pub(super) rejects: u64,
    pub(super) captured: u64,
    pub(super) rejected: u64,
    /// Since when something may be under way of which nobody here knows; nothing once all is done. In milliseconds.
    pub(super) under_way_since: Option<u64>,
}

/// A new import, or one to go on with.
pub(super) struct Beginning {
    pub(super) position: Position,
    pub(super) resumed: bool,
}

impl Beginning {
    /// Reads the position if there is one.
    pub(super) fn open(file: Option<&Path>, arguments: Arguments, now: Timestamp) -> Result<Self, Failure> {
        let Some(file) = file.filter(|file| file.exists()) else {
            return Ok(Self { position: Position::new(arguments), resumed: false });
        };
        let unread = || Failure::new(format!("{} is no position of an import", file.display()));
        let text = fs::read(file).map_err(|error| unread().because(error))?;
        let position: Position = serde_json::from_slice(&text).map_err(|_| unread())?;
        position.go_on(&arguments, now).map_err(|failure| failure.because(format!("so says {}", file.display())))?;
        Ok(Self { position, resumed: true })
    }
}

impl Position {
    pub(super) fn new(arguments: Arguments) -> Self {
        Self {
            version: VERSION,
            import_id: Uuid::now_v7().to_string(),
            arguments,
            done: 0,
            bytes: 0,
            line: 0,
            out: 0,
            rejects: 0,
            captured: 0,
            rejected: 0,
            under_way_since: None,
        }
    }

    /// Whether it can be gone on with under these arguments, now.
    fn go_on(&self, arguments: &Arguments, now: Timestamp) -> Result<(), Failure> {
        if self.version != VERSION || self.arguments != *arguments {
            let next = "give it the same arguments, or name another file for another import";
            return Err(Failure::new("the import was begun with other arguments").so(next));
        }
        let since = self.under_way_since.map(Timestamp::from_millis);
        if since.is_some_and(|since| now.since(since) > KEPT || since > now.plus(KEPT)) {
            let next = format!(
                "import what comes after the value on line {} anew, with other files: values of the requests that were \
                 under way may be stored, but nobody has their keys",
                self.line
            );
            return Err(Failure::new("the import broke off too long ago to be gone on with").so(next));
        }
        Ok(())
    }

    /// Writes it, durably and whole.
    pub(super) fn keep(&self, file: &Path) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::new(format!("{} cannot be written", file.display())).because(error);
        let mut name = file.as_os_str().to_owned();
        name.push(".new");
        let new = Path::new(&name);
        let mut out =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new).map_err(failed)?;
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        out.write_all(&text).and_then(|()| out.sync_all()).map_err(failed)?;
        fs::rename(new, file).map_err(failed)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Position {
        let app = "shop".parse().ok();
        let (out, rejects) = (PathBuf::from("out"), None);
        let arguments = Arguments { app, format: Format::Csv, field_columns: Vec::new(), batch: 1_000, out, rejects };
        Position::new(arguments)
    }

    #[test]
    fn an_import_goes_on_under_the_same_arguments_and_within_a_day_only() {
        let begun = begun();
        let now = Timestamp::from_millis(1_795_489_236_007);
        let hours = |count: u64| now.plus(Duration::from_secs(count * 3_600));
        assert!(begun.go_on(&begun.arguments, hours(1_000)).is_ok(), "nothing was under way");
        let broken = Position { under_way_since: Some(now.as_millis()), ..begun.clone() };
        assert!(broken.go_on(&begun.arguments, hours(22)).is_ok());
        assert!(broken.go_on(&begun.arguments, hours(24)).is_err());
        for other in [
            Arguments { app: None, ..begun.arguments.clone() },
            Arguments { format: Format::Jsonl, ..begun.arguments.clone() },
            Arguments { batch: 10, ..begun.arguments.clone() },
            Arguments { out: PathBuf::from("elsewhere"), ..begun.arguments.clone() },
        ] {
            assert!(begun.go_on(&other, now).is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_position_is_read_back_as_it_was_kept_and_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        let position = Position { done: 7, ..begun() };
        position.keep(&file).unwrap();
        let read: Position = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(read, position);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
