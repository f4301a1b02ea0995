//! `GET /v1/keks/certificate`: what was destroyed, signed by the log's key and proven by its tree.

use std::str::FromStr;

use axum::Json;
use axum::extract::State as Shared;
use http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::log::read_entry;
use crate::access_log::Receipt;
use crate::domain::{KekId, TenantName, ValueId};
use crate::http::authentication::{By, Custodian};
use crate::http::listing::Query;
use crate::http::problem::{Code, Problem};
use crate::http::state::State;
use crate::keys::KekRecord;
use crate::sequencer::{Certified, Error, LogReader};

/// Members of the query.
pub(crate) const WHICH: &[&str] = &["tenant", "valueId", "kek"];

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

/// The certificate of the tenant's destruction, of a value's, or of the loss of one version of a key (`id.version`).
pub(crate) async fn certificate(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    uri: Uri,
) -> Result<Json<Certificate>, Problem> {
    let query = Query::read(&uri, WHICH)?;
    let (log, value_id) = (caller.tenant_name(), query.get::<ValueId>("valueId")?);
    let kek = query.get::<Version>("kek")?;
    if value_id.is_some() && kek.is_some() {
        return Err(Problem::invalid("kek", "not_allowed"));
    }
    let mut entry = read_entry(&state, &caller, "log.certificate");
    entry.value_id = value_id;
    state.record(entry).await?;
    let certified = match (value_id, &kek) {
        (Some(value_id), _) => reader(&state).destruction_of_value(log, value_id).await,
        (None, Some(Version(kek))) => reader(&state).loss_of_version(log, kek).await,
        (None, None) => reader(&state).destruction_of_tenant(log).await,
    };
    let certified = certified.map_err(|error| match error {
        Error::Absent if value_id.is_some() => absent("valueId", "no value of the tenant with this id was deleted"),
        Error::Absent if kek.is_some() => absent("kek", "no version of this id and number was stated to be lost"),
        Error::Absent => absent("tenant", "the tenant's keys were not destroyed"),
        error => error.into(),
    })?;
    Ok(Json(Certificate::of(certified, None)))
}

/// A version of a key: `id.version`, as lists of approvals name it.
struct Version(String);

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, version) = text.rsplit_once('.').ok_or(())?;
        let (id, version) = (id.parse::<KekId>().map_err(|_| ())?, version.parse().map_err(|_| ())?);
        Ok(Self(KekRecord::key_of(id, version)))
    }
}

fn absent(member: &str, why: &str) -> Problem {
    Problem::new(Code::NotFound).with_place(member, "not_destroyed", why.to_owned())
}

fn reader(state: &State) -> LogReader {
    LogReader::new(state.rooms().store.clone(), state.rooms().keys.clone())
}
