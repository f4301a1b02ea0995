//! What is known of a run afterwards: never an output, never a value.

use serde::Serialize;

use super::run::Runner;
use super::run_error::RunError;
use crate::domain::{CredentialKind, FlowName, RunId, Timestamp};
use crate::store::Caller;
use crate::store::rows::{RunOutcome, RunRow};

/// `GET /v1/runs/{runId}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDescription {
    /// Its id.
    pub run_id: RunId,
    /// The flow and its version.
    pub flow: FlowVersion,
    /// `running`, `completed`, `failed` or `unknown`.
    pub state: &'static str,
    /// When it began.
    pub started_at: Timestamp,
    /// When its outcome was recorded.
    pub finished_at: Option<Timestamp>,
    /// The code of its failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
}

/// A flow as a run names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowVersion {
    /// Its name.
    pub name: FlowName,
    /// Its version.
    pub version: u64,
}

impl Runner {
    /// What is known of a run of the caller's flow.
    ///
    /// # Errors
    /// [`RunError::NotFound`].
    pub async fn run(&self, caller: &Caller, run_id: RunId) -> Result<RunDescription, RunError> {
        let row = self.inner().store.run(caller.tenant_name(), run_id).await?.ok_or(RunError::NotFound)?;
        let own =
            caller.credential.kind == CredentialKind::Flow && caller.credential.flow.as_ref() == Some(&row.flow.0);
        if own { Ok(describe(row, self.inner().clock.now())) } else { Err(RunError::NotFound) }
    }
}

fn describe(row: RunRow, now: Timestamp) -> RunDescription {
    let (state, code) = match row.outcome {
        None if now < row.deadline => ("running", None),
        // A killed node, or a second commit that never came.
        None | Some(RunOutcome::Unknown) => ("unknown", None),
        Some(RunOutcome::Completed) => ("completed", None),
        Some(RunOutcome::Failed(code)) => ("failed", Some(code)),
    };
    let (name, version) = row.flow;
    RunDescription {
        run_id: row.run_id,
        flow: FlowVersion { name, version },
        state,
        started_at: row.started,
        finished_at: row.finished,
        code,
    }
}
