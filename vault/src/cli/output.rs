//! Everything a command prints goes through here: aligned columns for people, JSON for programs.
//!
//! Text from elsewhere is printed without control characters, so that a name in the log cannot drive the terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::config::Environment;
use crate::domain::TenantName;

use super::failure::Failure;

/// Columns of a line's text under a title.
const WIDEST: usize = 86;

/// Where and how a command prints.
#[derive(Debug, Clone)]
pub(super) struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    pub(super) fn new(json: bool, environment: &Environment) -> Self {
        Self { json, colour: !environment.no_color && std::io::stdout().is_terminal() }
    }

    /// Whether a program reads: then it gets one document and nothing else.
    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    /// One thing: its members as two columns, or the document itself.
    pub(super) fn record(&self, document: &Value) {
        if self.json {
            return print(&document.to_string());
        }
        let Some(members) = document.as_object() else { return print(&cell(document)) };
        let rows: Vec<_> = members.iter().filter(|(_, value)| !value.is_null()).collect();
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in rows {
            let space = " ".repeat(width - name.chars().count());
            print(&format!("{}{space}  {}", self.emphasis(name), cell(value)));
        }
    }

    /// Several things: the named members as columns, or the document itself.
    pub(super) fn table(&self, document: &Value, columns: &[&str]) {
        if self.json {
            return print(&document.to_string());
        }
        let things = document.get("data").unwrap_or(document).as_array().cloned().unwrap_or_default();
        let rows: Vec<Vec<String>> = things
            .iter()
            .map(|thing| columns.iter().map(|column| thing.get(column).map(cell).unwrap_or_default()).collect())
            .collect();
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).chain([columns[at].len()]).max();
        let widths: Vec<usize> = (0..columns.len()).map(|at| width(at).unwrap_or(0)).collect();
        let padded = |cells: Vec<String>| {
            let mut line = String::new();
            for (text, width) in cells.iter().zip(&widths) {
                let _ = write!(line, "{text}{}  ", " ".repeat(width - text.chars().count()));
            }
            line.trim_end().to_owned()
        };
        print(&self.emphasis(&padded(columns.iter().map(ToString::to_string).collect())));
        for row in rows {
            print(&padded(row));
        }
    }

    /// An empty list of who named no tenant: an operator of the installation has none of these, whatever there is.
    pub(super) fn hint_at_tenant(&self, list: &Value, tenant: Option<&TenantName>) {
        let is_empty = list.get("data").and_then(Value::as_array).is_some_and(Vec::is_empty);
        if !self.json && is_empty && tenant.is_none() {
            Self::progress("nothing is listed: an operator of the installation names a tenant with --tenant");
        }
    }

    /// A sentence for people; programs get the document.
    pub(super) fn sentence(&self, document: &Value, text: &str) {
        print(&if self.json { document.to_string() } else { text.to_owned() });
    }

    /// A line that programs wait for too: printed as it is in both modes.
    pub(super) fn line(&self, text: &str) {
        print(text);
    }

    /// How far long work is, to standard error: the result alone goes to standard output.
    pub(super) fn progress(text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Arguments that are none, as a program reads it.
    pub(super) fn usage(failure: &Failure) {
        let _ = writeln!(std::io::stderr().lock(), "{}", failure.to_json());
    }

    /// A failure, to standard error.
    pub(super) fn failure(&self, failure: &Failure) {
        let text = if self.json { failure.to_json().to_string() } else { format!("error: {failure}") };
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// The same without colour: for standard error, which may go elsewhere than what this one asked about.
    pub(super) const fn plain(&self) -> Self {
        Self { json: self.json, colour: false }
    }

    /// `text` in the one colour there is.
    pub(super) fn emphasis(&self, text: &str) -> String {
        if self.colour { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A title and lines of two columns under it; a name that is the one above is not said again.
pub(super) struct Lines {
    title: String,
    lines: Vec<(&'static str, String)>,
}

impl Lines {
    pub(super) fn under(title: impl Into<String>) -> Self {
        Self { title: title.into(), lines: Vec::new() }
    }

    pub(super) fn add(&mut self, name: &'static str, text: impl Into<String>) {
        self.lines.push((name, text.into()));
    }

    /// All of it, without a line's end behind it.
    pub(super) fn text(&self, output: &Output) -> String {
        let width = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let (mut text, mut above) = (output.emphasis(&plain(&self.title)), "");
        for (name, value) in &self.lines {
            for part in wrapped(&plain(value)) {
                let shown = if *name == above { "" } else { *name };
                let _ = write!(text, "\n  {shown:width$}  {part}");
                above = name;
            }
        }
        text
    }
}

/// `text` in lines that a terminal holds, broken between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + word.chars().count() < WIDEST => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// So many of a thing: `1 value`, `2 values`.
pub(super) fn plural(count: impl std::fmt::Display, noun: &str) -> String {
    let count = count.to_string();
    let end = if count == "1" { "" } else { "s" };
    format!("{count} {noun}{end}")
}

/// A JSON value as a person reads it.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => plain(&other.to_string()),
    }
}

/// `text` without control characters and without marks that turn the direction of writing.
pub(super) fn plain(text: &str) -> String {
    let drives = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if drives(c) { '\u{fffd}' } else { c }).collect()
}

/// A closed pipe (`siv … | head`) is no failure.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_not_several() {
        let said = [plural(0, "value"), plural(1, "value"), plural("1 or more", "value")];
        assert_eq!(said, ["0 values", "1 value", "1 or more values"]);
    }

    #[test]
    fn text_from_elsewhere_cannot_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\r\nc\u{202e}d"), "a\u{fffd}[31mb\u{fffd}\u{fffd}c\u{fffd}d");
    }
}
