//! An inner room's answer as a response: the very bytes, wiped when they have left.

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::problem::{Code, PROBLEM, Problem};
use crate::store::idempotency::Answer;

/// So many headers an answer has at most.
const HEADERS: usize = 8;

/// The response of an answer.
pub(crate) fn respond(answer: Answer) -> Response {
    let Ok(status) = StatusCode::from_u16(answer.status) else {
        return Problem::new(Code::Internal).into_response();
    };
    // The buffer itself is handed over: its drop wipes it.
    let mut response = Response::new(Body::from(Bytes::from_owner(answer.body)));
    *response.status_mut() = status;
    let kind = if status.is_success() { "application/json" } else { PROBLEM };
    // Those of every answer follow: a table that grows for each of them is made four times.
    response.headers_mut().reserve(HEADERS);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
