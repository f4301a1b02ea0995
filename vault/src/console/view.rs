//! What the pages show, made from entries as the log's interface gives them out. No decision lives here.

use askama::Template;
use serde_json::Value;

use super::self_check::Checked;
pub(super) use crate::access_log::{ACTIONS, OUTCOMES};
use crate::access_log::{about, short};

/// Who looks, and at which page.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub(super) tenant: String,
    pub(super) name: String,
    pub(super) csrf: String,
    pub(super) page: &'static str,
}

/// The filter as it stands in the form.
#[derive(Debug, Clone, Default)]
pub(super) struct FormFilter {
    pub(super) value_id: String,
    pub(super) actor: String,
    pub(super) flow: String,
    pub(super) app: String,
    pub(super) action: String,
    pub(super) outcome: String,
    pub(super) from: String,
    pub(super) to: String,
}

impl FormFilter {
    /// Reads a query string; unknown members are left out.
    pub(super) fn from_query(query: &str) -> Self {
        let mut filter = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if let Some((_, slot)) = filter.members_mut().into_iter().find(|(own, _)| **own == *name) {
                *slot = value.trim().chars().take(128).collect();
            }
        }
        filter
    }

    fn members_mut(&mut self) -> [(&'static str, &mut String); 8] {
        [
            ("valueId", &mut self.value_id),
            ("actor", &mut self.actor),
            ("flow", &mut self.flow),
            ("app", &mut self.app),
            ("action", &mut self.action),
            ("outcome", &mut self.outcome),
            ("from", &mut self.from),
            ("to", &mut self.to),
        ]
    }

    /// Name and value of each member that is set.
    pub(super) fn set(&self) -> Vec<(&'static str, String)> {
        let mut copy = self.clone();
        let members = copy.members_mut().into_iter();
        members.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, value.clone())).collect()
    }

    /// The address of the list under this filter, with further members.
    pub(super) fn address(members: &[(&str, String)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(members);
        let query = query.finish();
        if query.is_empty() { "/console/log".to_owned() } else { format!("/console/log?{query}") }
    }

    /// The filters in force, each with the address of the list without it.
    pub(super) fn chips(&self) -> Vec<Chip> {
        let set = self.set();
        let without = |gone: &str| set.iter().filter(|(name, _)| *name != gone).cloned().collect::<Vec<_>>();
        set.iter()
            .map(|(name, value)| Chip { name, value: value.clone(), without: Self::address(&without(name)) })
            .collect()
    }
}

/// One filter in force.
pub(super) struct Chip {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) without: String,
}

/// One line of the list.
pub(super) struct Row {
    pub(super) index: Option<u64>,
    pub(super) time: String,
    pub(super) time_short: String,
    pub(super) action: String,
    pub(super) outcome: String,
    pub(super) reason: String,
    pub(super) actor_kind: String,
    pub(super) actor_id: String,
    pub(super) actor_name: String,
    pub(super) actor_short: String,
    pub(super) flow: String,
    /// The field of a value, or what else it is about: a desk has no room for both, and where there is a field it says enough.
    pub(super) about: String,
    pub(super) value_id: String,
    pub(super) value_short: String,
}

impl Row {
    /// A line from an entry.
    pub(super) fn of(entry: &Value) -> Self {
        let text = |path: &str| entry.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let altered =
            entry["altered"].as_str().map(|what| format!("its {what} in the database is not what was written"));
        Self {
            index: entry["index"].as_u64(),
            time_short: text("/time").chars().take(19).collect::<String>().replace('T', " "),
            time: text("/time"),
            action: text("/action"),
            outcome: if altered.is_some() { "altered".to_owned() } else { text("/outcome") },
            reason: altered.unwrap_or_else(|| text("/reason")),
            actor_kind: text("/actor/kind"),
            actor_name: text("/actor/name"),
            actor_short: short(&text("/actor/id")),
            actor_id: text("/actor/id"),
            flow: text("/flow/name"),
            about: entry["field"].as_str().map_or_else(|| about(entry), str::to_owned),
            value_short: short(&text("/valueId")),
            value_id: text("/valueId"),
        }
    }
}

/// One fact of an entry.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) link: Option<String>,
    pub(super) erased: bool,
    /// Shown in the reader's zone.
    pub(super) is_time: bool,
}

/// Facts that answer one question.
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) lines: Vec<Line>,
}

/// Which members answer which question; what is in no list stands under "More".
const QUESTIONS: [(&str, &[&str]); 5] = [
    ("Who", &["actor", "onBehalfOf"]),
    (
        "What",
        &[
            "action",
            "outcome",
            "reason",
            "valueId",
            "field",
            "type",
            "retention",
            "stateVersion",
            "uses",
            "expiresAt",
            "count",
        ],
    ),
    ("When and where", &["time", "origin", "requestId"]),
    ("Why", &["purpose", "reference", "app"]),
    ("By which rule", &["flow", "rule", "runId", "destination", "kekId", "dataKeyId"]),
];

/// An entry as a receipt: who, what, when, where, why, by which rule.
fn groups(entry: &Value) -> Vec<Group> {
    let members = entry.as_object().into_iter().flatten();
    let mut groups: Vec<Group> = QUESTIONS.iter().map(|(title, _)| Group { title, lines: Vec::new() }).collect();
    groups.push(Group { title: "More", lines: Vec::new() });
    for (name, value) in members {
        if matches!(name.as_str(), "index" | "integrated") || value.is_null() {
            continue;
        }
        let at = QUESTIONS.iter().position(|(_, names)| names.contains(&name.as_str())).unwrap_or(QUESTIONS.len());
        flatten(name, value, &mut groups[at].lines);
    }
    groups.retain(|group| !group.lines.is_empty());
    groups
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<Line>) {
    if value.get("erased").and_then(Value::as_bool) == Some(true) {
        lines.push(Line { name: name.to_owned(), value: String::new(), link: None, erased: true, is_time: false });
        return;
    }
    match value {
        Value::Object(members) => {
            for (member, value) in members.iter().filter(|(_, value)| !value.is_null()) {
                flatten(&format!("{name} {member}"), value, lines);
            }
        }
        Value::Null => {}
        other => {
            let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            let link = (name == "valueId").then(|| format!("/console/values/{text}"));
            let is_time = matches!(name, "time" | "expiresAt");
            lines.push(Line { name: name.to_owned(), value: text, link, erased: false, is_time });
        }
    }
}

/// What the vault computed of an entry's place in the tree.
pub(super) struct Proof {
    pub(super) size: u64,
    pub(super) leaf_hash: String,
    pub(super) root: String,
    pub(super) steps: usize,
    pub(super) text: String,
}

#[derive(Template)]
#[template(path = "console/sign_in.html")]
pub(super) struct SignInPage {
    pub(super) refused: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "console/log.html")]
pub(super) struct LogPage {
    pub(super) who: Who,
    pub(super) heading: String,
    pub(super) history_of: Option<String>,
    pub(super) filter: FormFilter,
    pub(super) chips: Vec<Chip>,
    pub(super) refused: Option<&'static str>,
    pub(super) rows: Vec<Row>,
    pub(super) next: Option<String>,
    pub(super) check: Checked,
}

#[derive(Template)]
#[template(path = "console/entry.html")]
pub(super) struct EntryPage {
    pub(super) who: Who,
    pub(super) index: u64,
    pub(super) action: String,
    pub(super) outcome: String,
    pub(super) time: String,
    pub(super) groups: Vec<Group>,
    pub(super) proof: Option<Proof>,
}

impl EntryPage {
    /// The page of an entry.
    pub(super) fn of(who: Who, index: u64, entry: &Value, proof: Option<Proof>) -> Self {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let (action, outcome, time) = (text("action"), text("outcome"), text("time"));
        Self { who, index, action, outcome, time, groups: groups(entry), proof }
    }
}

#[derive(Template)]
#[template(path = "console/export.html")]
pub(super) struct ExportPage {
    pub(super) who: Who,
    pub(super) vkey: String,
    pub(super) checkpoint: String,
}

#[derive(Template)]
#[template(path = "console/nothing.html")]
pub(super) struct NothingPage {
    pub(super) who: Who,
    pub(super) heading: &'static str,
    pub(super) text: &'static str,
}

#[derive(Template)]
#[template(path = "console/refused.html")]
pub(super) struct RefusedPage {
    pub(super) heading: &'static str,
    pub(super) text: &'static str,
    pub(super) request_id: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_stands_in_an_entry_is_shown_and_never_run() {
        let entry = json!({"index": 3, "time": "2026-11-24T03:00:00.000Z", "action": "value.revealed", "outcome": "allowed",
            "actor": {"id": "<script>alert(1)</script>", "kind": "flow"}, "reference": "\"><img src=x onerror=alert(1)>"});
        let who = Who { tenant: "demo".into(), name: "a<b".into(), csrf: "c".into(), page: "log" };
        let page = EntryPage::of(who, 3, &entry, None).render().unwrap();
        assert!(!page.contains("<script>alert"));
        assert!(!page.contains("<img"));
        assert!(page.contains("&lt;script&gt;") || page.contains("&#60;script&#62;"));
    }

    #[test]
    fn a_filter_keeps_to_its_members_and_each_can_be_removed() {
        let filter = FormFilter::from_query("flow=charge-card&outcome=denied&evil=1");
        assert_eq!(filter.set().len(), 2);
        let chips = filter.chips();
        assert_eq!(chips[0].without, "/console/log?outcome=denied");
        assert_eq!(chips[1].without, "/console/log?flow=charge-card");
    }

    #[test]
    fn an_erased_member_says_so() {
        let groups = groups(&json!({"reference": {"erased": true}}));
        assert!(groups[0].lines[0].erased);
    }
}
