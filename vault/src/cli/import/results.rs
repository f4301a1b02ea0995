//! What comes out of an import: the keys in one file, what was refused in another or on standard error.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::item::Reject;
use crate::cli::failure::Failure;

/// A value that was captured.
pub(super) struct Captured<'a> {
    pub(super) line: u64,
    pub(super) field: &'a str,
    /// The vault's word: `valueId`, `secureValueKey`, `expiresAt`.
    pub(super) answer: &'a Value,
}

/// The files of an import.
pub(super) struct Results {
    out: Out,
    rejects: Option<Out>,
    /// Whether a program reads what goes to standard error.
    json: bool,
}

/// One file, grown batch by batch.
struct Out {
    path: PathBuf,
    file: File,
    lines: bool,
    length: u64,
    /// How long it was at first.
    begun: u64,
}

impl Results {
    /// Makes the files, which must not be there yet: they may hold the only copy of somebody's keys. Where an import goes on
    /// they are its own, and are cut to the lengths it knows of.
    pub(super) fn open(
        out: &Path,
        rejects: Option<&Path>,
        known: Option<(u64, u64)>,
        json: bool,
    ) -> Result<Self, Failure> {
        let header = ("line,field,valueId,secureValueKey,expiresAt\n", "line,field,code\n");
        let out = Out::open(out, header.0, known.map(|known| known.0))?;
        let rejects = rejects.map(|file| Out::open(file, header.1, known.map(|known| known.1))).transpose()?;
        Ok(Self { out, rejects, json })
    }

    /// Takes away files in which nothing is, so that the command can be run again as it stands.
    pub(super) fn discard_if_empty(&self) {
        let all = std::iter::once(&self.out).chain(&self.rejects);
        if all.clone().all(|file| file.length == file.begun) {
            all.for_each(|file| drop(std::fs::remove_file(&file.path)));
        }
    }

    /// How long the files are.
    pub(super) fn lengths(&self) -> (u64, u64) {
        (self.out.length, self.rejects.as_ref().map_or(0, |rejects| rejects.length))
    }

    /// Writes what became of a batch, durably.
    pub(super) fn write(&mut self, captured: &[Captured<'_>], rejected: &[Reject]) -> Result<(), Failure> {
        let mut text = Zeroizing::new(String::new());
        for of in captured {
            let row = |name: &str| of.answer.get(name).and_then(Value::as_str).unwrap_or_default();
            let cells = [row("valueId"), row("secureValueKey"), row("expiresAt")];
            text.push_str(&self.out.row(
                of.line,
                &[("field", of.field)],
                ["valueId", "secureValueKey", "expiresAt"],
                cells,
            ));
        }
        self.out.append(text.as_bytes())?;
        match &mut self.rejects {
            Some(file) => {
                let row = |reject: &Reject| {
                    let field = reject.field.as_deref().unwrap_or_default();
                    file.row(reject.line, &[("field", field)], ["code"], [&reject.code])
                };
                let text: String = rejected.iter().map(row).collect();
                file.append(text.as_bytes())?;
            }
            None => {
                for Reject { line, field, code } in rejected {
                    if self.json {
                        let row = json!({ "line": line, "field": field, "code": code });
                        crate::cli::output::Output::progress(&row.to_string());
                        continue;
                    }
                    let field = field.as_deref().map(|field| format!(" {field}")).unwrap_or_default();
                    crate::cli::output::Output::progress(&format!("line {line}{field}: {code}"));
                }
            }
        }
        Ok(())
    }
}

impl Out {
    fn open(path: &Path, header: &str, known: Option<u64>) -> Result<Self, Failure> {
        let failed = |error: &io::Error| Failure::new(format!("{} cannot be written", path.display())).because(error);
        let lines = path.extension().is_some_and(|end| end == "jsonl");
        let mut open = OpenOptions::new();
        open.write(true).mode(0o600);
        let Some(length) = known else {
            let file = open.create_new(true).open(path);
            let file = file.map_err(|error| failed(&error).so("name a file that is not there yet"))?;
            let mut out = Self { path: path.to_owned(), file, lines, length: 0, begun: 0 };
            out.append(if lines { b"" } else { header.as_bytes() })?;
            out.begun = out.length;
            return Ok(out);
        };
        let back = "put back the file of the import that broke off";
        let mut file = open.open(path).map_err(|error| failed(&error).so(back))?;
        let there = file.metadata().map_err(|error| failed(&error))?.len();
        if there < length {
            return Err(Failure::new(format!("{} is shorter than it was", path.display())).so(back));
        }
        // What stands behind is of a batch that is asked for again.
        file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0))).map_err(|error| failed(&error))?;
        Ok(Self { path: path.to_owned(), file, lines, length, begun: length })
    }

    /// A row as the file has them. Empty cells are null in JSON. No cell of ours needs a quote in CSV: a field's name is a
    /// slug, and all else is the vault's own spelling.
    fn row<const N: usize>(&self, line: u64, field: &[(&str, &str); 1], names: [&str; N], cells: [&str; N]) -> String {
        let all = || field.iter().copied().chain(names.into_iter().zip(cells));
        if !self.lines {
            let cells: Vec<&str> = all().map(|(_, cell)| cell).collect();
            return format!("{line},{}\n", cells.join(","));
        }
        let mut row = serde_json::Map::from_iter([("line".to_owned(), json!(line))]);
        let or_null = |cell: &str| if cell.is_empty() { Value::Null } else { cell.into() };
        row.extend(all().map(|(name, cell)| (name.to_owned(), or_null(cell))));
        format!("{}\n", Value::Object(row))
    }

    /// Durable when it is back: what is done by the position's word must be there.
    fn append(&mut self, text: &[u8]) -> Result<(), Failure> {
        let failed =
            |error: io::Error| Failure::new(format!("{} cannot be written", self.path.display())).because(error);
        self.file.write_all(text).and_then(|()| self.file.sync_data()).map_err(failed)?;
        self.length += text.len() as u64;
        Ok(())
    }
}
