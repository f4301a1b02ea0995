//! `PUT /v1/flows/{name}`, `GET /v1/flows`.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State as Shared};
use http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{DestinationName, FlowName};
use crate::flows::{Flow, FlowSummary, Surroundings};
use crate::http::authentication::{By, Operator};
use crate::http::json::Document;
use crate::http::listing::{Listed, part};
use crate::http::problem::{Code, Problem};
use crate::http::routes::apps::AppliedDocument;
use crate::http::routes::of_a_tenant;
use crate::http::state::State;
use crate::store::TenantCatalog;
use crate::store::administration::Act;
use crate::store::records::FlowRecord;

/// A flow in a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct FlowLine {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    summary: FlowSummary,
}

/// Hosts of the tenant's destinations, as the check of a flow wants them.
fn surroundings(tenant: &TenantCatalog) -> BTreeMap<DestinationName, String> {
    tenant.destinations.iter().map(|(name, (_, record))| (name.clone(), record.host.clone())).collect()
}

/// Names of the secrets of the tenant's destinations.
fn secrets(tenant: &TenantCatalog) -> BTreeMap<DestinationName, BTreeSet<&str>> {
    let named = tenant.destinations.iter();
    named.map(|(name, (_, record))| (name.clone(), record.secrets.keys().map(String::as_str).collect())).collect()
}

/// Applies a flow's document.
pub(crate) async fn apply(
    Shared(state): Shared<State>,
    By(caller, _): By<Operator>,
    Path(name): Path<String>,
    Document(text): Document,
) -> Result<Json<AppliedDocument>, Problem> {
    of_a_tenant(&caller)?;
    let name: FlowName = name.parse().map_err(|_| Problem::new(Code::NotFound))?;
    let toml = text.text()?.to_owned();
    let flow = Flow::from_toml(&toml)?;
    if flow.name != name {
        return Err(Problem::invalid("name", "differs_from_path"));
    }
    let mut warnings = caller.tenant.apps.get(&flow.app).map_or_else(Vec::new, |(_, app)| flow.unbound(app));
    warnings.extend(flow.unset(&secrets(&caller.tenant)));
    let (app, purpose) = (flow.app.clone(), flow.purpose.clone());
    let record = FlowRecord { name: name.clone(), app, purpose, toml, applied_at: state.now() };
    let egress = state.rooms().egress.clone();
    let applied = state
        .administer(caller, move |tenant, by| {
            let Some((_, app)) = tenant.apps.get(&flow.app) else {
                return Err(Problem::new(Code::FlowInvalid).with_fault("app", "unknown"));
            };
            let destinations = surroundings(tenant);
            flow.check(&Surroundings { app, tenant: &tenant.tenant, destinations: &destinations, egress: &egress })?;
            Ok(Act::apply_flow(by, record.clone(), tenant.flows.get(&flow.name))?)
        })
        .await?;
    let version = applied.version().ok_or(Problem::new(Code::Conflict))?;
    Ok(Json(AppliedDocument { name: name.to_string(), version, warnings }))
}

/// Lists the tenant's flows. A document that an older program accepted and this one does not is left out of no list:
/// it would be refused at its next run, so it is reported as the problem it is.
pub(crate) async fn list(By(caller, _): By<Operator>, uri: Uri) -> Result<Json<Listed<FlowLine>>, Problem> {
    let mut lines = Vec::new();
    for (name, stored) in &caller.tenant.flows {
        let summary = Flow::from_toml(stored.toml())?.summary(stored.version);
        lines.push((name.to_string(), FlowLine { summary }));
    }
    part(lines, &uri)
}
