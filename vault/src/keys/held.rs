//! Data keys that one operation keeps while it goes through the committer, which never waits for a key.

use std::sync::Arc;

use super::Keys;
use crate::crypto::DataKey;
use crate::domain::{DataKeyId, TenantName};

/// Keys an operation got before its batch; looks into the cache for all others.
#[derive(Clone)]
pub struct HeldKeys {
    keys: Keys,
    held: Vec<Arc<DataKey>>,
}

impl HeldKeys {
    /// Keeps a key until the operation ends.
    pub fn hold(&mut self, key: Arc<DataKey>) {
        if !self.held.iter().any(|held| held.id() == key.id()) {
            self.held.push(key);
        }
    }

    /// A key that is held, or opened in the cache.
    pub fn get(&self, tenant: &TenantName, id: DataKeyId) -> Option<Arc<DataKey>> {
        let held = self.held.iter().find(|key| key.id() == id);
        held.map(Arc::clone).or_else(|| self.keys.cached(tenant, id))
    }
}

impl std::fmt::Debug for HeldKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeldKeys({})", self.held.len())
    }
}

impl Keys {
    /// An empty hand for one operation.
    #[must_use]
    pub fn held(&self) -> HeldKeys {
        HeldKeys { keys: self.clone(), held: Vec::new() }
    }
}
