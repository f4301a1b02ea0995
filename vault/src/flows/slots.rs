//! Encoders: the slot chooses how a value is written, never the flow's author. Buffers are wiped, also when they grow.

use std::fmt::Write as _;

use zeroize::Zeroizing;

/// A growing buffer that leaves no copy of its content behind.
#[derive(Default)]
pub(super) struct WipedBuffer(Zeroizing<Vec<u8>>);

impl WipedBuffer {
    /// Adds bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.0.capacity() - self.0.len() < bytes.len() {
            let mut grown =
                Zeroizing::new(Vec::with_capacity((self.0.capacity() * 2).max(self.0.len() + bytes.len()).max(512)));
            grown.extend_from_slice(&self.0);
            // The old one is wiped by its drop.
            self.0 = grown;
        }
        self.0.extend_from_slice(bytes);
    }

    /// How many bytes it holds.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes.
    pub(super) fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// Adds a JSON string (RFC 8259 section 7).
    pub(super) fn push_json_text(&mut self, text: &str) {
        self.push(b"\"");
        for char in text.chars() {
            match char {
                '"' => self.push(b"\\\""),
                '\\' => self.push(b"\\\\"),
                '\n' => self.push(b"\\n"),
                '\r' => self.push(b"\\r"),
                '\t' => self.push(b"\\t"),
                // Line and paragraph separator end a line for some readers.
                char if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') => {
                    let mut escape = Zeroizing::new(String::with_capacity(6));
                    // Writing to a String cannot fail; all of these are below U+FFFF.
                    let _ = write!(escape, "\\u{:04x}", u32::from(char));
                    self.push(escape.as_bytes());
                }
                char => self.push(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.push(b"\"");
    }

    /// Adds a name or value of `application/x-www-form-urlencoded` (WHATWG URL section 5.2).
    pub(super) fn push_form_text(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                b'*' | b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => self.push(&[byte]),
                b' ' => self.push(b"+"),
                other => self.push_percent(other),
            }
        }
    }

    /// Adds a part of a path's segment: everything but unreserved characters is escaped (RFC 3986 section 2.3).
    pub(super) fn push_segment_text(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => self.push(&[byte]),
                other => self.push_percent(other),
            }
        }
    }

    fn push_percent(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        self.push(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// Whether a header can carry the text as it is: visible ASCII, spaces inside only (RFC 9110 section 5.5).
pub(super) fn fits_header(text: &str) -> bool {
    let visible = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    visible && !text.is_empty() && !text.starts_with(' ') && !text.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(push: impl FnOnce(&mut WipedBuffer)) -> String {
        let mut buffer = WipedBuffer::default();
        push(&mut buffer);
        String::from_utf8(buffer.into_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_header_carries_visible_characters_only() {
        for text in ["a\r\nx: y", "a\nb", "a\0", "a\tb", "\u{e4}", " a", "a ", "", "a\u{7f}"] {
            assert!(!fits_header(text), "{text:?}");
        }
        assert!(fits_header("Bearer x.y-z_1/+="));
    }

    proptest! {
        #[test]
        fn json_reads_back(text in any::<String>()) {
            let json = written(|buffer| buffer.push_json_text(&text));
            prop_assert!(!json.bytes().any(|b| b < 0x20));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn a_form_reads_back(text in any::<String>()) {
            let form = written(|buffer| buffer.push_form_text(&text));
            let form = format!("x={form}&y=z");
            let read: Vec<(String, String)> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
            prop_assert_eq!(read, [("x".to_owned(), text), ("y".to_owned(), "z".to_owned())]);
        }

        #[test]
        fn a_segment_stays_one(text in any::<String>()) {
            let segment = written(|buffer| buffer.push_segment_text(&text));
            prop_assert!(!segment.contains(['/', '?', '#', '\\', '&', ' ', '"']));
        }
    }
}
