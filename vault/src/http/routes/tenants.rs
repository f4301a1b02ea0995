//! `/v1/tenants`: customer organisations; seal and unseal.

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::tenant::KeyProviderKind;
use crate::domain::{Tenant, TenantName, Timestamp};
use crate::http::authentication::{By, Custodian, Operator, refuse};
use crate::http::creation::Creation;
use crate::http::json::{Json as Body, OptionalJson};
use crate::http::listing::{Listed, part};
use crate::http::problem::{Code, Problem};
use crate::http::routes::approvals::{LONGEST, out_of_range};
use crate::http::routes::hsm_members::HsmMembers;
use crate::http::state::State;
use crate::keys::HsmWish;
use crate::store::administration::{Act, Switch};
use crate::store::idempotency::Answer;
use crate::store::{Caller, TenantCatalog, tenants};

/// A tenant to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct CreateTenant {
    name: String,
    #[serde(default)]
    #[schema(value_type = String)]
    key_provider: Option<KeyProviderKind>,
    /// How long an opened data key may stay in memory, 0 to 300.
    #[serde(default)]
    cache_seconds: Option<u16>,
    /// Whether flows may reveal.
    #[serde(default)]
    reveal: bool,
    /// The token of key provider `hsm`.
    #[serde(default)]
    hsm: Option<HsmMembers>,
}

/// A tenant in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TenantSummary {
    name: String,
    key_provider: &'static str,
    cache_seconds: u16,
    reveal: bool,
    sealed: bool,
    /// Whether its keys were destroyed, or are being: it stays sealed for good.
    shredded: bool,
    #[schema(value_type = String)]
    created_at: Timestamp,
    /// In the answer to its making, where something was waived for its key: what.
    #[serde(skip_serializing_if = "Option::is_none")]
    waived: Option<&'static str>,
}

impl From<&TenantCatalog> for TenantSummary {
    fn from(catalog: &TenantCatalog) -> Self {
        Self { shredded: catalog.is_shredded(), ..Self::from(&catalog.tenant) }
    }
}

impl From<&Tenant> for TenantSummary {
    fn from(tenant: &Tenant) -> Self {
        Self {
            name: tenant.name.to_string(),
            key_provider: match tenant.key_provider {
                KeyProviderKind::Local => "local",
                KeyProviderKind::Hsm => "hsm",
            },
            cache_seconds: tenant.cache_seconds,
            reveal: tenant.reveal,
            sealed: tenant.sealed,
            shredded: false,
            created_at: tenant.created_at,
            waived: None,
        }
    }
}

/// How to seal or unseal.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct SwitchTenant {
    /// Only tell what would change.
    #[serde(default)]
    dry_run: bool,
}

/// A tenant that was switched; of a dry run, the tenant as it is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SwitchedTenant {
    #[serde(flatten)]
    tenant: TenantSummary,
    /// In a dry run: whether `sealed` would become another.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_change: Option<bool>,
    dry_run: bool,
}

/// Makes a tenant with a KEK of its own.
pub(crate) async fn create(
    Shared(state): Shared<State>,
    By(caller, _): By<Operator>,
    creation: Creation,
    Body { body, raw }: Body<CreateTenant>,
) -> Result<Response, Problem> {
    installation_only(&state, &caller).await?;
    let tenant = wanted(&body, state.now())?;
    let wish = body.hsm.as_ref().map(HsmMembers::wish).transpose()?;
    let (doing, by) = (state.clone(), caller.clone());
    let made = async move {
        if doing.rooms().catalog.tenant(&tenant.name).await?.is_some() {
            let why = "there is a tenant of this name, or was one: choose another".to_owned();
            return Err(Problem::new(Code::Conflict).with_place("name", "taken", why));
        }
        let (by, ground) = (doing.installation(&by), doing.ground());
        let waived = wish.as_ref().and_then(HsmWish::waived);
        let tenant = match wish {
            Some(wish) => tenants::create_in_hsm(tenant, wish, &by, ground).await?,
            None => tenants::create(tenant, &by, ground).await?,
        };
        doing.rooms().catalog.refresh(&tenant.name);
        Ok(Answer::json(201, &TenantSummary { waived, ..TenantSummary::from(&tenant) })?)
    };
    creation.once(&state, &caller, "POST /v1/tenants", raw, made).await
}

fn wanted(body: &CreateTenant, now: Timestamp) -> Result<Tenant, Problem> {
    let name: TenantName = body.name.parse().map_err(|_| Problem::invalid("name", "name"))?;
    if name.as_str() == "system" {
        return Err(Problem::invalid("name", "reserved"));
    }
    let key_provider = body.key_provider.unwrap_or(KeyProviderKind::Local);
    match (key_provider, &body.hsm) {
        (KeyProviderKind::Hsm, None) => return Err(Problem::invalid("hsm", "required")),
        (KeyProviderKind::Local, Some(_)) => return Err(Problem::invalid("hsm", "not_allowed")),
        _ => {}
    }
    let cache_seconds = body.cache_seconds.unwrap_or(300);
    if cache_seconds > LONGEST {
        return Err(out_of_range());
    }
    Ok(Tenant { name, reveal: body.reveal, sealed: false, key_provider, cache_seconds, created_at: now })
}

/// A tenant's own operator sees that tenant only.
pub(super) async fn installation_only(state: &State, caller: &Caller) -> Result<(), Problem> {
    if state.is_installations(caller).await? { Ok(()) } else { Err(refuse(state, caller).await) }
}

/// Lists tenants: all for the installation's operator, their own for others.
pub(crate) async fn list(
    Shared(state): Shared<State>,
    By(caller, _): By<Operator>,
    uri: Uri,
) -> Result<Json<Listed<TenantSummary>>, Problem> {
    if !state.is_installations(&caller).await? {
        let own = &*caller.tenant;
        return part([(own.tenant.name.to_string(), own.into())], &uri);
    }
    let mut lines = Vec::new();
    for name in state.rooms().catalog.tenants().await? {
        if let Some(catalog) = state.rooms().catalog.tenant(&name).await?.filter(|_| !name.is_system()) {
            lines.push((name.to_string(), TenantSummary::from(&*catalog)));
        }
    }
    part(lines, &uri)
}

/// Closes a tenant: nothing is captured or opened until it is unsealed.
pub(crate) async fn seal(
    state: Shared<State>,
    by: By<Custodian>,
    path: Path<String>,
    OptionalJson { body, .. }: OptionalJson<SwitchTenant>,
) -> Result<Json<SwitchedTenant>, Problem> {
    switch(state, by, path, (Switch::Seal, body)).await
}

/// Opens it again.
pub(crate) async fn unseal(
    state: Shared<State>,
    by: By<Custodian>,
    path: Path<String>,
    OptionalJson { body, .. }: OptionalJson<SwitchTenant>,
) -> Result<Json<SwitchedTenant>, Problem> {
    switch(state, by, path, (Switch::Unseal, body)).await
}

async fn switch(
    Shared(state): Shared<State>,
    By(caller, _): By<Custodian>,
    Path(name): Path<String>,
    (switch, wish): (Switch, SwitchTenant),
) -> Result<Json<SwitchedTenant>, Problem> {
    if name != caller.tenant_name().as_str() {
        return Err(refuse(&state, &caller).await);
    }
    if wish.dry_run {
        let (now, then) = (&*caller.tenant, switched(&caller.tenant, switch)?);
        let would_change = Some(now.tenant.sealed != then.sealed);
        return Ok(Json(SwitchedTenant { tenant: now.into(), would_change, dry_run: true }));
    }
    let name = caller.tenant_name().clone();
    let applied = state
        .administer(caller, move |tenant, by| {
            let switched = switched(tenant, switch)?;
            Ok(Act::switch_tenant(by, &switched, tenant.tenant_version, switch)?)
        })
        .await?;
    applied.version().ok_or(Problem::new(Code::Conflict))?;
    // What was opened under the old state must not be served from memory.
    state.rooms().keys.forget_tenant(&name);
    let tenant = (&*state.tenant(&name).await?).into();
    Ok(Json(SwitchedTenant { tenant, would_change: None, dry_run: false }))
}

/// The tenant as it would be. One that was shredded stays sealed: nothing of it can be opened or sealed any more.
fn switched(tenant: &TenantCatalog, switch: Switch) -> Result<Tenant, Problem> {
    let opens = tenant.keks.values().any(|(_, kek)| kek.state.may_unwrap());
    if switch == Switch::Unseal && !opens {
        let ended = Problem::new(Code::Conflict).with_fault("keks", "destroyed");
        return Err(ended.saying("The tenant's keys were destroyed: it stays sealed."));
    }
    Ok(Tenant { sealed: switch == Switch::Seal, ..tenant.tenant.clone() })
}
