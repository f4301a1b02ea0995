//! Canonical JSON: members in the order of the type, no white space, ASCII only (all else as `\uXXXX`, UTF-16).

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// The one text of `document`.
pub(super) fn canonical(document: &impl Serialize) -> String {
    let mut bytes = Vec::with_capacity(512);
    write_canonical(document, &mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

/// The same, behind what stands in `bytes` already.
pub(super) fn write_canonical(document: &impl Serialize, bytes: &mut Vec<u8>) {
    let written = document.serialize(&mut Serializer::with_formatter(bytes, Ascii));
    // Our own types hold strings, numbers and lists only, and a Vec takes every write.
    debug_assert!(written.is_ok(), "a type of this room does not serialise");
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if character.is_ascii() {
                writer.write_all(&[character as u8])?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_one_ascii_spelling() {
        assert_eq!(canonical(&"a\"\\\n\u{1}/<é\u{2028}😀"), r#""a\"\\\n\u0001/<\u00e9\u2028\ud83d\ude00""#);
    }
}
