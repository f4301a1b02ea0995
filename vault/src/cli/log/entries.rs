//! `siv log entries`: the access log as a list, over the private listener.

use clap::Args;
use serde_json::{Value, json};

use crate::access_log::about;
use crate::cli::client::{Client, tenant_query};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::domain::TenantName;

/// Entries that one request asks for at most.
const PART: usize = 1_000;
const COLUMNS: [&str; 10] =
    ["index", "time", "action", "outcome", "actor", "flow", "value", "purpose", "about", "note"];

/// List entries of the log, oldest first. Reading it is an entry too.
///
/// What is known of a person (name, address, reference, on whose behalf) may be erased, or never was kept, since the key
/// that seals it could not be had when the entry was made: the column `note` says so. So it does while the tenant's key
/// provider does not answer (out of reach). `--json` has everything.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  SIV_CREDENTIAL=siv_aud_… siv log entries --action access.denied --from 2026-11-01T00:00:00Z\n  \
    SIV_CREDENTIAL=siv_aud_… siv log entries --value-id 01a20b7f-8427-7001-8001-010101010101 --json"
)]
pub(in crate::cli) struct Command {
    /// Entries of this value. Each such reading is an entry of its own.
    #[arg(long, value_name = "ID")]
    value_id: Option<String>,
    /// Entries of this credential's doing (its id).
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Entries of this flow.
    #[arg(long)]
    flow: Option<String>,
    /// Entries of this app.
    #[arg(long)]
    app: Option<String>,
    /// Entries of this action, like value.dereferenced; docs/api.md lists all there are.
    #[arg(long)]
    action: Option<String>,
    /// Entries of this outcome: allowed, denied, failed or unknown.
    #[arg(long)]
    outcome: Option<String>,
    /// Entries from this time on (RFC 3339, like 2026-11-26T00:00:00Z).
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Entries before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Show so many at most; where there are more, it is said how to go on.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Go on where another list ended.
    #[arg(long)]
    cursor: Option<String>,
    /// The tenant, where the credential is not of one.
    #[arg(long)]
    tenant: Option<TenantName>,
}

impl Command {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Failure> {
        let (mut cursor, most) = (self.cursor.clone(), self.limit as usize);
        let query = self.query();
        let mut entries = Vec::new();
        loop {
            let mut query = query.clone();
            query.push(("limit", (most - entries.len()).min(PART).to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut part = client.get("/v1/log/entries", &query).await?;
            if let Some(more) = part.get_mut("data").and_then(Value::as_array_mut) {
                entries.append(more);
            }
            cursor = part.pointer("/page/next").and_then(Value::as_str).map(str::to_owned);
            // A search of a long log comes in parts, some of them empty.
            if cursor.is_none() || entries.len() >= most {
                break;
            }
        }
        if output.is_json() {
            output.record(&json!({ "data": entries, "page": { "next": cursor } }));
            return Ok(());
        }
        if entries.is_empty() {
            // A part of a long log may hold none, and the next one some.
            output.line(if cursor.is_none() { "no entries match" } else { "no entries match so far" });
        } else {
            output.table(&Value::from_iter(entries.iter().map(row)), &COLUMNS);
        }
        if let Some(cursor) = cursor.filter(|cursor| cursor.chars().all(|c| c.is_ascii_graphic())) {
            Output::progress(&format!("there may be more: say the same with --cursor {cursor}"));
        }
        Ok(())
    }

    fn query(self) -> Vec<(&'static str, String)> {
        let mut query = tenant_query(self.tenant.as_ref());
        for (name, value) in [
            ("valueId", self.value_id),
            ("actor", self.actor),
            ("flow", self.flow),
            ("app", self.app),
            ("action", self.action),
            ("outcome", self.outcome),
            ("from", self.from),
            ("to", self.to),
        ] {
            query.extend(value.map(|value| (name, value)));
        }
        query
    }
}

/// An entry as a row for a person.
fn row(entry: &Value) -> Value {
    let text = |pointer: &str| entry.pointer(pointer).and_then(Value::as_str);
    let outcome = [text("/outcome"), text("/reason")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let actor = text("/actor/name").or_else(|| text("/actor/id")).unwrap_or_default();
    let actor = format!("{} {actor}", text("/actor/kind").unwrap_or_default());
    json!({
        "index": entry.get("index").filter(|index| !index.is_null()).map_or_else(|| "pending".to_owned(), Value::to_string),
        "time": text("/time"),
        "action": text("/action"),
        "outcome": outcome,
        "actor": actor.trim(),
        "flow": text("/flow/name").or_else(|| text("/app")).unwrap_or_default(),
        "value": text("/valueId").unwrap_or_default(),
        "purpose": text("/purpose").unwrap_or_default(),
        "about": about(entry),
        "note": note(entry),
    })
}

/// What cannot be shown, and why.
fn note(entry: &Value) -> String {
    if let Some(fault) = entry.get("altered").and_then(Value::as_str) {
        return format!("ALTERED ({fault})");
    }
    let members = |name: &str, why: &str| {
        let names = entry.get(name)?.as_array()?.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        Some(format!("{why}: {names}"))
    };
    let erased = members("erased", "erased or never kept");
    erased.or_else(|| members("outOfReach", "out of reach")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_is_erased_what_is_out_of_reach_and_what_was_altered() {
        let entry = json!({
            "index": 4, "time": "t", "action": "access.denied", "outcome": "denied", "reason": "policy.denied",
            "actor": { "id": "0198", "kind": "flow", "name": null }, "erased": ["actor.name", "reference"],
        });
        let shown = row(&entry);
        assert_eq!((&shown["index"], &shown["outcome"]), (&json!("4"), &json!("denied policy.denied")));
        assert_eq!(
            (&shown["actor"], &shown["note"]),
            (&json!("flow 0198"), &json!("erased or never kept: actor.name, reference"))
        );
        let away =
            row(&json!({ "index": null, "outOfReach": ["actor.name"], "actor": { "kind": "operator", "id": "7" } }));
        assert_eq!((&away["index"], &away["note"]), (&json!("pending"), &json!("out of reach: actor.name")));
        assert_eq!(row(&json!({ "index": 7, "altered": "leaf" }))["note"], "ALTERED (leaf)");
    }
}
