//! `/v1/capture/…`: sessions and what browsers put into them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{CONNECTION, HeaderValue};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::capture::{CaptureItem, Content, SessionRequest};
use crate::domain::{Credential, CredentialKind};
use crate::http::answer::respond;
use crate::http::authentication::{App, By, bearer};
use crate::http::creation::Creation;
use crate::http::dress::Arrival;
use crate::http::json::{Json as Body, LONG_BODY, SensitiveText};
use crate::http::notes::anonymous_context;
use crate::http::problem::{Code, Problem};
use crate::http::rate::Doing;
use crate::http::same_origin::SameOrigin;
use crate::http::state::State;

/// The app a frame opens a session for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenFromFrame {
    app: String,
}

/// What was typed into a form's fields.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaptureValues {
    values: Vec<CaptureValue>,
}

/// One field's text: `sealed` by the frame, or a plain `value` where the settings allow it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaptureValue {
    field: String,
    #[serde(default)]
    sealed: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    value: Option<SensitiveText>,
}

/// Opens a session for an app's server.
pub(crate) async fn open(
    Shared(state): Shared<State>,
    By(caller, _): By<App>,
    creation: Creation,
    Body { body, raw }: Body<SessionRequest>,
) -> Result<Response, Problem> {
    let idempotency = creation.with(raw)?;
    let capture = state.rooms().capture.clone();
    let work = async move { Ok(capture.open_session(&caller, body, idempotency).await?) };
    state.to_the_end(work).await.map(respond)
}

/// Opens a session for a frame of an app whose mode is `open`.
pub(crate) async fn open_from_frame(
    Shared(state): Shared<State>,
    _: SameOrigin,
    arrival: Arrival,
    Body { body, .. }: Body<OpenFromFrame>,
) -> Result<Response, Problem> {
    state.limits().address(arrival.address, Doing::Opening)?;
    state.serving()?;
    let capture = state.rooms().capture.clone();
    let work = async move { Ok(capture.open_session_from_frame(&body.app).await?) };
    let opened = state.to_the_end(work).await;
    let opened = opened.inspect_err(|problem| {
        // An app of mode `server` is not opened by whoever asks; nobody is known here, so it is counted.
        if problem.code() == Code::PolicyDenied {
            state.notes().stranger(arrival.address, "session_mode.server", state.now());
        }
    });
    opened.map(respond)
}

/// Tells a frame what it may capture and to which key it seals.
pub(crate) async fn describe(
    Shared(state): Shared<State>,
    _: SameOrigin,
    arrival: Arrival,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    state.limits().address(arrival.address, Doing::Asking)?;
    let token = noted(&state, arrival, token(&headers))?;
    let described = state.rooms().capture.describe_session(&token).await.map_err(Problem::from);
    Ok(Json(noted(&state, arrival, described)?).into_response())
}

/// Captures.
pub(crate) async fn values(
    Shared(state): Shared<State>,
    _: SameOrigin,
    arrival: Arrival,
    creation: Creation,
    headers: HeaderMap,
    Body { body, raw }: Body<CaptureValues, LONG_BODY>,
) -> Result<Response, Problem> {
    state.limits().address(arrival.address, Doing::Capturing)?;
    let token = Arc::new(noted(&state, arrival, token(&headers))?);
    state.serving()?;
    let plain = body.values.iter().any(|value| value.value.is_some());
    let items = items(body, state.settings().plain_capture)?;
    let idempotency = creation.with(raw)?;
    let context = anonymous_context(arrival.request_id, arrival.address);
    let capture = state.rooms().capture.clone();
    let work = async move { Ok(capture.capture_values(token, items, &context, idempotency).await?) };
    let mut response = respond(noted(&state, arrival, state.to_the_end(work).await)?);
    if plain {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn items(body: CaptureValues, plain_allowed: bool) -> Result<Vec<CaptureItem>, Problem> {
    let item = |(at, value): (usize, CaptureValue)| {
        let refused = |code: &str| Problem::new(Code::Validation).with_item(Some(at), "values", code);
        let content = match (value.sealed, value.value) {
            (Some(sealed), None) => Content::Sealed(sealed),
            (None, Some(SensitiveText(text))) if plain_allowed => Content::Plain(text),
            (None, Some(_)) => return Err(refused("sealed_required")),
            (Some(_), Some(_)) | (None, None) => return Err(refused("sealed_or_value")),
        };
        Ok(CaptureItem { field: value.field, content })
    };
    body.values.into_iter().enumerate().map(item).collect()
}

/// The capture token of a request.
fn token(headers: &HeaderMap) -> Result<Credential, Problem> {
    let token = bearer(headers)?;
    if token.kind() == CredentialKind::Capture { Ok(token) } else { Err(Problem::new(Code::AuthInvalid)) }
}

/// Counts a refusal of somebody without a valid token.
fn noted<T>(state: &State, arrival: Arrival, result: Result<T, Problem>) -> Result<T, Problem> {
    result.inspect_err(|problem| {
        if problem.code().status() == 401 {
            state.notes().stranger(arrival.address, problem.code().as_str(), state.now());
        }
    })
}
