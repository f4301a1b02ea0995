//! `siv log`: reading the access log, taking it home and checking it there.

mod certificate;
mod entries;
mod folder;
mod vkey;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::access_log::bundle;
use crate::access_log::{Checkpoint, Note, VerifierKey};
use crate::config::Environment;
use crate::domain::TenantName;
use crate::http::PENDING;

use super::client::{Client, tenant_query};
use super::failure::Failure;
use super::output::Output;

use folder::{Folder, Landing};

/// What to do with the access log.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Entries(entries::Command),
    /// Write the log as a bundle that can be checked without the vault.
    #[command(after_help = "Example:\n  SIV_CREDENTIAL=siv_aud_… siv log export --out bundle")]
    Export {
        /// The folder to make, or an empty one.
        #[arg(long)]
        out: PathBuf,
        /// Entries from this time on (RFC 3339, like 2026-11-26T00:00:00Z), or from this index on. Whole tiles of 256 entries
        /// are written: some from before, and from after `--to`, come along, with what is known of persons.
        #[arg(long)]
        from: Option<String>,
        /// Entries before this time, or this index.
        #[arg(long)]
        to: Option<String>,
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Check a bundle. Needs no server, no database and no network; succeeds only if everything holds.
    #[command(after_help = "Example:\n  siv log verify bundle --vkey vkey --since checkpoint-of-last-month")]
    Verify {
        /// The bundle's folder.
        dir: PathBuf,
        /// A file with the log's verifier key, from a place you trust (not from the bundle).
        #[arg(long)]
        vkey: PathBuf,
        /// A checkpoint you kept: the bundle must go on from it.
        #[arg(long)]
        since: Option<PathBuf>,
    },
    VerifyCertificate(certificate::Command),
    Vkey(vkey::Command),
}

impl Command {
    pub(super) async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Entries(command) => command.run(&Client::from_environment(environment)?, output).await,
            Self::VerifyCertificate(command) => command.run(output),
            Self::Export { out, from, to, tenant } => {
                let mut query = tenant_query(tenant.as_ref());
                query.extend(from.map(|from| ("from", from)));
                query.extend(to.map(|to| ("to", to)));
                let pending = export(&Client::from_environment(environment)?, &query, &out).await?;
                let text =
                    format!("the bundle is in {}; check it with `siv log verify`{}", out.display(), later(pending));
                output.sentence(&json!({ "out": out.display().to_string(), "pending": pending }), &text);
                Ok(())
            }
            Self::Verify { dir, vkey, since } => verify(&dir, &vkey, since.as_deref(), output),
            Self::Vkey(command) => command.run(&Client::from_environment(environment)?, output).await,
        }
    }
}

/// That a bundle ends before now, where entries waited for integration when it was made.
fn later(pending: u64) -> String {
    match pending {
        0 => String::new(),
        1 => ". It ends before now: 1 entry waited for its index, and comes with a later export".to_owned(),
        more => format!(". It ends before now: {more} entries waited for their index, and come with a later export"),
    }
}

/// Fetches the bundle as a tar into its folder and unpacks it there: all of it, or nothing is left. How many entries waited meanwhile.
async fn export(client: &Client, query: &[(&str, String)], out: &Path) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("{} cannot be written", out.display())).because(error);
    let landing = Landing::make(out).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new(format!("{} exists already", out.display())).so("name a folder that does not, or an empty one")
        }
        _ => failed(error),
    })?;
    let mut answer = client.fetch("/v1/log/export", query).await?;
    let pending = answer.headers().get(PENDING).and_then(|count| count.to_str().ok()?.parse().ok()).unwrap_or(0);
    let mut file = tokio::fs::File::from_std(landing.tar().map_err(failed)?);
    while let Some(chunk) = answer.chunk().await.map_err(|error| broken(&error))? {
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    drop(file);
    landing.unpack().map_err(|error| {
        Failure::new(format!("the bundle cannot be unpacked into {}", out.display())).because(error)
    })?;
    Ok(pending)
}

fn broken(error: &reqwest::Error) -> Failure {
    let why = if error.is_timeout() { "no answer in time" } else { "the connection ended early" };
    Failure::new("the vault's answer could not be read").because(why).so("try again")
}

fn verify(dir: &Path, vkey: &Path, since: Option<&Path>, output: &Output) -> Result<(), Failure> {
    if !dir.is_dir() {
        return Err(Failure::new(format!("{} is no folder", dir.display())).so("name one that `siv log export` filled"));
    }
    apart(vkey, dir)?;
    let trusted = trusted(vkey)?;
    let since = since.map(older).transpose()?;
    let report = bundle::verify(&Folder::new(dir), &trusted, since.as_deref()).map_err(|fault| {
        let next = if fault.is_of_another_log() {
            "give the keys (`siv log vkey`) and the older checkpoint of the log that this bundle is of; where they are, do not rely on it"
        } else {
            "do not rely on this bundle. If it is older than the checkpoint of --since, name an older checkpoint; else export again, and if it still fails, treat the log as altered"
        };
        Failure::new(format!("{} does not hold", dir.display())).because(crate::domain::chain(&fault)).so(next)
    })?;
    output.record(&summary(&report));
    Ok(())
}

/// Whoever could forge a bundle would put the key of their own beside it: one from there proves nothing.
fn apart(vkey: &Path, dir: &Path) -> Result<(), Failure> {
    let folder = vkey.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let inside =
        |path: &Path| path.canonicalize().is_ok_and(|path| dir.canonicalize().is_ok_and(|dir| path.starts_with(dir)));
    // Where it is named, and where a link of that name leads.
    if !inside(vkey) && !inside(folder) {
        return Ok(());
    }
    Err(Failure::new(format!("{} lies in the bundle that it is to check", vkey.display()))
        .because("whoever made a false bundle puts a key into it that fits: nothing would be proved")
        .so("name the verifier key that you kept elsewhere on the first day (siv log vkey --out FILE)"))
}

/// An older checkpoint; what is none says nothing of the bundle.
fn older(path: &Path) -> Result<String, Failure> {
    let next = "--since names the file of a checkpoint that you kept, such as `checkpoint` in an older bundle; it takes no time: \
                `siv log export --from 2026-11-01T00:00:00Z` does";
    let text = read(path).map_err(|failure| failure.so(next))?;
    let none = |error| Failure::new(format!("{} holds no checkpoint", path.display())).because(error).so(next);
    let note = Note::parse(&text).map_err(none)?;
    Checkpoint::parse_text(note.unverified_text()).map_err(none)?;
    Ok(text)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("{} cannot be read", path.display())).because(error))
}

/// The keys in a file of verifier keys.
fn trusted(vkey: &Path) -> Result<Vec<VerifierKey>, Failure> {
    let next = "name the file that `siv log vkey` filled on the first day: one line, siv/…+…+…";
    let text = read(vkey).map_err(|failure| failure.so(next))?;
    VerifierKey::parse_file(&text)
        .map_err(|error| Failure::new(format!("{} holds no verifier key", vkey.display())).because(error).so(next))
}

fn summary(report: &bundle::Report) -> Value {
    json!({
        "holds": true,
        "origin": report.checkpoint.origin.to_string(),
        "size": report.checkpoint.size,
        "from": report.range.from,
        "to": report.range.to,
        "openings": report.openings,
        "withoutOpening": report.without_opening,
        "outOfReach": report.out_of_reach,
        "since": report.since.as_ref().map(|checkpoint| checkpoint.size),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_key_out_of_the_bundle_proves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let bundle = place("bundle");
        std::fs::create_dir_all(bundle.join("tile")).unwrap();
        for name in ["bundle/vkey", "bundle/tile/vkey", "kept", "bundle-vkey"] {
            std::fs::write(place(name), "key").unwrap();
        }
        std::os::unix::fs::symlink(place("bundle/vkey"), place("link")).unwrap();
        std::os::unix::fs::symlink(place("kept"), bundle.join("link")).unwrap();
        for inside in ["bundle/vkey", "bundle/tile/vkey", "bundle/tile/../vkey", "link", "bundle/link"] {
            let refused = apart(&place(inside), &bundle).unwrap_err().to_string();
            assert!(refused.contains("lies in the bundle") && refused.contains("siv log vkey"), "{inside}: {refused}");
        }
        for outside in ["kept", "bundle-vkey", "absent", "bundle/../kept"] {
            assert!(apart(&place(outside), &bundle).is_ok(), "{outside}");
        }
    }
}
