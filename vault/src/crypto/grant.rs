//! The permission to open one value once.

use crate::domain::ValueId;

/// Consumed by opening. Only `flows/policy` issues it (held by the architecture test): it says that credential,
/// flow, app, field, purpose and binding were checked for this value in this run.
#[derive(Debug)]
pub struct OpeningGrant {
    value_id: ValueId,
}

impl OpeningGrant {
    /// Issues a grant. `flows/policy` calls this after its last check, and nobody else.
    #[must_use]
    pub const fn issue_after_policy(value_id: ValueId) -> Self {
        Self { value_id }
    }

    /// The value it is for.
    #[must_use]
    pub const fn value_id(&self) -> ValueId {
        self.value_id
    }
}
