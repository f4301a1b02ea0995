//! `siv log vkey`: the key by which everything else is checked later, kept once.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::broken;
use crate::access_log::VerifierKey;
use crate::cli::client::{Client, tenant_query};
use crate::cli::evidence;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::domain::TenantName;

/// Print the log's verifier key. Keep it where nobody at the vault can change it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  SIV_CREDENTIAL=siv_aud_… siv log vkey --out vkey\n  SIV_CREDENTIAL=siv_aud_… siv log vkey"
)]
pub(in crate::cli) struct Command {
    /// The file to keep it in. One that holds it already stays as it is; one that holds another key is an error, and stays too.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The tenant, where the credential is not of one.
    #[arg(long)]
    tenant: Option<TenantName>,
}

impl Command {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Failure> {
        let answer = client.fetch("/v1/log/vkey", &tenant_query(self.tenant.as_ref())).await?;
        let text = answer.text().await.map_err(|error| broken(&error))?;
        let vkey = text.trim();
        let Some(path) = &self.out else {
            output.sentence(&json!({ "vkey": vkey }), vkey);
            return Ok(());
        };
        let is_new = keep(path, vkey)?;
        let file = path.display().to_string();
        let told = if is_new { "the verifier key is kept in" } else { "the same verifier key is kept already in" };
        output.sentence(&json!({ "vkey": vkey, "out": file, "new": is_new }), &format!("{told} {file}: {vkey}"));
        Ok(())
    }
}

/// Keeps the key in a new file. What an auditor kept on the first day is never replaced: a vault that shows another key later
/// is what the kept one is there to notice.
fn keep(path: &Path, vkey: &str) -> Result<bool, Failure> {
    if path.exists() {
        return is_kept(path, vkey).map(|()| false);
    }
    evidence::fill(evidence::create(path)?, path, vkey.as_bytes()).map(|()| true)
}

/// A file may hold more keys: of the same log from before a loss, of others.
fn is_kept(path: &Path, vkey: &str) -> Result<(), Failure> {
    let kept = super::read(path)?;
    if kept.lines().any(|line| line.trim() == vkey) {
        return Ok(());
    }
    let why = match VerifierKey::parse_file(&kept) {
        Ok(keys) => {
            let names: Vec<&str> = keys.iter().map(VerifierKey::name).collect();
            format!("it holds that of {}", names.join(", "))
        }
        Err(_) => "it holds no verifier key".to_owned(),
    };
    let next = "for another log name another file; where it was kept for this one and nobody announced another key, do not rely on \
                this vault, and ask its operators";
    let what = format!("{} is there already, and the key that this vault shows is not in it", path.display());
    Err(Failure::new(what).because(why).so(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: &str, byte: u8) -> String {
        VerifierKey::new(of, [byte; 32]).unwrap().to_string()
    }

    #[test]
    fn a_key_that_was_kept_is_never_replaced() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("vkey");
        let kept = key("siv/x/acme", 1);
        assert!(keep(&path, &kept).unwrap());
        assert!(!keep(&path, &kept).unwrap(), "the same once more");
        let other = keep(&path, &key("siv/x/acme", 2)).unwrap_err().to_string();
        assert!(other.contains("is not in it") && other.contains("it holds that of siv/x/acme"), "{other}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{kept}\n"));
    }

    #[test]
    fn a_file_may_hold_the_keys_of_a_log_before_and_after_a_loss() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("vkey");
        let both = [key("siv/x/acme", 1), key("siv/x/acme/2", 2)];
        std::fs::write(&path, both.join("\n")).unwrap();
        assert!(both.iter().all(|one| matches!(keep(&path, one), Ok(false))));
        std::fs::write(&path, "notes").unwrap();
        assert!(keep(&path, &both[0]).unwrap_err().to_string().contains("no verifier key"));
    }
}
