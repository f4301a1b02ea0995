//! `GET /v1/keks/certificate`: what was destroyed, signed by the log's key and proven by its tree.

use axum::Json;
use axum::extract::State as Shared;
use http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::log::read_entry;
use crate::access_log::Receipt;
use crate::domain::{TenantName, ValueId};
use crate::http::authentication::{By, Custodian};
use crate::http::listing::Query;
use crate::http::problem::{Code, Problem};
use crate::http::state::State;
use crate::sequencer::{Certified, Error, LogReader};

/// Members of the query.
pub(crate) const WHICH: &[&str] = &["tenant", "valueId"];

/// A certificate of destruction.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    /// What is certified, in clear: the second line of the note.
    #[schema(value_type = Object)]
    certificate: serde_json::Value,
    /// The signed note (c2sp.org/signed-note): the log's key signs it as it signs checkpoints.
    note: String,
    /// The log entry that says so, as the canonical JSON that the tree holds behind a version byte of 1.
    leaf: String,
    /// The entry's receipt, where it was written just now.
    receipt: Option<String>,
    /// The entry's tlog-proof (c2sp.org/tlog-proof); null before it is integrated.
    proof: Option<String>,
}

impl Certificate {
    fn of(certified: Certified, receipt: Option<String>) -> Self {
        let Certified { certificate, note, leaf, proof } = certified;
        let certificate = serde_json::to_value(certificate).unwrap_or_default();
        Self { certificate, note, leaf, receipt, proof }
    }

    /// The certificate of an entry that was written just now.
    pub(super) async fn received(state: &State, log: &TenantName, receipt: &Receipt) -> Result<Self, Problem> {
        let certified = reader(state).destruction_received(log, receipt).await?;
        Ok(Self::of(certified, Some(receipt.to_string())))
    }
}

/// The certificate of the tenant's destruction, or of a value's.
pub(crate) async fn certificate(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    uri: Uri,
) -> Result<Json<Certificate>, Problem> {
    let query = Query::read(&uri, WHICH)?;
    let (log, value_id) = (caller.tenant_name(), query.get::<ValueId>("valueId")?);
    let mut entry = read_entry(&state, &caller, "log.certificate");
    entry.value_id = value_id;
    state.record(entry).await?;
    let certified = match value_id {
        Some(value_id) => reader(&state).destruction_of_value(log, value_id).await,
        None => reader(&state).destruction_of_tenant(log).await,
    };
    let certified = certified.map_err(|error| match error {
        Error::Absent if value_id.is_some() => absent("valueId", "no value of the tenant with this id was deleted"),
        Error::Absent => absent("tenant", "the tenant's keys were not destroyed"),
        error => error.into(),
    })?;
    Ok(Json(Certificate::of(certified, None)))
}

fn absent(member: &str, why: &str) -> Problem {
    Problem::new(Code::NotFound).with_place(member, "not_destroyed", why.to_owned())
}

fn reader(state: &State) -> LogReader {
    LogReader::new(state.rooms().store.clone(), state.rooms().keys.clone())
}
