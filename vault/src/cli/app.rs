//! `siv app`: documents of web properties.

use std::path::PathBuf;

use clap::Subcommand;

use crate::domain::{AppDocument, TenantName};

use super::client::{Client, tenant_query};
use super::failure::Failure;
use super::flow::read_document;
use super::output::Output;

/// What to do with apps.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make or change the app a document describes.
    #[command(after_help = "Example:\n  siv app apply demo-shop.toml --tenant acme")]
    Apply {
        /// The document (TOML).
        file: PathBuf,
        /// The tenant, where the credential is the installation's operator's.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// List apps.
    #[command(after_help = "Example:\n  siv app list --tenant acme")]
    List {
        /// The tenant, where the credential is the installation's operator's.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
}

impl Command {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Apply { file, tenant } => {
                let text = read_document(&file)?;
                let document = AppDocument::from_toml(&text).map_err(|error| {
                    Failure::new(format!("{} is not an app's document", file.display())).because(error)
                })?;
                let path = format!("/v1/apps/{}", document.name);
                output.record(&client.put_toml(&path, &tenant_query(tenant.as_ref()), text).await?);
            }
            Self::List { tenant } => {
                let apps = client.list("/v1/apps", &tenant_query(tenant.as_ref())).await?;
                output.table(&apps, &["name", "version", "origins", "fields"]);
            }
        }
        Ok(())
    }
}
