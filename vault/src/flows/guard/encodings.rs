//! The encodings in which a plaintext is looked for. What a reader undoes (escapes, separators, case) is undone on the
//! text's side in views.rs; what stands for other bytes (base64, hex, UTF-16, reversed) becomes patterns here.

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use super::views::fold;

type Pattern = Zeroizing<Vec<u8>>;

/// Patterns to be found anywhere in a folded text.
pub(super) fn anywhere(piece: &str) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for form in forms(piece) {
        patterns.extend(folded(&form));
        patterns.push(hex(&form));
        for offset in 0..3 {
            for alphabet in base64_inner(&form, offset) {
                patterns.extend(folded(&alphabet));
            }
        }
    }
    patterns
}

/// Patterns to be found as a whole word in a folded text.
pub(super) fn whole(text: &str) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for form in forms(text) {
        patterns.extend(folded(&form));
        patterns.push(hex(&form));
        let encoded = Zeroizing::new(Base64::encode_string(&form));
        let bare = Zeroizing::new(encoded.trim_end_matches('=').as_bytes().to_vec());
        for spelled in [Zeroizing::new(encoded.as_bytes().to_vec()), url_alphabet(&bare), bare] {
            patterns.extend(folded(&spelled));
        }
    }
    patterns.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
    patterns.dedup();
    patterns
}

/// The bytes of a text as it is, in lower and upper case, reversed, and in UTF-16 of both orders.
fn forms(text: &str) -> Vec<Pattern> {
    let (lower, upper) = (Zeroizing::new(text.to_lowercase()), Zeroizing::new(text.to_uppercase()));
    let mut forms = Vec::new();
    for spelled in [text, &lower, &upper] {
        let reversed: Zeroizing<String> = Zeroizing::new(spelled.chars().rev().collect());
        forms.push(Zeroizing::new(spelled.as_bytes().to_vec()));
        forms.push(Zeroizing::new(reversed.as_bytes().to_vec()));
        forms.push(Zeroizing::new(spelled.encode_utf16().flat_map(u16::to_le_bytes).collect()));
        forms.push(Zeroizing::new(spelled.encode_utf16().flat_map(u16::to_be_bytes).collect()));
    }
    forms.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
    forms.dedup();
    forms
}

/// The bytes as a folded text. Bytes that are no UTF-8 cannot stand in one.
fn folded(bytes: &[u8]) -> Option<Pattern> {
    std::str::from_utf8(bytes).ok().map(|text| Zeroizing::new(fold(text).as_bytes().to_vec()))
}

fn hex(bytes: &[u8]) -> Pattern {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len() * 2));
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text
}

/// The characters of base64 that the bytes alone decide when `offset` others come before them, in both alphabets.
fn base64_inner(bytes: &[u8], offset: usize) -> [Pattern; 2] {
    let mut padded = Zeroizing::new(Vec::with_capacity(offset + bytes.len()));
    padded.resize(offset, 0);
    padded.extend_from_slice(bytes);
    let encoded = Zeroizing::new(Base64::encode_string(&padded));
    let inner = encoded.as_bytes().get((offset * 8).div_ceil(6)..padded.len() * 8 / 6).unwrap_or_default();
    [Zeroizing::new(inner.to_vec()), url_alphabet(inner)]
}

fn url_alphabet(standard: &[u8]) -> Pattern {
    let letter = |byte: &u8| match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => *other,
    };
    Zeroizing::new(standard.iter().map(letter).collect())
}
