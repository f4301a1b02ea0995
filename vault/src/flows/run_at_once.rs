//! A run without outbound or costly steps whose answer is to be kept: performed inside its only commit, so that no moment
//! exists in which its values are spent and its answer is not stored.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::definition::{Action, Flow};
use super::error::Error;
use super::password::Passwords;
use super::perform::{Outputs, Tools};
use super::policy::Use;
use super::relay::Relay;
use super::run_plan::{Plan, Typeds};
use super::values::RunValues;
use crate::crypto::WithinBatch;

/// What such a run works with.
pub(super) struct AtOnce {
    pub(super) typed: Typeds,
    pub(super) relay: Relay,
    pub(super) passwords: Passwords,
}

impl Flow {
    /// Whether all its steps are arithmetic on its own inputs. A `hash` is not: it would hold up every other request of
    /// the batch for a tenth of a second.
    pub(super) fn is_at_once(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.action, Action::Equals { .. }))
    }
}

impl AtOnce {
    /// Opens the values, performs the steps, puts the outputs together; the values are wiped on return.
    pub(super) fn perform(&self, plan: &Plan, uses: Vec<Use>) -> Result<Outputs, Error> {
        let mut values = RunValues::new();
        for (label, typed) in &self.typed {
            values.give_typed(label.clone(), typed.clone());
        }
        let batch = WithinBatch::of_a_run();
        for (asked, one) in plan.asked.iter().zip(uses) {
            values.give_plaintext(asked.label.clone(), one.held.release_within(&batch));
        }
        let tools = Tools { tenant: &plan.tenant, relay: &self.relay, passwords: &self.passwords };
        // None of these steps waits for anything.
        let performed = pin!(plan.flow.perform(&mut values, tools)).poll(&mut Context::from_waker(Waker::noop()));
        match performed {
            Poll::Ready(performed) => performed?,
            Poll::Pending => return Err(Error::Incomplete),
        }
        plan.flow.outputs(&values)
    }
}
