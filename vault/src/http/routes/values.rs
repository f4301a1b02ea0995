//! `/v1/values…`: what an app's server does with values. Putting them in brings it into the scope of PCI DSS.

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::capture::{Fault, PutItem, ValueDescription};
use crate::domain::{SecureValueKey, Timestamp};
use crate::http::answer::respond;
use crate::http::authentication::{App, By, OTHER_APP, deny};
use crate::http::creation::Creation;
use crate::http::json::{BATCH_BODY, Json as Body, SensitiveText};
use crate::http::problem::{Code, Problem};
use crate::http::routes::put_item::{PutValue, PutValueShape};
use crate::http::state::State;

/// Items of one request.
const MOST: usize = 1_000;

/// Values in the clear.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutValues {
    /// The app that is meant: refused where the credential is another one's.
    #[serde(default)]
    app: Option<String>,
    #[schema(value_type = Vec<PutValueShape>)]
    items: Vec<PutValue>,
}

/// Names a value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NameValue {
    #[schema(value_type = String)]
    secure_value_key: SensitiveText,
}

/// Moves a value's end.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ExtendValue {
    #[schema(value_type = String)]
    secure_value_key: SensitiveText,
    expires_at: String,
}

/// Puts values in: one result for each, in order.
pub(crate) async fn put(
    Shared(state): Shared<State>,
    By(caller, _): By<App>,
    creation: Creation,
    Body { body, raw }: Body<PutValues, BATCH_BODY>,
) -> Result<Response, Problem> {
    if body.items.is_empty() || body.items.len() > MOST {
        return Err(Problem::invalid("items", "count"));
    }
    let own = caller.credential.app.as_ref();
    if body.app.is_some_and(|meant| own.is_none_or(|own| own.as_str() != meant)) {
        return Err(deny(&state, &caller, OTHER_APP).await);
    }
    let (items, idempotency) = (read_items(body.items)?, creation.with(raw)?);
    let capture = state.rooms().capture.clone();
    let work = async move { Ok(capture.put_values(&caller, items, idempotency).await?) };
    state.to_the_end(work).await.map(respond)
}

/// Tells what is known of a value.
pub(crate) async fn lookup(
    Shared(state): Shared<State>,
    By(caller, _): By<App>,
    Body { body, .. }: Body<NameValue>,
) -> Result<Response, Problem> {
    let value_key = read(&body.secure_value_key)?;
    let capture = state.rooms().capture.clone();
    let work = async move { Ok(capture.lookup(&caller, value_key).await?) };
    state.to_the_end(work).await.map(shown)
}

/// Deletes a value.
pub(crate) async fn delete(
    Shared(state): Shared<State>,
    By(caller, _): By<App>,
    Body { body, .. }: Body<NameValue>,
) -> Result<StatusCode, Problem> {
    let value_key = read(&body.secure_value_key)?;
    let capture = state.rooms().capture.clone();
    let work = async move { Ok(capture.delete(&caller, value_key).await?) };
    state.to_the_end(work).await.map(|()| StatusCode::NO_CONTENT)
}

/// Moves a value's end.
pub(crate) async fn extend(
    Shared(state): Shared<State>,
    By(caller, _): By<App>,
    Body { body, .. }: Body<ExtendValue>,
) -> Result<Response, Problem> {
    let value_key = read(&body.secure_value_key)?;
    let end = Timestamp::from_rfc3339(&body.expires_at).ok_or_else(|| Problem::invalid("expiresAt", "time"))?;
    let capture = state.rooms().capture.clone();
    let work = async move { Ok(capture.extend(&caller, value_key, end).await?) };
    state.to_the_end(work).await.map(shown)
}

/// The items, or where the body is none of this route's: a member that is missing or of another type is its sender's mistake, and
/// nothing of it is captured.
fn read_items(items: Vec<PutValue>) -> Result<Vec<PutItem>, Problem> {
    let (mut read, mut faults) = (Vec::with_capacity(items.len()), Vec::new());
    for (at, PutValue(item)) in items.into_iter().enumerate() {
        match item {
            Ok(item) => read.push(item),
            Err(fault) => faults.push((at, fault)),
        }
    }
    if faults.is_empty() {
        return Ok(read);
    }
    let named = |problem: Problem, (at, fault): (usize, Fault)| problem.with_item(Some(at), fault.field, fault.code);
    Err(faults.into_iter().fold(Problem::new(Code::Malformed), named))
}

fn read(text: &SensitiveText) -> Result<SecureValueKey, Problem> {
    text.0.parse().map_err(|_| Problem::new(Code::Validation).with_fault("secureValueKey", "secure_value_key"))
}

fn shown(described: ValueDescription) -> Response {
    Json(described).into_response()
}
