//! `/v1/approvals`: acts that take two custodians; and the switch that needs one of them.

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::certificates::Certificate;
use crate::access_log::LostClass;
use crate::domain::{ApprovalId, Timestamp};
use crate::http::authentication::{By, Custodian, deny, refuse};
use crate::http::creation::Creation;
use crate::http::json::{Json as Body, OptionalJson};
use crate::http::listing::{Listed, part};
use crate::http::problem::{Code, Problem};
use crate::http::state::State;
use crate::keys::WAIVED;
use crate::store::administration::Administrator;
use crate::store::approvals::{self, ApprovalRecord, Approved, Over, Place, TwoPersonAct, Withdrawn};
use crate::store::idempotency::Answer;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::{Caller, Error};

/// How often an act is decided anew when settings move under it.
const ANEW: usize = 5;
/// The longest that opened data keys may stay in memory, in seconds.
pub(super) const LONGEST: u16 = 300;

/// An approval that was asked for or given.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApprovalSummary {
    #[schema(value_type = String)]
    approval_id: ApprovalId,
    /// Whose key it is about.
    tenant: String,
    /// `shred-tenant`, `lose-version`, `leave-strict` or `leave-token`.
    act: &'static str,
    /// Key versions that would be destroyed, the one that is lost, or the one that is left, as `id.version`.
    keks: Vec<String>,
    /// Seconds that opened data keys may stay in memory.
    cache_seconds: Option<u16>,
    /// That a token is lost: what it held would count as ended by the custodians' word.
    token_lost: Option<bool>,
    /// What would become unopenable of each class of data keys.
    losses: Option<Vec<ClassLoss>>,
    /// What was seen of the token that would count as lost.
    seen: Option<&'static str>,
    /// Where the next version would be made: `local` or `hsm`.
    key_provider: Option<&'static str>,
    /// The token it would be made in.
    hsm: Option<TokenSummary>,
    /// SHA-256 over the act: what the second custodian can compare.
    digest: String,
    /// `requested`, `approved` (it is being done, or waits for who asked), `completed`, `expired`, `withdrawn` (by a custodian, or
    /// since the credential that asked does not hold any more) or `changed` (keys or settings are others by now).
    state: &'static str,
    requested_by: String,
    /// The name of that credential.
    requested_by_name: Option<String>,
    #[schema(value_type = String)]
    requested_at: Timestamp,
    #[schema(value_type = String)]
    expires_at: Timestamp,
    /// Seconds until then; 0 when it is over.
    seconds_left: u64,
    approved_by: Option<String>,
    /// The name of that credential.
    approved_by_name: Option<String>,
    #[schema(value_type = String)]
    approved_at: Option<Timestamp>,
    #[schema(value_type = String)]
    completed_at: Option<Timestamp>,
    /// The custodian who took it back.
    withdrawn_by: Option<String>,
    /// The name of that credential.
    withdrawn_by_name: Option<String>,
    #[schema(value_type = String)]
    withdrawn_at: Option<Timestamp>,
}

/// What becomes unopenable of one class of data keys.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClassLoss {
    /// The class of data keys; of values it is their retention class.
    class: String,
    data_keys: u64,
    /// Values that they seal; none where they seal other things.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<u64>,
    /// That these are so many or more: they are counted up to 1000000.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    values_at_least: bool,
    /// What they hold that is no value, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    holds: Option<String>,
}

impl ClassLoss {
    pub(super) fn all(losses: &[LostClass]) -> Vec<Self> {
        let one = |LostClass { class, data_keys, values, values_at_least, holds }| Self {
            class,
            data_keys,
            values,
            values_at_least,
            holds,
        };
        losses.iter().cloned().map(one).collect()
    }
}

/// A token that a custodian named.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenSummary {
    module: String,
    token: Option<String>,
    serial: Option<String>,
    kek: Option<String>,
    /// Whether that key is taken on though somebody may know its bytes.
    waive: bool,
    /// What is waived then, in words.
    waived: Option<&'static str>,
}

/// What was asked for and is not done before a second custodian approved.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    tenant: String,
    approval: ApprovalSummary,
}

impl Asked {
    pub(super) fn of(record: &ApprovalRecord, caller: &Caller, state: &State) -> Self {
        let tenant = caller.tenant_name().to_string();
        Self { tenant, approval: ApprovalSummary::of(record, caller, state) }
    }
}

impl ApprovalSummary {
    pub(super) fn of(record: &ApprovalRecord, caller: &Caller, state: &State) -> Self {
        let (mut keks, mut cache_seconds, mut lost, mut key_provider, mut hsm) = (Vec::new(), None, None, None, None);
        let (mut losses, mut seen) = (None, None);
        match &record.act {
            TwoPersonAct::LoseVersion { kek, losses: all, seen: found, .. } => {
                keks.push(kek.clone());
                seen = Some(found.as_str());
                (lost, losses) = (Some(true), Some(ClassLoss::all(all)));
            }
            TwoPersonAct::ShredTenant { keks: all, token_lost } => (keks, lost) = (all.clone(), Some(*token_lost)),
            TwoPersonAct::LeaveStrict { cache_seconds: seconds, .. } => cache_seconds = Some(*seconds),
            TwoPersonAct::LeaveToken { kek, place } => {
                keks.push(kek.clone());
                key_provider = Some(if *place == Place::Local { "local" } else { "hsm" });
                if let Place::Hsm { module, token, serial, kek, waive } = place.clone() {
                    let waived = waive.then_some(WAIVED);
                    hsm = Some(TokenSummary { module, token, serial, kek, waive, waived });
                }
            }
        }
        let name = |id| caller.tenant.credentials.get(&id).map(|(_, stored)| stored.record.name.clone());
        Self {
            approval_id: record.approval_id,
            tenant: caller.tenant_name().to_string(),
            act: record.act.as_str(),
            keks,
            cache_seconds,
            token_lost: lost,
            losses,
            seen,
            key_provider,
            hsm,
            digest: record.digest(caller.tenant_name(), state.rooms().keys.realm()),
            state: approvals::standing(record, &caller.tenant, state.now()),
            requested_by: record.requested_by.to_string(),
            requested_by_name: name(record.requested_by),
            requested_at: record.requested_at,
            expires_at: record.expires_at,
            seconds_left: record.expires_at.since(state.now()).as_secs(),
            approved_by: record.approved_by.map(|id| id.to_string()),
            approved_by_name: record.approved_by.and_then(name),
            approved_at: record.approved_at,
            completed_at: record.completed_at,
            withdrawn_by: record.withdrawn_by.map(|id| id.to_string()),
            withdrawn_by_name: record.withdrawn_by.and_then(name),
            withdrawn_at: record.withdrawn_at,
        }
    }
}

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
        Approved::Done { record, receipt } => {
            let certificate = match receipt {
                Some(receipt) => Some(Certificate::received(&state, caller.tenant_name(), &receipt).await?),
                None => None,
            };
            Ok(Json(Given { approval: ApprovalSummary::of(&record, &caller, &state), certificate }))
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
