//! `siv keys`: a tenant's key-encryption keys, and the switch that stops all use of them.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::domain::TenantName;

use super::client::{Client, tenant_query};
use super::failure::Failure;
use super::hsm_arguments::{KeyProvider, Token};
use super::output::Output;

/// So often a long rewrap is asked how far it is.
const LOOK: Duration = Duration::from_secs(2);

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the tenant's key-encryption keys and their states.
    #[command(after_help = "Example:\n  SIV_CREDENTIAL=siv_cus_… siv keys list")]
    List {
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Make a new version of the tenant's key active; the old one still unwraps.
    #[command(
        after_help = "Examples:\n  SIV_CREDENTIAL=siv_cus_… siv keys rotate\n  SIV_CREDENTIAL=siv_cus_… siv keys rewrap\n  \
        SIV_CREDENTIAL=siv_cus_… siv keys rotate --key-provider hsm --module /opt/vendor/lib/pkcs11.so --token acme --pin-file pin"
    )]
    Rotate {
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// Only tell which version would be made.
        #[arg(long)]
        dry_run: bool,
        /// Where the new version lives, if not where the present one does; a rewrap then takes the data keys along.
        #[arg(long, value_enum)]
        key_provider: Option<KeyProvider>,
        #[command(flatten)]
        token: Token,
    },
    /// Wrap the tenant's data keys under the active version, so that older ones are no longer needed.
    #[command(
        after_help = "Examples:\n  SIV_CREDENTIAL=siv_cus_… siv keys rewrap --dry-run\n  SIV_CREDENTIAL=siv_cus_… siv keys rewrap"
    )]
    Rewrap {
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// Only count what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop every capture and every opening of the tenant's values, until unsealed.
    #[command(after_help = "Example:\n  SIV_CREDENTIAL=siv_cus_… siv keys seal")]
    Seal {
        /// The tenant; the credential's own where none is named.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// End a seal.
    #[command(after_help = "Example:\n  SIV_CREDENTIAL=siv_cus_… siv keys unseal")]
    Unseal {
        /// The tenant; the credential's own where none is named.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
}

impl Command {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Failure> {
        match self {
            Self::List { tenant } => {
                let keks = client.list("/v1/keks", &tenant_query(tenant.as_ref())).await?;
                output.table(&keks, &["kekId", "version", "mechanism", "state", "createdAt"]);
            }
            Self::Rotate { tenant, dry_run, key_provider, token } => {
                let query = tenant_query(tenant.as_ref());
                let hsm = token.members(key_provider)?;
                let provider = key_provider.map(|provider| if provider == KeyProvider::Hsm { "hsm" } else { "local" });
                let wish = json!({ "dryRun": dry_run, "keyProvider": provider, "hsm": hsm });
                let kek = client.post("/v1/keks/rotate", &query, &wish).await?;
                let verb = if dry_run { "would be" } else { "is" };
                let id = kek["kekId"].as_str().unwrap_or("-");
                output.sentence(&kek, &format!("version {} of the key {id} {verb} active", kek["version"]));
            }
            Self::Rewrap { tenant, dry_run } => {
                let query = tenant_query(tenant.as_ref());
                let done = rewrap(client, &query, dry_run).await?;
                let verb = if dry_run { "would be" } else { "are" };
                let text = format!(
                    "{} data keys {verb} wrapped anew, {} were under the active version, {} are erased, {} still \
                     name another version",
                    done["moved"], done["kept"], done["erased"], done["left"]
                );
                output.sentence(&done, &text);
            }
            Self::Seal { tenant } => {
                let tenant = meant(client, tenant).await?;
                let answer = client.post(&format!("/v1/tenants/{tenant}/seal"), &[], &json!({})).await?;
                output.sentence(&answer, &format!("tenant {tenant} is sealed: nothing is captured or opened"));
            }
            Self::Unseal { tenant } => {
                let tenant = meant(client, tenant).await?;
                let answer = client.post(&format!("/v1/tenants/{tenant}/unseal"), &[], &json!({})).await?;
                output.sentence(&answer, &format!("tenant {tenant} is unsealed"));
            }
        }
        Ok(())
    }
}

/// The tenant that is meant: the one named, or the one the credential belongs to, as its keys say.
async fn meant(client: &Client, named: Option<TenantName>) -> Result<TenantName, Failure> {
    if let Some(named) = named {
        return Ok(named);
    }
    let keks = client.list("/v1/keks", &[]).await?;
    let own = keks.pointer("/data/0/tenant").and_then(Value::as_str).and_then(|name| name.parse().ok());
    own.ok_or_else(|| {
        Failure::new("the vault does not say whose credential this is").so("name the tenant with --tenant")
    })
}

/// Rewraps. While it takes long, a second request that only counts tells how far it is.
async fn rewrap(client: &Client, query: &[(&str, String)], dry_run: bool) -> Result<Value, Failure> {
    let (wish, count) = (json!({ "dryRun": dry_run }), json!({ "dryRun": true }));
    let mut done = std::pin::pin!(client.post("/v1/keks/rewrap", query, &wish));
    let progress = Progress::new();
    loop {
        tokio::select! {
            done = &mut done => {
                progress.end();
                return done;
            }
            () = tokio::time::sleep(LOOK), if !dry_run => {}
        }
        // What cannot be counted now is counted next time; the rewrap itself says whether it failed.
        tokio::select! {
            done = &mut done => {
                progress.end();
                return done;
            }
            counted = client.post("/v1/keks/rewrap", query, &count) => if let Ok(counted) = counted {
                progress.tell(&counted);
            },
        }
    }
}

/// How far a rewrap is: a bar on a terminal, else lines; both beside the result, on standard error.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} data keys") {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn tell(&self, counted: &Value) {
        let count = |name: &str| counted.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (kept, all) = (count("kept"), count("kept") + count("moved"));
        if std::io::stderr().is_terminal() {
            self.0.set_length(all);
            self.0.set_position(kept);
        } else {
            Output::progress(&format!("{kept} of {all} data keys are under the active version"));
        }
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}
