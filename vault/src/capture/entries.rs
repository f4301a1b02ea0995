//! Entries about a value: what each says of it.

use crate::access_log::Entry;
use crate::domain::{DataKeyId, Metadata};

/// The entry, with what the log says of a value's fixed part.
#[must_use]
pub fn about(metadata: &Metadata, data_key_id: DataKeyId, entry: Entry) -> Entry {
    Entry {
        app: Some(metadata.app.clone()),
        value_id: Some(metadata.value_id),
        field: Some(metadata.field.clone()),
        kind: Some(metadata.kind),
        retention: Some(metadata.retention),
        data_key_id: Some(data_key_id),
        ..entry
    }
}
