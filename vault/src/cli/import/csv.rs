//! CSV (RFC 4180): a header, then records whose cells may be quoted and hold line ends.

use std::collections::VecDeque;
use std::io::{self, Read};

use csv_core::{ReadRecordResult, Reader};
use zeroize::Zeroizing;

use super::input::Input;
use super::item::{Beside, Found, Item, LONGEST, Reject};
use crate::domain::FieldName;

/// The most columns.
const COLUMNS: usize = 1_024;

/// Which columns are what.
#[derive(Debug, Default)]
pub(super) enum Columns {
    /// The header is still to come.
    #[default]
    Unread,
    /// Each record is one value.
    Long { field: usize, value: usize, beside: [Option<usize>; 4] },
    /// Each of these columns is a field.
    Wide(Vec<(usize, FieldName)>),
}

/// Names of the columns that a long form may have beside `field` and `value`.
const BESIDE: [&str; 4] = ["ttlSeconds", "uses", "flows", "purposes"];

/// Reads records into buffers of ours, which are wiped and never grow.
pub(super) struct Records {
    reader: Reader,
    cells: Zeroizing<Vec<u8>>,
    ends: Vec<usize>,
    pub(super) columns: Columns,
    /// How many cells the header has.
    width: usize,
    /// Values of a wide record that are still to be given out.
    rest: VecDeque<Found>,
}

/// A record's cells, or that it was too long or not text.
enum Record<'a> {
    Cells(Vec<&'a str>),
    Bad(&'static str),
    End,
}

impl Records {
    pub(super) fn new() -> Self {
        let (cells, ends) = (Zeroizing::new(vec![0; LONGEST]), vec![0; COLUMNS]);
        Self { reader: Reader::new(), cells, ends, columns: Columns::Unread, width: 0, rest: VecDeque::new() }
    }

    /// Reads the header and finds the columns by it; else what is wrong with it. `wanted` names the columns of fields.
    pub(super) fn read_header<R: Read>(
        &mut self,
        wanted: &[(String, FieldName)],
        input: &mut Input<R>,
    ) -> io::Result<Result<(), String>> {
        let header = match self.record(input)? {
            Record::Cells(header) => header,
            Record::End => return Ok(Err("standard input is empty: give it a file, with `< values.csv`".to_owned())),
            Record::Bad(_) => {
                return Ok(Err("the header cannot be read: it is too long, or not UTF-8 text".to_owned()));
            }
        };
        let find = |name: &str| header.iter().position(|cell| cell.trim() == name);
        let columns = if wanted.is_empty() {
            match (find("field"), find("value")) {
                (Some(field), Some(value)) => match unknown(&header) {
                    Some(why) => Err(why),
                    None => Ok(Columns::Long { field, value, beside: BESIDE.map(find) }),
                },
                _ => Err("the header does not name field and value, and --field-columns names no others".to_owned()),
            }
        } else {
            let place = |(column, field): &(String, FieldName)| {
                find(column).map(|at| (at, field.clone())).ok_or_else(|| format!("the header does not name {column}"))
            };
            wanted.iter().map(place).collect::<Result<_, _>>().map(Columns::Wide)
        };
        let width = header.len();
        Ok(columns.map(|columns| (self.columns, self.width) = (columns, width)))
    }

    /// The next value; nothing at the end.
    pub(super) fn next<R: Read>(&mut self, input: &mut Input<R>) -> io::Result<Option<Found>> {
        loop {
            if let Some(found) = self.rest.pop_front() {
                return Ok(Some(found));
            }
            skip_line_ends(input)?;
            let line = input.line;
            let (columns, width) = (std::mem::take(&mut self.columns), self.width);
            let found = match self.record(input)? {
                Record::End => None,
                Record::Bad(code) => Some(VecDeque::from([Found::Reject(Reject::of(line, code))])),
                // A comma that wants quotes: what stands behind it would be lost without a word.
                Record::Cells(cells) if cells.len() > width => {
                    Some(VecDeque::from([Found::Reject(Reject::of(line, "cells"))]))
                }
                Record::Cells(cells) => Some(values(line, &cells, &columns)),
            };
            self.columns = columns;
            match found {
                Some(found) => self.rest = found,
                None => return Ok(None),
            }
        }
    }

    fn record<R: Read>(&mut self, input: &mut Input<R>) -> io::Result<Record<'_>> {
        skip_line_ends(input)?;
        let (mut written, mut columns, mut fits) = (0, 0, true);
        loop {
            let there = input.peek()?;
            let (result, read, more, ended) =
                self.reader.read_record(there, &mut self.cells[written..], &mut self.ends[columns..]);
            input.take(read);
            (written, columns) = (written + more, columns + ended);
            match result {
                ReadRecordResult::InputEmpty => {}
                // It is read on to its end, so that the next one begins where it does.
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    (written, columns, fits) = (0, 0, false);
                }
                ReadRecordResult::Record if !fits => return Ok(Record::Bad("too_long")),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(Record::End),
            }
        }
        let Ok(text) = std::str::from_utf8(&self.cells[..written]) else { return Ok(Record::Bad("malformed")) };
        let starts = std::iter::once(0).chain(self.ends[..columns].iter().copied());
        let cells = starts.zip(&self.ends[..columns]).map(|(start, end)| text.get(start..*end));
        Ok(cells.collect::<Option<_>>().map_or(Record::Bad("malformed"), Record::Cells))
    }
}

/// Which columns of a long form nothing is known of, or were named before. A misspelt one would leave a value wider than it
/// was meant. They are named by their place: a file without a header has a value in its first line.
fn unknown(header: &[&str]) -> Option<String> {
    let name = |at: usize| header[at].trim();
    let is_known = |at: usize| ["field", "value"].contains(&name(at)) || BESIDE.contains(&name(at));
    let is_first = |at: usize| (0..at).all(|before| name(before) != name(at));
    let others: Vec<String> =
        (0..header.len()).filter(|at| !is_known(*at) || !is_first(*at)).map(|at| (at + 1).to_string()).collect();
    let which = match others.as_slice() {
        [] => return None,
        [one] => format!("column {one}"),
        [first @ .., last] => format!("columns {} and {last}", first.join(", ")),
    };
    Some(format!(
        "of {which} nothing is known: there are field, value, {} and {}, each once",
        BESIDE[..3].join(", "),
        BESIDE[3]
    ))
}

/// Line ends between records, so that the line a record begins on is known.
fn skip_line_ends<R: Read>(input: &mut Input<R>) -> io::Result<()> {
    loop {
        let there = input.peek()?;
        let count = there.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if count == 0 {
            return Ok(());
        }
        input.take(count);
    }
}

/// The values of a record. In the wide form an empty cell is none.
fn values(line: u64, cells: &[&str], columns: &Columns) -> VecDeque<Found> {
    let cell = |at: usize| cells.get(at).copied();
    let reject = |code: &str| VecDeque::from([Found::Reject(Reject::of(line, code))]);
    match columns {
        Columns::Unread => VecDeque::new(),
        Columns::Long { field, value, beside } => {
            let (Some(field), Some(value)) = (cell(*field), cell(*value)) else { return reject("missing") };
            let [ttl_seconds, uses, flows, purposes] = beside.map(|at| at.and_then(cell).unwrap_or_default());
            match Item::of(field.trim(), value, &Beside { ttl_seconds, uses, flows, purposes }) {
                Ok(item) => VecDeque::from([Found::Item { line, item, named: false }]),
                Err(column) => reject(&format!("validation {column} type")),
            }
        }
        Columns::Wide(fields) => {
            let there =
                fields.iter().filter_map(|(at, field)| Some((field, cell(*at).filter(|cell| !cell.is_empty())?)));
            let item = |(field, value): (&FieldName, &str)| Item::of(field.as_str(), value, &Beside::default()).ok();
            there.filter_map(item).map(|item| Found::Item { line, item, named: true }).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, wanted: &[(&str, &str)]) -> Vec<(u64, String)> {
        let mut input = Input::of(text.as_bytes());
        let mut records = Records::new();
        let wanted: Vec<_> =
            wanted.iter().map(|(column, field)| ((*column).to_owned(), field.parse().unwrap())).collect();
        records.read_header(&wanted, &mut input).unwrap().unwrap();
        let mut seen = Vec::new();
        while let Some(found) = records.next(&mut input).unwrap() {
            seen.push(match found {
                Found::Item { line, item, .. } => (line, String::from_utf8(item.to_json().unwrap().to_vec()).unwrap()),
                Found::Reject(reject) => (reject.line, reject.code),
            });
        }
        assert_eq!(input.taken, text.len() as u64);
        seen
    }

    #[test]
    fn a_record_knows_the_line_it_begins_on_however_its_cells_are_quoted() {
        let text = "value,field,uses\r\n\"one\r\n\"\"more\"\"\",note,\r\n\r\ntwo,note,x\r\nthree,note,2\r\nfour";
        let expected = [
            (2, r#"{"field":"note","value":"one\r\n\"more\""}"#),
            (5, "validation uses type"),
            (6, r#"{"field":"note","value":"three","uses":2}"#),
            (7, "missing"),
        ];
        assert_eq!(all(text, &[]), expected.map(|(line, what)| (line, what.to_owned())));
    }

    #[test]
    fn columns_of_fields_are_values_and_others_are_not_read() {
        let text = "id,card,note\n7,4242,\n8,,hello\n";
        let expected = [(2, r#"{"field":"card-number","value":"4242"}"#), (3, r#"{"field":"note","value":"hello"}"#)];
        let wanted = [("card", "card-number"), ("note", "note")];
        assert_eq!(all(text, &wanted), expected.map(|(line, what)| (line, what.to_owned())));
    }

    #[test]
    fn a_record_with_more_cells_than_the_header_is_not_cut() {
        let seen = all("field,value\npassword,first,second\nnote,b\n", &[]);
        assert_eq!((seen[0].clone(), seen[1].0), ((2, "cells".to_owned()), 3));
        let seen = all("id,secret\n7,first,second\n", &[("secret", "password")]);
        assert_eq!(seen, [(2, "cells".to_owned())]);
    }

    #[test]
    fn a_record_that_is_too_long_stops_no_other() {
        let text = format!("field,value\nnote,{}\nnote,b\n", "a".repeat(2 * LONGEST));
        let seen = all(&text, &[]);
        assert_eq!((seen[0].clone(), seen[1].0), ((2, "too_long".to_owned()), 3));
    }

    #[test]
    fn a_column_that_would_be_ignored_is_refused_by_its_place() {
        let read = |text: &str| Records::new().read_header(&[], &mut Input::of(text.as_bytes())).unwrap();
        for (header, which) in [
            ("field,value,ttl", "of column 3 "),
            ("4242424242424242,field,value,", "of columns 1 and 4 "),
            ("ttlSeconds,uses,field,a,value,b,uses", "of columns 4, 6 and 7 "),
        ] {
            let why = read(&format!("{header}\nnote,a,1\n")).unwrap_err();
            assert!(why.starts_with(which) && why.contains("ttlSeconds") && !why.contains("4242"), "{why}");
        }
        assert!(read("field,value, uses ,flows,purposes,ttlSeconds\n").is_ok());
    }

    #[test]
    fn a_header_without_what_is_wanted_is_refused_before_anything_is_sent() {
        let mut input = Input::of(&b"a,b\n1,2\n"[..]);
        assert!(Records::new().read_header(&[], &mut input).unwrap().is_err());
    }
}
