//! What is wrong with a TOML document that is not of its shape: where, and which key. Never what stands in a value.

/// Line and column of a fault, and what it is.
#[must_use]
pub fn fault(text: &str, error: &toml::de::Error) -> String {
    let what = what(text, error.message());
    let Some(span) = error.span() else { return what };
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}: {what}")
}

/// The parser's message repeats values: only names of keys are taken out of it, and the kind of the fault.
fn what(text: &str, message: &str) -> String {
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("the key {key} is missing");
    }
    if let Some(rest) = message.strip_prefix("unknown field `") {
        // The last: what stands before it is the document's own.
        let (key, known) = rest.rsplit_once("`, expected ").unwrap_or((rest, ""));
        let known = known.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(", ");
        let key = if is_word(key) { format!("the key {key} is not known") } else { "a key is not known".to_owned() };
        return if known.is_empty() { key } else { format!("{key}; known here: {known}") };
    }
    if message.starts_with("invalid type") {
        return "a value of the wrong type".to_owned();
    }
    match text.parse::<toml::Table>() {
        Ok(_) => "a value that may not stand there; names are of lower-case letters, digits and hyphens".to_owned(),
        Err(_) => "this is not TOML, or a key stands there twice".to_owned(),
    }
}

/// Whether a key is one as documents of ours have: anything else is not repeated.
fn is_word(key: &str) -> bool {
    let is_of_one = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    // Digits alone name no member, and may be what somebody put in the wrong place.
    (1..=40).contains(&key.len())
        && key.bytes().all(is_of_one)
        && key.starts_with(|first: char| first.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Shape {
        name: String,
        steps: Option<BTreeMap<String, Step>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Step {
        url: String,
    }

    fn fault(text: &str) -> String {
        super::fault(text, &toml::from_str::<Shape>(text).unwrap_err())
    }

    #[test]
    fn a_fault_names_its_place_and_its_key_and_repeats_no_value() {
        assert_eq!(fault("steps = {}"), "line 1, column 1: the key name is missing");
        assert!(fault("name = \"a\"\n[steps.one]\n").ends_with("the key url is missing"));
        assert_eq!(
            fault("name = \"a\"\ncolour = \"4242\""),
            "line 2, column 1: the key colour is not known; known here: name, steps"
        );
        assert!(
            fault("name = \"a\"\n[steps.one]\nurl = \"a\"\nuri = \"4242\"")
                .contains("the key uri is not known; known here: url")
        );
        assert_eq!(
            fault("name = \"a\"\n\"4242 `, expected `b`\" = 1"),
            "line 2, column 1: a key is not known; known here: name, steps"
        );
        assert!(fault("name = \"a\"\n4242424242424242 = 1").contains("a key is not known"), "digits are repeated");
        assert_eq!(fault("name = 4242"), "line 1, column 8: a value of the wrong type");
        for broken in ["name = \"4242", "name = 4242 4242", "name = \"a\"\nname = \"4242\"", "= 4242"] {
            let said = fault(broken);
            assert!(
                said.ends_with("this is not TOML, or a key stands there twice") && !said.contains("4242"),
                "{said}"
            );
        }
    }
}
