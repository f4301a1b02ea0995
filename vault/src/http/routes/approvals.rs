//! `/v1/approvals`: acts that take two custodians; and the switch that needs one of them.

mod summary;

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use summary::{ApprovalSummary, Asked, ClassLoss};

use super::certificates::Certificate;
use crate::domain::ApprovalId;
use crate::http::authentication::{By, Custodian, deny, refuse};
use crate::http::creation::Creation;
use crate::http::json::{Json as Body, OptionalJson};
use crate::http::listing::{Listed, part};
use crate::http::problem::{Code, Problem};
use crate::http::state::State;
use crate::store::administration::Administrator;
use crate::store::approvals::{self, ApprovalRecord, Approved, Over, TwoPersonAct, Withdrawn};
use crate::store::idempotency::Answer;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::{Caller, Error};

/// How often an act is decided anew when settings move under it.
const ANEW: usize = 5;
/// The longest that opened data keys may stay in memory, in seconds.
pub(super) const LONGEST: u16 = 300;

/// Notes what a custodian asks for.
pub(super) async fn asked(state: &State, caller: &Caller, act: TwoPersonAct) -> Result<ApprovalRecord, Problem> {
    let (doing, by, custodian) =
        (state.clone(), state.administrator(&caller.tenant, caller), caller.credential.credential_id);
    state
        .to_the_end(async move {
            let record = approvals::request(&by, custodian, act, doing.ground()).await;
            doing.rooms().catalog.refresh(&by.tenant);
            Ok(record?)
        })
        .await
}

/// Lists what was asked for.
pub(crate) async fn list(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    uri: Uri,
) -> Result<Json<Listed<ApprovalSummary>>, Problem> {
    let mut lines = Vec::new();
    for row in state.rooms().store.rows(Table::Approvals, caller.tenant_name()).await? {
        let record = ApprovalRecord::from_row(&row)?;
        lines.push((row.key.clone(), ApprovalSummary::of(&record, &caller, &state)));
    }
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    part(lines, &uri)
}

/// What the second custodian saw.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Approve {
    /// The act's digest: another one is refused.
    #[serde(default)]
    digest: Option<String>,
}

/// What an approval came to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Given {
    #[serde(flatten)]
    approval: ApprovalSummary,
    /// Of the tenant's destruction, or of a version's loss, with its receipt; `GET /v1/keks/certificate` gives it with its proof.
    certificate: Option<Certificate>,
    /// Of a tenant's destruction: why keys have not ended yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<&'static str>,
}

/// Approves as a second custodian, and does what was asked for.
pub(crate) async fn approve(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    Path(id): Path<String>,
    OptionalJson { body, .. }: OptionalJson<Approve>,
) -> Result<Json<Given>, Problem> {
    let id: ApprovalId = id.parse().map_err(|_| Problem::new(Code::NotFound))?;
    let (doing, by) = (state.clone(), caller.clone());
    let done = state.to_the_end(async move { decided(&doing, &by, id, body.digest.as_deref()).await }).await?;
    match done {
        Approved::Done { record, receipt, waiting } => {
            let certificate = match receipt {
                Some(receipt) => Some(Certificate::received(&state, caller.tenant_name(), &receipt).await?),
                None => None,
            };
            Ok(Json(Given { approval: ApprovalSummary::of(&record, &caller, &state), certificate, waiting }))
        }
        Approved::Absent => Err(Problem::new(Code::NotFound)),
        Approved::Own => {
            let why = "whoever asked cannot approve: another custodian must".to_owned();
            Err(deny(&state, &caller, "approval.second_person").await.with_place("approval", "second_person", why))
        }
        Approved::Over(why) => Err(over(why)),
    }
}

/// Takes back what was asked for and is not done: any custodian of the tenant may.
pub(crate) async fn withdraw(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    Path(id): Path<String>,
) -> Result<Json<ApprovalSummary>, Problem> {
    let id: ApprovalId = id.parse().map_err(|_| Problem::new(Code::NotFound))?;
    let (doing, by) = (state.clone(), caller.clone());
    match state.to_the_end(async move { taken_back(&doing, &by, id).await }).await? {
        Withdrawn::Done(record) => Ok(Json(ApprovalSummary::of(&record, &caller, &state))),
        Withdrawn::Absent => Err(Problem::new(Code::NotFound)),
        Withdrawn::Over(why) => Err(over(why)),
    }
}

fn over(why: Over) -> Problem {
    Problem::new(Code::Conflict).with_place("approval", why.as_str(), why.words().to_owned())
}

/// Who acts, under the tenant's present settings.
async fn renewed(state: &State, caller: &Caller) -> Result<Administrator, Problem> {
    let renewed = caller.renewed(&state.rooms().catalog, state.now()).await?;
    let caller = renewed.ok_or(Problem::new(Code::AuthInvalid))?;
    Ok(state.administrator(&caller.tenant, &caller))
}

/// Takes back under the tenant's present settings, and anew while they move.
async fn taken_back(state: &State, caller: &Caller, id: ApprovalId) -> Result<Withdrawn, Problem> {
    for _ in 0..ANEW {
        let by = renewed(state, caller).await?;
        let done = approvals::withdraw(&by, caller.credential.credential_id, id, state.ground()).await;
        state.rooms().catalog.refresh(&by.tenant);
        match done {
            Err(Error::Stale) => {}
            done => return Ok(done?),
        }
    }
    Err(Problem::new(Code::Overloaded))
}

/// Decides on the tenant's present settings, and anew while they move.
async fn decided(state: &State, caller: &Caller, id: ApprovalId, digest: Option<&str>) -> Result<Approved, Problem> {
    let custodian = caller.credential.credential_id;
    for _ in 0..ANEW {
        let by = renewed(state, caller).await?;
        let approved = approvals::approve(&by, custodian, (id, digest), state.ground()).await;
        state.rooms().catalog.refresh(&by.tenant);
        match approved {
            Err(Error::Stale) => {}
            approved => return Ok(approved?),
        }
    }
    Err(Problem::new(Code::Overloaded))
}

/// How long opened data keys may stay in memory.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct SetCache {
    /// 0 (strict: every reading asks the key provider) to 300.
    cache_seconds: u16,
}

/// What is in force.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CacheTime {
    tenant: String,
    cache_seconds: u16,
    /// What a second custodian has to approve before it is more than 0.
    approval: Option<ApprovalSummary>,
}

impl CacheTime {
    fn of(caller: &Caller, cache_seconds: u16, approval: Option<ApprovalSummary>) -> Self {
        Self { tenant: caller.tenant_name().to_string(), cache_seconds, approval }
    }
}

/// That so many seconds are too many.
pub(super) fn out_of_range() -> Problem {
    Problem::new(Code::Validation).with_place("cacheSeconds", "range", format!("0 to {LONGEST}"))
}

/// Sets how long opened data keys may stay in memory. To leave 0 takes a second custodian.
pub(crate) async fn set_cache(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    Path(name): Path<String>,
    creation: Creation,
    Body { body, raw }: Body<SetCache>,
) -> Result<Response, Problem> {
    if name != caller.tenant_name().as_str() {
        return Err(refuse(&state, &caller).await);
    }
    let (seconds, tenant) = (body.cache_seconds, caller.tenant.tenant.clone());
    if seconds > LONGEST {
        return Err(out_of_range());
    }
    if tenant.cache_seconds == 0 && seconds > 0 {
        let (doing, by) = (state.clone(), caller.clone());
        let asking = async move {
            let act = TwoPersonAct::LeaveStrict { cache_seconds: seconds, settings: by.tenant.tenant_version };
            let record = asked(&doing, &by, act).await?;
            let summary = ApprovalSummary::of(&record, &by, &doing);
            Ok(Answer::json(202, &CacheTime::of(&by, 0, Some(summary)))?)
        };
        return creation.once(&state, &caller, "POST /v1/tenants/{tenant}/cache", raw, asking).await;
    }
    if tenant.cache_seconds != seconds {
        let (doing, by, row) =
            (state.clone(), state.administrator(&caller.tenant, &caller), caller.tenant.tenant_version);
        let tenant = tenant.clone();
        let done = async move {
            let set = approvals::set_cache(&by, (row, tenant), seconds, doing.ground()).await;
            doing.rooms().catalog.refresh(&by.tenant);
            Ok(set?)
        };
        state.to_the_end(done).await?;
        state.tenant(caller.tenant_name()).await?;
    }
    Ok(Json(CacheTime::of(&caller, seconds, None)).into_response())
}
