//! What a caller calls its request (`X-Request-Id`): what of it is taken over. The vault's own id is [`crate::domain::RequestId`].

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderName;
use uuid::{Uuid, Variant};

use crate::domain::{RequestId, luhn};

/// The header, in and out.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters at most.
const LONGEST: usize = 128;

/// Characters of a UUID in its usual spelling.
const HYPHENATED: usize = 36;

/// How what opens a value or a door begins: `secureValueKey`s, and credentials of every kind.
const SECRETS: [&str; 2] = ["svk_", "siv_"];

/// A caller's own name of its request: it comes back to the caller and stands in the node's own log, so it is nothing that
/// could break a line there, and nothing that is known for a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenId(Arc<str>);

impl GivenId {
    /// The one that came with a request; nothing where it is not spelled as one.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(REQUEST_ID)?.to_str().ok()?;
        let is_spelled = (1..=LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
        // Anywhere and in any case: as a part of a longer id, a key would stand in the log just the same.
        let lower = text.to_ascii_lowercase();
        let is_secret = SECRETS.iter().any(|prefix| lower.contains(prefix));
        let is_harmless = !is_secret && (is_made_as_uuid(text) || !holds_card_number(text));
        (is_spelled && is_harmless).then(|| Self(text.into()))
    }

    /// As the access log has it, where it is a UUID in any spelling.
    pub(crate) fn as_uuid(&self) -> Option<RequestId> {
        Uuid::try_parse(&self.0).ok().map(|id| RequestId::from_bytes(id.into_bytes()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this is a UUID as generators make and spell them (RFC 9562 section 4: hyphens, variant, version), and with a letter in it.
/// Now and then its digits pass for a card number by chance; nobody spells a card number like that by mistake.
fn is_made_as_uuid(text: &str) -> bool {
    let is_made = |id: Uuid| id.get_variant() == Variant::RFC4122 && (1..=8).contains(&id.get_version_num());
    text.len() == HYPHENATED
        && Uuid::try_parse(text).is_ok_and(is_made)
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Whether digits stand together, with or without separators, that could be a card number: a page's mistake must not write one into
/// a log. Other digits may stand before and behind it.
fn holds_card_number(text: &str) -> bool {
    text.split(|c: char| c.is_ascii_alphabetic()).any(|part| {
        let digits: String = part.chars().filter(char::is_ascii_digit).collect();
        (0..digits.len()).any(|from| {
            let windows = (13..=19).filter_map(|length| digits.get(from..from + length));
            windows.into_iter().any(|window| luhn::brand(window) != "unknown" && luhn::is_valid(window))
        })
    })
}

impl fmt::Display for GivenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn given(text: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_bytes(text.as_bytes()).unwrap())]);
        GivenId::of(&headers).map(|id| id.to_string())
    }

    #[test]
    fn what_is_spelled_as_an_id_is_one() {
        let longest = "x".repeat(LONGEST);
        for text in ["req-42", "7", "a.B:c-9", "01890f3c5a1b7c3d8e4f0123456789ab", &longest] {
            assert_eq!(given(text).as_deref(), Some(text));
        }
        for text in ["", "req 42", "req\u{e9}", "a/b", "a\"b", "a,b", "{a}", "a;b", "a\tb", &"x".repeat(LONGEST + 1)] {
            assert_eq!(given(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_or_a_credential_is_no_id_wherever_it_stands_in_it() {
        let key = format!("svk_{}", "0".repeat(64));
        let upper = key.to_uppercase();
        for text in [&key, &upper, "siv_flow_AAAA", "siv_cap_AAAA", "req:svk_0", "req-SIV_app_A"] {
            assert_eq!(given(text), None, "{text}");
        }
        for text in [
            "4242424242424242",
            "req-4242-4242-4242-4242",
            "pan:4000000000000002x",
            "4242424242424242-1",
            "1-4242424242424242",
            "order:7:4242424242424242",
            "20261127-4242424242424242.5",
            "42424242-4242-4242-0000-000000000000",
        ] {
            assert_eq!(given(text), None, "{text}");
        }
        for text in ["req-1795000000001", "01890f3c-5a1b-7c3d-8e4f-0123456789ab"] {
            assert_eq!(given(text).as_deref(), Some(text));
        }
        assert_eq!(given("svk.and.siv").as_deref(), Some("svk.and.siv"));
    }

    #[test]
    fn a_uuid_whose_digits_pass_for_a_card_number_by_chance_is_an_id_all_the_same() {
        let chance = "01a2146f-4242-7424-8424-242424242abc";
        assert!(holds_card_number(chance));
        assert_eq!(given(chance).as_deref(), Some(chance));
        // No letter, no hyphens, no version, and not the variant.
        for text in [
            "42424242-4242-4242-8424-242424242424",
            "4242424242424242abcdef0123456789",
            "01a2146f-4242-0424-8424-242424006abc",
            "01a2146f-4242-7424-0424-242424242abc",
        ] {
            assert!(holds_card_number(text));
            assert_eq!(given(text), None, "{text}");
        }
    }
}
