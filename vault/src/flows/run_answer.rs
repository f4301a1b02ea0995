//! The answer of a run: as it goes out, as it is stored, as a repeat gets it again.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::perform::Outputs;
use super::run_error::RunError;
use crate::access_log::Receipt;
use crate::domain::RunId;
use crate::store;
use crate::store::idempotency::Answer;

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
}

/// The answer that goes out. Receipts are those of the inputs, in their order.
pub(super) fn given(run_id: RunId, outputs: &Outputs, receipts: &[Receipt]) -> Result<Answer, store::Error> {
    let receipts = receipts.iter().map(Receipt::to_string).collect();
    Answer::json(OK, &Given { run_id, outputs, receipts })
}

/// What is stored of a failure.
pub(super) fn failed(run_id: RunId, code: &str) -> Result<Answer, store::Error> {
    Answer::json(FAILED, &Failed { run_id, code: code.to_owned() })
}

/// A stored answer, for the repeat.
pub(super) fn again(answer: Answer) -> Result<Answer, RunError> {
    if answer.status == OK {
        return Ok(answer);
    }
    let failed: Failed = serde_json::from_slice(&answer.body).map_err(|_| store::Error::Unreadable("idempotency"))?;
    let code = Error::CODES.into_iter().find(|code| *code == failed.code).unwrap_or("internal");
    Err(RunError::FailedBefore { run_id: failed.run_id, code })
}
