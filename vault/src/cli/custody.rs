//! What custodians do to keys for good: states, the end of a tenant by two persons, certificates of destruction.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::domain::{ApprovalId, KekId, TenantName};

use super::approvals::{self, counted, text};
use super::client::{Client, tenant_query};
use super::evidence;
use super::failure::Failure;
use super::output::{Output, plural};

/// Makes the next version active, or asks for what takes a second custodian first.
pub(super) async fn rotate(
    client: &Client,
    output: &Output,
    query: &[(&str, String)],
    wish: &Value,
) -> Result<(), Failure> {
    let done = client.post("/v1/keks/rotate", query, wish).await?;
    let approval = &done["approval"];
    let sentence = if approval.is_object() {
        let then = match text(approval, "keyProvider") {
            "local" => "and it is done",
            _ => "and then who asked says this command again, with the PIN",
        };
        let tenant = text(&done, "tenant");
        let what = match approval["hsm"]["waived"].as_str() {
            Some(what) => format!("of the key that {tenant} is to rest on is waived {what}"),
            None => format!("leaving its token gives another place the key of {tenant}"),
        };
        format!("{what}. {}\n{then}", second(approval))
    } else {
        let verb = if wish["dryRun"] == true { "would be" } else { "is" };
        let place = match done["token"].as_str() {
            Some(label) => format!("in the token {label}, by {}", text(&done, "mechanism")),
            None => "in the built-in KMS".to_owned(),
        };
        let first = if done["takesTwo"] == true { ", once a second custodian has approved it" } else { "" };
        let waived = done["waived"].as_str().map(|what| format!(". Waived: {what}")).unwrap_or_default();
        format!("version {} of the key {} {verb} active {place}{first}{waived}", done["version"], text(&done, "kekId"))
    };
    output.sentence(&done, &sentence);
    Ok(())
}

/// What the second custodian says.
fn second(approval: &Value) -> String {
    format!(
        "Nothing is done yet: it is asked for by {}, and another custodian has until {} to say\n  siv keys approve {} --digest {}",
        approvals::person(approval, "requestedBy"),
        text(approval, "expiresAt"),
        text(approval, "approvalId"),
        text(approval, "digest")
    )
}

/// Says which key is meant, where that was said.
fn name(kek: Option<KekId>, wish: &mut Value) {
    if let Some(kek) = kek {
        wish["kekId"] = Value::from(kek.to_string());
    }
}

/// Changes the state of one version.
pub(super) async fn state(
    client: &Client,
    output: &Output,
    (kek, mut wish): (Option<KekId>, Value),
    tenant: Option<&TenantName>,
) -> Result<(), Failure> {
    name(kek, &mut wish);
    let done = client.post("/v1/keks/state", &tenant_query(tenant), &wish).await?;
    let verb = if wish["dryRun"] == true { "would be" } else { "is" };
    let (version, state) = (&wish["version"], text(&wish, "state"));
    let mut sentence = format!("version {version} of the key {} {verb} {state}", text(&done, "kekId"));
    if wish["withoutSuccessor"] == true {
        sentence.push_str(". No version is active: nothing is taken in until `siv keys rotate` makes one");
    }
    output.sentence(&done, &sentence);
    Ok(())
}

/// Asks for the end of a tenant, or tells what it would be.
pub(super) async fn shred(
    client: &Client,
    output: &Output,
    tenant: Option<&TenantName>,
    wish: &Value,
) -> Result<(), Failure> {
    let asked = client.post("/v1/keks/shred", &tenant_query(tenant), wish).await?;
    let keks = asked["keks"].as_array().map_or(0, Vec::len);
    let extent = format!(
        "{} of keys, {} and {} of the tenant {} would be destroyed",
        plural(keks, "version"),
        plural(&asked["dataKeys"], "data key"),
        plural(&asked["values"], "value"),
        text(&asked, "tenant")
    );
    let sentence = match wish["dryRun"] == true {
        true => extent,
        false => format!("{extent}. {}", second(&asked["approval"])),
    };
    output.sentence(&asked, &sentence);
    Ok(())
}

/// Asks for the end of a version whose token is lost, or tells what it would be.
pub(super) async fn lost(
    client: &Client,
    output: &Output,
    (kek, mut wish): (Option<KekId>, Value),
    tenant: Option<&TenantName>,
) -> Result<(), Failure> {
    name(kek, &mut wish);
    Output::progress("its token is waited for first, half a minute if it is silent");
    let asked = client.post("/v1/keks/lost", &tenant_query(tenant), &wish).await?;
    let losses = asked["losses"].as_array().cloned().unwrap_or_default();
    let lines: String = losses.iter().map(|loss| format!("\n  {}", approvals::lost(loss))).collect();
    let lines = if lines.is_empty() { lines } else { format!(":{lines}") };
    let extent = format!(
        "{}. With version {} of the key {}, {} and {} of the tenant {} could be opened never again{}",
        text(&asked, "seen"),
        asked["kek"]["version"],
        text(&asked["kek"], "kekId"),
        plural(&asked["dataKeys"], "data key"),
        plural(counted(&asked), "value"),
        text(&asked, "tenant"),
        lines
    );
    let sentence = match wish["dryRun"] == true {
        true => extent,
        false => format!("{extent}\n{}", second(&asked["approval"])),
    };
    output.sentence(&asked, &sentence);
    Ok(())
}

/// What is approved, and how that was said.
pub(super) struct Approving {
    pub(super) approval: ApprovalId,
    pub(super) digest: Option<String>,
    pub(super) yes: bool,
}

/// Shows what would be approved and, on a terminal, asks. Approved is what was shown: the digest of it, unless another was named.
async fn shown(
    client: &Client,
    output: &Output,
    Approving { approval, digest, yes }: &Approving,
    tenant: Option<&TenantName>,
) -> Result<Value, Failure> {
    let listed = client.list("/v1/approvals", &tenant_query(tenant)).await?;
    let id = approval.to_string();
    let mut all = listed["data"].as_array().into_iter().flatten();
    let found = all.find(|approval| approval["approvalId"] == *id);
    if found.is_none() && digest.is_none() {
        let next = "see what is asked for with `siv keys approvals`; or say --digest, as whoever asked told it to you";
        return Err(Failure::new(format!("no request {approval} is listed, and nothing is approved unseen")).so(next));
    }
    // What the vault refuses in any case is not asked about.
    let is_meant = |found: &Value| digest.as_ref().is_none_or(|digest| found["digest"] == **digest);
    if let Some(found) = found {
        approvals::show(output, found, *yes || !is_meant(found))?;
    }
    let seen = found.and_then(|found| found["digest"].as_str());
    Ok(digest.as_deref().or(seen).map_or_else(|| json!({}), |digest| json!({ "digest": digest })))
}

/// Approves. Where that ended keys, the certificate is fetched with its proof.
pub(super) async fn approve(
    client: &Client,
    output: &Output,
    approving: Approving,
    (tenant, out): (Option<&TenantName>, Option<PathBuf>),
) -> Result<(), Failure> {
    let body = shown(client, output, &approving, tenant).await?;
    let approval = approving.approval;
    // Before anything is destroyed: whether the file can be made.
    let file = out.as_deref().map(evidence::create).transpose()?;
    let answer = client.post(&format!("/v1/approvals/{approval}"), &tenant_query(tenant), &body).await;
    let is_shredding = |given: &Value| text(given, "act") == "shred-tenant";
    let is_end = |given: &Value| is_shredding(given) || text(given, "act") == "lose-version";
    let is_ended = |given: &Value| is_end(given) && text(given, "state") == "completed";
    if let (Some(path), false) = (&out, answer.as_ref().is_ok_and(is_ended)) {
        // It holds nothing.
        let _ = std::fs::remove_file(path);
    }
    let mut given = answer.map_err(|failure| match &out {
        Some(path) => failure.noting(&format!("there is no certificate yet: {} is not written", path.display())),
        None => failure,
    })?;
    if !is_ended(&given) {
        let what = not_ended(&given, is_shredding(&given), out.as_deref());
        output.sentence(&given, &format!("approved: {what}"));
        return Ok(());
    }
    // The receipt is in the answer alone; the proof comes a second later.
    let receipt = given["certificate"]["receipt"].take();
    let of = match (is_shredding(&given), given["keks"][0].as_str()) {
        (false, Some(kek)) => Of::Version(kek.to_owned()),
        _ => Of::Tenant,
    };
    let mut proven = certificate(client, tenant, &of).await?;
    if receipt.is_string() {
        proven["receipt"] = receipt;
    }
    given["certificate"] = proven;
    if let Some((file, path)) = file.zip(out) {
        let fetched =
            "it is done; `siv keys certificate --out FILE` (of a version with `--lost`) fetches the certificate again";
        fill(file, &path, &given["certificate"]).map_err(|failure| failure.so(fetched))?;
    }
    let destroyed = &given["certificate"]["certificate"]["destroyed"];
    if let Of::Version(kek) = of {
        let (data_keys, values) = (&destroyed["dataKeys"], counted(destroyed));
        let (how, seen) = (text(&destroyed["end"], "how"), text(&destroyed["end"], "seen"));
        let sentence =
            format!("approved: {kek} is {how} ({seen}); {data_keys} data keys ended with it, and {values} values");
        output.sentence(&given, &sentence);
        return Ok(());
    }
    let ends = destroyed["ends"].as_array().cloned().unwrap_or_default();
    let ends = ends.iter().map(|end| format!("\n  {}: {}", text(end, "kek"), text(end, "how"))).collect::<String>();
    output.sentence(
        &given,
        &format!("approved: no key of the tenant is used any more, on any node. They ended so:{ends}"),
    );
    Ok(())
}

/// What was approved where no key ended with it, or not yet.
fn not_ended(given: &Value, is_shredding: bool, out: Option<&Path>) -> String {
    let (act, state) = (text(given, "act"), text(given, "state"));
    let what = match (is_shredding, state) {
        (true, _) => format!(
            "no key of the tenant is used any more, on any node. Some wait for their token ({}), and end by themselves when it \
             answers: then `siv keys certificate --out FILE` fetches the certificate. Where the token is lost for good, `siv \
             keys shred --token-lost` says so",
            given["waiting"].as_str().unwrap_or("the token does not answer")
        ),
        (_, "completed") if out.is_some() => format!("{act} is done; no certificate is made for it"),
        (_, "completed") => format!("{act} is done"),
        _ => format!("{act} can be done: who asked for it says it again, with the PIN, before it expires"),
    };
    let waits = out.filter(|_| state != "completed");
    let no_file = waits.map(|path| format!(". There is no certificate yet: {} is not written", path.display()));
    what + &no_file.unwrap_or_default()
}

/// Whose end a certificate is of.
pub(super) enum Of {
    /// The tenant's keys.
    Tenant,
    /// A value.
    Value(String),
    /// One version of a key that is lost, as `id.version`.
    Version(String),
}

impl Of {
    /// What was named; the tenant's where nothing was.
    pub(super) fn named(value: Option<String>, kek: Option<String>) -> Self {
        match (value, kek) {
            (Some(value), _) => Self::Value(value),
            (None, Some(kek)) => Self::Version(kek),
            (None, None) => Self::Tenant,
        }
    }
}

/// Fetches a certificate of destruction, with its proof.
pub(super) async fn certificate(client: &Client, tenant: Option<&TenantName>, of: &Of) -> Result<Value, Failure> {
    let mut query = tenant_query(tenant);
    match of {
        Of::Tenant => {}
        Of::Value(value) => query.push(("valueId", value.clone())),
        Of::Version(kek) => query.push(("kek", kek.clone())),
    }
    let answer = client.fetch("/v1/keks/certificate", &query).await?;
    answer.json().await.map_err(|_| Failure::new("the vault's answer is not JSON").so("check that SIV_URL names a siv"))
}

/// Prints a certificate, or writes it to a file.
pub(super) fn hand_out(output: &Output, certificate: &Value, out: Option<PathBuf>) -> Result<(), Failure> {
    let Some(path) = out else {
        output.record(certificate);
        return Ok(());
    };
    fill(evidence::create(&path)?, &path, certificate)?;
    output.sentence(certificate, &format!("the certificate is in {}", path.display()));
    Ok(())
}

/// Sets how long opened data keys may stay in memory.
pub(super) async fn cache(client: &Client, output: &Output, tenant: &TenantName, seconds: u16) -> Result<(), Failure> {
    let path = format!("/v1/tenants/{tenant}/cache");
    let done = client.post(&path, &[], &json!({ "cacheSeconds": seconds })).await?;
    let sentence = if done["approval"].is_object() {
        format!("{tenant} is strict still. {}", second(&done["approval"]))
    } else {
        format!("opened data keys of {tenant} stay in memory for {seconds} seconds at most")
    };
    output.sentence(&done, &sentence);
    Ok(())
}

/// Writes a certificate into its file.
fn fill(file: File, path: &Path, certificate: &Value) -> Result<(), Failure> {
    evidence::fill(file, path, &serde_json::to_vec_pretty(certificate).unwrap_or_default())
}
