//! `siv tenant`: customer organisations.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::domain::TenantName;

use super::client::Client;
use super::failure::Failure;
use super::hsm_arguments::{KeyProvider, Token};
use super::output::Output;

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a tenant with keys of its own.
    #[command(
        after_help = "Examples:\n  siv tenant create acme --cache-seconds 60\n  siv tenant create acme --key-provider hsm \\\n      \
        --module /opt/vendor/lib/pkcs11.so --token acme --pin-file pin"
    )]
    Create {
        /// Its name: lower-case letters, digits and hyphens.
        name: TenantName,
        /// Where its keys live.
        #[arg(long, value_enum, default_value_t = KeyProvider::Local)]
        key_provider: KeyProvider,
        #[command(flatten)]
        token: Token,
        /// How long an opened data key may stay in memory: 0 to 300 seconds. With 0 every reading asks the key provider.
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(0..=300))]
        cache_seconds: u16,
        /// Allow flows that reveal a value to their caller.
        #[arg(long)]
        reveal: bool,
    },
    /// Take back that PINs were refused at a token, so that another may be tried before a day is over.
    ///
    /// For an operator of the installation. Make sure of the PIN at the token itself first: a token counts wrong ones too, and locks.
    #[command(
        after_help = "Examples:\n  siv tenant forget-pins --serial 0123456789abcdef --tenant acme\n  siv tenant forget-pins --serial 0123456789abcdef"
    )]
    ForgetPins {
        /// The token's serial number, as the refusal names it.
        #[arg(long)]
        serial: String,
        /// The tenant whose custodian brought them; without it, those that were brought to make a tenant.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// List tenants.
    #[command(after_help = "Example:\n  siv tenant list --json")]
    List,
}

impl Command {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Create { name, key_provider, token, cache_seconds, reveal } => {
                let hsm = token.members(Some(key_provider))?;
                let provider = if key_provider == KeyProvider::Hsm { "hsm" } else { "local" };
                let body = json!({
                    "name": name, "keyProvider": provider, "cacheSeconds": cache_seconds, "reveal": reveal, "hsm": hsm,
                });
                output.record(&client.post("/v1/tenants", &[], &body).await?);
            }
            Self::ForgetPins { serial, tenant } => {
                let body = json!({ "serial": serial, "tenant": tenant });
                let done = client.post("/v1/pin-guesses/forget", &[], &body).await?;
                let sentence = format!(
                    "{} PINs that were refused at the token {serial} count no more; siv tries {} now. The token has a count of its own",
                    done["forgotten"], done["left"]
                );
                output.sentence(&done, &sentence);
            }
            Self::List => {
                let mut tenants = client.list("/v1/tenants", &[]).await?;
                if !output.is_json() {
                    tenants["data"].as_array_mut().into_iter().flatten().for_each(name_state);
                }
                output.table(&tenants, &["name", "keyProvider", "reveal", "cacheSeconds", "state", "createdAt"]);
            }
        }
        Ok(())
    }
}

/// For a person: sealed by its custodian, or ended for good.
fn name_state(tenant: &mut Value) {
    let is = |member: &str| tenant[member] == true;
    tenant["state"] = Value::from(match (is("shredded"), is("sealed")) {
        (true, _) => "shredded",
        (_, true) => "sealed",
        _ => "open",
    });
}
