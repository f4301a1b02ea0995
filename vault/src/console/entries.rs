//! The list of entries, one value's history, one entry with the state of its proof.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use serde_json::Value;

use super::Desk;
use super::page::{html, see};
use super::person::Person;
use super::self_check::Checked;
use super::view::{EntryPage, FormFilter, LogPage, NothingPage, Proof, Row};
use crate::access_log::{Leaf, OUTCOMES, is_action};
use crate::domain::text::hex;
use crate::domain::{Actor, Timestamp, ValueId};
use crate::http::{Code, Problem};
use crate::sequencer::Error;
use crate::store::{EntryFilter, StoredEntry};

/// Lines of a page.
const LINES: usize = 50;

/// Whoever leaves the last stroke out.
pub(super) async fn door() -> Response {
    see("/console/")
}

/// The way in.
pub(super) async fn home(_person: Person) -> Response {
    see("/console/log")
}

/// The list, newest first; filters and place in the address.
pub(super) async fn list(State(desk): State<Desk>, person: Person, uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default();
    let form = FormFilter::from_query(query);
    let before = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "before");
    let before = before.map(|(_, before)| before.into_owned());
    let filter = match read(&form) {
        Ok(filter) => filter,
        Err(why) => return page(&desk, &person, form, (None, Some(why)), Vec::new(), None),
    };
    if let Some(value_id) = filter.value_id {
        if let Err(problem) = note_history(&desk, &person, value_id).await {
            return problem.into_response();
        }
    } else {
        desk.state.notes().read(&person.tenant, &person.context, "console.list", desk.state.now());
    }
    shown(&desk, &person, form, filter, before).await.unwrap_or_else(IntoResponse::into_response)
}

/// One value's history.
pub(super) async fn history(State(desk): State<Desk>, person: Person, Path(value): Path<String>) -> Response {
    let Ok(value_id) = value.parse::<ValueId>() else { return nothing(&person, "No such value") };
    if let Err(problem) = note_history(&desk, &person, value_id).await {
        return problem.into_response();
    }
    let form = FormFilter { value_id: value, ..FormFilter::default() };
    let filter = EntryFilter { value_id: Some(value_id), ..EntryFilter::default() };
    shown(&desk, &person, form, filter, None).await.unwrap_or_else(IntoResponse::into_response)
}

/// A history is an entry of its own, each page of it, durable before anything is shown.
async fn note_history(desk: &Desk, person: &Person, value_id: ValueId) -> Result<(), Problem> {
    let mut entry = person.reads(desk, "console.history");
    entry.value_id = Some(value_id);
    desk.state.record(entry).await
}

async fn shown(
    desk: &Desk,
    person: &Person,
    form: FormFilter,
    filter: EntryFilter,
    before: Option<String>,
) -> Result<Response, Problem> {
    let before = before.map(|before| before.parse()).transpose().map_err(|_| Problem::new(Code::Malformed))?;
    let (entries, next) = desk.state.rooms().store.newest_entries(&person.tenant, &filter, before, LINES).await?;
    let rows = entries.iter().map(|entry| Row::of(&crate::http::shown(entry))).collect();
    let next = next.map(|next| {
        let mut members = form.set();
        members.push(("before", next.to_string()));
        FormFilter::address(&members)
    });
    Ok(page(desk, person, form, (filter.value_id, None), rows, next))
}

fn page(
    desk: &Desk,
    person: &Person,
    filter: FormFilter,
    (history_of, refused): (Option<ValueId>, Option<&'static str>),
    rows: Vec<Row>,
    next: Option<String>,
) -> Response {
    let heading = if history_of.is_some() { "History of a value" } else { "Access log" }.to_owned();
    let status = if refused.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let (who, chips, history_of) = (person.who("log"), filter.chips(), history_of.map(|id| id.to_string()));
    let check = Checked::of(&person.tenant, &desk.state.rooms().store.log_health().self_check());
    html(status, &LogPage { who, heading, history_of, filter, chips, refused, rows, next, check })
}

/// One entry.
pub(super) async fn one(State(desk): State<Desk>, person: Person, Path(index): Path<String>) -> Response {
    let Ok(index) = index.parse::<u64>() else { return nothing(&person, "No such entry") };
    desk.state.notes().read(&person.tenant, &person.context, "console.entry", desk.state.now());
    found(&desk, &person, index).await.unwrap_or_else(IntoResponse::into_response)
}

async fn found(desk: &Desk, person: &Person, index: u64) -> Result<Response, Problem> {
    let entries = desk.state.rooms().store.entries_by_index(&person.tenant, index..index.saturating_add(1)).await?;
    let Some(entry) = entries.first() else { return Ok(nothing(person, "No such entry")) };
    let proof = match desk.reader.proof_of_index(&person.tenant, index).await {
        Ok(text) => Some(proof(text, entry)),
        Err(Error::Pending) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(html(StatusCode::OK, &EntryPage::of(person.who("log"), index, &json(entry)?, proof)))
}

/// What stands in a tlog-proof: its hashes, and the size and root of its checkpoint.
fn proof(text: String, entry: &StoredEntry) -> Proof {
    let (hashes, note) = text.split_once("\n\n").unwrap_or((&text, ""));
    // Before the hashes stand the format's name and the index.
    let steps = hashes.lines().count().saturating_sub(2);
    let mut lines = note.lines().skip(1);
    let size = lines.next().and_then(|size| size.parse().ok()).unwrap_or(0);
    let root = lines.next().unwrap_or_default().to_owned();
    let leaf_hash = hex::encode(&crate::access_log::leaf_hash(&entry.leaf));
    Proof { size, leaf_hash, root, steps, text }
}

fn nothing(person: &Person, heading: &'static str) -> Response {
    let text = "There is nothing of that name in this log.";
    html(StatusCode::NOT_FOUND, &NothingPage { who: person.who("log"), heading, text })
}

/// The filter, or what is wrong with it in words.
fn read(form: &FormFilter) -> Result<EntryFilter, &'static str> {
    // Of a word that no entry has, an empty list would look like nothing having happened.
    if !form.action.is_empty() && !is_action(&form.action) {
        return Err("No entry has this action. Choose one of those that the field offers.");
    }
    if !form.outcome.is_empty() && !OUTCOMES.contains(&&*form.outcome) {
        return Err("An outcome is allowed, denied, failed or unknown.");
    }
    if !form.actor.is_empty() && !Actor::is_id(&form.actor) {
        return Err("Who is named by an id, not by a name: follow the id in an entry.");
    }
    let read = || {
        Some(EntryFilter {
            value_id: member(&form.value_id)?,
            actor: member(&form.actor)?,
            flow: member(&form.flow)?,
            app: member(&form.app)?,
            action: member(&form.action)?,
            outcome: member(&form.outcome)?,
            from: time(&form.from)?,
            to: time(&form.to)?,
        })
    };
    read().ok_or("A value is a UUID; a time is a day like 2026-01-31 or 2026-01-31T09:30:00Z; names are lower case.")
}

/// Nothing is "any"; outside stands whether it could be read.
#[expect(clippy::option_option, reason = "absent and unreadable are two things")]
fn member<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

#[expect(clippy::option_option, reason = "absent and unreadable are two things")]
fn time(text: &str) -> Option<Option<Timestamp>> {
    match text.len() {
        0 => Some(None),
        // A day alone is its beginning.
        10 => Timestamp::from_rfc3339(&format!("{text}T00:00:00Z")).map(Some),
        _ => Timestamp::from_rfc3339(text).map(Some),
    }
}

fn json(entry: &StoredEntry) -> Result<Value, Problem> {
    let broken = |_| Problem::new(Code::LogUnavailable);
    let parsed = Leaf::parse(&entry.leaf).map_err(broken)?;
    Ok(Value::Object(parsed.to_json(entry.index, &entry.openings).map_err(broken)?))
}
