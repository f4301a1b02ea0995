//! `/v1/pin-guesses/forget`: PINs that were brought for a token and refused there count no more, by an operator's word.

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tenants::installation_only;
use crate::domain::TenantName;
use crate::http::authentication::{By, Operator};
use crate::http::json::Json as Body;
use crate::http::problem::{Code, Problem};
use crate::http::state::State;
use crate::store::administration::Administrator;
use crate::store::pin_guesses;

/// Longer no token's serial number is (PKCS #11: 16 bytes).
const SERIAL: usize = 64;

/// Whose count at which token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ForgetPins {
    /// The token's serial number, as the refusal and `siv keys list` show it.
    serial: String,
    /// Who brought the PINs; left out, those that were brought for tenants that are being made.
    #[serde(default)]
    tenant: Option<String>,
}

/// What counts no more.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ForgottenPins {
    tenant: Option<String>,
    serial: String,
    /// How many were counted.
    forgotten: u64,
    /// How many may be tried now before the next refusal lasts a day.
    left: u32,
}

/// Takes the count back, so that another PIN may be tried at once. Only an operator of the installation may: the count guards a
/// token that may be another tenant's.
pub(crate) async fn forget(
    Shared(state): Shared<State>,
    By(caller, _): By<Operator>,
    Body { body, .. }: Body<ForgetPins>,
) -> Result<Json<ForgottenPins>, Problem> {
    installation_only(&state, &caller).await?;
    let ForgetPins { serial, tenant } = body;
    // A token may have none: then it is counted under that.
    if serial.len() > SERIAL {
        return Err(Problem::invalid("serial", "range"));
    }
    let named = tenant.as_deref().map(str::parse::<TenantName>).transpose();
    let named = named.map_err(|_| Problem::invalid("tenant", "name"))?;
    let by = state.installation(&caller);
    let by = Administrator { tenant: named.unwrap_or(by.tenant), ..by };
    let (doing, token) = (state.clone(), serial.clone());
    let forgetting = async move { Ok(pin_guesses::forget(by, token, doing.ground()).await?) };
    let forgotten = state.to_the_end(forgetting).await?;
    let forgotten = forgotten.ok_or_else(|| {
        Problem::new(Code::NotFound).with_place(
            "serial",
            "not_counted",
            "no PINs count there that this tenant brought".to_owned(),
        )
    })?;
    Ok(Json(ForgottenPins { tenant, serial, forgotten, left: pin_guesses::NEW_PINS }))
}
