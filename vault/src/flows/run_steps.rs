//! From the first commit of a run to its answer: release, steps, outputs, second commit.

use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::perform::{Outputs, Tools};
use super::policy::Use;
use super::run::Runner;
use super::run_answer::{given, record};
use super::run_end::{Ended, Ending, Recorded, Used};
use super::run_error::RunError;
use super::run_plan::{Plan, Typeds};
use super::run_tools::DataKeys;
use super::template::SecretName;
use super::values::RunValues;
use crate::access_log::{Entry, Receipt};
use crate::capture::PATIENCE;
use crate::crypto::{DataKey, Durable};
use crate::domain::{AppDocument, Plaintext};
use crate::store;
use crate::store::idempotency::{Answer, IdempotencyRequest};
use crate::store::rows::ValueRow;

/// How long a caller waits for the second commit before it is told 503 (promise 3).
const ANSWERED_WITHIN: Duration = Duration::from_millis(1_800);
/// How often the second commit is tried, and how much longer it waits each time: half a minute in all.
const TRIES: u32 = 12;
const PAUSE: Duration = Duration::from_millis(250);

/// A run with everything it needs.
pub(super) struct Started {
    pub(super) plan: Arc<Plan>,
    pub(super) typed: Typeds,
    pub(super) secrets: Vec<(SecretName, Plaintext)>,
    pub(super) data_keys: DataKeys,
    pub(super) app: Arc<AppDocument>,
}

/// What response fields became.
pub(super) type Captured = Vec<(Arc<ValueRow>, Entry)>;

impl Runner {
    /// Releases the values, performs the steps, records what became of them, answers.
    pub(super) async fn perform(
        &self,
        mut started: Started,
        uses: Vec<Use>,
        (durable, receipts): (&Durable, &[Receipt]),
        repeatable: Option<Arc<IdempotencyRequest>>,
    ) -> Result<Answer, RunError> {
        let plan = Arc::clone(&started.plan);
        let (mut values, mut used) = release(&mut started, uses, durable);
        let (outcome, overran) = self.steps(&mut values, &started).await;
        let ended = outcome.as_ref().map_or_else(Ended::of, |_| Ended::Well);
        // A right password is no failure, however the run ends. Where none was compared, nothing was found out either;
        // only a comparison that was cut off counts, because who can cut it off can guess.
        let guessing = overran || matches!(ended, Ended::Unknown(_));
        for (one, asked) in used.iter_mut().zip(&plan.asked) {
            let found: Vec<_> = plan.flow.verifications(&asked.label).map(|step| values.verified(step)).collect();
            let right = found.iter().all(|found| *found == Some(true));
            one.take_back = asked.verified && (right || (!guessing && !found.contains(&Some(false))));
        }
        let sent = values.sent();
        // Everything of the values is wiped here, before the second commit is waited for.
        drop(values);
        let of_run = |error| RunError::Store { run_id: Some(plan.run_id), error };
        let (result, captured) = match outcome {
            Ok((outputs, captured)) => (Ok(given(plan.run_id, &outputs, receipts).map_err(of_run)?), captured),
            Err(error) => (Err(error), Captured::new()),
        };
        let now = self.inner().clock.now();
        let idempotency = repeatable.map(|request| record(&request, &plan, &result, (ended, sent), now)).transpose();
        let idempotency = idempotency.map_err(of_run)?;
        if plan.flow.has_intent() || ended != Ended::Well || idempotency.is_some() {
            let (new_values, captures): (Vec<Arc<ValueRow>>, Vec<_>) = captured.into_iter().unzip();
            let keys = &self.inner().keys;
            let (realm, mut held, deadline) = (keys.realm().clone(), keys.held(), now);
            // Those alone that may have to be sealed anew: the others go now.
            let of_new = |data_key: &Arc<DataKey>| new_values.iter().any(|row| row.data_key_id == data_key.id());
            started.data_keys.into_values().filter(of_new).for_each(|data_key| held.hold(data_key));
            let (plan, unheard) = (Arc::clone(&plan), false);
            let ending = Ending {
                plan,
                realm,
                used,
                ended,
                idempotency,
                new_values,
                captures,
                deadline,
                unheard,
                sealed_anew: Vec::new(),
                held,
                is_last: false,
            };
            self.end(ending).await.map_err(of_run)?;
        }
        result.map_err(|error| RunError::Flow { run_id: Some(plan.run_id), error })
    }

    /// All steps within the run's time, the captures of their response fields, and the outputs.
    /// Also whether they were cut off at its end.
    async fn steps(&self, values: &mut RunValues, started: &Started) -> (Result<(Outputs, Captured), Error>, bool) {
        let (inner, plan) = (self.inner(), &started.plan);
        let tools = Tools { tenant: &plan.tenant, relay: &inner.relay, passwords: &inner.passwords };
        let left = plan.deadline.since(inner.clock.now());
        match tokio::time::timeout(left, plan.flow.perform(values, tools)).await {
            Ok(performed) => (performed.and_then(|()| self.results(values, started)), false),
            Err(_) if values.sent() => (Err(Error::DestinationTimeout), true),
            // No destination was asked: we were too slow ourselves.
            Err(_) => (Err(Error::Overloaded), true),
        }
    }

    fn results(&self, values: &mut RunValues, started: &Started) -> Result<(Outputs, Captured), Error> {
        let captured = self.capture(values, &started.plan, &started.app, &started.data_keys)?;
        Ok((started.plan.flow.outputs(values)?, captured))
    }

    /// The second commit. Whoever waits for it is answered in time; the work goes on, so that the outcome is recorded.
    async fn end(&self, ending: Ending) -> Result<(), store::Error> {
        let runner = self.clone();
        let recording = tokio::spawn(async move { runner.record_end(ending).await });
        match tokio::time::timeout(ANSWERED_WITHIN, recording).await {
            Ok(recorded) => recorded.unwrap_or(Err(store::Error::Unavailable)),
            Err(_) => Err(store::Error::Late),
        }
    }

    /// It is tried again while it may still come: it finds out by itself whether it is written.
    async fn record_end(&self, ending: Ending) -> Result<(), store::Error> {
        let inner = self.inner();
        let (mut last, mut unheard) = (store::Error::Unavailable, ending.unheard);
        for again in 0..TRIES {
            tokio::time::sleep(PAUSE * again).await;
            let deadline = inner.clock.now().plus(PATIENCE);
            match inner.committer.submit(Ending { deadline, unheard, ..ending.clone() }).await {
                Ok(done) => match done.output {
                    Recorded::Whole => return Ok(()),
                    // Its data key ended while the steps went on. The outcome is recorded, as below.
                    Recorded::Uncaptured => return Err(store::Error::Late),
                    Recorded::Nothing => {
                        return Box::pin(self.record_end(self.sealed_anew(Ending { unheard, ..ending }).await)).await;
                    }
                },
                Err(error @ (store::Error::Overloaded | store::Error::Late | store::Error::Unavailable)) => {
                    unheard |= !matches!(error, store::Error::Overloaded);
                    last = error;
                }
                // A value that was tampered with, or whose key went, must not hide what became of the run.
                Err(store::Error::Tampered(_) | store::Error::Unreadable(_) | store::Error::Keys(_))
                    if ending.used.iter().any(|used| used.take_back) =>
                {
                    let used = ending.used.iter().map(|used| Used { take_back: false, ..used.clone() }).collect();
                    return Box::pin(self.record_end(Ending { used, unheard, ..ending })).await;
                }
                // What a response field gave is captured when it came or not at all: after an outage of a minute that is too
                // late. Its caller was told long ago that nothing is known, and got no key; that the outcome is recorded
                // matters more. A repeat is told the same, and asks for the run.
                Err(store::Error::Rule(_)) if !ending.new_values.is_empty() => {
                    let (new_values, captures) = (Vec::new(), Vec::new());
                    let rest = Ending { new_values, captures, idempotency: None, unheard, ..ending };
                    return Box::pin(self.record_end(rest)).await.and(Err(store::Error::Late));
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

/// The values of a run, against the proof that their entries are durable.
fn release(started: &mut Started, uses: Vec<Use>, durable: &Durable) -> (RunValues, Vec<Used>) {
    let mut values = RunValues::new();
    for (label, typed) in std::mem::take(&mut started.typed) {
        values.give_typed(label, typed);
    }
    let mut used = Vec::with_capacity(uses.len());
    for (asked, one) in started.plan.asked.iter().zip(uses) {
        values.give_plaintext(asked.label.clone(), one.held.release(durable));
        let (metadata, data_key) = (one.metadata, one.data_key);
        used.push(Used { metadata, data_key, revealed: asked.revealed, take_back: false });
    }
    for (name, secret) in std::mem::take(&mut started.secrets) {
        values.give_secret(name, secret);
    }
    (values, used)
}
