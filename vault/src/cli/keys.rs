//! `siv keys`: a tenant's key-encryption keys, and the switch that stops all use of them.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::domain::{ApprovalId, KekId, TenantName};
use crate::keys::KekState;

use super::approvals;
use super::client::{Client, tenant_query};
use super::custody::{self, Approving};
use super::failure::Failure;
use super::hsm_arguments::{KeyProvider, Token};
use super::output::Output;
use super::rewrap;
use super::seal::Switching;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the tenant's key-encryption keys and their states.
    #[command(after_help = "Example:\n  SIV_CREDENTIAL=siv_cus_… siv keys list")]
    List {
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// The same: a list changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make a new version of the tenant's key active; the old one still unwraps. To leave a customer's token takes a second custodian.
    #[command(
        after_help = "Examples:\n  SIV_CREDENTIAL=siv_cus_… siv keys rotate\n  SIV_CREDENTIAL=siv_cus_… siv keys rewrap\n  \
        SIV_CREDENTIAL=siv_cus_… siv keys rotate --key-provider hsm \\\n      --module /opt/vendor/lib/pkcs11.so --token acme --pin-file pin"
    )]
    Rotate {
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// Only tell which version would be made; a token that is named is logged in to once, and nothing is made in it.
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
        /// So many data keys a second at most, so that others who need the key provider are not kept.
        #[arg(long, value_name = "N")]
        per_second: Option<NonZeroU32>,
    },
    /// Change the state of one version: active, deactivated, compromised or destroyed.
    #[command(
        after_help = "Examples:\n  SIV_CREDENTIAL=siv_cus_… siv keys state 1 destroyed --dry-run\n  SIV_CREDENTIAL=siv_cus_… siv keys state 2 compromised"
    )]
    State {
        /// The version, as `siv keys list` shows it.
        version: u32,
        /// What it shall be.
        state: KekState,
        /// With `compromised`, where the active version lies in a token that does not answer: make no successor first. The
        /// tenant takes nothing in until a rotation.
        #[arg(long)]
        without_successor: bool,
        /// The key, where the tenant has several.
        #[arg(long)]
        kek: Option<KekId>,
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// Only tell whether it could be.
        #[arg(long)]
        dry_run: bool,
    },
    /// Ask for the end of the tenant: every key is destroyed once a second custodian approves.
    #[command(
        after_help = "Examples:\n  SIV_CREDENTIAL=siv_cus_… siv keys shred --dry-run\n  SIV_CREDENTIAL=siv_cus_… siv keys shred --tenant acme"
    )]
    Shred {
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// State that the tenant's token is lost: a key in it counts as ended by your word, if the token does not answer.
        #[arg(long)]
        token_lost: bool,
        /// Only tell what would be destroyed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Ask for the end of one version whose token is lost: what only it opens ends with it once a second custodian approves.
    ///
    /// The token is waited for first: one that answers is not lost. The tenant goes on with its active version.
    #[command(
        after_help = "Examples:\n  SIV_CREDENTIAL=siv_cus_… siv keys lost 1 --dry-run\n  SIV_CREDENTIAL=siv_cus_… siv keys lost 1"
    )]
    Lost {
        /// The version, as `siv keys list` shows it.
        version: u32,
        /// The key, where the tenant has several.
        #[arg(long)]
        kek: Option<KekId>,
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// Only tell what would become unopenable.
        #[arg(long)]
        dry_run: bool,
    },
    /// Approve what another custodian asked for, as the second person. It is done at once.
    ///
    /// What is approved is shown first, on standard error; on a terminal you are asked whether you want it.
    #[command(
        after_help = "Examples:\n  SIV_CREDENTIAL=siv_cus_… siv keys approve 01a2146f-d512-7f7b-8eec-658cb376cb51\n  \
        SIV_CREDENTIAL=siv_cus_… siv keys approve 01a2146f-d512-7f7b-8eec-658cb376cb51 --yes \\\n      --out certificate.json"
    )]
    Approve {
        /// The approval's id, as `siv keys approvals` shows it.
        approval: ApprovalId,
        /// The act's digest, as the first custodian was told it: another act is refused. Without it, that of the act that is shown.
        #[arg(long)]
        digest: Option<String>,
        /// Do not ask on a terminal.
        #[arg(long)]
        yes: bool,
        /// Where the certificate of destruction goes, with its proof; it must not exist.
        #[arg(long)]
        out: Option<PathBuf>,
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Show what was asked for, what became of it, and what to run next.
    #[command(after_help = "Example:\n  SIV_CREDENTIAL=siv_cus_… siv keys approvals")]
    Approvals {
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Take back what was asked for and is not done yet: your own request, or another custodian's.
    #[command(
        after_help = "Example:\n  SIV_CREDENTIAL=siv_cus_… siv keys withdraw 01a2146f-d512-7f7b-8eec-658cb376cb51"
    )]
    Withdraw {
        /// The request's id, as `siv keys approvals` shows it.
        approval: ApprovalId,
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Fetch the certificate of the tenant's destruction, of a deleted value's, or of a version that is lost.
    #[command(
        after_help = "Examples:\n  SIV_CREDENTIAL=siv_cus_… siv keys certificate --value 01a2146f-d4f5-7bf4-a949-55757b467b2e \\\n      --out certificate.json\n  \
        SIV_CREDENTIAL=siv_cus_… siv keys certificate --lost 01a2146f-03b7-7be0-9a4f-1c5d0c9f2b11.1 \\\n      --out certificate.json"
    )]
    Certificate {
        /// A value that was deleted.
        // A text: what is no id is told without being repeated, since it may be a key.
        #[arg(long, value_name = "ID")]
        value: Option<String>,
        /// A version that was stated to be lost, as `id.version`.
        #[arg(long, value_name = "ID.VERSION", conflicts_with = "value")]
        lost: Option<String>,
        /// Where it goes; it must not exist.
        #[arg(long)]
        out: Option<PathBuf>,
        /// The tenant, where the credential is not of one.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Set how long opened data keys may stay in memory, 0 to 300 seconds. To leave 0 takes a second custodian.
    #[command(after_help = "Example:\n  SIV_CREDENTIAL=siv_cus_… siv keys cache 0")]
    Cache {
        /// Seconds; 0 lets every reading ask the key provider.
        seconds: u16,
        /// The tenant; the credential's own where none is named.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Stop every capture and every opening of the tenant's values, until unsealed.
    #[command(
        after_help = "Examples:\n  SIV_CREDENTIAL=siv_cus_… siv keys seal --dry-run\n  SIV_CREDENTIAL=siv_cus_… siv keys seal"
    )]
    Seal(Switching),
    /// End a seal.
    #[command(after_help = "Example:\n  SIV_CREDENTIAL=siv_cus_… siv keys unseal")]
    Unseal(Switching),
}

impl Command {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Failure> {
        match self {
            Self::List { tenant, dry_run: _ } => {
                list(output, client.list("/v1/keks", &tenant_query(tenant.as_ref())).await?);
            }
            Self::Rotate { tenant, dry_run, key_provider, token } => {
                let query = tenant_query(tenant.as_ref());
                let hsm = token.members(key_provider)?;
                let provider = key_provider.map(|provider| if provider == KeyProvider::Hsm { "hsm" } else { "local" });
                let wish = json!({ "dryRun": dry_run, "keyProvider": provider, "hsm": hsm });
                custody::rotate(client, output, &query, &wish).await?;
            }
            Self::Rewrap { tenant, dry_run, per_second } => {
                let query = tenant_query(tenant.as_ref());
                rewrap::run(client, output, &query, (dry_run, per_second)).await?;
            }
            Self::State { version, state, without_successor, kek, tenant, dry_run } => {
                let mut wish = json!({ "version": version, "state": state, "dryRun": dry_run });
                wish["withoutSuccessor"] = Value::from(without_successor);
                custody::state(client, output, (kek, wish), tenant.as_ref()).await?;
            }
            Self::Shred { tenant, token_lost, dry_run } => {
                let wish = json!({ "dryRun": dry_run, "tokenLost": token_lost });
                custody::shred(client, output, tenant.as_ref(), &wish).await?;
            }
            Self::Lost { version, kek, tenant, dry_run } => {
                custody::lost(client, output, (kek, json!({ "version": version, "dryRun": dry_run })), tenant.as_ref())
                    .await?;
            }
            Self::Approve { approval, digest, yes, out, tenant } => {
                let approving = Approving { approval, digest, yes };
                custody::approve(client, output, approving, (tenant.as_ref(), out)).await?;
            }
            Self::Approvals { tenant } => {
                approvals::list(output, &client.list("/v1/approvals", &tenant_query(tenant.as_ref())).await?);
            }
            Self::Withdraw { approval, tenant } => {
                approvals::withdraw(client, output, approval, tenant.as_ref()).await?;
            }
            Self::Certificate { value, lost, out, tenant } => {
                let of = custody::Of::named(value, lost);
                let certificate = custody::certificate(client, tenant.as_ref(), &of).await?;
                custody::hand_out(output, &certificate, out)?;
            }
            Self::Cache { seconds, tenant } => {
                let tenant = meant(client, tenant).await?;
                custody::cache(client, output, &tenant, seconds).await?;
            }
            Self::Seal(switching) => switching.run(client, output, true).await?,
            Self::Unseal(switching) => switching.run(client, output, false).await?,
        }
        Ok(())
    }
}

/// A tenant's keys; that it is sealed stands beside each, since every key then serves nobody.
fn list(output: &Output, mut keks: Value) {
    let lines = keks["data"].as_array_mut().into_iter().flatten();
    let sealed = lines.filter(|kek| kek["sealed"] == true).fold(None, |_, kek| {
        let tenant = kek["tenant"].as_str().unwrap_or_default().to_owned();
        if !output.is_json() {
            kek["tenant"] = Value::from(format!("{tenant} (sealed)"));
        }
        Some(tenant)
    });
    if !output.is_json() {
        keks["data"].as_array_mut().into_iter().flatten().for_each(|kek| kek["tokenAnswers"] = answers(kek));
    }
    let place = ["tenant", "kekId", "version", "state", "dataKeysLeft", "keyProvider", "token", "serial", "label"];
    output.table(&keks, &[&place[..], &["tokenAnswers", "mechanism", "createdAt"]].concat());
    if let Some(tenant) = sealed.filter(|_| !output.is_json()) {
        Output::progress(&format!(
            "tenant {tenant} is sealed: nothing is captured or opened; `siv keys unseal` ends that, unless its keys are destroyed"
        ));
    }
}

/// Whether a version's token answers, in a word, and what is wrong with its key there; none where nobody asks a token.
fn answers(kek: &Value) -> Value {
    let is_asked = kek["keyProvider"] == "hsm" && !matches!(kek["state"].as_str(), Some("destroyed" | "lost"));
    let answers = match kek["tokenAnswers"].as_bool() {
        Some(true) => "yes",
        Some(false) => "no",
        None if is_asked => "not known",
        None => "",
    };
    // Such a token serves nobody with this version.
    Value::from(match kek["keyFault"].as_str() {
        Some(fault) => format!("{answers}, key {fault}"),
        None => answers.to_owned(),
    })
}

/// The tenant that is meant: the one named, or the one the credential belongs to, as its keys say.
pub(super) async fn meant(client: &Client, named: Option<TenantName>) -> Result<TenantName, Failure> {
    if let Some(named) = named {
        return Ok(named);
    }
    let keks = client.list("/v1/keks", &[]).await?;
    let own = keks.pointer("/data/0/tenant").and_then(Value::as_str).and_then(|name| name.parse().ok());
    own.ok_or_else(|| {
        Failure::new("the vault does not say whose credential this is").so("name the tenant with --tenant")
    })
}
