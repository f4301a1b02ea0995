//! What needs two custodians, as a person reads it: one block for each request, with what to run next.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use crate::domain::{ApprovalId, TenantName};

use super::client::{Client, tenant_query};
use super::failure::Failure;
use super::output::{Lines, Output, plain, plural};

/// All that was asked for, the newest last: nearest to where the reader types.
pub(super) fn list(output: &Output, approvals: &Value) {
    if output.is_json() {
        return output.record(approvals);
    }
    let all = approvals["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return output.line("nothing was asked for that needs a second custodian");
    }
    let blocks: Vec<_> = all.iter().map(|approval| block(approval).text(output)).collect();
    output.line(&blocks.join("\n\n"));
}

/// Shows a request on standard error before it is approved; on a terminal the person is asked, unless `yes` was said before.
pub(super) fn show(output: &Output, approval: &Value, yes: bool) -> Result<(), Failure> {
    // Whatever the list calls it: it may be a second old, and the vault acts on what is so now.
    let asks = !yes && text(approval, "state") != "completed" && is_typed();
    if output.is_json() && !asks {
        return Ok(());
    }
    Output::progress(&block(approval).text(&output.plain()));
    if asks { agreed() } else { Ok(()) }
}

/// Takes a request back.
pub(super) async fn withdraw(
    client: &Client,
    output: &Output,
    approval: ApprovalId,
    tenant: Option<&TenantName>,
) -> Result<(), Failure> {
    let done = client.post(&format!("/v1/approvals/{approval}/withdraw"), &tenant_query(tenant), &json!({})).await?;
    output.sentence(&done, &format!("withdrawn: nothing comes of the request {approval} any more"));
    Ok(())
}

/// Whether a person sits there: who reads the question can answer it.
fn is_typed() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn agreed() -> Result<(), Failure> {
    let _ = write!(std::io::stderr().lock(), "Approve this? Then it is done. [yes/no] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::new("the answer cannot be read").because(error).so("say --yes instead"))?;
    if matches!(answer.trim(), "yes" | "y") {
        return Ok(());
    }
    Err(Failure::new("nothing was approved").so("say it again and answer yes, or add --yes"))
}

/// One request.
fn block(approval: &Value) -> Lines {
    let keks: Vec<_> = approval["keks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut lines = Lines::under(title(approval));
    lines.add("request", text(approval, "approvalId"));
    lines.add("tenant", text(approval, "tenant"));
    for kek in &keks {
        lines.add("key", version(kek));
        let mut tokens = approval["tokens"].as_array().into_iter().flatten();
        if let Some(token) = tokens.find(|token| token["kek"] == **kek) {
            lines.add("lies in", in_token(token));
        }
    }
    about(approval, &mut lines);
    lines.add("asked by", format!("{}, {}", person(approval, "requestedBy"), time(approval, "requestedAt")));
    if approval["approvedBy"].is_string() {
        lines.add("approved", format!("{}, {}", person(approval, "approvedBy"), time(approval, "approvedAt")));
    }
    let left = approval["secondsLeft"].as_u64().unwrap_or(0);
    let left = if is_open(approval) && left > 0 { format!(", {} left", span(left)) } else { String::new() };
    lines.add("until", format!("{}{left}", time(approval, "expiresAt")));
    lines.add("state", state(approval));
    lines.add("digest", text(approval, "digest"));
    for command in next(approval, &keks) {
        lines.add("next", command);
    }
    lines
}

/// What would be done.
fn title(approval: &Value) -> &'static str {
    match text(approval, "act") {
        "shred-tenant" => "the end of the tenant: every key is destroyed, and nothing of it opens again",
        "lose-version" => "the end of one version whose token is lost: what only it opens ends with it",
        "leave-strict" => "opened data keys may stay in memory, where every reading asked the key provider",
        "leave-token" => "the next version of the key is made elsewhere than in its token, or is one that was brought",
        _ => "an act that this program does not know",
    }
}

/// What is particular to the act.
fn about(approval: &Value, lines: &mut Lines) {
    if let Some(seconds) = approval["cacheSeconds"].as_u64() {
        lines.add("memory", format!("{seconds} seconds at most"));
    }
    match (text(approval, "keyProvider"), &approval["hsm"]) {
        ("local", _) => lines.add("goes to", "the built-in KMS"),
        (_, Value::Object(_)) => {
            let hsm = &approval["hsm"];
            let named = |name: &str, words: &str| hsm[name].as_str().map(|value| format!("{words} {value}"));
            let parts = [named("token", "token"), named("serial", "serial number"), named("module", "by")];
            lines.add("goes to", parts.into_iter().flatten().collect::<Vec<_>>().join(", "));
            if let Some(label) = hsm["kek"].as_str() {
                lines.add("its key", format!("{label}, which is there already"));
            }
            if let Some(what) = hsm["waived"].as_str() {
                lines.add("waived", what);
            }
        }
        _ => {}
    }
    if approval["tokenLost"] == true {
        lines.add("token", "stated to be lost: its key counts as ended by the custodians' word");
    }
    if let Some(seen) = approval["seen"].as_str() {
        lines.add("seen", seen);
    }
    for loss in approval["losses"].as_array().into_iter().flatten() {
        lines.add("is lost", lost(loss));
    }
}

/// What becomes unopenable of one class of data keys.
pub(super) fn lost(loss: &Value) -> String {
    let what = match loss["holds"].as_str() {
        Some(words) => words.to_owned(),
        None => plural(counted(loss), "value"),
    };
    format!("{}: {}, {what}", text(loss, "class"), plural(&loss["dataKeys"], "data key"))
}

/// A count of values as a person reads it.
pub(super) fn counted(document: &Value) -> String {
    let count = document["values"].to_string();
    if document["valuesAtLeast"] == true { format!("{count} or more") } else { count }
}

/// What became of it.
fn state(approval: &Value) -> String {
    match text(approval, "state") {
        "requested" => "requested: waits for a second custodian".to_owned(),
        "approved" if text(approval, "act") == "leave-token" => {
            "approved: waits for who asked, with the PIN".to_owned()
        }
        "approved" => "approved: it is being done".to_owned(),
        "completed" => format!("completed, {}", time(approval, "completedAt")),
        "expired" => "expired: its time was over before it was done".to_owned(),
        "withdrawn" if approval["withdrawnBy"].is_string() => {
            format!("withdrawn by {}, {}", person(approval, "withdrawnBy"), time(approval, "withdrawnAt"))
        }
        "withdrawn" => "withdrawn: the credential that asked does not hold any more".to_owned(),
        "changed" => "void: keys or settings are others than when it was asked for".to_owned(),
        other => other.to_owned(),
    }
}

/// Whether something can still come of it.
fn is_open(approval: &Value) -> bool {
    matches!(text(approval, "state"), "requested" | "approved")
}

/// What to run.
fn next(approval: &Value, keks: &[&str]) -> Vec<String> {
    let (id, act) = (text(approval, "approvalId"), text(approval, "act"));
    match (text(approval, "state"), act) {
        ("requested", _) => vec![
            // Over two rows, so that it can be copied from a terminal.
            format!("as another custodian: siv keys approve {id} \\"),
            format!("--digest {}", text(approval, "digest")),
            format!("siv keys withdraw {id}  (if nobody wants it)"),
        ],
        ("approved", "leave-token") => vec![
            "siv keys rotate …  (the same as when it was asked for, by who asked)".to_owned(),
            format!("siv keys withdraw {id}  (if nobody wants it)"),
        ],
        ("completed", "lose-version") => {
            keks.iter().map(|kek| format!("siv keys certificate --lost {kek} --out FILE")).collect()
        }
        ("approved" | "completed", "shred-tenant") => vec!["siv keys certificate --out FILE".to_owned()],
        ("approved" | "completed", _) => Vec::new(),
        _ => vec![format!("siv keys {} …  (to ask for it anew, if it is still wanted)", asks(act))],
    }
}

/// The command that asks for an act.
fn asks(act: &str) -> &'static str {
    match act {
        "shred-tenant" => "shred",
        "lose-version" => "lost",
        "leave-strict" => "cache",
        _ => "rotate",
    }
}

/// Where a version lies that is in a token.
fn in_token(token: &Value) -> String {
    let part = |name: &str, words: &str| token[name].as_str().map(|value| format!("{words} {value}"));
    let parts = [part("token", "the token"), part("serial", "serial number"), part("label", "called")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `id.version` as a person reads it.
fn version(kek: &str) -> String {
    kek.split_once('.').map_or_else(|| kek.to_owned(), |(id, version)| format!("version {version} of {id}"))
}

/// A credential by its name, where that is known, and its id.
pub(super) fn person(approval: &Value, member: &str) -> String {
    let id = text(approval, member);
    match approval[format!("{member}Name")].as_str() {
        Some(name) => format!("{} ({id})", plain(name)),
        None => id.to_owned(),
    }
}

/// A time to the second.
fn time(approval: &Value, member: &str) -> String {
    let time = text(approval, member);
    time.get(..19).map_or_else(|| time.to_owned(), |start| format!("{}Z", start.replace('T', " ")))
}

/// So many seconds as a person says it.
fn span(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds % 3600 / 60);
    if hours > 0 { format!("{hours} h {minutes} min") } else { format!("{minutes} min") }
}

pub(super) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn a_request_is_a_block_that_fits_a_terminal_and_says_what_to_run() {
        let output = Output::new(false, &Environment::read());
        let asked = json!({
            "approvalId": "01a21470-11c2-7f7b-8eec-658cb376cb51", "tenant": "acme", "act": "lose-version",
            "keks": ["01a2146f-03b7-7be0-9a4f-1c5d0c9f2b11.1"], "state": "requested", "secondsLeft": 86_399,
            "requestedBy": "01a2146f-9a01-7be0-9a4f-1c5d0c9f2b11", "requestedByName": "Ada\u{1b}[31m",
            "requestedAt": "2026-11-27T02:10:03.123Z", "expiresAt": "2026-11-28T02:10:03.123Z", "tokenLost": true,
            "seen": "silent", "digest": "5b".repeat(32), "tokens": [{
                "kek": "01a2146f-03b7-7be0-9a4f-1c5d0c9f2b11.1", "token": "acme", "serial": "00a1b2c3d4e5f607", "label": "siv-acme-1",
            }],
            "losses": [{"class": "stored", "dataKeys": 1, "values": 1_000_000, "valuesAtLeast": true}],
        });
        let text = block(&asked).text(&output);
        for said in [
            "version 1 of 01a2146f-03b7-7be0-9a4f-1c5d0c9f2b11",
            "Ada\u{fffd}[31m (01a2146f-9a01-7be0-9a4f-1c5d0c9f2b11), 2026-11-27 02:10:03Z",
            "2026-11-28 02:10:03Z, 23 h 59 min left",
            "the token acme, serial number 00a1b2c3d4e5f607, called siv-acme-1",
            "stored: 1 data key, 1000000 or more values",
            "siv keys approve 01a21470-11c2-7f7b-8eec-658cb376cb51 \\\n",
            &format!(" --digest {}\n", "5b".repeat(32)),
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{text}");
        let mut over = asked;
        over["state"] = json!("expired");
        let text = block(&over).text(&output);
        assert!(text.contains("siv keys lost …") && !text.contains("siv keys approve"), "{text}");
        assert!(!text.contains("left"), "{text}");
    }
}
