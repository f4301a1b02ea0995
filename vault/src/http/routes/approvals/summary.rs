//! What was asked for, as an answer shows it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::access_log::LostClass;
use crate::domain::{ApprovalId, Timestamp};
use crate::http::routes::keks::KekSummary;
use crate::http::state::State;
use crate::keys::WAIVED;
use crate::store::approvals::{self, ApprovalRecord, Place, TwoPersonAct};
use crate::store::{Caller, TenantCatalog};

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
    /// Where those of them lie that are in tokens: what is left, lost or destroyed there.
    tokens: Vec<InToken>,
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

/// A version of the tenant's key that lies in a token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InToken {
    /// The version, as `id.version`.
    kek: String,
    /// Label and serial number of the token.
    token: Option<String>,
    serial: Option<String>,
    /// What the key is called in it.
    label: Option<String>,
}

impl InToken {
    fn all(keks: &[String], settings: &TenantCatalog) -> Vec<Self> {
        let one = |kek: &String| {
            let (_, record) = settings.keks.get(kek).filter(|(_, record)| record.hsm.is_some())?;
            let (token, serial, label) = KekSummary::of(settings, record).place();
            Some(Self { kek: kek.clone(), token, serial, label })
        };
        keks.iter().filter_map(one).collect()
    }
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
    pub(in crate::http::routes) fn all(losses: &[LostClass]) -> Vec<Self> {
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
    pub(in crate::http::routes) fn of(record: &ApprovalRecord, caller: &Caller, state: &State) -> Self {
        let tenant = caller.tenant_name().to_string();
        Self { tenant, approval: ApprovalSummary::of(record, caller, state) }
    }
}

impl ApprovalSummary {
    pub(in crate::http::routes) fn of(record: &ApprovalRecord, caller: &Caller, state: &State) -> Self {
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
            tokens: InToken::all(&keks, &caller.tenant),
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
