//! `siv destination`: the secrets of hosts that flows send to. They go in and never come out.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::domain::{DestinationName, TenantName};

use super::client::{Client, tenant_query};
use super::failure::Failure;
use super::output::Output;

/// What to do with destinations.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set a secret of a destination. Nobody can read it back; flows use it only towards that host.
    #[command(
        after_help = "Example:\n  siv destination set acquirer --host acquirer.example --secret apiKey --from-file key.txt"
    )]
    Set {
        /// Its name, as flows write it: {{ destination.NAME.SECRET }}.
        name: DestinationName,
        /// The host it belongs to, with the port if it is not 443.
        #[arg(long)]
        host: String,
        /// The secret's name.
        #[arg(long)]
        secret: String,
        /// The file that holds the secret; a line end at its end is left out.
        #[arg(long)]
        from_file: PathBuf,
        /// The tenant, where the credential is the installation's operator's.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// List destinations: their hosts and the names of their secrets, never a secret.
    #[command(after_help = "Example:\n  siv destination list --tenant acme")]
    List {
        /// The tenant, where the credential is the installation's operator's.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
}

impl Command {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Failure> {
        let (name, host, secret, from_file, tenant) = match self {
            Self::Set { name, host, secret, from_file, tenant } => (name, host, secret, from_file, tenant),
            Self::List { tenant } => {
                let there = client.list("/v1/destinations", &tenant_query(tenant.as_ref())).await?;
                output.table(&there, &["name", "version", "host", "secrets"]);
                output.hint_at_tenant(&there, tenant.as_ref());
                return Ok(());
            }
        };
        let text = std::fs::read_to_string(&from_file)
            .map_err(|error| Failure::new(format!("{} cannot be read", from_file.display())).because(error))?;
        let text = Zeroizing::new(text);
        let secrets = Map::from_iter([(secret, Value::from(text.trim_end_matches(['\r', '\n'])))]);
        let path = format!("/v1/destinations/{name}");
        let body = json!({ "host": host, "secrets": secrets });
        let answer = client.put(&path, &tenant_query(tenant.as_ref()), &body).await?;
        output.sentence(&answer, &format!("destination {name} is set for {host}"));
        Ok(())
    }
}
