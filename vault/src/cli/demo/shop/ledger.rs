//! What the shop's server has received so far, for its page to show: keys, never values.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::domain::{Clock, SecureValueKey, ValueId};

/// Bodies kept; a demo needs no more.
const KEPT: usize = 20;

/// The last bodies, newest first.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    bodies: Mutex<VecDeque<(Value, Vec<ValueId>)>>,
}

impl Ledger {
    /// Keeps a body that came to `route`.
    pub(super) fn saw(&self, route: &str, body: &Value) {
        let members = body.as_object().into_iter().flatten();
        let keys = members.filter_map(|(_, value)| value.as_str()?.parse::<SecureValueKey>().ok());
        let value_ids = keys.map(|key| key.value_id()).collect();
        let seen = json!({ "time": Clock::System.now(), "route": route, "body": body });
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.push_front((seen, value_ids));
        bodies.truncate(KEPT);
    }

    /// What was seen, newest first.
    pub(super) fn seen(&self) -> Vec<Value> {
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.iter().map(|(seen, _)| seen.clone()).collect()
    }

    /// The values of the newest body that carried keys: what the page shows the entries of.
    pub(super) fn value_ids(&self) -> Vec<ValueId> {
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = bodies.iter().map(|(_, value_ids)| value_ids).find(|value_ids| !value_ids.is_empty());
        newest.cloned().unwrap_or_default()
    }
}
