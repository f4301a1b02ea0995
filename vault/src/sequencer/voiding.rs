//! Values whose uses are counted, after a recovery: a use that was spent after the copy was made would be there again.

use std::collections::BTreeMap;

use super::Error;
use super::recover::{AT_ONCE, Own, Recovery};
use crate::access_log::Action;
use crate::domain::{TenantName, ValueId};
use crate::store::{Committer, CountedValues};

/// So many values are walked past in one step.
const WALKED: usize = 5000;

/// Later than every state version that a value reaches.
const UNREADABLE: u64 = 1 << 52;

impl Recovery {
    /// How many there are.
    pub(super) async fn count_counted_values(&self) -> Result<u64, Error> {
        self.each_counted(async |_| Ok(())).await
    }

    /// A use that was spent after the copy was made would be there again. Each value's entry carries the version that no
    /// row ever has: a row that is put back is older than it.
    pub(super) async fn void_counted_values(&self, committer: &Committer) -> Result<u64, Error> {
        let void = async |step: &CountedValues| {
            if step.unreadable > 0 {
                // Nothing opens them either: the row's own id and tenant are bound into what it holds.
                tracing::error!(rows = step.unreadable, "rows of values with counted uses cannot be read; they stay");
            }
            for found in step.found.chunks(AT_ONCE) {
                self.void(found, committer).await?;
            }
            Ok(())
        };
        self.each_counted(void).await
    }

    /// Walks past all values in steps and does this to what each holds; how many were found.
    async fn each_counted(&self, mut each: impl AsyncFnMut(&CountedValues) -> Result<(), Error>) -> Result<u64, Error> {
        let (mut count, mut last) = (0, None);
        loop {
            let step = self.store.counted_values(last.as_ref(), WALKED).await?;
            each(&step).await?;
            (count, last) = (count + step.found.len() as u64, step.last);
            if last.is_none() {
                return Ok(count);
            }
        }
    }

    async fn void(&self, found: &[(TenantName, ValueId)], committer: &Committer) -> Result<(), Error> {
        let mut tenants: BTreeMap<&TenantName, Own> = BTreeMap::new();
        for (tenant, value_id) in found {
            let mut entry = self.entry(tenant, Action::ValueExpired, committer);
            (entry.reason, entry.value_id) = (Some("log.recovered"), Some(*value_id));
            entry.state_version = Some(self.version_after(tenant, *value_id).await?);
            let own = tenants.entry(tenant).or_default();
            own.removed.push(*value_id);
            own.entries.push(entry);
        }
        for (tenant, changes) in tenants {
            self.submit(tenant.clone(), changes, committer).await?;
        }
        Ok(())
    }

    /// The state version after a value's newest one.
    async fn version_after(&self, tenant: &TenantName, value_id: ValueId) -> Result<u64, Error> {
        let newest = match self.store.value(tenant, value_id).await.map_err(Error::from) {
            Ok(value) => value
                .map_or(0, |value| value.newest_state_version.max(value.state.map_or(0, |state| state.state.version))),
            // Whatever somebody made of its rows: it goes, and nothing of it comes back.
            Err(error) if error.is_evidence() => UNREADABLE,
            Err(error) => return Err(error),
        };
        Ok(newest + 1)
    }
}
