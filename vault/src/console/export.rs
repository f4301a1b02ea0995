//! The bundle an auditor takes home.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::Desk;
use super::page::html;
use super::person::Person;
use super::sign_in::checked;
use super::view::ExportPage;
use crate::http::{Problem, bundle};
use crate::sequencer::{Error, Part};

/// What a bundle is, the public key, the newest checkpoint.
pub(super) async fn page(State(desk): State<Desk>, person: Person) -> Response {
    shown(&desk, &person).await.unwrap_or_else(IntoResponse::into_response)
}

async fn shown(desk: &Desk, person: &Person) -> Result<Response, Problem> {
    desk.state.notes().read(&person.tenant, &person.context, "console.checkpoint", desk.state.now());
    let vkey = desk.reader.vkey(&person.tenant).await?;
    let checkpoint = match desk.reader.checkpoint(&person.tenant).await {
        Ok(note) => note,
        Err(Error::Pending) => String::new(),
        Err(error) => return Err(error.into()),
    };
    Ok(html(StatusCode::OK, &ExportPage { who: person.who("export"), vkey, checkpoint }))
}

/// The whole log as a tar; the entry of the export is durable before the first byte.
pub(super) async fn download(State(desk): State<Desk>, person: Person, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(problem) = checked(&parts.headers, body, &person).await {
        return problem.into_response();
    }
    let entry = person.reads(&desk, "console.export");
    bundle(&desk.state, person.tenant.clone(), Part::Whole, entry).await.unwrap_or_else(IntoResponse::into_response)
}
