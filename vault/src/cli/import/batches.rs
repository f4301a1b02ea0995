//! The input cut into requests: always at the same places, so that a request that is sent again is the same one.

use std::io::{self, Read};
use std::thread;

use futures_util::Stream;
use futures_util::stream::poll_fn;
use serde_json::json;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::Format;
use super::csv::Records;
use super::input::Input;
use super::item::{Found, Item, Reject};
use super::jsonl;
use crate::cli::failure::Failure;
use crate::domain::{AppName, FieldName};

/// A request's body stays below what the vault takes (4 MiB).
const BODY: usize = 3 * 1024 * 1024;

/// How the input is read.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    format: Format,
    /// Columns that hold values, and of which field.
    columns: Vec<(String, FieldName)>,
    /// Values in one request.
    most: usize,
}

impl Plan {
    /// A plan of the arguments.
    pub(super) fn new(format: Format, columns: &[String], most: usize) -> Result<Self, Failure> {
        if format == Format::Jsonl && !columns.is_empty() {
            return Err(Failure::new("--field-columns is for CSV").so("leave it out: each JSON line names its field"));
        }
        let read = |text: &String| {
            let (column, field) = text.split_once('=').unwrap_or((text, text));
            let wrong = |_| Failure::new(format!("--field-columns names {field}, which is no field's name"));
            Ok((column.to_owned(), field.parse().map_err(wrong)?))
        };
        Ok(Self { format, columns: columns.iter().map(read).collect::<Result<_, Failure>>()?, most })
    }
}

/// One request, or lines of which none can be sent.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// From 0.
    pub(super) number: u64,
    /// Items as JSON, with commas between.
    items: Zeroizing<Vec<u8>>,
    /// The line of each item, with its field, and whether a column was named for it.
    pub(super) places: Vec<(u64, String, bool)>,
    pub(super) rejects: Vec<Reject>,
    /// Bytes of the input up to its end, and the line its last value begins on.
    pub(super) bytes: u64,
    pub(super) line: u64,
}

impl Batch {
    /// The request's body.
    pub(super) fn body(&self, app: Option<&AppName>) -> Zeroizing<Vec<u8>> {
        let head = app.map_or_else(String::new, |app| format!("\"app\":{},", json!(app.as_str())));
        let mut body = Zeroizing::new(Vec::with_capacity(head.len() + self.items.len() + 16));
        body.extend_from_slice(b"{");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(b"\"items\":[");
        body.extend_from_slice(&self.items);
        body.extend_from_slice(b"]}");
        body
    }

    fn is_full(&self, most: usize) -> bool {
        self.places.len() >= most || self.rejects.len() >= most || self.items.len() >= BODY
    }

    fn last_line(&self) -> u64 {
        let lines = self.places.last().map(|place| place.0).into_iter();
        lines.chain(self.rejects.last().map(|reject| reject.line)).max().unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.places.is_empty() && self.rejects.is_empty()
    }

    fn add(&mut self, line: u64, item: &Item, named: bool) {
        let Some(json) = item.to_json() else {
            self.rejects.push(Reject::of(line, "malformed"));
            return;
        };
        if self.items.capacity() == 0 {
            // Once and for all: growing would leave copies behind. The longest item may come last.
            self.items.reserve_exact(BODY + 6 * super::item::LONGEST);
        }
        if !self.items.is_empty() {
            self.items.push(b',');
        }
        self.items.extend_from_slice(&json);
        self.places.push((line, item.field.clone(), named));
    }
}

/// What comes from the input, in its order.
pub(super) struct Batches;

impl Batches {
    /// Reads standard input from its beginning in a thread of its own; so many batches, which end at that byte, are done and
    /// read over. A thread of the runtime would keep a failed import from ending until the input ends.
    pub(super) fn read(plan: Plan, done: (u64, u64)) -> impl Stream<Item = Result<Batch, Failure>> {
        let (give, mut take) = mpsc::channel(1);
        thread::spawn(move || {
            let input = Input::standard().map_err(|error| unreadable(&error));
            let take = |batch| give.blocking_send(Ok(batch)).is_ok();
            let read = input.and_then(|input| cut(input, &plan, done, take));
            if let Err(failure) = read {
                let _ = give.blocking_send(Err(failure));
            }
        });
        poll_fn(move |context| take.poll_recv(context))
    }
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new("the input cannot be read").because(error)
}

/// Cuts the input; ends early when nobody takes more.
fn cut<R: Read>(
    mut input: Input<R>,
    plan: &Plan,
    (done, bytes): (u64, u64),
    mut give: impl FnMut(Batch) -> bool,
) -> Result<(), Failure> {
    let other = || {
        Failure::new("the input is not the one this import began with")
            .so("give it the same bytes again from their beginning; it skips by itself what is done")
    };
    input.skip_mark().map_err(|error| unreadable(&error))?;
    let mut records = Records::new();
    if plan.format == Format::Csv {
        let header = records.read_header(&plan.columns, &mut input).map_err(|error| unreadable(&error))?;
        let next = "mend the first line of the input, which names its columns: siv import --help shows how";
        header.map_err(|why| Failure::new("the input has no header that can be used").because(why).so(next))?;
    }
    let mut number = 0;
    loop {
        let mut batch = Batch { number, ..Batch::default() };
        let ended = loop {
            let found = match plan.format {
                Format::Csv => records.next(&mut input),
                Format::Jsonl => jsonl::next(&mut input),
            };
            match found.map_err(|error| unreadable(&error))? {
                None => break true,
                Some(Found::Reject(reject)) => batch.rejects.push(reject),
                Some(Found::Item { line, item, named }) => batch.add(line, &item, named),
            }
            if batch.is_full(plan.most) {
                break false;
            }
        };
        (batch.bytes, batch.line) = (input.taken, batch.last_line());
        if number + 1 == done && batch.bytes != bytes || ended && number + 1 < done {
            return Err(other());
        }
        let goes = number >= done && !batch.is_empty();
        if goes && !give(batch) || ended {
            return Ok(());
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The batches after so many that are done, which end at that byte.
    fn cuts(text: &str, done: (u64, u64)) -> Result<Vec<Batch>, Failure> {
        let plan = Plan::new(Format::Csv, &[], 2).unwrap();
        let mut batches = Vec::new();
        cut(Input::of(text.as_bytes()), &plan, done, |batch| {
            batches.push(batch);
            true
        })?;
        Ok(batches)
    }

    const TEXT: &str = "field,value\nnote,a\nnote,b\nnote\nnote,c\nnote,d\n";

    #[test]
    fn the_input_is_cut_at_the_same_places_each_time() {
        let batches = cuts(TEXT, (0, 0)).unwrap();
        let lines: Vec<Vec<u64>> =
            batches.iter().map(|batch| batch.places.iter().map(|(line, ..)| *line).collect()).collect();
        assert_eq!(lines, [vec![2, 3], vec![5, 6]]);
        assert_eq!(batches[1].rejects, [Reject::of(4, "missing")]);
        let app = "shop".parse().unwrap();
        let body = String::from_utf8(batches[0].body(Some(&app)).to_vec()).unwrap();
        assert_eq!(body, r#"{"app":"shop","items":[{"field":"note","value":"a"},{"field":"note","value":"b"}]}"#);
        let rest = cuts(TEXT, (1, batches[0].bytes)).unwrap();
        assert_eq!((rest.len(), rest[0].number), (1, 1));
        assert_eq!(rest[0].body(None), batches[1].body(None));
    }

    #[test]
    fn another_input_is_not_gone_on_with() {
        let bytes = cuts(TEXT, (0, 0)).unwrap()[0].bytes;
        for other in ["field,value\nnote,longer\nnote,b\nnote,c\n", "field,value\n"] {
            assert!(cuts(other, (1, bytes)).is_err(), "{other}");
        }
    }
}
