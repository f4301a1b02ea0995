//! `GET /v1/log/entries`: the access log as lists; reading it is an entry too.

use axum::Json;
use axum::extract::State as Shared;
use http::Uri;
use serde_json::{Value, json};

use crate::access_log::{Action, Entry, Leaf, OUTCOMES, Outcome, actions_near, is_action};
use crate::domain::{Actor, Timestamp};
use crate::http::authentication::{Auditor, By};
use crate::http::listing::{Listed, Next, Query};
use crate::http::problem::{Code, Problem};
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
    let data = page.entries.iter().map(shown).collect();
    Ok(Json(Listed { data, page: Next { next: page.next } }))
}

fn filter(query: &Query) -> Result<EntryFilter, Problem> {
    let time = |name: &str| {
        let text = query.get::<String>(name)?;
        text.map(|text| Timestamp::from_rfc3339(&text).ok_or_else(|| Problem::invalid(name, "time"))).transpose()
    };
    // Of a word that no entry has, an empty list would look like nothing having happened.
    let action = query.get::<String>("action")?;
    if let Some(named) = action.as_deref().filter(|named| !is_action(named)) {
        return Err(Problem::new(Code::Validation).with_place("action", "unknown", actions_near(named)));
    }
    let outcome = query.get::<String>("outcome")?;
    if outcome.as_deref().is_some_and(|named| !OUTCOMES.contains(&named)) {
        return Err(Problem::new(Code::Validation).with_place("outcome", "unknown", OUTCOMES.join(", ")));
    }
    let actor = query.get::<String>("actor")?;
    if actor.as_deref().is_some_and(|named| !Actor::is_id(named)) {
        let why = "an id, not a name: `siv credential list` shows those of credentials, `siv log entries --json` all"
            .to_owned();
        return Err(Problem::new(Code::Validation).with_place("actor", "id", why));
    }
    Ok(EntryFilter {
        value_id: query.get("valueId")?,
        actor,
        flow: query.get("flow")?,
        app: query.get("app")?,
        action,
        outcome,
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

/// An entry as JSON: the leaf's own members, with what is left of its openings. What was altered takes no other line with
/// it: an entry that does not read is a line that says so, openings that are not the entry's own are left out and named.
pub(crate) fn shown(stored: &StoredEntry) -> Value {
    let marked = |fault: &str| {
        let (integrated, position) = (stored.index.is_some(), stored.position.to_string());
        json!({ "index": stored.index, "integrated": integrated, "place": position, "altered": fault })
    };
    let Ok(entry) = Leaf::parse(&stored.leaf) else { return marked("leaf") };
    if let Ok(mut json) = entry.to_json(stored.index, &stored.openings) {
        // Not erased: their key provider does not answer now.
        if stored.is_out_of_reach
            && let Some(members) = json.shift_remove("erased")
        {
            json.insert("outOfReach".to_owned(), members);
        }
        return Value::Object(json);
    }
    entry.to_json(stored.index, &[]).map_or_else(
        |_| marked("leaf"),
        |mut json| {
            json.insert("altered".to_owned(), Value::from("openings"));
            Value::Object(json)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::{NodeIdentity, Position};
    use crate::domain::{Actor, TenantName};

    #[test]
    fn an_altered_entry_is_a_marked_line_and_not_the_end_of_the_page() {
        let now = Timestamp::from_millis(1_795_489_236_007);
        let identity = NodeIdentity::generate("eu-1".parse().unwrap(), "node-1", "test", now).unwrap();
        let lane = crate::access_log::Lane::open(identity.boot(), 0);
        let mut draft = lane.draft();
        let tenant: TenantName = "demo".parse().unwrap();
        let actor = Actor { name: Some("Ada".to_owned()), ..Actor::anonymous() };
        let entry = Entry::by(tenant, now, Action::LogRead, Outcome::Allowed, actor);
        let salts = || crate::access_log::Salts::generate().unwrap();
        let (position, leaf, openings) = draft.push(&entry, &salts()).unwrap();
        let (_, _, foreign) = draft.push(&entry, &salts()).unwrap();
        let stored = |leaf: &[u8], openings: &[crate::access_log::Opening]| StoredEntry {
            position: Position { ..position },
            index: Some(7),
            leaf: leaf.to_vec(),
            openings: openings.to_vec(),
            is_out_of_reach: false,
            is_left_behind: false,
        };
        let whole = shown(&stored(leaf.as_bytes(), &openings));
        assert!(whole["actor"]["name"] == "Ada" && whole.get("altered").is_none(), "{whole}");
        let away = shown(&StoredEntry { is_out_of_reach: true, ..stored(leaf.as_bytes(), &[]) });
        assert!(away["outOfReach"].is_array() && away.get("erased").is_none(), "{away}");
        let altered = shown(&stored(&leaf.as_bytes()[1..], &openings));
        assert_eq!((&altered["index"], &altered["altered"]), (&json!(7), &json!("leaf")));
        assert_eq!(altered["place"], json!(position.to_string()));
        let foreign = shown(&stored(leaf.as_bytes(), &foreign));
        assert_eq!((&foreign["action"], &foreign["altered"]), (&json!("log.read"), &json!("openings")));
        assert!(!foreign.to_string().contains("Ada"));
    }
}
