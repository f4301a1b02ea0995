//! `PUT /v1/apps/{name}`, `GET /v1/apps`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{AppDocument, AppName, FieldSpec};
use crate::flows::Flow;
use crate::http::authentication::{By, Operator};
use crate::http::json::Document;
use crate::http::listing::{Listed, part};
use crate::http::problem::{Code, Problem};
use crate::http::routes::of_a_tenant;
use crate::http::state::State;
use crate::store::TenantCatalog;
use crate::store::administration::Act;

/// What an apply did.
#[derive(Serialize, ToSchema)]
pub(crate) struct AppliedDocument {
    pub(crate) name: String,
    pub(crate) version: u64,
    /// What holds, and yet is likely not what was meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// An app in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppSummary {
    name: String,
    version: u64,
    origins: Vec<String>,
    session_mode: &'static str,
    fields: BTreeMap<String, FieldSummary>,
}

/// A field in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FieldSummary {
    r#type: &'static str,
    retention: &'static str,
    purposes: Vec<String>,
    flows: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uses: Option<u32>,
}

impl From<&FieldSpec> for FieldSummary {
    fn from(field: &FieldSpec) -> Self {
        Self {
            r#type: field.kind.as_str(),
            retention: field.retention().as_str(),
            purposes: field.purposes.iter().map(ToString::to_string).collect(),
            flows: field.flows.iter().map(ToString::to_string).collect(),
            ttl_seconds: field.ttl_seconds,
            uses: field.uses(),
        }
    }
}

/// Applies an app's document.
pub(crate) async fn apply(
    Shared(state): Shared<State>,
    By(caller, _): By<Operator>,
    Path(name): Path<String>,
    Document(text): Document,
) -> Result<Json<AppliedDocument>, Problem> {
    of_a_tenant(&caller)?;
    let name: AppName = name.parse().map_err(|_| Problem::new(Code::NotFound))?;
    let document = AppDocument::from_toml(text.text()?)?;
    if document.name != name {
        return Err(Problem::invalid("name", "differs_from_path"));
    }
    let owner = state.rooms().catalog.tenant_of_app(&name).await?;
    if owner.is_some_and(|owner| owner != *caller.tenant_name()) {
        let why = "an app of another tenant has this name: choose another".to_owned();
        return Err(Problem::new(Code::Conflict).with_place("name", "taken", why));
    }
    let applied = state
        .administer(caller, move |tenant, by| {
            keeps_its_flows(&document, tenant)?;
            Ok(Act::apply_app(by, &document)?)
        })
        .await?;
    let version = applied.version().ok_or(Problem::new(Code::Conflict))?;
    Ok(Json(AppliedDocument { name: name.to_string(), version, warnings: Vec::new() }))
}

/// An app that drops or retypes what one of its flows uses is refused. What else a flow needs (bindings, switches,
/// destinations) may be taken from it: its next run is refused.
fn keeps_its_flows(document: &AppDocument, catalog: &TenantCatalog) -> Result<(), Problem> {
    let Some((_, before)) = catalog.apps.get(&document.name) else { return Ok(()) };
    let of_app = catalog.flows.values().filter(|flow| flow.record.app == document.name);
    for stored in of_app {
        if !Flow::from_toml(stored.toml()).is_ok_and(|flow| flow.survives(before, document)) {
            return Err(Problem::new(Code::Conflict).with_fault(format!("flows.{}", stored.record.name), "in_use"));
        }
    }
    Ok(())
}

/// Lists the tenant's apps.
pub(crate) async fn list(By(caller, _): By<Operator>, uri: Uri) -> Result<Json<Listed<AppSummary>>, Problem> {
    let summary = |(version, app): &(u64, Arc<AppDocument>)| AppSummary {
        name: app.name.to_string(),
        version: *version,
        origins: app.origins.clone(),
        session_mode: match app.session_mode {
            crate::domain::SessionMode::Server => "server",
            crate::domain::SessionMode::Open => "open",
        },
        fields: app.fields.iter().map(|(name, field)| (name.to_string(), field.into())).collect(),
    };
    part(caller.tenant.apps.iter().map(|(name, app)| (name.to_string(), summary(app))), &uri)
}
