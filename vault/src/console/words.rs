//! A refusal as a page: persons read the console, so none of its addresses answers with a problem document.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::Desk;
use super::page::html;
use super::sign_in::Arrived;
use super::view::RefusedPage;
use crate::http::{Code, Problem};

/// Around every route: what would be a problem document becomes a page of the same status. The problem stays with the
/// answer, for the outermost layer to log it and to add the headers its status asks for.
pub(super) async fn in_words(State(_): State<Desk>, arrived: Arrived, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let is_page = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let status = response.status();
    if is_page || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (heading, text) = words(response.extensions().get::<Problem>().map(Problem::code), status);
    let request_id = arrived.0.told_id();
    let (page, body) = html(status, &RefusedPage { heading, text, request_id }).into_parts();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.extend(page.headers);
    Response::from_parts(parts, Body::new(body))
}

/// An address of the console that is none.
pub(super) async fn unknown() -> Problem {
    Problem::new(Code::NotFound)
}

fn words(code: Option<Code>, status: StatusCode) -> (&'static str, &'static str) {
    match (code, status.as_u16()) {
        (Some(Code::PolicyDenied), _) => (
            "The form was not accepted",
            "It did not come from a page of this session, or the page is older than your session. Nothing was done. \
             Open the page again and repeat.",
        ),
        (Some(Code::LogUnavailable | Code::StoreUnavailable | Code::KmsUnavailable), _) => (
            "The vault cannot answer now",
            "Nothing is shown that cannot be recorded. Try again in a minute; if it stays like this, tell your operator.",
        ),
        (Some(Code::Overloaded), _) => ("The vault is busy", "Try again in a few seconds."),
        (_, 404 | 405) => ("There is no such page", "The address may be mistyped, or the link is an old one."),
        (_, 400..=499) => (
            "The address cannot be read",
            "Something in it is not what this page expects: an old link to a further page of a list, for example. \
             Start again from the log.",
        ),
        _ => (
            "Something went wrong here",
            "It is not your doing. Try again; if it happens again, give the request's id to your operator.",
        ),
    }
}
