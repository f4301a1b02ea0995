//! Reads the inputs of an invocation: `secureValueKey`s and typed values, refused by name and code, never by content.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as DeError, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::definition::{Flow, Input};
use super::error::{Error, InputCode, InputFault};
use super::label::Label;
use super::typed::{RawValue, Typed};
use crate::domain::SecureValueKey;

/// The most inputs a caller may send.
const MOST_INPUTS: usize = 64;

/// `inputs` of an invocation as JSON gave them, before the flow is known. Reading never fails on content, so no
/// message of a parser can hold any; strings are wiped.
#[derive(Clone, Default)]
pub struct RawInputs(Vec<(Zeroizing<String>, RawValue)>);

/// Inputs that are what the flow declares.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The keys of secure inputs, in the order of the flow's document.
    pub keys: Vec<(Label, SecureValueKey)>,
    /// All others.
    pub typed: BTreeMap<Label, Typed>,
}

impl Flow {
    /// Reads the inputs of an invocation.
    ///
    /// # Errors
    /// [`Error::Inputs`] with every fault: a missing, unknown or doubled input, or one that is not of its type.
    pub fn read_inputs(&self, raw: RawInputs) -> Result<Inputs, Error> {
        let (mut faults, mut given) = (Vec::new(), BTreeMap::new());
        for (name, value) in raw.0 {
            let label = name.parse::<Label>().ok().filter(|label| self.input(label).is_some());
            let Some(label) = label else {
                faults.push(InputFault { input: shown(&name), code: InputCode::Unknown });
                continue;
            };
            if given.contains_key(&label) {
                faults.push(InputFault { input: label.to_string(), code: InputCode::Duplicate });
            }
            given.insert(label, value);
        }
        let mut inputs = Inputs::default();
        for (name, input) in &self.inputs {
            if let Err(code) = take(&mut inputs, name, input, given.remove(name)) {
                faults.push(InputFault { input: name.to_string(), code });
            }
        }
        if faults.is_empty() { Ok(inputs) } else { Err(Error::Inputs(faults)) }
    }
}

fn take(inputs: &mut Inputs, name: &Label, input: &Input, value: Option<RawValue>) -> Result<(), InputCode> {
    let value = value.ok_or(InputCode::Missing)?;
    match input {
        Input::Typed(spec) => {
            inputs.typed.insert(name.clone(), spec.read(value)?);
        }
        Input::Secure(_) => {
            let RawValue::Text(text) = value else { return Err(InputCode::WrongType) };
            inputs.keys.push((name.clone(), text.parse().map_err(|_| InputCode::SecureValueKey)?));
        }
    }
    Ok(())
}

/// A name that nobody declared is content: it is repeated only if it is short and could be a name.
fn shown(name: &str) -> String {
    let short = name.len() <= 32 && name.bytes().filter(u8::is_ascii_digit).count() < 6;
    if short {
        name.parse::<Label>().ok().map_or_else(|| "(unnamed)".to_owned(), String::from)
    } else {
        "(unnamed)".to_owned()
    }
}

impl fmt::Debug for RawInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawInputs({})", self.0.len())
    }
}

impl<'de> Deserialize<'de> for RawInputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputsVisitor)
    }
}

struct InputsVisitor;

impl<'de> Visitor<'de> for InputsVisitor {
    type Value = RawInputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawInputs, A::Error> {
        let mut inputs = Vec::new();
        while let Some(name) = map.next_key::<RawName>()? {
            let value = map.next_value::<RawValue>()?;
            // What is beyond the limit is read and dropped; the flow then misses it, or it was unknown anyway.
            if inputs.len() < MOST_INPUTS {
                inputs.push((name.0, value));
            }
        }
        Ok(RawInputs(inputs))
    }

    // serde's own refusals quote what they refuse.
    fn visit_bool<E: DeError>(self, _: bool) -> Result<RawInputs, E> {
        Err(E::custom(NO_OBJECT))
    }

    fn visit_i64<E: DeError>(self, _: i64) -> Result<RawInputs, E> {
        Err(E::custom(NO_OBJECT))
    }

    fn visit_u64<E: DeError>(self, _: u64) -> Result<RawInputs, E> {
        Err(E::custom(NO_OBJECT))
    }

    fn visit_f64<E: DeError>(self, _: f64) -> Result<RawInputs, E> {
        Err(E::custom(NO_OBJECT))
    }

    fn visit_str<E: DeError>(self, _: &str) -> Result<RawInputs, E> {
        Err(E::custom(NO_OBJECT))
    }
}

const NO_OBJECT: &str = "inputs is not an object";

struct RawName(Zeroizing<String>);

impl<'de> Deserialize<'de> for RawName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Self(Zeroizing::new(name)))
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Takes anything, so that serde has no reason to complain and to quote.
struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(i64::try_from(value).map_or(RawValue::Other, RawValue::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<RawValue, E> {
        Ok(RawValue::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<RawValue, E> {
        Ok(RawValue::Text(Zeroizing::new(text)))
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawValue, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(RawValue::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(RawValue::Other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Timestamp;
    use crate::flows::document::tests::CHARGE;

    fn read(json: &str) -> Result<Inputs, Error> {
        let raw: RawInputs = serde_json::from_str(json).unwrap();
        Flow::from_toml(CHARGE).unwrap().read_inputs(raw)
    }

    fn key() -> String {
        SecureValueKey::generate(Timestamp::from_millis(1_795_489_236_007)).unwrap().reveal_text().to_string()
    }

    fn faults(json: &str) -> String {
        match read(json) {
            Err(error @ Error::Inputs(_)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn inputs_are_read_in_the_order_of_the_flow() {
        let (card, cvc) = (key(), key());
        let inputs = read(&format!(r#"{{"order":"o-1","cvc":"{cvc}","amount":1200,"card":"{card}"}}"#)).unwrap();
        let names: Vec<&str> = inputs.keys.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["card", "cvc"]);
        assert_eq!(inputs.typed.len(), 2);
    }

    #[test]
    fn a_fault_is_named_and_never_quoted() {
        let card = key();
        for (member, fault) in [
            (r#""amount":0"#, "inputs.amount: range"),
            (r#""amount":"4242424242424242""#, "inputs.amount: type"),
            (r#""amount":1.5"#, "inputs.amount: type"),
            (r#""amount":1e30"#, "inputs.amount: type"),
            (r#""amount":18446744073709551615"#, "inputs.amount: type"),
            (r#""amount":null"#, "inputs.amount: type"),
            (r#""amount":[4242424242424242]"#, "inputs.amount: type"),
            (r#""amount":{"4242424242424242":1}"#, "inputs.amount: type"),
            (r#""order":"a\r\nb""#, "inputs.order: characters"),
            (r#""order":"4242424242424242-4242424242424242-4242424242424242-4242424242424242""#, "inputs.order: range"),
            (r#""cvc":"4242424242424242""#, "inputs.cvc: secure_value_key"),
            (r#""cvc":424242"#, "inputs.cvc: type"),
            (r#""card":"svk_x""#, "inputs.card: duplicate"),
            (r#""colour":"4242424242424242""#, "inputs.colour: unknown"),
            (r#""4242424242424242":1"#, "inputs.(unnamed): unknown"),
            (r#""n4242424242424242":1"#, "inputs.(unnamed): unknown"),
        ] {
            let said = faults(&format!(r#"{{"card":"{card}",{member}}}"#));
            assert!(said.contains(fault), "{member}: {said}");
            assert!(!said.contains("4242"), "{said}");
        }
        assert!(faults("{}").contains("inputs.card: missing"));
    }

    #[test]
    fn what_is_no_object_is_refused_without_a_quotation() {
        for json in ["4242424242424242", r#""4242424242424242""#, "[4242424242424242]", "true", "null"] {
            let said = serde_json::from_str::<RawInputs>(json).unwrap_err().to_string();
            assert!(!said.contains("4242"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn no_json_makes_it_panic(text in any::<String>(), name in any::<String>(), value in any::<String>()) {
            let _ = serde_json::from_str::<RawInputs>(&text);
            let json = serde_json::json!({ name: value }).to_string();
            prop_assert!(read(&json).is_err());
        }
    }
}
