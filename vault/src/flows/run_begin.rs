//! The first commit of a run: policy decided inside the batch, entries, spent uses, the run's row.

use std::sync::Arc;

use super::error::Error;
use super::perform::Outputs;
use super::policy::{self, Granted, Refused, Use, Verdict};
use super::run_answer::{given, record};
use super::run_at_once::AtOnce;
use super::run_end::Ended;
use super::run_plan::Plan;
use crate::access_log::{Action, Entry, Outcome, Receipt};
use crate::capture::entries::about;
use crate::capture::presence::{Finder, Place};
use crate::crypto::DataKey;
use crate::domain::{TenantName, Timestamp};
use crate::store::idempotency::{Answer, IdempotencyRequest, Judgement, Repeated};
use crate::store::rows::{IdempotencyRow, RunOutcome};
use crate::store::{self, Changes, Decision, Generation, Operation, Reads, Rows};

/// The operation.
pub(super) struct Beginning {
    pub(super) plan: Arc<Plan>,
    pub(super) place: Place,
    pub(super) finder: Finder,
    /// With the record of a request that runs.
    pub(super) idempotency: Option<(Arc<IdempotencyRequest>, IdempotencyRow)>,
    /// Where the whole run is this one commit.
    pub(super) at_once: Option<AtOnce>,
    pub(super) deadline: Timestamp,
}

/// How a run begins.
pub(super) enum Begun {
    /// Its values are open once this is durable.
    Granted(Vec<Use>),
    /// It was performed; its answer waits for its receipts.
    Performed(Result<Outputs, Error>),
    /// It was performed, and its answer is stored.
    Answered(Result<Answer, Error>),
    /// It was answered before.
    Before(Answer),
    /// It came before and has no answer to give.
    Repeated(Repeated),
    /// One of its values may not be used: 403 if the value is there, else 404.
    Refused {
        /// The input whose value is there.
        bound_elsewhere: Option<String>,
    },
}

impl Operation for Beginning {
    type Output = Begun;

    fn tenant(&self) -> &TenantName {
        &self.plan.tenant
    }

    fn generation(&self) -> Option<Generation> {
        Some(self.plan.generation)
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn reads(&self) -> Reads {
        Reads {
            values: self.place.readable(self.plan.asked.iter().map(|one| one.key.value_id())),
            idempotency: self.idempotency.iter().flat_map(|(request, _)| request.lookups()).collect(),
            ..Reads::default()
        }
    }

    fn hold(&mut self, data_key: Arc<DataKey>) {
        self.finder.held.hold(data_key);
    }

    fn decide(&mut self, rows: &dyn Rows) -> Decision<Begun> {
        if let Some((request, _)) = &self.idempotency {
            match request.judge(rows, &self.finder.held) {
                Err(id) => return Decision::NeedDataKeys(vec![id]),
                Ok(Judgement::Fresh) => {}
                Ok(Judgement::Replay(answer)) => return Decision::Answer(Begun::Before(answer)),
                Ok(Judgement::Refused(repeated)) => return Decision::Answer(Begun::Repeated(repeated)),
            }
        }
        match policy::judge(&self.plan.asked, &self.plan.terms, &self.place, &self.finder, rows) {
            Verdict::NeedDataKeys(ids) => Decision::NeedDataKeys(ids),
            Verdict::Refused(refused) => self.refuse(*refused, rows.now()),
            Verdict::Granted(granted) => self.begin(granted, rows.now()),
        }
    }

    fn numbered(
        &mut self,
        begun: &mut Begun,
        receipts: &dyn Fn() -> Vec<Receipt>,
    ) -> Result<Option<IdempotencyRow>, store::Error> {
        let (Begun::Performed(performed), Some((request, _))) = (&mut *begun, &self.idempotency) else {
            return Ok(None);
        };
        let performed = std::mem::replace(performed, Err(Error::Incomplete));
        let ended = performed.as_ref().map_or_else(Ended::of, |_| Ended::Well);
        let answer = match performed {
            Ok(outputs) => Ok(given(self.plan.run_id, &outputs, &receipts())?),
            Err(error) => Err(error),
        };
        let kept = record(request, &self.plan, &answer, (ended, false), self.plan.started)?;
        *begun = Begun::Answered(answer);
        Ok(Some(kept))
    }
}

impl Beginning {
    /// One entry that names the value; nothing is spent.
    fn refuse(&self, refused: Refused, now: Timestamp) -> Decision<Begun> {
        let entry = Entry {
            reason: Some(refused.reason),
            rule: Some(refused.rule),
            value_id: Some(refused.value_id),
            destination: None,
            ..self.plan.entry(Action::AccessDenied, Outcome::Denied, now)
        };
        let entry = match &refused.about {
            Some((metadata, data_key_id)) => about(metadata, *data_key_id, entry),
            None => entry,
        };
        let changes = Changes { entries: vec![entry.into()], ..Changes::default() };
        Decision::Write(changes, Begun::Refused { bound_elsewhere: refused.bound_elsewhere })
    }

    fn begin(&self, granted: Granted, now: Timestamp) -> Decision<Begun> {
        let plan = &self.plan;
        let entries = plan.asked.iter().zip(&granted.uses).map(|(asked, used)| {
            let entry = Entry {
                rule: Some("binding"),
                kek_id: used.data_key.kek_id(),
                state_version: used.state.map(|state| state.version),
                uses: used.state.and_then(|state| state.uses_left),
                ..plan.entry(plan.first_action(asked.revealed), Outcome::Allowed, now)
            };
            about(&used.metadata, used.data_key.id(), entry)
        });
        let mut entries: Vec<Entry> = entries.collect();
        if plan.relays_no_value() {
            entries.push(plan.entry(Action::RelayIntent, Outcome::Allowed, now));
        }
        let running = self.idempotency.as_ref().map(|(_, running)| running.clone());
        let (outcome, running, begun) = match &self.at_once {
            Some(at_once) => {
                let performed = at_once.perform(plan, granted.uses);
                let ended = performed.as_ref().map_or_else(Ended::of, |_| Ended::Well);
                for entry in &mut entries {
                    (entry.outcome, entry.reason) = (ended.outcome(), ended.reason());
                }
                (Some(ended.of_run()), None, Begun::Performed(performed))
            }
            // Without an intent the run is over with its one commit: what is left is arithmetic.
            None => {
                let outcome = (!plan.flow.has_intent()).then_some(RunOutcome::Completed);
                (outcome, running, Begun::Granted(granted.uses))
            }
        };
        let changes = Changes {
            entries: entries.into_iter().map(Arc::new).collect(),
            states: granted.states,
            removed: granted.removed,
            runs: vec![plan.row(outcome, outcome.map(|_| now))],
            idempotency: running.into_iter().collect(),
            ..Changes::default()
        };
        Decision::Write(changes, begun)
    }
}

impl Plan {
    /// What the first phase of an input is called.
    pub(super) fn first_action(&self, revealed: bool) -> Action {
        match (self.flow.relays(), revealed) {
            (true, _) => Action::RelayIntent,
            (false, true) => Action::ValueRevealed,
            (false, false) => Action::ValueDereferenced,
        }
    }
}
