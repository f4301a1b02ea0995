//! `siv keys`: a tenant's key-encryption keys, and the switch that stops all use of them.

use clap::Subcommand;
use serde_json::json;

use crate::domain::TenantName;

use super::client::{Client, tenant_query};
use super::failure::Failure;
use super::output::Output;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the tenant's key-encryption keys and their states.
    List {
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Make a new version of the tenant's key active; the old one still unwraps.
    #[command(
        after_help = "Example:\n  SIV_CREDENTIAL=siv_cus_… siv keys rotate\n  SIV_CREDENTIAL=siv_cus_… siv keys rewrap"
    )]
    Rotate {
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Wrap the tenant's data keys under the active version, so that older ones are no longer needed.
    Rewrap {
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// Only count what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop every capture and every opening of the tenant's values, until unsealed.
    #[command(after_help = "Example:\n  SIV_CREDENTIAL=siv_cus_… siv keys seal --tenant acme")]
    Seal {
        /// The tenant.
        #[arg(long)]
        tenant: TenantName,
    },
    /// End a seal.
    Unseal {
        /// The tenant.
        #[arg(long)]
        tenant: TenantName,
    },
}

impl Command {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Failure> {
        match self {
            Self::List { tenant } => {
                let keks = client.get("/v1/keks", &tenant_query(tenant.as_ref())).await?;
                output.table(&keks, &["kekId", "version", "mechanism", "state", "createdAt"]);
            }
            Self::Rotate { tenant } => {
                let kek = client.post("/v1/keks/rotate", &tenant_query(tenant.as_ref()), &json!({})).await?;
                output.sentence(
                    &kek,
                    &format!(
                        "version {} of the key {} is active",
                        kek["version"],
                        kek["kekId"].as_str().unwrap_or("-")
                    ),
                );
            }
            Self::Rewrap { tenant, dry_run } => {
                let query = tenant_query(tenant.as_ref());
                let done = client.post("/v1/keks/rewrap", &query, &json!({ "dryRun": dry_run })).await?;
                let verb = if dry_run { "would be" } else { "are" };
                let text = format!(
                    "{} data keys {verb} wrapped anew, {} were under the active version, {} are erased, {} still \
                     name another version",
                    done["moved"], done["kept"], done["erased"], done["left"]
                );
                output.sentence(&done, &text);
            }
            Self::Seal { tenant } => {
                let answer = client.post(&format!("/v1/tenants/{tenant}/seal"), &[], &json!({})).await?;
                output.sentence(&answer, &format!("tenant {tenant} is sealed: nothing is captured or opened"));
            }
            Self::Unseal { tenant } => {
                let answer = client.post(&format!("/v1/tenants/{tenant}/unseal"), &[], &json!({})).await?;
                output.sentence(&answer, &format!("tenant {tenant} is unsealed"));
            }
        }
        Ok(())
    }
}
