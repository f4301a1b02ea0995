//! Leaves: one spelling, personal members hidden, nothing of them readable after erasure.

use super::{boot, full_entry, mutations, small_entry};
use crate::access_log::{Entry, Error, Leaf, ObjectVersion, Opening, Personal, Position, Salts};

fn position() -> Position {
    Position { boot: boot(), lane: 1, number: 41 }
}

#[test]
fn a_leaf_reads_back_and_shows_no_personal_member() {
    let entry = full_entry();
    let (leaf, openings) = Leaf::seal(&entry, &position(), &Salts::from_bytes([[9; 32]; 4])).unwrap();
    assert_eq!(leaf.as_bytes()[0], 1);
    let text = std::str::from_utf8(&leaf.as_bytes()[1..]).unwrap();
    assert!(text.is_ascii());
    for personal in ["user-7", "192.0.2.7", "Caf", "order"] {
        assert!(!text.contains(personal), "{personal}");
    }
    let parsed = Leaf::parse(leaf.as_bytes()).unwrap();
    assert_eq!(parsed.position, position());
    assert_eq!((parsed.tenant, parsed.state_version), (entry.tenant, Some(2)));
    assert_eq!(parsed.object.unwrap().key, "a\u{2028}\"b");
    let values: Vec<_> = openings.iter().map(Opening::value).collect();
    assert_eq!(
        values,
        [Some("user-7"), Some("192.0.2.7"), Some("Caf\u{e9} \u{1f600}\u{2028}"), Some("order \"1\"\\\n")]
    );
}

#[test]
fn the_end_of_a_leaf_tells_where_it_stands() {
    let entry = full_entry();
    let (leaf, _) = Leaf::seal(&entry, &position(), &Salts::generate().unwrap()).unwrap();
    let next = Position { number: position().number + 1, ..position() };
    assert!(Leaf::is_placed(leaf.as_bytes(), &entry.tenant, &position()));
    assert!(!Leaf::is_placed(leaf.as_bytes(), &entry.tenant, &next));
    assert!(!Leaf::is_placed(leaf.as_bytes(), &"other".parse().unwrap(), &position()));
    assert!(!Leaf::is_placed(&leaf.as_bytes()[1..], &entry.tenant, &position()));
    assert!(!Leaf::is_placed(&[], &entry.tenant, &position()));
}

#[test]
fn a_leaf_without_personal_members_looks_like_one_with_them() {
    let (leaf, openings) = Leaf::seal(&small_entry(5), &position(), &Salts::generate().unwrap()).unwrap();
    let parsed = Leaf::parse(leaf.as_bytes()).unwrap();
    for opening in &openings {
        assert_eq!(opening.value(), None);
        assert_eq!(parsed.commitment(opening.member), opening.commitment());
    }
    let text = std::str::from_utf8(&leaf.as_bytes()[1..]).unwrap();
    for name in ["\"onBehalfOf\":\"", "\"address\":\"", "\"name\":\"", "\"reference\":\""] {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn no_byte_of_a_leaf_may_be_altered_unnoticed() {
    for entry in [full_entry(), small_entry(1)] {
        let (leaf, _) = Leaf::seal(&entry, &position(), &Salts::from_bytes([[9; 32]; 4])).unwrap();
        let text = std::str::from_utf8(leaf.as_bytes()).unwrap();
        for altered in mutations(text) {
            // What still reads is another leaf with another hash; nothing panics.
            if Leaf::parse(altered.as_bytes()).is_ok() {
                assert_ne!(Leaf::from_stored(altered.into_bytes()).hash(), leaf.hash());
            }
        }
    }
}

#[test]
fn other_spellings_of_the_same_members_are_refused() {
    let (leaf, _) = Leaf::seal(&full_entry(), &position(), &Salts::from_bytes([[9; 32]; 4])).unwrap();
    let text = std::str::from_utf8(leaf.as_bytes()).unwrap();
    for altered in [
        text.replace("\"outcome\":\"denied\"", "\"outcome\": \"denied\""),
        text.replace("\"uses\":0", "\"uses\":0.0"),
        text.replace("\\u2028", "\u{2028}"),
        text.replace("\"uses\":0,", "\"uses\":0,\"pan\":1,"),
        text.replace("\"reason\":\"policy.denied\"", "\"reason\":null"),
        text.replace("\"build\":\"siv-0.1.0\"", "\"boot\":\"siv-0.1.0\""),
        text.replace("036.007Z", "036.0070Z").replace(".007Z", ".0070Z"),
        text.replacen('\u{1}', "\u{2}", 1),
    ] {
        assert_ne!(altered, text);
        assert_eq!(Leaf::parse(altered.as_bytes()), Err(Error::Leaf), "{altered}");
    }
}

#[test]
fn an_entry_too_long_for_a_bundle_is_refused() {
    let mut entry = small_entry(1);
    entry.destination = Some("a".repeat(70_000));
    let sealed = Leaf::seal(&entry, &position(), &Salts::from_bytes([[9; 32]; 4]));
    assert_eq!(sealed.map(|_| ()), Err(Error::LeafTooLong));
}

#[test]
fn an_erased_opening_shows_as_such_and_a_foreign_one_is_refused() {
    let (leaf, openings) = Leaf::seal(&full_entry(), &position(), &Salts::generate().unwrap()).unwrap();
    let parsed = Leaf::parse(leaf.as_bytes()).unwrap();
    let json = parsed.to_json(Some(12), &openings).unwrap();
    assert_eq!(json["index"], 12);
    assert_eq!(json["integrated"], true);
    assert_eq!(json["origin"]["address"], "192.0.2.7");
    assert_eq!(json["origin"]["app"], "demo-shop");
    assert_eq!(json["actor"]["name"], "Caf\u{e9} \u{1f600}\u{2028}");
    assert_eq!(json["type"], "card-number");
    assert_eq!(json["flow"]["version"], 3);
    assert!(!json.contains_key("erased"));
    assert_eq!(json.keys().next().unwrap(), "index");

    let left = &openings[1..];
    let json = parsed.to_json(None, left).unwrap();
    assert_eq!((&json["onBehalfOf"], &json["erased"][0]), (&serde_json::Value::Null, &"onBehalfOf".into()));
    assert_eq!((&json["index"], &json["integrated"]), (&serde_json::Value::Null, &false.into()));

    let (_, foreign) = Leaf::seal(&full_entry(), &position(), &Salts::generate().unwrap()).unwrap();
    assert_eq!(parsed.to_json(None, &foreign), Err(Error::Commitment));
}

#[test]
fn the_aad_of_an_opening_names_its_place() {
    let one = Opening::aad(Personal::Reference, &position(), &"demo".parse().unwrap());
    let other = Position { number: 42, ..position() };
    assert_ne!(one, Opening::aad(Personal::Reference, &other, &"demo".parse().unwrap()));
    assert_ne!(one, Opening::aad(Personal::Address, &position(), &"demo".parse().unwrap()));
    assert_ne!(one, Opening::aad(Personal::Reference, &position(), &"other".parse().unwrap()));
}

#[test]
fn a_leaf_holds_the_version_it_was_written_for_and_no_text_passes_for_one() {
    let mut entry = full_entry();
    let object = entry.object.clone().unwrap();
    let sealed = |entry: &Entry| Leaf::seal(entry, &position(), &Salts::generate().unwrap()).unwrap().0;
    let leaf = sealed(&entry);
    let holds = |leaf: &Leaf, object: &ObjectVersion| Leaf::holds(leaf.as_bytes(), &full_entry().tenant, object);
    assert!(holds(&leaf, &object));
    assert!(!Leaf::holds(leaf.as_bytes(), &"other".parse().unwrap(), &object));
    assert!(!Leaf::holds(&leaf.as_bytes()[1..], &entry.tenant, &object));
    for other in [
        ObjectVersion { version: object.version + 1, ..object.clone() },
        ObjectVersion { digest: [3; 32], ..object.clone() },
        ObjectVersion { key: format!("{}x", object.key), ..object.clone() },
        ObjectVersion { table: "apps", ..object.clone() },
    ] {
        assert!(other == object || !holds(&leaf, &other), "{other:?}");
    }
    // The very text, where only a string can hold it.
    let text = std::str::from_utf8(&leaf.as_bytes()[1..]).unwrap();
    let from = text.find(",\"object\":").unwrap();
    entry.object = None;
    entry.facts.push(("said", text[from..].to_owned()));
    entry.destination = Some(text[from..].to_owned());
    assert!(!holds(&sealed(&entry), &object));
}
