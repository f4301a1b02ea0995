//! `GET /v1/log/entries`: the access log as lists; reading it is an entry too.

use axum::Json;
use axum::extract::State as Shared;
use http::Uri;
use serde_json::Value;

use crate::access_log::{Action, Entry, Leaf, Outcome};
use crate::domain::Timestamp;
use crate::http::authentication::{Auditor, By};
use crate::http::listing::{Listed, Next, Query};
use crate::http::problem::Problem;
use crate::http::state::State;
use crate::store::{Caller, EntryFilter, StoredEntry};

/// Members of the query.
pub(crate) const FILTERS: &[&str] =
    &["valueId", "actor", "flow", "app", "action", "outcome", "from", "to", "cursor", "limit"];

/// Lists entries.
pub(crate) async fn entries(
    Shared(state): Shared<State>,
    By(caller, _): By<Auditor>,
    uri: Uri,
) -> Result<Json<Listed<Value>>, Problem> {
    let query = Query::read(&uri, FILTERS)?;
    let (filter, cursor) = (filter(&query)?, query.get::<String>("cursor")?);
    note(&state, &caller, &filter).await?;
    let store = &state.rooms().store;
    let page = store.entries(caller.tenant_name(), &filter, cursor.as_deref(), query.limit()?).await?;
    let data = page.entries.iter().map(shown).collect::<Result<_, _>>()?;
    Ok(Json(Listed { data, page: Next { next: page.next } }))
}

fn filter(query: &Query) -> Result<EntryFilter, Problem> {
    let time = |name: &str| {
        let text = query.get::<String>(name)?;
        text.map(|text| Timestamp::from_rfc3339(&text).ok_or_else(|| Problem::invalid(name, "range"))).transpose()
    };
    Ok(EntryFilter {
        value_id: query.get("valueId")?,
        actor: query.get("actor")?,
        flow: query.get("flow")?,
        app: query.get("app")?,
        action: query.get("action")?,
        outcome: query.get("outcome")?,
        from: time("from")?,
        to: time("to")?,
    })
}

/// The history of one value is an entry of its own, each page of it (a cursor proves nothing), durable before anything
/// is read; lists are counted.
async fn note(state: &State, caller: &Caller, filter: &EntryFilter) -> Result<(), Problem> {
    let Some(value_id) = filter.value_id else {
        state.notes().read(caller.tenant_name(), &caller.context, "log.list", state.now());
        return Ok(());
    };
    let mut entry = read_entry(state, caller, "log.history");
    entry.value_id = Some(value_id);
    state.record(entry).await
}

/// A read of the log by a known caller.
pub(crate) fn read_entry(state: &State, caller: &Caller, what: &'static str) -> Entry {
    let tenant = caller.tenant_name().clone();
    let mut entry = Entry::new(tenant, state.now(), Action::LogRead, Outcome::Allowed, &caller.context);
    entry.rule = Some(what);
    entry
}

/// An entry as JSON: the leaf's own members, with what is left of its openings.
fn shown(stored: &StoredEntry) -> Result<Value, Problem> {
    let entry = Leaf::parse(&stored.leaf)?;
    Ok(Value::Object(entry.to_json(stored.index, &stored.openings)?))
}
