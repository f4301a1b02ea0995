//! Whether a run may use its values: one pure decision on the rows of a batch. The only place that grants an opening.
//!
//! The order is that of refusals (docs/architecture.md): first every value must be there, then its binding must allow
//! the run, then its uses are spent, and only then is it opened. A refused run spends nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::label::Label;
use crate::capture::presence::{Absence, Finder, Found, Place, Presence, unusable};
use crate::crypto::{DataKey, Held, OpeningGrant, StateCode, ValueState, open_value};
use crate::domain::{
    DataKeyId, FieldName, FieldType, FlowName, Metadata, PurposeName, RetentionClass, SecureValueKey, ValueId,
};
use crate::store::Rows;
use crate::store::rows::StateRow;

/// So many failed verifications end a value.
pub(super) const MOST_FAILURES: u32 = 10;

/// A secure input as the caller gave it, and what the flow does with it.
pub(super) struct Asked {
    /// The input.
    pub(super) label: Label,
    /// The key.
    pub(super) key: SecureValueKey,
    /// The field it must be of.
    pub(super) field: FieldName,
    /// The type of that field.
    pub(super) kind: FieldType,
    /// Whether it goes to a step `verify`: a failure is counted beforehand.
    pub(super) verified: bool,
    /// Whether the flow reveals it.
    pub(super) revealed: bool,
}

/// Who wants to use the values, and for what.
pub(super) struct Terms {
    pub(super) flow: FlowName,
    pub(super) purpose: PurposeName,
}

/// What the decision is.
pub(super) enum Verdict {
    /// Every value may be used.
    Granted(Granted),
    /// One may not.
    Refused(Box<Refused>),
    /// Data keys are not at hand.
    NeedDataKeys(Vec<DataKeyId>),
}

/// The values, opened and held back until the commit, and what spending them changes.
#[derive(Debug)]
pub(super) struct Granted {
    /// One per input, in their order.
    pub(super) uses: Vec<Use>,
    /// New states.
    pub(super) states: Vec<StateRow>,
    /// Values whose last use this is and that may not be kept.
    pub(super) removed: Vec<ValueId>,
}

/// One input's use.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) held: Held,
    pub(super) metadata: Metadata,
    pub(super) data_key: Arc<DataKey>,
    /// The state from this use on, where uses or failures are counted.
    pub(super) state: Option<ValueState>,
}

/// Why a run is refused.
pub(super) struct Refused {
    /// The value.
    pub(super) value_id: ValueId,
    /// What is known of it, where the secret is right.
    pub(super) about: Option<(Metadata, DataKeyId)>,
    /// The reason in the entry.
    pub(super) reason: &'static str,
    /// The rule in the entry.
    pub(super) rule: &'static str,
    /// The input whose value is there and may not be used so (403); none where the caller may not learn that it is (404).
    pub(super) bound_elsewhere: Option<String>,
}

/// Decides.
pub(super) fn judge(asked: &[Asked], terms: &Terms, place: &Place, finder: &Finder, rows: &dyn Rows) -> Verdict {
    let (mut found, mut needs) = (Vec::with_capacity(asked.len()), Vec::new());
    for one in asked {
        match finder.find(&one.key, place, rows) {
            Presence::Here(here) => found.push(here),
            Presence::NeedDataKey(id) => needs.push(id),
            Presence::Gone(absence, value) => {
                let about = value.map(|value| (value.row.metadata.clone(), value.row.data_key_id));
                return refused(one, absence, about);
            }
        }
    }
    if !needs.is_empty() {
        return Verdict::NeedDataKeys(needs);
    }
    for (one, here) in asked.iter().zip(&found) {
        if let Err(rule) = bound(&here.value.row.metadata, one, terms) {
            let about = Some((here.value.row.metadata.clone(), here.data_key.id()));
            let value_id = one.key.value_id();
            let refused = Refused {
                value_id,
                about,
                reason: "policy.denied",
                rule,
                bound_elsewhere: Some(one.label.to_string()),
            };
            return Verdict::Refused(Box::new(refused));
        }
    }
    spend_and_open(asked, &found, place, finder, rows)
}

/// The value's own binding.
fn bound(metadata: &Metadata, asked: &Asked, terms: &Terms) -> Result<(), &'static str> {
    if metadata.field != asked.field {
        return Err("binding.field");
    }
    if metadata.kind != asked.kind {
        return Err("binding.type");
    }
    if !metadata.binding.flows.contains(&terms.flow) {
        return Err("binding.flow");
    }
    if !metadata.binding.purposes.contains(&terms.purpose) {
        return Err("binding.purpose");
    }
    if asked.revealed && metadata.retention == RetentionClass::SensitiveAuthentication {
        return Err("retention.never-revealed");
    }
    Ok(())
}

fn spend_and_open(asked: &[Asked], found: &[Found<'_>], place: &Place, finder: &Finder, rows: &dyn Rows) -> Verdict {
    // One value may stand in two inputs: the second sees what the first spends.
    let mut states: BTreeMap<ValueId, (ValueState, &Found<'_>)> = BTreeMap::new();
    let mut uses = Vec::with_capacity(asked.len());
    for (one, here) in asked.iter().zip(found) {
        let (row, data_key) = (&here.value.row, &here.data_key);
        let value_id = row.metadata.value_id;
        let about = || Some((row.metadata.clone(), row.data_key_id));
        let before = states.get(&value_id).map_or(here.state, |(state, _)| *state);
        if let Some(absence) = unusable(&before, rows.now()) {
            return refused(one, absence, about());
        }
        let state = spent(&before, one.verified);
        if let Some(state) = state {
            states.insert(value_id, (state, here));
        }
        let grant = OpeningGrant::issue_after_policy(value_id);
        match open_value(grant, &row.sealed, &one.key, &row.metadata, data_key) {
            Ok(held) => {
                let (metadata, data_key) = (row.metadata.clone(), Arc::clone(data_key));
                uses.push(Use { held, metadata, data_key, state });
            }
            Err(_) => return refused(one, Absence::Tampered, about()),
        }
    }
    let (mut changed, mut removed) = (Vec::new(), Vec::new());
    for (value_id, (state, here)) in states {
        let kept = here.value.row.metadata.retention != RetentionClass::SensitiveAuthentication;
        if kept || state.uses_left != Some(0) {
            let mac = state.mac(&here.data_key, finder.keys.realm(), &place.tenant, value_id);
            changed.push(StateRow { value_id, data_key_id: here.data_key.id(), state, mac });
        } else {
            removed.push(value_id);
        }
    }
    Verdict::Granted(Granted { uses, states: changed, removed })
}

fn refused(asked: &Asked, absence: Absence, about: Option<(Metadata, DataKeyId)>) -> Verdict {
    let value_id = asked.key.value_id();
    let (reason, rule) = (absence.reason(), absence.rule());
    Verdict::Refused(Box::new(Refused { value_id, about, reason, rule, bound_elsewhere: None }))
}

/// The state after one more use; nothing where neither uses nor failures are counted.
fn spent(before: &ValueState, verified: bool) -> Option<ValueState> {
    if before.uses_left.is_none() && !verified {
        return None;
    }
    let uses_left = before.uses_left.map(|uses| uses.saturating_sub(1));
    let failures = before.failures.saturating_add(u32::from(verified));
    Some(ValueState { version: before.version + 1, uses_left, failures, code: code(uses_left, failures), ..*before })
}

/// The state after a failure that was counted beforehand did not happen.
pub(super) fn taken_back(before: &ValueState) -> ValueState {
    let failures = before.failures.saturating_sub(1);
    ValueState { version: before.version + 1, failures, code: code(before.uses_left, failures), ..*before }
}

fn code(uses_left: Option<u32>, failures: u32) -> StateCode {
    if uses_left == Some(0) || failures >= MOST_FAILURES { StateCode::Spent } else { StateCode::Active }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(uses_left: Option<u32>, failures: u32) -> ValueState {
        ValueState { version: 4, code: StateCode::Active, uses_left, expires: None, failures }
    }

    #[test]
    fn only_what_is_counted_is_rewritten() {
        assert_eq!(spent(&state(None, 0), false), None);
        let once = spent(&state(Some(1), 0), false).unwrap();
        assert_eq!((once.version, once.code, once.uses_left), (5, StateCode::Spent, Some(0)));
    }

    #[test]
    fn the_tenth_failure_ends_a_value_and_a_success_takes_it_back() {
        let tenth = spent(&state(None, 9), true).unwrap();
        assert_eq!((tenth.failures, tenth.code), (10, StateCode::Spent));
        let back = taken_back(&tenth);
        assert_eq!((back.failures, back.code, back.version), (9, StateCode::Active, 6));
        let last_use = taken_back(&spent(&state(Some(1), 0), true).unwrap());
        assert_eq!(last_use.code, StateCode::Spent, "a success gives no use back");
    }
}
