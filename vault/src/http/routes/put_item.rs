//! An item of `POST /v1/values` as JSON spells it. Of one that cannot be read it is known which member is wrong.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::capture::{Fault, PutItem};

/// One value; flows, purposes, lifetime and uses narrow the field's own.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", as = PutValue)]
#[expect(dead_code, reason = "it describes an item in the interface's document; PutValue reads one")]
pub(crate) struct PutValueShape {
    field: String,
    value: String,
    #[schema(required = false)]
    flows: Vec<String>,
    #[schema(required = false)]
    purposes: Vec<String>,
    ttl_seconds: Option<u64>,
    uses: Option<u32>,
}

/// An item, or which member of it is wrong. What is not JSON at all is no list of items.
pub(crate) struct PutValue(pub(crate) Result<PutItem, Fault>);

impl<'de> Deserialize<'de> for PutValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any::<Found>(PhantomData)).map(|Member(found)| match found {
            Some(found) => Self(found.item()),
            None => Self(Err(fault("items", "type"))),
        })
    }
}

fn fault(field: &str, code: &'static str) -> Fault {
    Fault { index: None, field: field.to_owned(), code }
}

/// The members that an item may have. Another one's name is not repeated.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Name {
    Field,
    Value,
    Flows,
    Purposes,
    TtlSeconds,
    Uses,
    #[serde(other)]
    Unknown,
}

/// What was read of an item, with the first fault.
#[derive(Default)]
struct Found {
    field: Option<String>,
    value: Option<Zeroizing<String>>,
    flows: Option<Vec<String>>,
    purposes: Option<Vec<String>>,
    ttl_seconds: Option<Option<u64>>,
    uses: Option<Option<u32>>,
    fault: Option<Fault>,
}

impl Found {
    fn item(self) -> Result<PutItem, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        Ok(PutItem {
            field: self.field.ok_or_else(|| fault("field", "missing"))?,
            value: self.value.ok_or_else(|| fault("value", "missing"))?,
            flows: self.flows.unwrap_or_default(),
            purposes: self.purposes.unwrap_or_default(),
            ttl_seconds: self.ttl_seconds.flatten(),
            uses: self.uses.flatten(),
        })
    }
}

/// A member that is of its type, or of another one.
struct Member<T>(Option<T>);

/// What a member may be: any other JSON is read past.
trait Spelled: Sized {
    fn of_text(_: &str) -> Option<Self> {
        None
    }

    fn of_number(_: u64) -> Option<Self> {
        None
    }

    fn of_null() -> Option<Self> {
        None
    }

    fn of_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn of_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl Spelled for String {
    fn of_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Spelled for Zeroizing<String> {
    fn of_text(text: &str) -> Option<Self> {
        Some(Self::new(text.to_owned()))
    }
}

impl<T: TryFrom<u64>> Spelled for Option<T> {
    fn of_number(number: u64) -> Option<Self> {
        T::try_from(number).ok().map(Some)
    }

    fn of_null() -> Option<Self> {
        Some(None)
    }
}

impl Spelled for Vec<String> {
    fn of_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut all = Some(Self::new());
        while let Some(Member(text)) = list.next_element::<Member<String>>()? {
            all = all.zip(text).map(|(mut all, text)| {
                all.push(text);
                all
            });
        }
        Ok(all)
    }
}

impl Spelled for Found {
    fn of_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let mut found = Self::default();
        while let Some(name) = object.next_key()? {
            let wrong = match name {
                Name::Field => take(&mut found.field, "field", &mut object)?,
                Name::Value => take(&mut found.value, "value", &mut object)?,
                Name::Flows => take(&mut found.flows, "flows", &mut object)?,
                Name::Purposes => take(&mut found.purposes, "purposes", &mut object)?,
                Name::TtlSeconds => take(&mut found.ttl_seconds, "ttlSeconds", &mut object)?,
                Name::Uses => take(&mut found.uses, "uses", &mut object)?,
                Name::Unknown => object.next_value::<IgnoredAny>().map(|_| Some(fault("items", "unknown")))?,
            };
            found.fault = found.fault.or(wrong);
        }
        Ok(Some(found))
    }
}

/// Reads a member into its place; what is wrong with it otherwise.
fn take<'de, T: Spelled, A: MapAccess<'de>>(
    place: &mut Option<T>,
    name: &str,
    object: &mut A,
) -> Result<Option<Fault>, A::Error> {
    let Member(read) = object.next_value::<Member<T>>()?;
    if place.is_some() {
        return Ok(Some(fault(name, "duplicate")));
    }
    *place = read;
    Ok(place.is_none().then(|| fault(name, "type")))
}

impl<'de, T: Spelled> Deserialize<'de> for Member<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any(PhantomData))
    }
}

struct Any<T>(PhantomData<T>);

impl<'de, T: Spelled> Visitor<'de> for Any<T> {
    type Value = Member<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Member(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Member(None))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Member(T::of_number(number)))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Member(None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Member(T::of_text(text)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Member(T::of_null()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        T::of_list(list).map(Member)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
        T::of_object(object).map(Member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_is_none_names_its_member_and_keeps_no_other_from_being_read() {
        for (item, field, code) in [
            (r#"{"field":"pw"}"#, "value", "missing"),
            (r#"{"value":"a"}"#, "field", "missing"),
            (r#"{"field":"pw","value":4242}"#, "value", "type"),
            (r#"{"field":"pw","value":null}"#, "value", "type"),
            (r#"{"field":"pw","value":["4242",{"a":[1.5]}]}"#, "value", "type"),
            (r#"{"field":{"a":true},"value":"a"}"#, "field", "type"),
            (r#"{"field":"pw","value":"a","value":"b"}"#, "value", "duplicate"),
            (r#"{"field":"pw","value":"a","flows":["x",1]}"#, "flows", "type"),
            (r#"{"field":"pw","value":"a","ttlSeconds":-1}"#, "ttlSeconds", "type"),
            (r#"{"field":"pw","value":"a","uses":4294967296}"#, "uses", "type"),
            (r#"{"field":"pw","value":"a","4242":[]}"#, "items", "unknown"),
            ("\"4242\"", "items", "type"),
            ("[[]]", "items", "type"),
        ] {
            let list = format!(r#"[{item},{{"field":"pw","value":"a","flows":["x"],"uses":2,"ttlSeconds":null}}]"#);
            let mut read: Vec<PutValue> = serde_json::from_str(&list).unwrap();
            let sound = read.pop().unwrap().0.unwrap_or_else(|fault| panic!("{item}: {fault:?}"));
            assert_eq!((&*sound.field, sound.flows.len(), sound.uses, sound.ttl_seconds), ("pw", 1, Some(2), None));
            let wrong = read.pop().unwrap().0.err().unwrap_or_else(|| panic!("{item} was read"));
            assert_eq!((&*wrong.field, wrong.code), (field, code), "{item}");
        }
    }
}
