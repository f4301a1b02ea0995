//! What proves the log: checkpoint, verifier key, tiles, proofs, bundles (C2SP tlog-tiles, tlog-checkpoint, tlog-proof).

use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use http::{Method, Uri};
use serde::Deserialize;
use utoipa::ToSchema;

use super::log::read_entry;
use crate::access_log::Entry;
use crate::domain::Timestamp;
use crate::http::authentication::{Auditor, By};
use crate::http::json::Json;
use crate::http::listing::Query;
use crate::http::problem::{Code, Problem};
use crate::http::state::State;
use crate::sequencer::{LogReader, Part, Tar};
use crate::store::Caller;

/// Members of an export's query.
pub(crate) const RANGE: &[&str] = &["from", "to"];

/// The header of an export that says how many entries wait for integration and come with a later one.
pub(crate) const PENDING: &str = "siv-pending-entries";

/// Which entry a proof is wanted of: a receipt, or an index.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantProof {
    receipt: Option<String>,
    index: Option<u64>,
}

/// The newest checkpoint.
pub(crate) async fn checkpoint(Shared(state): Shared<State>, By(caller, _): By<Auditor>) -> Result<Response, Problem> {
    count(&state, &caller, "log.checkpoint");
    Ok(text(reader(&state).checkpoint(caller.tenant_name()).await?))
}

/// The verifier key line.
pub(crate) async fn vkey(Shared(state): Shared<State>, By(caller, _): By<Auditor>) -> Result<Response, Problem> {
    Ok(text(reader(&state).vkey(caller.tenant_name()).await? + "\n"))
}

/// A hash tile or a bundle of entries.
pub(crate) async fn tile(
    Shared(state): Shared<State>,
    By(caller, _): By<Auditor>,
    Path(path): Path<String>,
) -> Result<Response, Problem> {
    count(&state, &caller, "log.tile");
    let bytes = reader(&state).tile(caller.tenant_name(), &format!("tile/{path}")).await?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))], bytes).into_response())
}

/// An inclusion proof.
pub(crate) async fn proof(
    Shared(state): Shared<State>,
    By(caller, _): By<Auditor>,
    Json { body, .. }: Json<WantProof>,
) -> Result<Response, Problem> {
    count(&state, &caller, "log.proof");
    let (reader, log) = (reader(&state), caller.tenant_name());
    let proof = match (body.receipt, body.index) {
        (Some(receipt), None) => reader.proof_of_receipt(log, &receipt).await?,
        (None, Some(index)) => reader.proof_of_index(log, index).await?,
        _ => return Err(Problem::invalid("receipt", "one_of_receipt_and_index")),
    };
    Ok(text(proof))
}

/// A bundle as a tar. The entry of the export is durable before the first byte leaves.
pub(crate) async fn export(
    Shared(state): Shared<State>,
    By(caller, _): By<Auditor>,
    method: Method,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query::read(&uri, RANGE)?;
    let (from, to) = (query.get::<String>("from")?, query.get::<String>("to")?);
    for (name, text) in [("from", &from), ("to", &to)] {
        let reads = |text: &String| text.parse::<u64>().is_ok() || Timestamp::from_rfc3339(text).is_some();
        if !text.as_ref().is_none_or(reads) {
            return Err(Problem::invalid(name, "time"));
        }
    }
    let part = Part::parse(from.as_deref(), to.as_deref())?;
    if method == Method::HEAD {
        // Nobody will take the pieces: nothing is read, so nothing is recorded.
        return Ok(archive(Body::empty()));
    }
    let entry = read_entry(&state, &caller, "log.export");
    bundle(&state, caller.tenant_name().clone(), part, entry).await
}

/// Streams a bundle, once the entry that says so is durable; an error ends the tar without its end, so that nobody takes half of it for
/// a whole.
pub(crate) async fn bundle(
    state: &State,
    log: crate::domain::TenantName,
    part: Part,
    entry: Entry,
) -> Result<Response, Problem> {
    // Before the first entry is integrated there is nothing to export, and while a key provider is away half of it cannot be
    // opened: say so instead of sending half a tar. What was refused is no export.
    reader(state).look_ahead(&log).await?;
    // A bundle's openings are held until they are written: few at a time.
    let place = state.exports().try_acquire_owned().map_err(|_| Problem::new(Code::Overloaded).retry_after(5))?;
    // Counted before the entry of this very export, which always waits.
    let pending = reader(state).pending(&log, part).await?;
    state.record(entry).await?;
    let (mut tar, pieces) = Tar::new(state.now());
    let reader = reader(state);
    state.works().spawn(async move {
        let done = reader.export(&log, part, &mut tar).await.map(drop);
        tar.finish(done);
        drop(place);
    });
    let pieces = stream::unfold(pieces, async |mut pieces| pieces.recv().await.map(|piece| (piece, pieces)));
    let mut response = archive(Body::from_stream(pieces));
    response.headers_mut().insert(PENDING, HeaderValue::from(pending));
    Ok(response)
}

fn archive(body: Body) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    let name = HeaderValue::from_static("attachment; filename=\"siv-log.tar\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    response
}

fn reader(state: &State) -> LogReader {
    LogReader::new(state.rooms().store.clone(), state.rooms().keys.clone())
}

/// Reads of this kind are counted per credential and minute.
fn count(state: &State, caller: &Caller, what: &'static str) {
    state.notes().read(caller.tenant_name(), &caller.context, what, state.now());
}

fn text(text: String) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))], text).into_response()
}
