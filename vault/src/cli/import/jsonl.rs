//! JSON lines: one object for each value.

use std::io::{self, Read};

use zeroize::Zeroizing;

use super::input::Input;
use super::item::{Found, Item, LONGEST, Reject};
use crate::capture::Fault;
use crate::http::PutValue;

/// Reads the next line that is not empty; nothing at the end.
pub(super) fn next<R: Read>(input: &mut Input<R>) -> io::Result<Option<Found>> {
    loop {
        let (number, mut line, mut fits) = (input.line, Zeroizing::new(Vec::with_capacity(LONGEST)), true);
        let ended = loop {
            let there = input.peek()?;
            if there.is_empty() {
                break true;
            }
            let end = there.iter().position(|byte| *byte == b'\n');
            let part = &there[..end.unwrap_or(there.len())];
            // The buffer never grows: growing would leave a copy behind.
            fits &= line.len() + part.len() <= LONGEST;
            if fits {
                line.extend_from_slice(part);
            }
            let count = part.len() + usize::from(end.is_some());
            input.take(count);
            if end.is_some() {
                break false;
            }
        };
        if !fits {
            return Ok(Some(Found::Reject(Reject::of(number, "too_long"))));
        }
        if line.trim_ascii().is_empty() {
            if ended {
                return Ok(None);
            }
            continue;
        }
        // What is wrong with it is not told: such a message may repeat a value.
        return Ok(Some(match serde_json::from_slice::<Item>(&line) {
            Ok(item) => Found::Item { line: number, item, named: false },
            Err(_) => Found::Reject(Reject::of(number, &fault(&line))),
        }));
    }
}

/// What is wrong with a line that is no item, as the vault would say it: nothing of what stands there.
fn fault(line: &[u8]) -> String {
    let Ok(PutValue(Err(Fault { field, code, .. }))) = serde_json::from_slice(line) else {
        return "malformed".to_owned();
    };
    match (&*field, code) {
        ("items", "unknown") => "unknown_member".to_owned(),
        ("items", _) => "malformed".to_owned(),
        (_, "missing") => code.to_owned(),
        (member, code) => format!("validation {member} {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_one_by_one_and_a_bad_one_stops_no_other() {
        let long = format!("{{\"field\":\"note\",\"value\":\"{}\"}}", "a".repeat(LONGEST));
        let text = format!(
            "\n{{\"field\":\"note\",\"value\":\"one\"}}\r\nnot json\n{long}\n{{\"field\":\"note\",\"value\":\"x\",\"more\":1}}\n\
             {{\"field\":\"note\"}}\n{{\"field\":\"note\",\"value\":4242}}\n{{\"field\":\"note\",\"value\":\"two\",\"uses\":2}}"
        );
        let mut input = Input::of(text.as_bytes());
        let mut seen = Vec::new();
        while let Some(found) = next(&mut input).unwrap() {
            seen.push(match found {
                Found::Item { line, item, .. } => (line, item.field),
                Found::Reject(reject) => (reject.line, reject.code),
            });
        }
        let expected = [
            (2, "note"),
            (3, "malformed"),
            (4, "too_long"),
            (5, "unknown_member"),
            (6, "missing"),
            (7, "validation value type"),
            (8, "note"),
        ];
        assert_eq!(seen, expected.map(|(line, what)| (line, what.to_owned())));
        assert_eq!(input.taken, text.len() as u64);
    }
}
