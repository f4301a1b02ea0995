//! `siv app`: documents of web properties.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

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
                let mut apps = client.list("/v1/apps", &tenant_query(tenant.as_ref())).await?;
                if !output.is_json() {
                    apps["data"].as_array_mut().into_iter().flatten().for_each(name_fields);
                }
                output.table(&apps, &["name", "version", "origins", "fields"]);
                output.hint_at_tenant(&apps, tenant.as_ref());
            }
        }
        Ok(())
    }
}

/// For a person: the fields of an app by name and type.
fn name_fields(app: &mut Value) {
    let Some(fields) = app["fields"].as_object() else { return };
    let word = |(name, field): (&String, &Value)| match field["type"].as_str() {
        Some(kind) if kind != name => format!("{name} ({kind})"),
        _ => name.clone(),
    };
    app["fields"] = fields.iter().map(word).map(Value::from).collect();
}
