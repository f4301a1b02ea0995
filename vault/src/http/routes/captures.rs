//! `/v1/capture/…`: sessions and what browsers put into them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State as Shared};
use axum::response::{IntoResponse, Response};
use http::Method;
use http::request::Parts;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::capture::{Admitted, CaptureItem, Content, Error, SessionRequest};
use crate::domain::CredentialKind;
use crate::http::answer::respond;
use crate::http::authentication::{App, By, OTHER_APP, arrival, bearer, deny};
use crate::http::creation::Creation;
use crate::http::dress::Arrival;
use crate::http::edge::CarriesPlaintext;
use crate::http::json::{Json as Body, LONG_BODY, SensitiveText};
use crate::http::notes::anonymous_context;
use crate::http::problem::{Code, Problem};
use crate::http::rate::Doing;
use crate::http::same_origin::SameOrigin;
use crate::http::state::State;
use crate::http::waiting::StrangersJson;

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
    let doing = state.clone();
    let work = async move {
        match doing.rooms().capture.open_session(&caller, body, idempotency).await {
            Err(Error::PolicyDenied) => Err(deny(&doing, &caller, OTHER_APP).await),
            opened => Ok(opened?),
        }
    };
    state.to_the_end(work).await.map(respond)
}

/// An address's allowance to open a session by itself, taken before anything of the body is read.
pub(crate) struct Opening;

impl FromRequestParts<State> for Opening {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        state.limits().address(arrival(parts).address, Doing::Opening)?;
        state.serving()?;
        Ok(Self)
    }
}

/// Opens a session for a frame of an app whose mode is `open`.
pub(crate) async fn open_from_frame(
    Shared(state): Shared<State>,
    _: SameOrigin,
    _: Opening,
    arrival: Arrival,
    StrangersJson(body): StrangersJson<OpenFromFrame>,
) -> Result<Response, Problem> {
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

/// The capture session whose token came with a request, open and its tenant unsealed. It stands before the body in every
/// signature: who asks is settled before anything of the body is read.
pub(crate) struct InSession(Admitted);

impl FromRequestParts<State> for InSession {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let captures = parts.method == Method::POST;
        let address = arrival(parts).address;
        state.limits().address(address, if captures { Doing::Capturing } else { Doing::Asking })?;
        let admitted = admit(parts, state).await.inspect_err(|problem| {
            if problem.code().status() == 401 {
                state.notes().stranger(address, problem.code().as_str(), state.now());
            }
        })?;
        if captures {
            state.serving()?;
        }
        Ok(Self(admitted))
    }
}

async fn admit(parts: &Parts, state: &State) -> Result<Admitted, Problem> {
    let token = bearer(&parts.headers)?;
    if token.kind() != CredentialKind::Capture {
        return Err(Problem::new(Code::AuthInvalid));
    }
    Ok(state.rooms().capture.admit(Arc::new(token)).await?)
}

/// Tells a frame what it may capture and to which key it seals.
pub(crate) async fn describe(
    Shared(state): Shared<State>,
    InSession(session): InSession,
    _: SameOrigin,
) -> Result<Response, Problem> {
    Ok(Json(state.rooms().capture.describe_session(session).await?).into_response())
}

/// Captures.
pub(crate) async fn values(
    Shared(state): Shared<State>,
    InSession(session): InSession,
    _: SameOrigin,
    arrival: Arrival,
    creation: Creation,
    Body { body, raw }: Body<CaptureValues, LONG_BODY>,
) -> Result<Response, Problem> {
    let plain = body.values.iter().any(|value| value.value.is_some());
    let items = items(body, state.settings().plain_capture)?;
    let idempotency = creation.with(raw)?;
    let context = anonymous_context(arrival.request_id, arrival.address);
    let capture = state.rooms().capture.clone();
    let work = async move { Ok(capture.capture_values(session, items, &context, idempotency).await?) };
    let mut response = respond(state.to_the_end(work).await?);
    if plain {
        response.extensions_mut().insert(CarriesPlaintext);
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
