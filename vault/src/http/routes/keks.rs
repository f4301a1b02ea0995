//! `/v1/keks`: names and states of the tenant's key-encryption keys, never a key; rotation.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::tenant::KeyProviderKind;
use crate::domain::{DataKeyClass, KekId, Timestamp};
use crate::http::authentication::{By, Custodian, SHREDDED};
use crate::http::creation::Creation;
use crate::http::json::OptionalJson as Body;
use crate::http::listing::{Listed, part};
use crate::http::problem::{Code, Problem};
use crate::http::routes::approvals::{Asked, asked};
use crate::http::routes::hsm_members::HsmMembers;
use crate::http::state::State;
use crate::keys::{KekRecord, KekState, SeenToken};
use crate::store::idempotency::Answer;
use crate::store::kek_rotation::{self, Plan, Planned, Target};
use crate::store::{Caller, Error, TenantCatalog, resealing};

/// A KEK version in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KekSummary {
    /// Whose key it is: a credential belongs to one tenant, and learns here which.
    tenant: String,
    /// Whether a custodian sealed that tenant: then nothing is captured or opened.
    sealed: bool,
    #[schema(value_type = String)]
    kek_id: KekId,
    version: u32,
    mechanism: String,
    #[schema(value_type = String)]
    state: KekState,
    #[schema(value_type = String)]
    created_at: Timestamp,
    /// Where its key lies: `local` or `hsm`.
    key_provider: &'static str,
    /// Label and serial number of the token.
    token: Option<String>,
    serial: Option<String>,
    /// What the key is called in the token.
    label: Option<String>,
    /// In a list, of a version in a token that has not ended: whether that token answers now, as this node heard last: of an
    /// outage once it is told. Null where no worker of this node has the token open, so that it does not know.
    token_answers: Option<bool>,
    /// In a list, of a version in a token that answers: what is wrong with its key there, once that was told (`key.provider.alarm`):
    /// `missing`, `replaced`, `ambiguous` or `unfit`. Null where nothing is known to be.
    key_fault: Option<&'static str>,
    /// How its key ended, once it is destroyed.
    ended: Option<&'static str>,
    /// In a list, of a version that was compromised: data keys of before on which values may still rest. At 0 the compromise is over.
    data_keys_left: Option<u64>,
    /// In the answer to a rotation that waives something: what.
    #[serde(skip_serializing_if = "Option::is_none")]
    waived: Option<&'static str>,
}

impl KekSummary {
    pub(super) fn of(settings: &TenantCatalog, record: &KekRecord) -> Self {
        let provider = record.hsm.as_ref().and_then(|hsm| settings.providers.get(&hsm.provider));
        let (token, serial) = provider.map(|(_, at)| (at.token.label.clone(), at.token.serial.clone())).unzip();
        Self {
            tenant: settings.tenant.name.to_string(),
            sealed: settings.tenant.sealed,
            kek_id: record.kek_id,
            version: record.version,
            mechanism: record.mechanism.clone(),
            state: record.state,
            created_at: record.created_at,
            key_provider: if record.hsm.is_some() { "hsm" } else { "local" },
            token: token.flatten(),
            serial: serial.flatten(),
            label: record.hsm.as_ref().map(|hsm| hsm.label().to_owned()),
            token_answers: None,
            key_fault: None,
            ended: record.ended.as_ref().map(|end| end.how.as_str()),
            data_keys_left: None,
            waived: None,
        }
    }

    /// Label and serial number of its token, and what it is called there.
    pub(super) fn place(self) -> (Option<String>, Option<String>, Option<String>) {
        (self.token, self.serial, self.label)
    }
}

/// Lists the tenant's KEKs.
pub(crate) async fn list(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    uri: Uri,
) -> Result<Json<Listed<KekSummary>>, Problem> {
    let left = resealing::left(caller.tenant_name(), &state.rooms().store).await?;
    let settings = &caller.tenant;
    // By number: as text, version 10 would stand before version 2.
    let name = |record: &KekRecord| format!("{}.{:010}", record.kek_id, record.version);
    let line = |(_, record): &(u64, KekRecord)| {
        let data_keys_left = left.get(&(record.kek_id, record.version)).copied();
        let token_answers = token_answers(&state, settings, record);
        let key_fault = key_fault(&state, settings, record);
        (name(record), KekSummary { data_keys_left, token_answers, key_fault, ..KekSummary::of(settings, record) })
    };
    part(caller.tenant.keks.values().map(line).collect::<BTreeMap<_, _>>(), &uri)
}

/// What this node knows of the token of a version that has not ended. Nothing is asked for it.
fn token_answers(state: &State, settings: &TenantCatalog, record: &KekRecord) -> Option<bool> {
    let hsm = record.hsm.as_ref().filter(|_| !record.state.is_over())?;
    let is_refused = settings.providers.get(&hsm.provider).is_some_and(|(_, provider)| provider.quarantined);
    if is_refused { Some(false) } else { state.rooms().keys.hsm_answers(&settings.tenant.name, hsm.provider) }
}

/// What this node was told of the key of a version that has not ended, in a token that answers.
pub(super) fn key_fault(state: &State, settings: &TenantCatalog, record: &KekRecord) -> Option<&'static str> {
    if record.state.is_over() { None } else { state.rooms().keys.hsm_key_fault(&settings.tenant.name, record) }
}

/// How to rotate.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RotateKek {
    /// Only tell what would be made: 200 and the version that would be active, instead of 201. A token is logged in to once, and
    /// nothing is made in it.
    #[serde(default)]
    dry_run: bool,
    /// Where the next version lives; where the present one does if it is left out.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    key_provider: Option<KeyProviderKind>,
    /// The token of key provider `hsm`, for a tenant that moves to it or whose module or PIN changed.
    #[serde(default)]
    hsm: Option<HsmMembers>,
}

impl RotateKek {
    fn target(&self, caller: &Caller) -> Result<Target, Problem> {
        let now = caller.tenant.tenant.key_provider;
        match (self.key_provider, &self.hsm) {
            (Some(KeyProviderKind::Hsm), Some(members)) => Ok(Target::Hsm(members.wish()?)),
            (_, Some(_)) => Err(Problem::invalid("hsm", "not_allowed")),
            (Some(KeyProviderKind::Hsm), None) if now != KeyProviderKind::Hsm => {
                Err(Problem::invalid("hsm", "required"))
            }
            (Some(KeyProviderKind::Local), None) => Ok(Target::Local),
            _ => Ok(Target::Same),
        }
    }
}

/// Makes the next version of the tenant's KEK active; the old one still unwraps.
pub(crate) async fn rotate(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    creation: Creation,
    Body { body, raw }: Body<RotateKek>,
) -> Result<Response, Problem> {
    refuse_ended(&caller)?;
    let target = body.target(&caller)?;
    if body.dry_run {
        return planned(&state, &caller, target).await;
    }
    let waived = waived(&target);
    let creation = despite_outage(creation, &state, &caller).await;
    let (doing, by, asking) = (state.clone(), state.administrator(&caller.tenant, &caller), caller.clone());
    let rotated = async move {
        let rotated = kek_rotation::rotate(&by, target, doing.now(), doing.ground()).await;
        doing.rooms().catalog.refresh(&by.tenant);
        match rotated {
            Err(Error::TakesTwo(act)) => {
                let asked = asked(&doing, &asking, *act).await?;
                Ok(Answer::json(202, &Asked::of(&asked, &asking, &doing))?)
            }
            kek => {
                let kek = kek?;
                let settings = doing.tenant(&by.tenant).await?;
                Ok(Answer::json(201, &KekSummary { waived, ..KekSummary::of(&settings, &kek) })?)
            }
        }
    };
    creation.once(&state, &caller, "POST /v1/keks/rotate", raw, rotated).await
}

/// What is waived for a key that is to be taken on.
fn waived(target: &Target) -> Option<&'static str> {
    match target {
        Target::Hsm(wish) => wish.waived(),
        Target::Same | Target::Local => None,
    }
}

/// A tenant whose keys are ended answers as a sealed one: nothing of it is opened, wrapped or moved ever again.
pub(super) fn refuse_ended(caller: &Caller) -> Result<(), Problem> {
    if caller.tenant.is_shredded() {
        return Err(Problem::new(Code::TenantSealed).saying(SHREDDED));
    }
    Ok(())
}

/// A move is how a tenant is brought back whose token is lost or whose PIN was refused, and a shredding how it is ended. What
/// remembers a request is sealed under the very key that is away: then it is carried out each time it comes, which makes one
/// more version, or the request for an approval that waits already, and no harm.
pub(super) async fn despite_outage(creation: Creation, state: &State, caller: &Caller) -> Creation {
    use crate::keys::Error;
    let rooms = state.rooms();
    let probed = rooms.keys.probe(&rooms.store, caller.tenant_name(), DataKeyClass::Idempotency, state.now());
    match probed.await {
        // Another key behind the label serves as little; and a shredding that waits for its token has left none that wraps.
        Err(Error::Hsm(_) | Error::Altered | Error::NoKek | Error::KekUnusable) => Creation::each_time(),
        _ => creation,
    }
}

/// The version that a rotation would make now.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlannedKek {
    #[serde(flatten)]
    kek: KekSummary,
    /// Whether a second custodian would have to approve it first.
    takes_two: bool,
    dry_run: bool,
}

/// Tells what would be made; a worker that was started for it is ended, whether or not anybody waits for the answer.
async fn planned(state: &State, caller: &Caller, target: Target) -> Result<Response, Problem> {
    let (doing, by) = (state.clone(), state.administrator(&caller.tenant, caller));
    let (now, waived) = (state.now(), waived(&target));
    let work = async move { Ok(kek_rotation::plan(&by, target, now, doing.ground()).await?) };
    let plan = state.to_the_end(work).await?;
    let Plan { present, mechanism, place, takes_two } = plan;
    let next = KekRecord {
        version: present.version + 1,
        mechanism,
        state: KekState::Active,
        created_at: now,
        compromised_at: None,
        ..present
    };
    let kek = match place {
        Planned::Same => KekSummary::of(&caller.tenant, &next),
        Planned::Local => KekSummary::of(&caller.tenant, &KekRecord { hsm: None, ..next }),
        Planned::Token(SeenToken { label, serial }) => KekSummary {
            key_provider: "hsm",
            token: Some(label),
            serial: Some(serial),
            ..KekSummary::of(&caller.tenant, &KekRecord { hsm: None, ..next })
        },
    };
    let kek = KekSummary { waived, ..kek };
    Ok(Json(PlannedKek { kek, takes_two, dry_run: true }).into_response())
}
