//! The first commit of a run: policy decided inside the batch, entries, spent uses, the run's row.

use std::sync::Arc;

use super::policy::{self, Granted, Refused, Use, Verdict};
use super::run_plan::Plan;
use crate::access_log::{Action, Entry, Outcome};
use crate::capture::entries::about;
use crate::capture::presence::{Finder, Place};
use crate::crypto::DataKey;
use crate::domain::{TenantName, Timestamp};
use crate::store::idempotency::{Answer, IdempotencyRequest, Judgement, Repeated};
use crate::store::rows::RunOutcome;
use crate::store::{Changes, Decision, Generation, Operation, Reads, Rows};

/// The operation.
pub(super) struct Beginning {
    pub(super) plan: Arc<Plan>,
    pub(super) place: Place,
    pub(super) finder: Finder,
    pub(super) idempotency: Option<Arc<IdempotencyRequest>>,
    pub(super) deadline: Timestamp,
}

/// How a run begins.
pub(super) enum Begun {
    /// Its values are open once this is durable.
    Granted(Vec<Use>),
    /// It was answered before.
    Before(Answer),
    /// It came before and has no answer to give.
    Repeated(Repeated),
    /// One of its values may not be used: 403 if the value is there, else 404.
    Refused {
        /// Whether it is there.
        is_there: bool,
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
            idempotency: self.idempotency.iter().map(|request| request.lookup()).collect(),
            ..Reads::default()
        }
    }

    fn hold(&mut self, data_key: Arc<DataKey>) {
        self.finder.held.hold(data_key);
    }

    fn decide(&mut self, rows: &dyn Rows) -> Decision<Begun> {
        if let Some(request) = &self.idempotency {
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
        let changes = Changes { entries: vec![entry], ..Changes::default() };
        Decision::Write(changes, Begun::Refused { is_there: refused.is_there })
    }

    fn begin(&self, granted: Granted, now: Timestamp) -> Decision<Begun> {
        let plan = &self.plan;
        // Without an intent the run is over with its one commit: what is left is arithmetic.
        let ended = (!plan.flow.has_intent()).then_some((RunOutcome::Completed, now));
        let (outcome, finished) = ended.unzip();
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
        let running = self.idempotency.iter().map(|request| request.running(Some(plan.run_id), plan.known_by()));
        let changes = Changes {
            entries: entries.collect(),
            states: granted.states,
            removed: granted.removed,
            runs: vec![plan.row(outcome, finished)],
            idempotency: running.collect(),
            ..Changes::default()
        };
        Decision::Write(changes, Begun::Granted(granted.uses))
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
