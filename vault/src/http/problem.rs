//! What a refusal looks like outside: `application/problem+json` (RFC 9457) with a stable code and constant texts.
//!
//! No text here, and no other part of an answer, repeats anything of the request. Where each error of a room lands
//! stands in `refusal.rs`; this file is the only one that renders, and the only one that logs a 5xx.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::header::{WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use super::dress::Arrival;
use super::edge::FoundNoRoom;
use super::given_id::GivenId;
use crate::domain::RunId;
use crate::store::idempotency::Answer;

/// The content type of every refusal.
pub(crate) const PROBLEM: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal, $detail:literal;)*) => {
        /// The stable codes of design.md section 9.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, for the API document and for tests.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it stands in answers and entries.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Its HTTP status.
            pub(crate) const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            const fn detail(self) -> &'static str {
                match self { $(Self::$name => $detail,)* }
            }

            const fn urn(self) -> &'static str {
                match self { $(Self::$name => concat!("urn:siv:problem:", $code),)* }
            }
        }
    };
}

codes! {
    /// Not what the route reads.
    Malformed = "malformed", 400, "The request cannot be read", "The head, the query or the body is not what this route reads.";
    /// No credential.
    AuthMissing = "auth.missing", 401, "No credential", "Send Authorization: Bearer with a credential.";
    /// Not a credential of this installation.
    AuthInvalid = "auth.invalid", 401, "Credential not accepted", "The credential is unknown, revoked or suspended.";
    /// A credential past its end.
    AuthExpired = "auth.expired", 401, "Credential expired", "The credential is past its end.";
    /// Not for this caller.
    PolicyDenied = "policy.denied", 403, "Not allowed", "This credential, flow or purpose may not do this.";
    /// No such thing.
    NotFound = "not_found", 404, "Not found", "There is nothing here for this caller.";
    /// Absent, foreign, expired, spent, deleted, tampered with or wrong secret: one answer.
    ValueNotFound = "value.not_found", 404, "No such value", "There is no usable value for this secureValueKey.";
    /// The path exists with other methods.
    MethodNotAllowed = "method.not_allowed", 405, "Method not allowed", "See the Allow header.";
    /// It collides with what exists.
    Conflict = "conflict", 409, "Conflict", "The request collides with what exists already.";
    /// The same request is still running.
    IdempotencyInProgress = "idempotency.in_progress", 409, "Still running", "A request with this Idempotency-Key is still running.";
    /// Done, and its answer is not given again.
    IdempotencyCompleted = "idempotency.completed", 409, "Already done", "A request with this Idempotency-Key was completed; its answer was not kept for this caller.";
    /// Nobody knows what became of it.
    FlowOutcomeUnknown = "flow.outcome_unknown", 409, "Outcome unknown", "The run began and its outcome is not known; it is not repeated.";
    /// Not yet in the tree.
    LogPending = "log.pending", 409, "Not yet integrated", "The entry is durable and not yet in the tree; ask again.";
    /// Too long.
    BodyTooLarge = "body.too_large", 413, "Body too large", "The body is over this route's limit.";
    /// Not the content type of the route.
    MediaType = "media_type", 415, "Media type not read here", "Send application/json, or TOML where a document is asked for.";
    /// Well-formed and not allowed.
    Validation = "validation", 422, "Not valid", "See errors.";
    /// A flow that does not pass its check.
    FlowInvalid = "flow.invalid", 422, "Flow refused", "The flow does not pass its check; see errors.";
    /// A destination that may not be called.
    DestinationDenied = "destination.denied", 422, "Destination refused", "The destination is not registered, or its address may not be called.";
    /// The same Idempotency-Key with another body.
    IdempotencyMismatch = "idempotency.mismatch", 422, "Idempotency-Key reused", "This Idempotency-Key came before with another body.";
    /// Too often.
    RateLimited = "rate.limited", 429, "Too many requests", "Wait as long as Retry-After says.";
    /// Our own fault.
    Internal = "internal", 500, "Internal error", "Something went wrong here; the request id names it.";
    /// A plaintext was about to leave.
    FlowOutputBlocked = "flow.output_blocked", 502, "Output blocked", "The destination's answer held a protected value; nothing of it was released.";
    /// The destination did not do its part.
    DestinationFailed = "destination.failed", 502, "Destination failed", "The destination could not be reached or did not answer as declared.";
    /// Sealed by its custodian; or the whole node is, whose root key is not here yet.
    TenantSealed = "tenant.sealed", 503, "Tenant sealed", "The tenant is sealed.";
    /// The log cannot be written.
    LogUnavailable = "log.unavailable", 503, "Log unavailable", "The access log cannot take the entry, so nothing was done.";
    /// The key provider does not answer.
    KmsUnavailable = "kms.unavailable", 503, "Key provider unavailable", "The tenant's key provider does not answer.";
    /// The database does not answer.
    StoreUnavailable = "store.unavailable", 503, "Store unavailable", "The store does not answer.";
    /// Too much at once.
    Overloaded = "overloaded", 503, "Too many requests at once", "Try again.";
    /// The destination was too slow.
    DestinationTimeout = "destination.timeout", 504, "Destination timed out", "The destination did not answer in time.";
}

/// One fault of a request: where, and which rule. The place is ours (a member's or field's name), never an input.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fault {
    /// The item of a list, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<usize>,
    /// The member or field.
    pub(crate) field: String,
    /// The rule that is broken.
    pub(crate) code: String,
    /// Where in a document, in our own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

/// A refusal on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: Code,
    errors: Vec<Fault>,
    run_id: Option<RunId>,
    /// What a person has to do, where that is more than the code says.
    detail: Option<&'static str>,
    retry_after: Option<u64>,
    /// For the service's own log; never given out.
    cause: Option<String>,
}

impl Problem {
    pub(crate) const fn new(code: Code) -> Self {
        Self { code, errors: Vec::new(), run_id: None, detail: None, retry_after: None, cause: None }
    }

    /// Keeps the cause of a 5xx for the service's own log. Our errors' texts hold no input (each room's error file says
    /// so), and what lies under them are messages of the database and of the operating system.
    pub(crate) fn because(mut self, cause: &dyn std::error::Error) -> Self {
        if self.code.status() >= 500 {
            let causes = std::iter::successors(Some(cause), |cause| cause.source());
            self.cause = Some(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "));
        }
        self
    }

    /// The code.
    pub(crate) const fn code(&self) -> Code {
        self.code
    }

    /// A 422 with one fault.
    pub(crate) fn invalid(field: impl Into<String>, code: impl Into<String>) -> Self {
        Self::new(Code::Validation).with_fault(field, code)
    }

    /// Adds a fault.
    pub(crate) fn with_fault(self, field: impl Into<String>, code: impl Into<String>) -> Self {
        self.with(Fault { index: None, field: field.into(), code: code.into(), detail: None })
    }

    /// Adds a fault of an item of a list.
    pub(crate) fn with_item(self, index: Option<usize>, field: impl Into<String>, code: impl Into<String>) -> Self {
        self.with(Fault { index, field: field.into(), code: code.into(), detail: None })
    }

    /// Adds a fault with its place in a document.
    pub(crate) fn with_place(self, field: impl Into<String>, code: impl Into<String>, place: String) -> Self {
        self.with(Fault { index: None, field: field.into(), code: code.into(), detail: Some(place) })
    }

    fn with(mut self, fault: Fault) -> Self {
        self.errors.push(fault);
        self
    }

    /// Names the run.
    pub(crate) const fn of_run(mut self, run_id: RunId) -> Self {
        self.run_id = Some(run_id);
        self
    }

    /// Says what a person has to do, in a constant text.
    pub(crate) const fn saying(mut self, detail: &'static str) -> Self {
        self.detail = Some(detail);
        self
    }

    /// Says how long to wait.
    pub(crate) const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl Problem {
    /// The document as it goes out.
    fn to_bytes(&self, request_id: Option<String>) -> Vec<u8> {
        let document = Document {
            r#type: self.code.urn(),
            title: self.code.title(),
            status: self.code.status(),
            code: self.code.as_str(),
            detail: self.detail.unwrap_or_else(|| self.code.detail()),
            request_id,
            run_id: self.run_id.map(|id| id.to_string()),
            errors: &self.errors,
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

impl Problem {
    /// What a repeat of the same request gets; nothing for faults of ours, after which nobody knows.
    pub(crate) fn as_answer(&self) -> Option<Answer> {
        let status = self.code.status();
        (status < 500).then(|| Answer { status, body: zeroize::Zeroizing::new(self.to_bytes(None)) })
    }
}

impl IntoResponse for Problem {
    /// An answer without a body: the outermost layer renders it, when the request id is known.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
}

/// Gives a refusal its body, its headers and, for a 5xx, its one line in the service's own log.
pub(crate) fn render(mut response: Response, arrival: Option<&Arrival>) -> Response {
    let problem = response.extensions_mut().remove::<Problem>().or_else(|| bare(&response));
    let Some(problem) = problem else { return response };
    let code = problem.code;
    // For whoever counts it.
    response.extensions_mut().insert(code);
    // What found no room is counted: a crowd must not fill the log, nor wait for its writing.
    if code.status() >= 500 && response.extensions().get::<FoundNoRoom>().is_none() {
        let id = arrival.map(|arrival| arrival.request_id.to_string());
        let given_id = arrival.and_then(|arrival| arrival.given_id.as_ref()).map(GivenId::as_str);
        let cause = problem.cause.as_deref();
        tracing::warn!(code = code.as_str(), request_id = id.as_deref(), given_id, cause, "request failed");
    }
    let body = problem.to_bytes(arrival.map(Arrival::told_id));
    let headers = response.headers_mut();
    demands(headers, &problem);
    if is_page(headers) {
        return response;
    }
    headers.remove(http::header::CONTENT_LENGTH);
    put(headers, CONTENT_TYPE, PROBLEM);
    put(headers, CACHE_CONTROL, "no-store");
    put(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    response.map(|_| Body::from(body))
}

/// Headers that a status asks for (RFC 9110 sections 10.2.3, 11.6.1). `Allow` of a 405 comes from the router itself.
fn demands(headers: &mut HeaderMap, problem: &Problem) {
    let status = problem.code.status();
    let wait = if matches!(status, 429 | 503) { Some(problem.retry_after.unwrap_or(1)) } else { problem.retry_after };
    if let Some(seconds) = wait {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    match status {
        401 => put(headers, WWW_AUTHENTICATE, "Bearer"),
        // What is left of the body would be read as the next head.
        413 => put(headers, CONNECTION, "close"),
        _ => {}
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

/// True for a page: the console says a refusal in words of its own.
fn is_page(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}

/// The problem for an answer that a library made without one. A route's own answer has a content type of ours.
fn bare(response: &Response) -> Option<Problem> {
    let own = response.headers().get(CONTENT_TYPE);
    if is_page(response.headers()) {
        return None;
    }
    if own.is_some_and(|kind| kind == "application/json" || kind == PROBLEM) {
        return None;
    }
    let code = match response.status().as_u16() {
        404 => Code::NotFound,
        405 => Code::MethodNotAllowed,
        413 => Code::BodyTooLarge,
        415 => Code::MediaType,
        400..=499 => Code::Malformed,
        500..=599 => Code::Internal,
        _ => return None,
    };
    Some(Problem::new(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_contract() {
        let of = |status: u16| -> Vec<&str> {
            Code::ALL.iter().filter(|code| code.status() == status).map(|code| code.as_str()).collect()
        };
        assert_eq!(of(401), ["auth.missing", "auth.invalid", "auth.expired"]);
        assert_eq!(of(404), ["not_found", "value.not_found"]);
        let conflicts =
            ["conflict", "idempotency.in_progress", "idempotency.completed", "flow.outcome_unknown", "log.pending"];
        assert_eq!(of(409), conflicts);
        assert_eq!(of(422), ["validation", "flow.invalid", "destination.denied", "idempotency.mismatch"]);
        assert_eq!(of(502), ["flow.output_blocked", "destination.failed"]);
        let down = ["tenant.sealed", "log.unavailable", "kms.unavailable", "store.unavailable", "overloaded"];
        assert_eq!(of(503), down);
    }

    #[test]
    fn an_unavailable_answer_says_when_to_come_back() {
        for code in Code::ALL.iter().filter(|code| matches!(code.status(), 429 | 503)) {
            let response = render(Problem::new(*code).into_response(), None);
            assert!(response.headers().contains_key(RETRY_AFTER), "{}", code.as_str());
        }
    }

    #[tokio::test]
    async fn a_page_keeps_its_words_and_gets_what_its_status_asks_for() {
        use http_body_util::BodyExt;
        let mut page = (StatusCode::TOO_MANY_REQUESTS, axum::response::Html("<p>Wait")).into_response();
        page.extensions_mut().insert(Problem::new(Code::RateLimited).retry_after(9));
        let page = render(page, None);
        assert_eq!((&page.headers()[RETRY_AFTER], &page.headers()[CONTENT_TYPE]), (&9.into(), &HTML));
        assert_eq!(page.into_body().collect().await.unwrap().to_bytes(), "<p>Wait");
        let bare = render((StatusCode::NOT_FOUND, axum::response::Html("<p>No")).into_response(), None);
        assert_eq!(bare.headers()[CONTENT_TYPE], HTML);
    }

    const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

    #[test]
    fn what_will_be_over_in_a_moment_says_so_too() {
        use crate::store::idempotency::Repeated;

        for problem in [Problem::from(Repeated::InProgress), Problem::from(crate::sequencer::Error::Pending)] {
            let response = render(problem.into_response(), None);
            assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (409, &HeaderValue::from(1)));
        }
        assert!(!render(Problem::new(Code::Conflict).into_response(), None).headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn answers_without_a_fault_are_left_alone() {
        let response = render(StatusCode::NO_CONTENT.into_response(), None);
        assert!(!response.headers().contains_key(CONTENT_TYPE));
    }
}
