//! `/v1/keks/lost`: the end of one version of a key whose token is lost, asked for by one custodian and stated with a second.

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::approvals::{ApprovalSummary, ClassLoss, asked};
use super::keks::{KekSummary, despite_outage, refuse_ended};
use crate::domain::KekId;
use crate::http::authentication::{By, Custodian};
use crate::http::creation::Creation;
use crate::http::json::Json as Body;
use crate::http::problem::{Code, Problem};
use crate::http::state::State;
use crate::store::Caller;
use crate::store::idempotency::Answer;
use crate::store::lost_version::{self, Asked, Losing, Total};

/// Which version is lost.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct LoseVersion {
    /// The key, where the tenant has several.
    #[serde(default)]
    kek_id: Option<String>,
    version: u32,
    /// Only tell what would become unopenable: 200 instead of 202.
    #[serde(default)]
    dry_run: bool,
}

/// What ends with a version that is lost.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Losses {
    tenant: String,
    kek: KekSummary,
    /// By class.
    losses: Vec<ClassLoss>,
    /// Data keys that only this version opens.
    data_keys: u64,
    /// Values under them, expired ones that wait for the purge included.
    values: u64,
    /// That these are so many or more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    values_at_least: bool,
    /// What was seen of its token.
    seen: &'static str,
    dry_run: bool,
    /// What a second custodian has to approve; none in a dry run.
    approval: Option<ApprovalSummary>,
}

/// Asks for the end of a version: nothing ends before a second custodian approves. Its token is waited for first.
pub(crate) async fn lose(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    creation: Creation,
    Body { body, raw }: Body<LoseVersion>,
) -> Result<Response, Problem> {
    refuse_ended(&caller)?;
    let kek_id = body.kek_id.as_deref().map(str::parse::<KekId>).transpose();
    let wanted = (kek_id.map_err(|_| Problem::invalid("kekId", "unknown"))?, body.version);
    let (doing, tenant) = (state.clone(), caller.tenant_name().clone());
    let judging = async move { Ok(lost_version::judge(wanted, &tenant, doing.ground()).await?) };
    let losing = possible(state.to_the_end(judging).await?)?;
    if body.dry_run {
        return Ok(Json(told(&caller, &losing, None)).into_response());
    }
    let act = losing.act().ok_or(Problem::new(Code::Internal))?;
    let creation = despite_outage(creation, &state, &caller).await;
    let (doing, by) = (state.clone(), caller.clone());
    let asking = async move {
        let record = asked(&doing, &by, act).await?;
        let summary = ApprovalSummary::of(&record, &by, &doing);
        Ok(Answer::json(202, &told(&by, &losing, Some(summary)))?)
    };
    creation.once(&state, &caller, "POST /v1/keks/lost", raw, asking).await
}

/// What can be asked for, or why it cannot.
fn possible(asked: Asked) -> Result<Losing, Problem> {
    let conflict = |code: &str, why: &str| Problem::new(Code::Conflict).with_place("version", code, why.to_owned());
    Err(match asked {
        Asked::Possible(losing) => return Ok(losing),
        Asked::Absent => Problem::new(Code::NotFound).with_fault("version", "unknown"),
        Asked::Active => {
            conflict("in_use", "it is the active one: rotate first, to where a key can be made (`siv keys rotate`)")
        }
        Asked::NotAllowed(state) => conflict("transition", &format!("{} does not become lost", state.as_str())),
        Asked::NotInToken => conflict(
            "not_in_token",
            "it lies in the built-in KMS and not in a token: put the key store back, or wrap its data keys anew and destroy it",
        ),
        Asked::NotAsked(why) => conflict("not_asked", why.as_str()),
        Asked::Answers => conflict(
            "answers",
            "its token answers, so nothing is lost: wrap its data keys anew (`siv keys rewrap`), then destroy the version (`siv keys state`)",
        ),
    })
}

fn told(caller: &Caller, losing: &Losing, approval: Option<ApprovalSummary>) -> Losses {
    let Total { data_keys, values, at_least } = losing.total();
    Losses {
        tenant: caller.tenant_name().to_string(),
        kek: KekSummary::of(&caller.tenant, &losing.kek),
        losses: ClassLoss::all(&losing.losses),
        data_keys,
        values,
        values_at_least: at_least,
        seen: losing.seen.as_str(),
        dry_run: approval.is_none(),
        approval,
    }
}
