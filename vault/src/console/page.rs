//! HTML answers with their headers: nothing inline, nothing foreign, never framed.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY};

use crate::http::{Code, Problem};

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// A rendered page.
pub(super) fn html(status: StatusCode, page: &impl Template) -> Response {
    let Ok(text) = page.render() else { return Problem::new(Code::Internal).into_response() };
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HTML);
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    // Not `no-referrer`: under it a browser sends `Origin: null` with our own forms (Fetch section 3.1).
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=()"),
        ("x-frame-options", "DENY"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// On to another page of the console, by GET.
pub(super) fn see(address: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, HeaderValue::from_static(address))]).into_response()
}

/// The style sheet.
pub(super) async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("console.css"))
}

/// The script: comforts only.
pub(super) async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("console.js"))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let resource_policy = HeaderName::from_static("cross-origin-resource-policy");
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static(kind)), (resource_policy, HeaderValue::from_static("same-origin"))];
    (headers, text).into_response()
}
