//! What a batch's operations want written: checked against the rules of the store, then merged into one set.

use std::sync::Arc;

use super::operation::{Changes, Rows as _, current_state};
use super::overlay::Overlay;
use crate::access_log::Entry;
use crate::domain::{TenantName, Timestamp, ValueId};
use crate::store::Error;
use crate::store::batch::WriteSet;
use crate::store::row_seal::RowSeal;
use crate::store::rows::{DecidingRow, StateRow, Table};

/// `created` lies within this of the batch's clock (docs/formats.md section 3), in milliseconds.
const CREATED_WITHIN: u64 = 60_000;

/// Refuses changes that break a rule of the store. A conflict is one operation's; a broken rule is a fault of ours.
pub(super) fn check(changes: &Changes, overlay: &Overlay, now: Timestamp, tenant: &TenantName) -> Result<(), Error> {
    for row in &changes.new_values {
        if row.metadata.created.as_millis().abs_diff(now.as_millis()) > CREATED_WITHIN {
            return Err(Error::Rule("a value is captured now"));
        }
        if row.metadata.tenant != *tenant {
            return Err(Error::Rule("a value is of its operation's tenant"));
        }
    }
    let view = overlay.view(tenant);
    if changes.resealed.iter().any(|row| view.value(row.metadata.value_id).is_none()) {
        return Err(Error::Rule("a value that is sealed anew was read"));
    }
    let foreign = changes.idempotency.iter().any(|row| row.tenant != *tenant)
        || changes.runs.iter().any(|row| row.tenant != *tenant)
        || changes.data_keys.iter().any(|row| row.tenant != *tenant)
        || changes.capture_keys.iter().any(|row| row.tenant != *tenant);
    if foreign {
        return Err(Error::Rule("a row is of its operation's tenant"));
    }
    changes.states.iter().try_for_each(|state| check_state(state, changes, overlay, tenant))?;
    changes.rows.iter().try_for_each(|row| check_row(row, changes, overlay))
}

/// A state grows with each change, and an entry says so: else an old state could be put back unseen.
fn check_state(state: &StateRow, changes: &Changes, overlay: &Overlay, tenant: &TenantName) -> Result<(), Error> {
    let view = overlay.view(tenant);
    let Some(before) = view.value(state.value_id) else {
        let own = changes.new_values.iter().any(|row| row.metadata.value_id == state.value_id);
        return if own { Ok(()) } else { Err(Error::Rule("a state belongs to a value that was read")) };
    };
    let newest = before.state.as_ref().map_or(0, |row| row.state.version).max(before.newest_state_version);
    let said =
        |entry: &Arc<Entry>| entry.value_id == Some(state.value_id) && entry.state_version == Some(state.state.version);
    if state.state.version <= newest {
        Err(Error::Rule("a state's version grows"))
    } else if !changes.entries.iter().any(said) {
        Err(Error::Rule("an entry carries the version of a changed state"))
    } else {
        Ok(())
    }
}

/// Version n over n - 1, and an entry that says so.
fn check_row(row: &DecidingRow, changes: &Changes, overlay: &Overlay) -> Result<(), Error> {
    if overlay.version(row).is_some_and(|version| row.version != version + 1) {
        return Err(Error::Conflict);
    }
    if row.version == 0 || (row.table == Table::Tenants && row.key != row.tenant.as_str()) {
        return Err(Error::Rule("a row's version begins with 1, and a tenant's row is its own"));
    }
    let said = |entry: &Arc<Entry>| {
        entry.tenant == row.tenant
            && entry.object.as_ref().is_some_and(|object| {
                (object.table, &object.key, object.version) == (row.table.as_str(), &row.key, row.version)
            })
    };
    // A new session opens nothing yet, and each capture through it says which version it makes.
    let silent = row.table == Table::CaptureSessions && row.version == 1;
    if silent || changes.entries.iter().any(said) {
        Ok(())
    } else {
        Err(Error::Rule("an entry of its tenant's log names the version of a row that decides"))
    }
}

/// The tenants whose generation an operation moves on.
pub(super) fn bumped(changes: &Changes, tenant: &TenantName) -> Vec<TenantName> {
    if !changes.bump_generation {
        return Vec::new();
    }
    let mut tenants: Vec<TenantName> = changes.rows.iter().map(|row| row.tenant.clone()).collect();
    tenants.push(tenant.clone());
    tenants.sort_unstable();
    tenants.dedup();
    tenants
}

/// Values whose expiry an operation changes: the purge must know.
pub(super) fn postponed(
    changes: &Changes,
    overlay: &Overlay,
    tenant: &TenantName,
) -> Vec<(ValueId, Option<Timestamp>)> {
    let view = overlay.view(tenant);
    let before = |value_id| match view.value(value_id) {
        Some(value) => Some(current_state(value).expires),
        None => changes.new_values.iter().find(|row| row.metadata.value_id == value_id).map(|row| row.metadata.expires),
    };
    let states = changes.states.iter().filter(|row| before(row.value_id) != Some(row.state.expires));
    states.map(|row| (row.value_id, row.state.expires)).collect()
}

/// Merges an operation's changes into the set; what it changes again after an earlier one replaces that.
pub(super) fn merge(
    changes: Changes,
    bumped: Vec<TenantName>,
    tenant: &TenantName,
    seal: &RowSeal,
    set: &mut WriteSet,
) {
    for row in changes.new_values {
        set.new_values.insert((tenant.clone(), row.metadata.value_id), row);
    }
    for row in changes.resealed {
        set.resealed.insert((tenant.clone(), row.metadata.value_id), row);
    }
    for state in changes.states {
        set.states.insert((tenant.clone(), state.value_id), state);
    }
    for value_id in changes.removed {
        set.new_values.remove(&(tenant.clone(), value_id));
        set.resealed.remove(&(tenant.clone(), value_id));
        set.states.remove(&(tenant.clone(), value_id));
        set.postponed.remove(&(tenant.clone(), value_id));
        set.removed.entry(tenant.clone()).or_default().insert(value_id);
    }
    for (session, enc, until) in changes.encs {
        set.encs.insert((tenant.clone(), session, enc), until);
    }
    for row in changes.idempotency {
        set.idempotency.insert((tenant.clone(), row.lookup), row);
    }
    for row in changes.runs {
        set.runs.insert((tenant.clone(), row.run_id), row);
    }
    for row in changes.rows {
        let place = (row.table, row.tenant.clone(), row.key.clone());
        let base = set.rows.get(&place).map_or(row.version - 1, |(base, _)| *base);
        set.rows.insert(place, (base, seal.seal(row)));
    }
    set.data_keys.extend(changes.data_keys);
    set.removed_data_keys.extend(changes.removed_data_keys.into_iter().map(|id| (tenant.clone(), id)));
    if !changes.closed_data_keys.is_empty() {
        set.closed_data_keys.entry(tenant.clone()).or_default().extend(changes.closed_data_keys);
    }
    set.retired_data_keys.extend(changes.retired_data_keys.into_iter().map(|id| (tenant.clone(), id)));
    set.lost_data_keys.extend(changes.lost_data_keys);
    set.forgotten_guesses.extend(changes.forgotten_guesses.into_iter().map(|token| (tenant.clone(), token)));
    set.capture_keys.extend(changes.capture_keys);
    for tenant in bumped {
        *set.generations.entry(tenant).or_default() += 1;
    }
}
