//! `/v1/keks`: names and states of the tenant's key-encryption keys, never a key; rotation and rewrap.

use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{KekId, Timestamp};
use crate::http::authentication::{By, Custodian};
use crate::http::creation::Creation;
use crate::http::json::Json as Body;
use crate::http::listing::{Listed, part};
use crate::http::problem::Problem;
use crate::http::state::State;
use crate::keys::{KekRecord, KekState};
use crate::store::idempotency::Answer;
use crate::store::kek_rotation;

/// A KEK version in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KekSummary {
    #[schema(value_type = String)]
    kek_id: KekId,
    version: u32,
    mechanism: String,
    #[schema(value_type = String)]
    state: KekState,
    #[schema(value_type = String)]
    created_at: Timestamp,
}

impl From<&KekRecord> for KekSummary {
    fn from(record: &KekRecord) -> Self {
        Self {
            kek_id: record.kek_id,
            version: record.version,
            mechanism: record.mechanism.clone(),
            state: record.state,
            created_at: record.created_at,
        }
    }
}

/// Lists the tenant's KEKs.
pub(crate) async fn list(By(caller, _): By<Custodian>, uri: Uri) -> Result<Json<Listed<KekSummary>>, Problem> {
    part(caller.tenant.keks.iter().map(|(key, (_, record))| (key.clone(), record.into())), &uri)
}

/// Nothing to say beyond the route.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKek {}

/// Makes the next version of the tenant's KEK active; the old one still unwraps.
pub(crate) async fn rotate(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    creation: Creation,
    Body { raw, .. }: Body<RotateKek>,
) -> Result<Response, Problem> {
    let (doing, by) = (state.clone(), state.administrator(&caller.tenant, &caller));
    let rotated = async move {
        let kek = kek_rotation::rotate(&by, doing.now(), doing.ground()).await?;
        doing.rooms().catalog.refresh(&by.tenant);
        Ok(Answer::json(201, &KekSummary::from(&kek))?)
    };
    creation.once(&state, &caller, "POST /v1/keks/rotate", raw, rotated).await
}

/// How to rewrap.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Rewrap {
    /// Only count what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// What a rewrap did, or would do.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RewrapSummary {
    /// Data keys moved to the active version.
    moved: u64,
    /// Data keys that were under it already.
    kept: u64,
    /// Data keys that were erased, and are removed.
    erased: u64,
    /// Data keys that do not open and still name another version; 0 proves that nothing does.
    left: u64,
    dry_run: bool,
}

/// Wraps the tenant's data keys under its active KEK version.
pub(crate) async fn rewrap(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    Body { body, .. }: Body<Rewrap>,
) -> Result<Json<RewrapSummary>, Problem> {
    let (doing, by, dry_run) = (state.clone(), state.administrator(&caller.tenant, &caller), body.dry_run);
    let done = async move { Ok(kek_rotation::rewrap(&by, dry_run, |_| (), doing.ground()).await?) };
    let kek_rotation::Rewrapped { moved, kept, erased, left } = state.to_the_end(done).await?;
    Ok(Json(RewrapSummary { moved, kept, erased, left, dry_run }))
}
