//! The second commit of a run: outcome entries, the run's outcome, the stored answer, new values, failures taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{Error, FailedReason};
use super::policy::taken_back;
use super::run_plan::Plan;
use crate::access_log::{Action, Entry, Outcome};
use crate::capture::entries::about;
use crate::crypto::{DataKey, ValueState};
use crate::domain::{DataKeyId, Metadata, Realm, TenantName, Timestamp, ValueId};
use crate::keys::HeldKeys;
use crate::store::rows::{IdempotencyRow, RunOutcome, StateRow, ValueRow};
use crate::store::{Changes, Decision, Generation, Operation, ReadValue, Reads, Rows, current_state};

/// How a run's steps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its outputs go out.
    Well,
    /// It failed, with the code of the answer.
    Failed(&'static str),
    /// Nobody knows what the destination did, with the code of the answer.
    Unknown(&'static str),
}

impl Ended {
    /// What an error of the steps says of the run.
    pub(super) const fn of(error: &Error) -> Self {
        match error {
            // Sent, and no answer: it may have arrived.
            Error::DestinationTimeout | Error::DestinationFailed(FailedReason::Broken) => Self::Unknown(error.code()),
            _ => Self::Failed(error.code()),
        }
    }

    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Well => Outcome::Allowed,
            Self::Failed(_) => Outcome::Failed,
            Self::Unknown(_) => Outcome::Unknown,
        }
    }

    pub(super) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Well => None,
            Self::Failed(code) | Self::Unknown(code) => Some(code),
        }
    }

    pub(super) const fn of_run(self) -> RunOutcome {
        match self {
            Self::Well => RunOutcome::Completed,
            Self::Failed(code) => RunOutcome::Failed(code),
            Self::Unknown(_) => RunOutcome::Unknown,
        }
    }
}

/// An input's use, after its value was released.
#[derive(Clone)]
pub(super) struct Used {
    pub(super) metadata: Metadata,
    pub(super) data_key: Arc<DataKey>,
    pub(super) revealed: bool,
    /// Whether the failure that was counted beforehand did not happen.
    pub(super) take_back: bool,
}

/// What came of a hand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Everything stands there, what response fields gave included.
    Whole,
    /// The outcome, and nothing that response fields gave.
    Uncaptured,
    /// Nothing: what response fields gave is to be sealed anew first.
    Nothing,
}

/// The operation. It may be handed in again when nobody knows whether it was written: it then finds that it was.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) plan: Arc<Plan>,
    pub(super) realm: Realm,
    pub(super) used: Vec<Used>,
    pub(super) ended: Ended,
    pub(super) idempotency: Option<IdempotencyRow>,
    pub(super) new_values: Vec<Arc<ValueRow>>,
    pub(super) captures: Vec<Entry>,
    pub(super) deadline: Timestamp,
    /// Whether it was handed in before and nobody heard how that ended. Only then an outcome that stands there already may
    /// be its own: a run's row is not authenticated, and must not silence the entries of a first hand-in.
    pub(super) unheard: bool,
    /// Data keys of what an earlier hand-in wrote, where it was sealed anew since: known once it was read.
    pub(super) sealed_anew: Vec<DataKeyId>,
    /// Data keys of values that were sealed anew since their release, and those that response fields were sealed under.
    pub(super) held: HeldKeys,
    /// Whether what response fields gave was sealed anew already, or cannot be: then it is recorded without what is not to be captured.
    pub(super) is_last: bool,
}

impl Operation for Ending {
    type Output = Recorded;

    fn tenant(&self) -> &TenantName {
        &self.plan.tenant
    }

    /// What was sent was sent: its outcome is recorded whatever the settings are now.
    fn generation(&self) -> Option<Generation> {
        None
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn reads(&self) -> Reads {
        let back = self.used.iter().filter(|used| used.take_back);
        Reads {
            values: back.map(|used| used.metadata.value_id).chain(self.perhaps_captured()).collect(),
            runs: vec![self.plan.run_id],
            // They were chosen before the steps, which take their time: no generation says that they are there still.
            data_keys: self
                .new_values
                .iter()
                .map(|row| row.data_key_id)
                .chain(self.idempotency.iter().map(|row| row.data_key_id))
                .chain(self.sealed_anew.iter().copied())
                .collect(),
            ..Reads::default()
        }
    }

    fn hold(&mut self, data_key: Arc<DataKey>) {
        self.held.hold(data_key);
    }

    fn decide(&mut self, rows: &dyn Rows) -> Decision<Recorded> {
        let now = rows.now();
        let with_intent = self.plan.flow.has_intent();
        // A commit whose result was not heard may have happened: its entries are not written a second time.
        let known = rows.run(self.plan.run_id).filter(|_| self.unheard).and_then(|run| run.outcome);
        let ended = known.is_some_and(|outcome| with_intent || outcome != RunOutcome::Completed);
        if ended && (with_intent || self.ended != Ended::Well) {
            return self.as_captured(rows);
        }
        let resealed = self.resealed(rows);
        if !resealed.is_empty() {
            return Decision::NeedDataKeys(resealed);
        }
        // Under a data key that was closed nothing is sealed any more, and what is sealed under one that has ended opens for nobody: it goes
        // under another one, or it is not captured, and nobody gets a key.
        let sealable = |id| rows.may_seal_under(id);
        // Sealed anew, it took its time: with no answer kept for a repeat its key might reach nobody.
        let may_capture = self.new_values.iter().all(|row| sealable(row.data_key_id))
            && (!self.is_last || self.idempotency.iter().all(|row| sealable(row.data_key_id)));
        if !may_capture && !self.is_last {
            return Decision::Answer(Recorded::Nothing);
        }
        let (mut entries, mut states) = (Vec::new(), BTreeMap::new());
        for used in &self.used {
            let back = used.take_back.then(|| self.take_back(used, rows, &mut states)).flatten();
            entries.extend(self.outcome(used, back, now));
        }
        if self.plan.relays_no_value() {
            let entry = self.plan.entry(Action::RelayOutcome, self.ended.outcome(), now);
            entries.push(Entry { reason: self.ended.reason(), ..entry });
        }
        let captures = self.captures.iter().filter(|_| may_capture);
        entries.extend(captures.map(|entry| Entry { time: now, ..entry.clone() }));
        let run =
            (with_intent || self.ended != Ended::Well).then(|| self.plan.row(Some(self.ended.of_run()), Some(now)));
        let changes = Changes {
            entries: entries.into_iter().map(Arc::new).collect(),
            states: states.into_values().collect(),
            new_values: self.new_values.iter().filter(|_| may_capture).cloned().collect(),
            runs: run.into_iter().collect(),
            // The answer that is kept would name them; and one whose own data key has ended could be given to nobody.
            idempotency: self
                .idempotency
                .iter()
                .filter(|row| may_capture && sealable(row.data_key_id))
                .cloned()
                .collect(),
            ..Changes::default()
        };
        Decision::Write(changes, if may_capture { Recorded::Whole } else { Recorded::Uncaptured })
    }
}

impl Ending {
    /// The new values that a hand-in before this one may have written.
    fn perhaps_captured(&self) -> impl Iterator<Item = ValueId> {
        self.new_values.iter().filter(|_| self.unheard).map(|row| row.metadata.value_id)
    }

    /// Whether what an earlier hand-in wrote is there and opens: under the data key that it rests on now, which need not be the one
    /// that it was written under. One that is not known yet is asked for, and the operation comes back.
    fn as_captured(&mut self, rows: &dyn Rows) -> Decision<Recorded> {
        let now = |row: &Arc<ValueRow>| rows.value(row.metadata.value_id).map(|value| value.row.data_key_id);
        let rest_on: Vec<Option<DataKeyId>> = self.new_values.iter().map(now).collect();
        let is_asked =
            |id: &DataKeyId| self.sealed_anew.contains(id) || self.new_values.iter().any(|row| row.data_key_id == *id);
        let unknown: Vec<DataKeyId> = rest_on.iter().flatten().filter(|id| !is_asked(id)).copied().collect();
        if !unknown.is_empty() {
            self.sealed_anew.extend(unknown);
            return Decision::NeedDataKeys(Vec::new());
        }
        let whole = rest_on.iter().all(|id| id.is_some_and(|id| rows.has_data_key(id)));
        Decision::Answer(if whole { Recorded::Whole } else { Recorded::Uncaptured })
    }

    /// The entries of an input's second phase. With a relay there is always one; else only where something is to be said:
    /// that it failed, or that its state changed once more.
    fn outcome(&self, used: &Used, state: Option<ValueState>, now: Timestamp) -> Vec<Entry> {
        let plan = &self.plan;
        let entry = |action, state: Option<ValueState>| {
            let entry = Entry {
                reason: self.ended.reason(),
                kek_id: used.data_key.kek_id(),
                state_version: state.map(|state| state.version),
                uses: state.and_then(|state| state.uses_left),
                ..plan.entry(action, self.ended.outcome(), now)
            };
            about(&used.metadata, used.data_key.id(), entry)
        };
        if !plan.flow.relays() {
            // Nothing was relayed: the second phase is called what the first was.
            let says = state.is_some() || self.ended != Ended::Well;
            return says.then(|| entry(plan.first_action(used.revealed), state)).into_iter().collect();
        }
        let mut entries = vec![entry(Action::RelayOutcome, state)];
        // Whoever asks the log for what was revealed must find it, whichever way the flow took.
        if used.revealed && self.ended == Ended::Well {
            entries.push(entry(Action::ValueRevealed, None));
        }
        entries
    }

    /// The state without the failure, if the value is still there and is what was written.
    fn take_back(&self, used: &Used, rows: &dyn Rows, states: &mut BTreeMap<ValueId, StateRow>) -> Option<ValueState> {
        let value_id = used.metadata.value_id;
        let before = match states.get(&value_id) {
            Some(row) => row.state,
            None => self.genuine_state(rows.value(value_id)?, used)?,
        };
        let state = taken_back(&before);
        let data_key = self.data_key(used, rows.value(value_id)?.row.data_key_id)?;
        let mac = state.mac(&data_key, &self.realm, &self.plan.tenant, value_id);
        states.insert(value_id, StateRow { value_id, data_key_id: data_key.id(), state, mac });
        Some(state)
    }

    fn genuine_state(&self, value: &ReadValue, used: &Used) -> Option<ValueState> {
        let (stored, state) = (value.state.as_ref()?, current_state(value));
        let data_key = self.data_key(used, value.row.data_key_id)?;
        let genuine = stored.data_key_id == data_key.id()
            && state.version == value.newest_state_version
            && state.verify_mac(&data_key, &self.realm, &self.plan.tenant, used.metadata.value_id, &stored.mac);
        genuine.then_some(state)
    }

    /// The data key that seals a value now: the one it was opened with, unless it was sealed anew meanwhile.
    fn data_key(&self, used: &Used, now: DataKeyId) -> Option<Arc<DataKey>> {
        if used.data_key.id() == now {
            return Some(Arc::clone(&used.data_key));
        }
        self.held.get(&self.plan.tenant, now)
    }

    /// Data keys that are not at hand though a failure is to be taken back under them.
    fn resealed(&self, rows: &dyn Rows) -> Vec<DataKeyId> {
        let back = self.used.iter().filter(|used| used.take_back);
        let now = |used: &Used| rows.value(used.metadata.value_id).map(|value| value.row.data_key_id);
        back.filter_map(|used| now(used).filter(|id| self.data_key(used, *id).is_none())).collect()
    }
}
