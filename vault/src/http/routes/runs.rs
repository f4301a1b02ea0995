//! `POST /v1/flows/{name}/invoke`, `GET /v1/runs/{runId}`.

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};

use crate::domain::{FlowName, RunId};
use crate::flows::InvokeRequest;
use crate::http::answer::respond;
use crate::http::authentication::{By, Flow, Unsealed};
use crate::http::creation::Creation;
use crate::http::edge::CarriesPlaintext;
use crate::http::json::Json as Body;
use crate::http::problem::{Code, Problem};
use crate::http::state::State;

/// Runs a flow. Whether this credential may, its kind included, is asked after the request is read (the order of
/// refusals): by the room itself.
pub(crate) async fn invoke(
    Shared(state): Shared<State>,
    Unsealed(caller): Unsealed,
    creation: Creation,
    Path(name): Path<String>,
    Body { body, raw }: Body<InvokeRequest>,
) -> Result<Response, Problem> {
    let name: FlowName = name.parse().map_err(|_| Problem::new(Code::NotFound))?;
    let idempotency = creation.with(raw)?;
    // A document that never says so reveals nothing.
    let may_reveal = caller.tenant.flows.get(&name).is_some_and(|flow| flow.toml().contains("reveal"));
    let runner = state.rooms().runner.clone();
    let work = async move { Ok(runner.invoke(&caller, &name, body, idempotency).await?) };
    let mut response = respond(state.to_the_end(work).await?);
    if may_reveal {
        response.extensions_mut().insert(CarriesPlaintext);
    }
    Ok(response)
}

/// Tells what is known of a run of the caller's flow.
pub(crate) async fn describe(
    Shared(state): Shared<State>,
    By(caller, _): By<Flow>,
    Path(run_id): Path<String>,
) -> Result<Response, Problem> {
    let run_id: RunId = run_id.parse().map_err(|_| Problem::new(Code::NotFound))?;
    Ok(Json(state.rooms().runner.run(&caller, run_id).await?).into_response())
}
