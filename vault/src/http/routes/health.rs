//! `/healthz`, `/readyz`, `/metrics`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{DataKeyClass, TenantName};
use crate::http::metrics::scrape;
use crate::http::state::State;

/// Alive.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    status: &'static str,
}

/// Whether somebody can be served, and why not.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    status: &'static str,
    /// `sealed`, `kms`, `store`, `log`.
    reasons: Vec<&'static str>,
    /// On the private listener: the reasons of each tenant. A node that is sealed itself knows of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    tenants: Option<BTreeMap<String, Vec<&'static str>>>,
}

impl Readiness {
    /// Of a node whose root key is not here: it knows of no tenant.
    pub(crate) fn sealed() -> Self {
        Self { status: "unavailable", reasons: vec!["sealed"], tenants: None }
    }
}

/// Says that the process answers.
pub(crate) async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Says whether some tenant can be served; tells of no tenant.
pub(crate) async fn ready(Shared(state): Shared<State>) -> Response {
    answer(Readiness { tenants: None, ..readiness(&state).await })
}

/// The same with each tenant's reasons.
pub(crate) async fn ready_by_tenant(Shared(state): Shared<State>) -> Response {
    answer(readiness(&state).await)
}

pub(crate) fn answer(readiness: Readiness) -> Response {
    let status = if readiness.status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = (status, Json(readiness)).into_response();
    if status != StatusCode::OK {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

async fn readiness(state: &State) -> Readiness {
    let rooms = state.rooms();
    let not = |reasons| Readiness { status: "unavailable", reasons, tenants: Some(BTreeMap::new()) };
    if !rooms.store.log_health().is_serving() {
        return not(vec!["log"]);
    }
    let Ok(names) = rooms.catalog.tenants().await else { return not(vec!["store"]) };
    let mut tenants = BTreeMap::new();
    for name in names.iter().filter(|name| !name.is_system()) {
        tenants.insert(name.to_string(), reasons(state, name).await);
    }
    if tenants.values().any(Vec::is_empty) || tenants.is_empty() {
        return Readiness { status: "ready", reasons: Vec::new(), tenants: Some(tenants) };
    }
    let mut all: Vec<&'static str> = tenants.values().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    Readiness { tenants: Some(tenants), ..not(all) }
}

/// Why a tenant cannot be served.
async fn reasons(state: &State, name: &TenantName) -> Vec<&'static str> {
    let rooms = state.rooms();
    let Ok(Some(tenant)) = rooms.catalog.tenant(name).await else { return vec!["store"] };
    let mut reasons = Vec::new();
    if tenant.tenant.sealed {
        reasons.push("sealed");
    }
    // Shredded, or about to be: no key provider is asked for it any more.
    if !tenant.keks.is_empty() && !tenant.keks.values().any(|(_, kek)| kek.state.may_unwrap()) {
        return reasons;
    }
    let class = DataKeyClass::Session;
    // What is opened already still serves for its time; that the token is away is told all the same.
    let away = rooms.keys.hsm_states().get(name).is_some_and(|state| state.is_away);
    let refused = tenant.providers.values().any(|(_, provider)| provider.quarantined && tenant.uses(provider));
    // A worker that is yet to come says nothing of its token.
    let probed = rooms.keys.probe(&rooms.store, name, class, state.now()).await;
    if away || refused || probed.is_err_and(|error| !error.is_unasked()) {
        reasons.push("kms");
    }
    reasons
}

/// Counts for a scraper.
pub(crate) async fn metrics(Shared(state): Shared<State>) -> Response {
    let mut response = scrape(&state).await.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
