//! `siv keys seal` and `siv keys unseal`: the switch that stops all use of a tenant's values.

use clap::Args;
use serde_json::{Value, json};

use crate::domain::TenantName;

use super::client::Client;
use super::failure::Failure;
use super::keys::meant;
use super::output::Output;

/// Which tenant, and whether it is only asked.
#[derive(Debug, Args)]
pub(super) struct Switching {
    /// The tenant; the credential's own where none is named.
    #[arg(long)]
    tenant: Option<TenantName>,
    /// Only tell whether the tenant is sealed now, and what would change.
    #[arg(long)]
    dry_run: bool,
}

impl Switching {
    /// Seals, or unseals.
    pub(super) async fn run(self, client: &Client, output: &Output, seal: bool) -> Result<(), Failure> {
        let tenant = meant(client, self.tenant).await?;
        let verb = if seal { "seal" } else { "unseal" };
        let path = format!("/v1/tenants/{tenant}/{verb}");
        let answer = client.post(&path, &[], &json!({ "dryRun": self.dry_run })).await?;
        output.sentence(&answer, &format!("tenant {tenant} {}", said(&answer, seal)));
        Ok(())
    }
}

/// What became of a tenant, or would.
fn said(answer: &Value, seal: bool) -> &'static str {
    match (answer["dryRun"] == true, answer["wouldChange"] == true, seal) {
        (false, _, true) => "is sealed: nothing is captured or opened",
        (false, _, false) => "is unsealed",
        (true, true, true) => "is open now. It would be sealed: nothing would be captured or opened",
        (true, false, true) => "is sealed already, and would stay so",
        (true, true, false) => "is sealed now. It would be unsealed: its values could be captured and opened again",
        (true, false, false) => "is open already, and would stay so",
    }
}
