//! `/v1/keks/rewrap`: data keys wrapped under the active version, one stretch in each request.

use std::num::NonZeroU32;

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::keks::refuse_ended;
use crate::domain::{DataKeyId, KekId};
use crate::http::authentication::{By, Custodian};
use crate::http::json::OptionalJson;
use crate::http::problem::Problem;
use crate::http::state::State;
use crate::store::kek_rotation::{self, Rewrapped, Stretch};

/// How to rewrap.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Rewrap {
    /// Only count what would be done.
    #[serde(default)]
    dry_run: bool,
    /// So many data keys a second at most.
    #[serde(default)]
    #[schema(value_type = Option<u32>)]
    per_second: Option<NonZeroU32>,
    /// `next` of the answer before, to go on after it; from the beginning where it is left out.
    #[serde(default)]
    cursor: Option<String>,
}

/// What a stretch of a rewrap did, or would do. A request lasts some ten seconds.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RewrapSummary {
    /// Data keys moved to the active version.
    moved: u64,
    /// Data keys that were under it already.
    kept: u64,
    /// Data keys that were erased, and are removed.
    erased: u64,
    /// Data keys of the tenant that still name another version: not come to yet, or they do not open, for now or for good; 0 proves that
    /// nothing does. In a dry run, those of this stretch that would not open.
    left: u64,
    /// Those of this stretch that do not open.
    unopened: Vec<Unopened>,
    /// The `cursor` to go on with; null once it is through. Nothing goes on by itself.
    #[schema(value_type = Option<String>)]
    next: Option<DataKeyId>,
    dry_run: bool,
}

/// Data keys of one version that do not open.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Unopened {
    #[schema(value_type = String)]
    kek_id: KekId,
    version: u32,
    /// Why, in words.
    why: &'static str,
    data_keys: u64,
}

/// Wraps the tenant's data keys under its active KEK version, until they are through or the stretch is over.
pub(crate) async fn rewrap(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    OptionalJson { body, .. }: OptionalJson<Rewrap>,
) -> Result<Json<RewrapSummary>, Problem> {
    refuse_ended(&caller)?;
    let after = body.cursor.as_deref().map(str::parse).transpose().map_err(|_| Problem::invalid("cursor", "value"))?;
    let (doing, by, dry_run) = (state.clone(), state.administrator(&caller.tenant, &caller), body.dry_run);
    let stretch = Stretch { dry: dry_run, per_second: body.per_second, after, ..Stretch::default() };
    let done = async move { Ok(kek_rotation::rewrap(&by, stretch, doing.ground()).await?) };
    let Rewrapped { moved, kept, erased, left, unopened, next } = state.to_the_end(done).await?;
    let unopened = unopened.into_iter().map(|(of, data_keys)| Unopened {
        kek_id: of.kek_id,
        version: of.version,
        why: of.why,
        data_keys,
    });
    Ok(Json(RewrapSummary { moved, kept, erased, left, unopened: unopened.collect(), next, dry_run }))
}
