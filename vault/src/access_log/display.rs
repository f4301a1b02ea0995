//! An entry as the log's readers see it: the leaf's members, personal ones in clear where their openings are left.

use serde_json::{Map, Value};

use super::{Error, Opening, ParsedEntry, Personal};

impl ParsedEntry {
    /// The JSON of design.md section 8. Members that do not apply are left out; `index` is null and `integrated` false
    /// before integration; personal members whose openings were erased are named in `erased`.
    ///
    /// # Errors
    /// [`Error::Commitment`] if an opening is not this entry's: then somebody wrote to the openings.
    pub fn to_json(&self, index: Option<u64>, openings: &[Opening]) -> Result<Map<String, Value>, Error> {
        let Ok(Value::Object(members)) = serde_json::to_value(self) else { return Err(Error::Leaf) };
        let mut json = Map::new();
        json.insert("index".to_owned(), index.map_or(Value::Null, Value::from));
        json.extend(members);
        let mut erased = Vec::new();
        for member in Personal::ALL {
            let (object, name) = match member.as_str().split_once('.') {
                Some((outer, name)) => (json.get_mut(outer).and_then(Value::as_object_mut), name),
                None => (Some(&mut json), member.as_str()),
            };
            let object = object.ok_or(Error::Leaf)?;
            let opening = openings.iter().find(|opening| opening.member == member);
            if opening.is_some_and(|opening| opening.commitment() != self.commitment(member)) {
                return Err(Error::Commitment);
            }
            match opening.map(Opening::value) {
                // Assigning keeps the member's place.
                Some(Some(value)) => object[name] = Value::from(value),
                Some(None) => {
                    object.shift_remove(name);
                }
                // The vault's own entries have none, and keep no openings.
                None if self.is_own() => {
                    object.shift_remove(name);
                }
                None => {
                    object[name] = Value::Null;
                    erased.push(Value::from(member.as_str()));
                }
            }
        }
        json.insert("integrated".to_owned(), Value::from(index.is_some()));
        if !erased.is_empty() {
            json.insert("erased".to_owned(), Value::Array(erased));
        }
        Ok(json)
    }
}
