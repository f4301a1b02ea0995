//! The answer of a run: as it goes out, as it is stored, as a repeat gets it again.

use serde::{Deserialize, Serialize};

use super::definition::Flow;
use super::error::Error;
use super::perform::Outputs;
use super::run_end::Ended;
use super::run_error::RunError;
use super::run_plan::Plan;
use crate::access_log::Receipt;
use crate::domain::{RunId, Timestamp};
use crate::store;
use crate::store::idempotency::{Answer, IdempotencyRequest};
use crate::store::rows::IdempotencyRow;

/// The status of an answer that went out.
const OK: u16 = 200;
/// The status under which a failure is stored: its code stands in the body.
const FAILED: u16 = 500;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Given<'a> {
    run_id: RunId,
    outputs: &'a Outputs,
    receipts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failed {
    run_id: RunId,
    code: String,
    errors: Vec<(String, String)>,
}

/// The answer that goes out. Receipts are those of the inputs, in their order.
pub(super) fn given(run_id: RunId, outputs: &Outputs, receipts: &[Receipt]) -> Result<Answer, store::Error> {
    let receipts = receipts.iter().map(Receipt::to_string).collect();
    Answer::json(OK, &Given { run_id, outputs, receipts })
}

/// What is stored of a failure.
fn failed(run_id: RunId, error: &Error) -> Result<Answer, store::Error> {
    Answer::json(FAILED, &Failed { run_id, code: error.code().to_owned(), errors: error.faults() })
}

impl Flow {
    /// Whether a repeat is a new, recorded access. Answers of revealing flows are never stored, so where nothing left the vault the
    /// record only tells another body from the same one. It is written with the first commit and for good: one that runs would come
    /// to say "unknown" of what may simply be done again.
    pub(super) fn is_done_anew(&self) -> bool {
        self.reveals() && !self.relays()
    }
}

/// What a repeat will find, after a run that ended so and may have sent something.
pub(super) fn record(
    request: &IdempotencyRequest,
    plan: &Plan,
    result: &Result<Answer, Error>,
    (ended, sent): (Ended, bool),
    now: Timestamp,
) -> Result<IdempotencyRow, store::Error> {
    let run_id = Some(plan.run_id);
    match (result, ended) {
        (Ok(_), _) if plan.flow.is_done_anew() => request.anew(run_id),
        (Ok(_), _) if plan.flow.reveals() => request.completed_not_kept(run_id),
        (Ok(answer), _) => request.answered(run_id, answer),
        // Its time is over: from now on a repeat is told that nobody knows.
        (Err(_), Ended::Unknown(_)) => request.running(run_id, now),
        (Err(error), _) if !sent && is_ours(error) => Ok(request.forgotten(now)),
        (Err(error), _) => request.answered(run_id, &failed(plan.run_id, error)?),
    }
}

/// A shortage of ours, by which nothing was found out: where nothing left the vault either, the same request may run.
const fn is_ours(error: &Error) -> bool {
    matches!(error, Error::Overloaded | Error::Incomplete | Error::Random(_))
}

/// A stored answer, for the repeat.
pub(super) fn again(answer: Answer) -> Result<Answer, RunError> {
    if answer.status == OK {
        return Ok(answer);
    }
    let failed: Failed = serde_json::from_slice(&answer.body).map_err(|_| store::Error::Unreadable("idempotency"))?;
    let code = Error::CODES.into_iter().find(|code| *code == failed.code).unwrap_or("internal");
    Err(RunError::FailedBefore { run_id: failed.run_id, code, errors: failed.errors })
}
