//! The readings of a text: as it is, and with its JSON, HTML and URL escapes undone, round after round.
//!
//! A plaintext may itself look like an escape (`50%41<`), so each round undoes all kinds at once and, where a text has
//! several, each kind alone.

use zeroize::Zeroizing;

/// How often escapes inside escapes are undone.
const ROUNDS: usize = 4;
/// So many readings are made at most, the likely ones first: a text full of escapes must not cost without end.
const MOST: usize = 64;
/// What escapes begin with, by kind.
const KINDS: [char; 3] = ['%', '&', '\\'];

/// Every reading of a text, the text itself first.
pub(super) fn views(text: &str) -> Vec<Zeroizing<String>> {
    let mut views = vec![Zeroizing::new(text.to_owned())];
    if text.contains('+') {
        // A form's spelling of a space.
        views.push(Zeroizing::new(text.replace('+', " ")));
    }
    let mut from = 0;
    for _ in 0..ROUNDS {
        let until = views.len();
        for at in from..until {
            for read in readings(&views[at]) {
                if views.len() < MOST && !views.contains(&read) {
                    views.push(read);
                }
            }
        }
        from = until;
    }
    views
}

/// A text with its escapes undone: all of them, then each kind alone.
fn readings(text: &str) -> Vec<Zeroizing<String>> {
    let kinds: Vec<char> = KINDS.into_iter().filter(|kind| text.contains(*kind)).collect();
    let alone = kinds.iter().filter(|_| kinds.len() > 1).filter_map(|kind| unescaped(text, &[*kind]));
    unescaped(text, &kinds).into_iter().chain(alone).collect()
}

/// Without a difference of case.
pub(super) fn fold(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_lowercase())
}

/// Letters and digits only: whatever groups them (spaces, dashes, dots, line ends) is left out.
pub(super) fn compact(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.chars().filter(|c| c.is_alphanumeric()).collect())
}

/// The text with each escape of these kinds read once; nothing if it has none.
fn unescaped(text: &str, kinds: &[char]) -> Option<Zeroizing<String>> {
    if !text.contains(kinds) {
        return None;
    }
    let mut read = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    let mut found = false;
    while let Some(head) = rest.first() {
        let escape = match head {
            head if !kinds.contains(&char::from(*head)) => None,
            b'%' => percent(rest),
            b'&' => entity(rest),
            b'\\' => backslash(rest),
            _ => None,
        };
        if let Some((escaped, length)) = escape {
            match escaped {
                Escaped::Byte(byte) => read.push(byte),
                Escaped::Char(char) => read.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            found = true;
            rest = &rest[length..];
        } else {
            read.push(*head);
            rest = &rest[1..];
        }
    }
    found.then(|| Zeroizing::new(String::from_utf8_lossy(&read).into_owned()))
}

enum Escaped {
    /// `%41`: a byte of UTF-8.
    Byte(u8),
    /// Any other: a character.
    Char(char),
}

/// `%41`
fn percent(rest: &[u8]) -> Option<(Escaped, usize)> {
    let byte = u8::try_from(number(rest.get(1..3)?, 16)?).ok()?;
    Some((Escaped::Byte(byte), 3))
}

/// `&#65;` `&#x41;` `&amp;`
fn entity(rest: &[u8]) -> Option<(Escaped, usize)> {
    let end = rest.iter().take(12).position(|byte| *byte == b';')?;
    let char = match &rest[1..end] {
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        [b'#', b'x' | b'X', digits @ ..] => char::from_u32(number(digits, 16)?)?,
        [b'#', digits @ ..] => char::from_u32(number(digits, 10)?)?,
        _ => return None,
    };
    Some((Escaped::Char(char), end + 1))
}

/// `\u0041` (also as a pair of surrogates), `\u{41}`, `\x41`, `\n`, `\"`, `\/`, `\\`
fn backslash(rest: &[u8]) -> Option<(Escaped, usize)> {
    let char = match rest.get(1)? {
        b'u' if rest.get(2) == Some(&b'{') => {
            let end = rest.iter().take(12).position(|byte| *byte == b'}')?;
            return Some((Escaped::Char(char::from_u32(number(&rest[3..end], 16)?)?), end + 1));
        }
        b'u' => {
            let high = number(rest.get(2..6)?, 16)?;
            if let Some(char) = char::from_u32(high) {
                return Some((Escaped::Char(char), 6));
            }
            let low = rest.get(6..8).filter(|lead| *lead == b"\\u").and_then(|_| number(rest.get(8..12)?, 16))?;
            let low = low.checked_sub(0xdc00)?;
            let joined = 0x10000 + (high.checked_sub(0xd800)? << 10) + low;
            return Some((Escaped::Char(char::from_u32(joined)?), 12));
        }
        b'x' => {
            let byte = u8::try_from(number(rest.get(2..4)?, 16)?).ok()?;
            return Some((Escaped::Byte(byte), 4));
        }
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        other @ (b'"' | b'\'' | b'/' | b'\\') => char::from(*other),
        _ => return None,
    };
    Some((Escaped::Char(char), 2))
}

/// A number that is all digits: no sign, no space.
fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u32::from_str_radix(text, radix).ok()
}
