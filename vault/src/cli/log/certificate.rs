//! `siv log verify-certificate`: a certificate of destruction, checked without the vault.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{read, trusted};
use crate::access_log::{Destroyed, ProvenDestruction};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, plural};

/// Check a certificate of destruction. Needs no server, no database and no network; succeeds only if everything holds.
///
/// Checked are the signature of the tenant's log key, that the log entry says what is certified, and that the signed tree
/// holds the entry. The certificate says how each key ended, and never more than was seen: read it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  siv log verify-certificate certificate.json --vkey vkey")]
pub(in crate::cli) struct Command {
    /// The file that `siv keys certificate --out` or `siv keys approve --out` wrote.
    file: PathBuf,
    /// A file with the verifier key of the tenant's log, from a place you trust.
    #[arg(long, value_name = "FILE")]
    vkey: PathBuf,
}

impl Command {
    pub(super) fn run(&self, output: &Output) -> Result<(), Failure> {
        let trusted = trusted(&self.vkey)?;
        let proven = ProvenDestruction::verify(&read(&self.file)?, &trusted).map_err(|fault| {
            Failure::new(format!("{} does not hold", self.file.display())).because(fault).so(
                "do not rely on it; fetch it again with `siv keys certificate`, and check that the key is this log's",
            )
        })?;
        output.record(&if output.is_json() { document(&proven) } else { words(&proven) });
        Ok(())
    }
}

fn document(proven: &ProvenDestruction) -> Value {
    let ProvenDestruction { certificate, origin, index, size } = proven;
    json!({ "holds": true, "origin": origin, "index": index, "size": size, "certificate": certificate })
}

/// The same for a person.
fn words(proven: &ProvenDestruction) -> Value {
    let mut shown = json!({
        "holds": true,
        "tenant": proven.certificate.tenant,
        "time": proven.certificate.time,
        "entry": format!("{} of {} in {}", proven.index, proven.size, proven.origin),
    });
    let more = match &proven.certificate.destroyed {
        Destroyed::Tenant { ends, data_keys, values, approval, requested_by, approved_by, .. } => {
            let end = |end: &crate::access_log::EndOfKek| format!("{}: {}", end.kek, end.how);
            json!({
                "destroyed": "every key of the tenant",
                "keys": ends.iter().map(end).collect::<Vec<_>>(),
                "dataKeys": data_keys,
                "values": values,
                "approval": approval,
                "requestedBy": requested_by,
                "approvedBy": approved_by,
            })
        }
        Destroyed::Version { end, losses, data_keys, values, values_at_least, approval, requested_by, approved_by } => {
            let counted = |values: u64, at_least| format!("{values}{}", if at_least { " or more" } else { "" });
            let loss = |loss: &crate::access_log::LostClass| {
                let values = loss.values.map(|values| plural(counted(values, loss.values_at_least), "value"));
                let what = loss.holds.clone().or(values).unwrap_or_default();
                format!("{}: {}, {what}", loss.class, plural(loss.data_keys, "data key"))
            };
            let values = counted(*values, *values_at_least);
            json!({
                "lost": "one version of a key, and what only that opened",
                "keys": [format!("{}: {}", end.kek, end.how)],
                "seen": end.seen,
                "losses": losses.iter().map(loss).collect::<Vec<_>>(),
                "dataKeys": data_keys,
                "values": values,
                "approval": approval,
                "requestedBy": requested_by,
                "approvedBy": approved_by,
            })
        }
        Destroyed::Value { value_id, field, retention, deleted_by, backups_until } => json!({
            "destroyed": "a value",
            "valueId": value_id,
            "field": field,
            "retention": retention,
            "deletedBy": deleted_by,
            "backupsUntil": backups_until,
        }),
    };
    if let (Some(shown), Value::Object(more)) = (shown.as_object_mut(), more) {
        shown.extend(more);
    }
    shown
}
