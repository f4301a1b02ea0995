//! A request with something in it changed by chance.

use serde_json::{Value, json};

use super::dice::Dice;
use super::seeds::Seed;

/// A word that no answer that refuses may have in it, and the node's own log neither.
pub const MARKER: &str = "M4q7f13kZp9w5Xv";

/// What parsers are known to stumble over.
const ODD: [&str; 24] = [
    "\0",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "%00",
    "%2e%2e/",
    "..",
    "\u{feff}",
    "\u{202e}",
    MARKER,
];

/// Lines of a head that mean something, where they mean it and where not.
const LINES: [&str; 16] = [
    "content-length: 3",
    "content-length: 99999999999999999999",
    "content-length: -1",
    "transfer-encoding: chunked",
    "transfer-encoding: identity, chunked",
    "host: elsewhere.example",
    "expect: 100-continue",
    "upgrade: h2c",
    "content-type: application/json; charset=utf-16",
    "content-encoding: gzip",
    "idempotency-key: ",
    "range: bytes=0-1",
    "origin: https://elsewhere.example",
    "cookie: a=b",
    "if-none-match: *",
    "x-request-id: \u{7f}",
];

/// Methods that a path mostly does not take.
const METHODS: [&str; 7] = ["DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT", "get", "QUERY"];

/// A request on its way.
pub struct Changed {
    pub bytes: Vec<u8>,
    /// The head is one, and says how long the body is: there is an answer.
    pub is_whole: bool,
    /// Another target stands in it.
    pub has_other_path: bool,
}

impl Seed {
    /// It, changed once or a few times.
    pub fn changed(&self, dice: &mut Dice) -> Changed {
        let (mut path, mut body, mut lines) =
            (self.path.clone().into_bytes(), self.body.clone().into_bytes(), String::new());
        let (kind, mut method) = (dice.below(20), self.method);
        match kind {
            0..=3 if !body.is_empty() => bytes(&mut body, dice),
            4..=13 if !body.is_empty() => body = leaf(&self.body, dice),
            0..=15 => {
                // Most often in the query, where there is one.
                let from = self.path.find('?').filter(|_| dice.below(4) > 0).map_or(0, |at| at + 1);
                let mut end = path.split_off(from);
                bytes(&mut end, dice);
                path.append(&mut end);
                // A blank or a line's end in a target makes another head of it.
                path.retain(|byte| byte.is_ascii_graphic());
            }
            16 => lines = format!("{}\r\n", dice.one_of(&LINES)),
            17 => method = *dice.one_of::<&'static str>(&METHODS),
            _ => {}
        }
        let head = format!(
            "host: {}\r\nauthorization: Bearer {}\r\ncontent-type: {}\r\nidempotency-key: {}\r\nconnection: close\r\n{lines}",
            self.host,
            self.bearer,
            self.media,
            uuid::Uuid::new_v4(),
        );
        let length = if lines.contains("content-length") {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        let mut all =
            [method.as_bytes(), b" ", &path, b" HTTP/1.1\r\n", head.as_bytes(), length.as_bytes(), b"\r\n", &body]
                .concat();
        if kind >= 18 {
            bytes(&mut all, dice);
        }
        Changed {
            bytes: all,
            is_whole: kind < 16 && path.starts_with(b"/"),
            has_other_path: path != self.path.as_bytes(),
        }
    }
}

/// Flips, takes away, repeats, moves in, cuts off.
fn bytes(all: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(all.len() + 1);
        let end = (at + dice.below(9)).min(all.len());
        match dice.below(6) {
            0 if at < all.len() => all[at] ^= 1 << dice.below(8),
            1 if at < all.len() => all[at] = dice.byte(),
            2 => drop(all.drain(at..end)),
            3 => {
                let again = all[at..end].repeat(1 + dice.below(300));
                all.splice(at..at, again);
            }
            4 => all.truncate(at),
            _ => {
                let odd = dice.one_of(&ODD).bytes();
                all.splice(at..at, odd);
            }
        }
    }
}

/// One member or element of a document, another value in its place, or a member more.
fn leaf(text: &str, dice: &mut Dice) -> Vec<u8> {
    let Ok(mut document) = serde_json::from_str::<Value>(text) else {
        let mut body = text.as_bytes().to_vec();
        bytes(&mut body, dice);
        return body;
    };
    let place = inner(&mut document, dice);
    let odd = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!([]),
        json!({}),
        json!(MARKER),
        json!({MARKER: MARKER}),
        json!([MARKER]),
        json!("\u{0}\u{feff}\u{1f600}"),
        json!(MARKER.repeat(3_000)),
        json!(vec![Value::Null; 2_000]),
        (0..200).fold(json!(1), |inner, _| json!([inner])),
    ];
    let odd = dice.one_of(&odd).clone();
    match place {
        Value::Object(members) if dice.below(2) == 0 => drop(members.insert(MARKER.to_owned(), odd)),
        place => *place = odd,
    }
    document.to_string().into_bytes()
}

/// Some part of a document, itself or whatever lies in it.
fn inner<'d>(document: &'d mut Value, dice: &mut Dice) -> &'d mut Value {
    let has_none = |value: &Value| {
        value.as_object().is_none_or(|all| all.is_empty()) && value.as_array().is_none_or(Vec::is_empty)
    };
    if dice.below(4) == 0 || has_none(document) {
        return document;
    }
    match document {
        Value::Object(members) => {
            let at = dice.below(members.len());
            inner(members.values_mut().nth(at).unwrap(), dice)
        }
        Value::Array(elements) => {
            let at = dice.below(elements.len());
            inner(&mut elements[at], dice)
        }
        document => document,
    }
}
