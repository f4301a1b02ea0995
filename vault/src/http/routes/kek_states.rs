//! `/v1/keks/state` and `/v1/keks/shred`: the life of a tenant's key-encryption keys and its end.

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::approvals::{ApprovalSummary, asked};
use super::keks::{KekSummary, despite_outage, key_fault, refuse_ended};
use crate::domain::KekId;
use crate::http::authentication::{By, Custodian};
use crate::http::creation::Creation;
use crate::http::json::{Json as Body, OptionalJson};
use crate::http::problem::{Code, Problem};
use crate::http::state::State;
use crate::keys::{KekState, Statement};
use crate::store::Caller;
use crate::store::idempotency::Answer;
use crate::store::kek_states::{self, Changed, Need, Successor, Wish};
use crate::store::shredding::Extent;

/// Which version of a key, and what it shall be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ChangeState {
    /// The key, where the tenant has several.
    #[serde(default)]
    kek_id: Option<String>,
    version: u32,
    /// `active`, `deactivated`, `compromised` or `destroyed`.
    state: String,
    /// With `compromised`, for an active version in a token that does not answer: without a successor first. The tenant takes
    /// nothing in until a rotation.
    #[serde(default)]
    without_successor: bool,
    /// Only tell whether it could be.
    #[serde(default)]
    dry_run: bool,
}

/// Changes the state of one version.
pub(crate) async fn state(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    Body { body, .. }: Body<ChangeState>,
) -> Result<Json<KekSummary>, Problem> {
    if body.without_successor && body.state != KekState::Compromised.as_str() {
        return Err(Problem::invalid("withoutSuccessor", "not_allowed"));
    }
    let kek_id = body.kek_id.as_deref().map(str::parse::<KekId>).transpose();
    let wish = Wish {
        kek_id: kek_id.map_err(|_| Problem::invalid("kekId", "unknown"))?,
        version: body.version,
        state: body.state.parse::<KekState>().map_err(|_| Problem::invalid("state", "value"))?,
        successor: if body.without_successor { Successor::None } else { Successor::First },
    };
    let before = caller.tenant.keks.values().find(|(_, kek)| {
        kek.version == wish.version && wish.kek_id.as_ref().is_none_or(|wanted| *wanted == kek.kek_id)
    });
    let is_gone =
        before.is_some_and(|(_, kek)| matches!(key_fault(&state, &caller.tenant, kek), Some("missing" | "replaced")));
    let step = before.map(|(_, kek)| format!("{} does not become {}", kek.state.as_str(), wish.state.as_str()));
    let (doing, by, dry) = (state.clone(), state.administrator(&caller.tenant, &caller), body.dry_run);
    let done = async move {
        let changed = kek_states::change(&by, wish, dry, doing.ground()).await;
        doing.rooms().catalog.refresh(&by.tenant);
        Ok(changed?)
    };
    match state.to_the_end(done).await? {
        Changed::Done(record) => Ok(Json(KekSummary::of(&caller.tenant, &record))),
        Changed::Absent => Err(Problem::new(Code::NotFound).with_fault("version", "unknown")),
        Changed::NotAllowed => Err(match step {
            Some(step) => Problem::new(Code::Conflict).with_place("state", "transition", step),
            None => Problem::new(Code::Conflict).with_fault("state", "transition"),
        }),
        Changed::InUse(need) => {
            let why = match need {
                Need::Active => "no other version is active: rotate first (`siv keys rotate`)".to_owned(),
                // No rewrap takes along what only that key opens.
                Need::Referred if is_gone => format!(
                    "data keys are wrapped under it, and its key is not in its token any more: `siv keys lost {}` ends it with what \
                     only it opens, which takes two",
                    wish.version
                ),
                Need::Referred => "data keys are wrapped under it: wrap them anew first (`siv keys rewrap`)".to_owned(),
            };
            Err(Problem::new(Code::Conflict).with_place("state", "in_use", why))
        }
        Changed::Conflict => Err(Problem::new(Code::Conflict)),
    }
}

/// How to shred.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Shred {
    /// The custodians state that the token is lost: what it held counts as ended by their word, if it does not answer.
    #[serde(default)]
    token_lost: bool,
    /// Only tell what would be destroyed.
    #[serde(default)]
    dry_run: bool,
}

/// What shredding the tenant destroys.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shredding {
    tenant: String,
    /// Versions of keys that would be destroyed.
    keks: Vec<KekSummary>,
    /// Data keys that they wrap.
    data_keys: u64,
    /// Values, expired ones that wait for the purge included.
    values: u64,
    dry_run: bool,
    /// What a second custodian has to approve; none in a dry run.
    approval: Option<ApprovalSummary>,
}

/// Asks for the end of the tenant: nothing is destroyed before a second custodian approves.
pub(crate) async fn shred(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    creation: Creation,
    OptionalJson { body, raw }: OptionalJson<Shred>,
) -> Result<Response, Problem> {
    // A shredding may wait for a token that never comes back: that it is lost is stated afterwards.
    let waits = caller.tenant.keks.values().any(|(_, kek)| kek.state == KekState::Destroying);
    if !(body.token_lost && waits) {
        refuse_ended(&caller)?;
    }
    let extent = Extent::of(caller.tenant_name(), &state.rooms().store).await?;
    if body.token_lost && !extent.is_in_token() {
        return Err(Problem::invalid("tokenLost", "not_allowed"));
    }
    let statement = if body.token_lost { Statement::TokenLost } else { Statement::None };
    if body.dry_run {
        return Ok(Json(told(&caller, &extent, None)).into_response());
    }
    if extent.keks.is_empty() {
        return Err(Problem::new(Code::Conflict).with_fault("keks", "empty"));
    }
    let creation = despite_outage(creation, &state, &caller).await;
    let (doing, by) = (state.clone(), caller.clone());
    let asking = async move {
        let record = asked(&doing, &by, extent.act(statement)).await?;
        let summary = ApprovalSummary::of(&record, &by, &doing);
        Ok(Answer::json(202, &told(&by, &extent, Some(summary)))?)
    };
    creation.once(&state, &caller, "POST /v1/keks/shred", raw, asking).await
}

fn told(caller: &Caller, extent: &Extent, approval: Option<ApprovalSummary>) -> Shredding {
    let tenant = caller.tenant_name();
    Shredding {
        tenant: tenant.to_string(),
        keks: extent.keks.iter().map(|kek| KekSummary::of(&caller.tenant, kek)).collect(),
        data_keys: extent.data_keys,
        values: extent.values,
        dry_run: approval.is_none(),
        approval,
    }
}
