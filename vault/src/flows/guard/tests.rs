//! What the guard finds in answers and errors, in every spelling.

use proptest::prelude::*;

use super::*;

fn watching(texts: &[&str]) -> Guard {
    let plaintexts: Vec<Plaintext> =
        texts.iter().map(|text| Plaintext::new(Zeroizing::new((*text).to_owned()))).collect();
    Guard::new(&plaintexts.iter().collect::<Vec<_>>())
}

fn base64(bytes: &[u8], url: bool) -> String {
    use base64ct::{Base64, Base64UrlUnpadded, Encoding};
    if url { Base64UrlUnpadded::encode_string(bytes) } else { Base64::encode_string(bytes) }
}

fn hex(bytes: &[u8]) -> String {
    crate::domain::text::hex::encode(bytes)
}

/// Spellings of a text by means that are not the guard's own.
fn spellings(text: &str) -> Vec<(&'static str, String)> {
    let each = |spell: &dyn Fn(char) -> String| text.chars().map(spell).collect::<String>();
    let utf16 = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let units = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|u| format!("\\u{u:04X}")).collect::<String>();
    let grouped = |by: &str| {
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(4).map(|c| c.iter().collect::<String>()).collect::<Vec<_>>().join(by)
    };
    let quoted = serde_json::to_string(text).unwrap();
    vec![
        ("raw", text.to_owned()),
        ("upper", text.to_uppercase()),
        ("lower", text.to_lowercase()),
        ("reversed", text.chars().rev().collect()),
        ("JSON", quoted[1..quoted.len() - 1].to_owned()),
        ("JSON, every character", each(&units)),
        ("HTML decimal", each(&|c| format!("&#{};", u32::from(c)))),
        ("HTML hexadecimal", each(&|c| format!("&#x{:x};", u32::from(c)))),
        ("HTML named", text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")),
        ("URL", url::form_urlencoded::byte_serialize(text.as_bytes()).collect()),
        ("URL, every byte", text.bytes().map(|b| format!("%{b:02x}")).collect()),
        ("URL, twice", text.bytes().map(|b| format!("%25{b:02X}")).collect()),
        ("hex", hex(text.as_bytes())),
        ("HEX", hex(text.as_bytes()).to_uppercase()),
        ("hex with colons", text.bytes().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")),
        ("hex of UTF-16 LE", hex(&utf16(u16::to_le_bytes))),
        ("hex of UTF-16 BE", hex(&utf16(u16::to_be_bytes))),
        ("base64 of UTF-16 LE", base64(&utf16(u16::to_le_bytes), false)),
        ("groups with spaces", grouped(" ")),
        ("groups with dashes", grouped("-")),
        ("groups with dots", grouped(".")),
        ("base64", base64(text.as_bytes(), false)),
        ("base64url", base64(text.as_bytes(), true)),
        ("base64, one before", base64(format!("?{text}!").as_bytes(), false)),
        ("base64url, two before", base64(format!("?~{text}").as_bytes(), true)),
    ]
}

#[test]
fn a_card_number_is_found_in_every_spelling_and_by_its_halves() {
    let guard = watching(&["4242424242424242"]);
    for (name, spelled) in spellings("4242424242424242") {
        assert!(guard.finds(&format!("ok: {spelled} done")), "{name}: {spelled}");
    }
    for text in
        ["x42424242x", "4242 4242", "4.2.4.2.4.2.4.2", "%34%32424242424242", "4242\\u003442424242", "42-42-42-42"]
    {
        assert!(guard.finds(text), "{text}");
    }
    for text in ["4242", "424242", "visa", "ch_1J2k3L4m", "approved", "", "424-242"] {
        assert!(!guard.finds(text), "{text}");
    }
}

#[test]
fn a_short_secret_counts_as_a_whole_word_only() {
    let guard = watching(&["123"]);
    for text in ["123", "cvc 123", "cvc=123;", "ch_123", "MTIz", "313233", "x %31%32%33 x", "1 2 3", "&#49;23"] {
        assert!(guard.finds(text), "{text}");
    }
    for text in ["ch_1234", "91230", "a123", "order-1", "12", "13"] {
        assert!(!guard.finds(text), "{text}");
    }
    assert!(watching(&["12/30"]).finds("valid until 12/30"));
    assert!(watching(&["12/30"]).finds("12%2F30"));
    assert!(!watching(&["12/30"]).finds("12/2030"));
}

#[test]
fn a_secret_that_looks_like_an_escape_is_found_escaped_and_undone() {
    for (secret, texts) in [
        ("abc%41d<fgh", ["abc%41d<fgh", "abc%41d&lt;fgh", "abcAd<fgh", "abc%2541d%3Cfgh"]),
        (r"pa\ne&word1", [r"pa\ne&word1", r"pa\ne&amp;word1", "pa\ne&word1", r"pa\\ne&amp;word1"]),
        ("a%41bc&def", ["a%41bc&def", "a%41bc&amp;def", "aAbc&def", "a%2541bc%26def"]),
        (r"%5c\n&secret", [r"%5c\\n&secret", r"%5c\n&amp;secret", r"%255c%5Cn%26secret", r"%5c\n&secret"]),
        // Too short to be found inside others; as the field's whole text it is.
        ("%41<1", ["%41<1", "%41&lt;1", "A<1", "%2541%3C1"]),
    ] {
        let guard = watching(&[secret]);
        for text in texts {
            assert!(guard.finds(text), "{secret}: {text}");
        }
    }
}

#[test]
fn both_halves_of_an_odd_length_are_watched() {
    let guard = watching(&["4929123456781"]);
    for text in ["x4929123x", "4929-123", "a3456781b", "4929123"] {
        assert!(guard.finds(text), "{text}");
    }
    assert!(!guard.finds("x492912x") && !guard.finds("x456781x"));
}

#[test]
fn a_short_secret_is_a_whole_field_however_it_is_parted() {
    let guard = watching(&["12/30"]);
    for text in ["1230", "12-30", "12 30", "12.30", "1 2 3 0", "12%2F30", "MTIvMzA="] {
        assert!(guard.finds(text), "{text}");
    }
    for text in ["ch_1230", "12/2030", "1230 USD", "12-31"] {
        assert!(!guard.finds(text), "{text}");
    }
}

#[test]
fn what_is_declassified_is_no_hit() {
    let guard = watching(&["4242424242424242", "correct horse"]);
    for text in ["4242", "424242", "visa", "12/30"] {
        assert!(!guard.finds(text), "{text}");
    }
}

#[test]
fn an_empty_guard_finds_nothing() {
    assert!(!Guard::default().finds("anything"));
}

proptest! {
    #[test]
    fn a_secret_is_found_in_any_spelling_within_any_text(
        secret in "[ -~äßß€😀]{7,40}", before in "[ -~]{0,30}", after in "[ -~]{0,30}",
    ) {
        let guard = watching(&[&secret]);
        for (name, spelled) in spellings(&secret) {
            // Where letters carry a value (hex, base64), letters beside it belong to the same run of letters.
            let (before, after) = (format!("{before} "), format!(" {after}"));
            // A text that begins with half an escape may spoil the next one; a reader would be spoilt too.
            let before = before.replace(['%', '&', '\\'], "_");
            // Only what has letters or digits is recognisable in groups.
            let grouped = name.starts_with("groups") || name.contains("colons");
            if grouped && secret.chars().filter(|c| c.is_alphanumeric()).count() < 7 {
                continue;
            }
            let changes_length = secret.to_uppercase().chars().count() != secret.chars().count();
            if changes_length {
                continue;
            }
            prop_assert!(guard.finds(&format!("{before}{spelled}{after}")), "{name}: {spelled}");
        }
    }

    #[test]
    fn digits_beside_a_card_number_are_no_hit(other in "[0-9]{4,6}", word in "[a-z]{3,12}") {
        let guard = watching(&["4539578763621486"]);
        let text = format!("{word} {other}");
        prop_assert!(!guard.finds(&text));
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), secret in any::<String>()) {
        let _ = watching(&[&secret]).finds(&text);
    }
}
