//! One value of an import on its way into a request.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The longest line or record: a value of the longest field, each byte of it escaped, fits.
pub(super) const LONGEST: usize = 128 * 1024;

/// An item of `POST /v1/values`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Item {
    pub(super) field: String,
    value: Text,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flows: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    purposes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uses: Option<u32>,
}

/// A value in the clear. It is wiped, and shows nothing.
struct Text(Zeroizing<String>);

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(Zeroizing::new(text)))
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Text")
    }
}

/// What an item may say beside field and value, as CSV spells it.
#[derive(Debug, Default)]
pub(super) struct Beside<'a> {
    pub(super) ttl_seconds: &'a str,
    pub(super) uses: &'a str,
    pub(super) flows: &'a str,
    pub(super) purposes: &'a str,
}

impl Item {
    /// An item of cells; the name of the column that is wrong if one is. An empty cell says nothing; several names are parted by spaces.
    pub(super) fn of(field: &str, value: &str, beside: &Beside<'_>) -> Result<Self, &'static str> {
        let names = |cell: &str| cell.split_whitespace().map(str::to_owned).collect();
        Ok(Self {
            field: field.to_owned(),
            value: Text(Zeroizing::new(value.to_owned())),
            flows: names(beside.flows),
            purposes: names(beside.purposes),
            ttl_seconds: number(beside.ttl_seconds).map_err(|()| "ttlSeconds")?,
            uses: number(beside.uses).map_err(|()| "uses")?,
        })
    }

    /// As it goes into a request's body.
    pub(super) fn to_json(&self) -> Option<Zeroizing<Vec<u8>>> {
        serde_json::to_vec(self).ok().map(Zeroizing::new)
    }
}

fn number<T: std::str::FromStr>(cell: &str) -> Result<Option<T>, ()> {
    let cell = cell.trim();
    if cell.is_empty() { Ok(None) } else { cell.parse().map(Some).map_err(|_| ()) }
}

/// A line that is not sent, or a value the vault refused. It never holds what stood there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reject {
    pub(super) line: u64,
    /// Where the column itself says which field it is: a cell that should name a field may hold anything.
    pub(super) field: Option<String>,
    pub(super) code: String,
}

impl Reject {
    pub(super) fn of(line: u64, code: &str) -> Self {
        Self { line, field: None, code: code.to_owned() }
    }
}

/// What the reader found.
#[derive(Debug)]
pub(super) enum Found {
    /// A value that stands on this line; whether its field is one that a column is named for.
    Item { line: u64, item: Item, named: bool },
    /// A line that no value can be read from.
    Reject(Reject),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_an_item_and_say_which_of_them_is_wrong() {
        let beside = Beside { ttl_seconds: "60", uses: " 3 ", flows: "charge  refund", purposes: "" };
        let item = Item::of("card-number", "4242", &beside).unwrap();
        let json = String::from_utf8(item.to_json().unwrap().to_vec()).unwrap();
        let expected = r#"{"field":"card-number","value":"4242","flows":["charge","refund"],"ttlSeconds":60,"uses":3}"#;
        assert_eq!(json, expected);
        assert_eq!(Item::of("f", "v", &Beside { uses: "3f9c1e7a", ..Beside::default() }).unwrap_err(), "uses");
        assert!(!format!("{item:?}").contains("4242"));
    }
}
