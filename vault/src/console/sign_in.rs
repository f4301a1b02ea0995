//! In and out: an auditor's credential for a cookie that scripts cannot read.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{HOST, HeaderValue, ORIGIN, SET_COOKIE};
use http::{HeaderMap, StatusCode};

use super::Desk;
use super::page::{html, see};
use super::person::{Person, cookie, member};
use super::session::{COOKIE, WAIT};
use super::view::SignInPage;
use crate::access_log::{Action, Entry, Outcome};
use crate::domain::{Actor, ActorKind, Credential, CredentialKind, Origin, RequestContext};
use crate::http::{Arrival, Code, Problem, RawBody, recognise};

const LIMIT: usize = 8 * 1024;
const FORM: &[&str] = &["application/x-www-form-urlencoded"];

/// The door.
pub(super) async fn form() -> Response {
    html(StatusCode::OK, &SignInPage { refused: None })
}

/// Signs in.
pub(super) async fn sign_in(State(desk): State<Desk>, arrival: Arrived, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !is_own(&parts.headers) {
        return Problem::new(Code::PolicyDenied).into_response();
    }
    let (now, address) = (desk.state.now(), arrival.0.address.to_string());
    if desk.sessions.must_wait(&address, now) {
        let why = "Too many wrong credentials came from your address. Wait half an hour.";
        return again(Problem::new(Code::RateLimited).retry_after(WAIT.as_secs()), why);
    }
    let form = match RawBody::read(&parts.headers, body, LIMIT, FORM).await {
        Ok(form) => form,
        Err(problem) => return problem.into_response(),
    };
    match admit(&desk, &form, &arrival.0).await {
        Ok(response) => response,
        Err(problem) if matches!(problem.code(), Code::AuthInvalid | Code::AuthExpired | Code::PolicyDenied) => {
            desk.sessions.failed(&address, now);
            desk.state.notes().stranger(arrival.0.address, problem.code().as_str(), now);
            let why = "This is not an auditor's credential that holds. Check that you copied all of it.";
            again(Problem::new(Code::AuthInvalid), why)
        }
        Err(problem) => problem.into_response(),
    }
}

/// The door again, with the reason in words; the problem goes along for the headers its status asks for.
fn again(problem: Problem, why: &'static str) -> Response {
    let status = StatusCode::from_u16(problem.code().status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let mut response = html(status, &SignInPage { refused: Some(why) });
    response.extensions_mut().insert(problem);
    response
}

async fn admit(desk: &Desk, form: &RawBody, arrival: &Arrival) -> Result<Response, Problem> {
    let text = member(form, "credential").ok_or(Problem::new(Code::AuthInvalid))?;
    let secret = Credential::parse(text.trim()).map_err(|_| Problem::new(Code::AuthInvalid))?;
    let (tenant, record) = recognise(&secret, &desk.state).await?;
    if record.kind != CredentialKind::Auditor {
        return Err(Problem::new(Code::PolicyDenied));
    }
    let context = RequestContext {
        request_id: arrival.request_id,
        actor: Actor {
            id: record.credential_id.to_string(),
            kind: ActorKind::Credential(record.kind),
            name: Some(record.name.clone()),
        },
        on_behalf_of: None,
        origin: Origin { address: Some(arrival.address.to_string()), app: None },
        reference: None,
    };
    let now = desk.state.now();
    let mut entry = Entry::new(tenant.clone(), now, Action::LogRead, Outcome::Allowed, &context);
    entry.rule = Some("console.sign-in");
    desk.state.record(entry).await?;
    let begun = desk.sessions.begin(tenant, record.credential_id, now);
    let cookie = begun.map_err(|_| Problem::new(Code::Internal))?;
    let line = zeroize::Zeroizing::new(format!("{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax", *cookie));
    let mut value = HeaderValue::from_str(&line).map_err(|_| Problem::new(Code::Internal))?;
    value.set_sensitive(true);
    let mut response = see("/console/log");
    response.headers_mut().insert(SET_COOKIE, value);
    Ok(response)
}

/// Signs out.
pub(super) async fn sign_out(State(desk): State<Desk>, person: Person, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match checked(&parts.headers, body, &person).await {
        Ok(_) => {}
        Err(problem) => return problem.into_response(),
    }
    if let Some(cookie) = cookie(&parts.headers) {
        desk.sessions.end(cookie);
    }
    let gone = format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
    let mut response = see("/console/sign-in");
    if let Ok(value) = HeaderValue::from_str(&gone) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}

/// A form that this session's own page sent.
///
/// # Errors
/// `policy.denied` for a form from elsewhere; what is wrong with the body.
pub(super) async fn checked(headers: &HeaderMap, body: axum::body::Body, person: &Person) -> Result<RawBody, Problem> {
    if !is_own(headers) {
        return Err(Problem::new(Code::PolicyDenied));
    }
    let form = RawBody::read(headers, body, LIMIT, FORM).await?;
    let made = member(&form, "csrf").is_some_and(|csrf| person.session.made(&csrf));
    if made { Ok(form) } else { Err(Problem::new(Code::PolicyDenied)) }
}

/// Whether a POST comes from this very host: browsers say so in `Origin`, and newer ones in `Sec-Fetch-Site`.
fn is_own(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = |origin: &HeaderValue| {
        origin.to_str().is_ok_and(|origin| origin.split_once("://").is_some_and(|(_, rest)| rest == host))
    };
    site && headers.get(ORIGIN).is_none_or(own)
}

/// What the outermost layer noted, for handlers of this room.
pub(super) struct Arrived(pub(super) Arrival);

impl axum::extract::FromRequestParts<Desk> for Arrived {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, desk: &Desk) -> Result<Self, Self::Rejection> {
        Arrival::from_request_parts(parts, &desk.state).await.map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_from_another_origin_is_refused() {
        let with = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("vault.example:8081"));
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            is_own(&headers)
        };
        assert!(with(&[("origin", "https://vault.example:8081"), ("sec-fetch-site", "same-origin")]));
        assert!(!with(&[("origin", "https://evil.example")]));
        assert!(!with(&[("origin", "null")]));
        assert!(!with(&[("sec-fetch-site", "cross-site")]));
    }
}
