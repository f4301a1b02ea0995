//! `/f/{app}/`: the frame's page, and where browsers report that somebody tried to embed or change it.

use std::sync::Arc;

use axum::extract::{Path, Request, State as Shared};
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;

use crate::domain::{AppDocument, AppName, TenantName};
use crate::http::dress::Arrival;
use crate::http::frame;
use crate::http::problem::{Code, Problem};
use crate::http::rate::Doing;
use crate::http::state::State;

/// A browser's report is at most this long.
const REPORT: usize = 16 * 1024;

/// The page.
pub(crate) async fn page(
    Shared(state): Shared<State>,
    arrival: Arrival,
    Path(app): Path<String>,
) -> Result<Response, Problem> {
    state.limits().address(arrival.address, Doing::Asking)?;
    let (_, app) = find(&state, &app).await?;
    let mut response = Html(frame::page(&app)).into_response();
    response.headers_mut().extend(frame::headers(&app));
    Ok(response)
}

/// Counts a report; nothing of its text is kept but which of our own rules it is about.
pub(crate) async fn report(
    Shared(state): Shared<State>,
    arrival: Arrival,
    Path(app): Path<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    state.limits().address(arrival.address, Doing::Asking)?;
    let (tenant, app) = find(&state, &app).await?;
    let types = ["application/csp-report", "application/reports+json", "application/json"];
    let (parts, body) = request.into_parts();
    let body = state.strangers().read(&parts, body, REPORT, &types).await?;
    let reason = body.parse::<Value>().map_or("frame.reported", |report| reason(&report));
    state.notes().report(&tenant, &app.name, reason, state.now());
    Ok(StatusCode::NO_CONTENT)
}

/// Which directive a report is about (CSP level 2 and 3 spellings).
fn reason(report: &Value) -> &'static str {
    let report = report.get(0).unwrap_or(report);
    let inner = report.get("csp-report").or_else(|| report.get("body")).unwrap_or(report);
    let names = ["effective-directive", "effectiveDirective", "violated-directive"];
    let directive = names.iter().find_map(|name| inner.get(name)?.as_str()).unwrap_or_default();
    if directive.starts_with("frame-ancestors") {
        "frame.embedded"
    } else if directive.starts_with("script-src") || directive.starts_with("require-trusted-types") {
        "frame.script"
    } else if directive.starts_with("connect-src") || directive.starts_with("form-action") {
        "frame.exfiltration"
    } else {
        "frame.reported"
    }
}

async fn find(state: &State, app: &str) -> Result<(TenantName, Arc<AppDocument>), Problem> {
    let none = || Problem::new(Code::NotFound);
    let name: AppName = app.parse().map_err(|_| none())?;
    let tenant = state.rooms().catalog.tenant_of_app(&name).await?.ok_or_else(none)?;
    let catalog = state.tenant(&tenant).await?;
    let (_, document) = catalog.apps.get(&name).ok_or_else(none)?;
    Ok((tenant, Arc::clone(document)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_becomes_one_of_our_own_words() {
        let old = json!({"csp-report": {"violated-directive": "frame-ancestors https://shop.example"}});
        let new = json!([{"type": "csp-violation", "body": {"effectiveDirective": "script-src-elem"}}]);
        assert_eq!(reason(&old), "frame.embedded");
        assert_eq!(reason(&new), "frame.script");
        assert_eq!(reason(&json!({"csp-report": {"violated-directive": "3f9c1e7a"}})), "frame.reported");
        assert_eq!(reason(&json!("3f9c1e7a")), "frame.reported");
    }
}
