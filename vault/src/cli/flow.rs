//! `siv flow`: documents of server-side data flows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use crate::config::Environment;
use crate::domain::tenant::KeyProviderKind;
use crate::domain::{AppDocument, Clock, FlowName, Tenant, TenantName};
use crate::flows::{EgressPolicy, Flow, Surroundings};

use super::client::{Client, tenant_query};
use super::failure::Failure;
use super::output::Output;

/// What to do with flows.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a flow, or a new version of it, from a document.
    #[command(after_help = "Example:\n  siv flow apply charge-card.toml --tenant acme")]
    Apply {
        /// The document (TOML).
        file: PathBuf,
        /// The tenant, where the credential is the installation's operator's.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Check a document without a server: its shape, and that no secure value reaches an output or an address.
    ///
    /// Addresses must be https and public. With its app's document it is also checked that the app has the fields, and it is
    /// said which of them hold neither this flow nor this purpose: their values would be refused.
    #[command(
        after_help = "Examples:\n  siv flow check charge-card.toml --app demo-shop.toml\n  siv flow check try.toml --dev"
    )]
    Check {
        /// The flow's document (TOML).
        file: PathBuf,
        /// Its app's document (TOML).
        #[arg(long)]
        app: Option<PathBuf>,
        /// Check it for a `siv dev`, which may speak to loopback and there by plain http.
        #[arg(long)]
        dev: bool,
    },
    /// List flows.
    #[command(after_help = "Example:\n  siv flow list --tenant acme")]
    List {
        /// The tenant, where the credential is the installation's operator's.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
}

impl Command {
    pub(super) async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Apply { file, tenant } => {
                let client = Client::from_environment(environment)?;
                let text = read_document(&file)?;
                let path = format!("/v1/flows/{}", name_in(&text, &file)?);
                output.record(&client.put_toml(&path, &tenant_query(tenant.as_ref()), text).await?);
            }
            Self::Check { file, app, dev } => check(&file, app.as_deref(), dev, output)?,
            Self::List { tenant } => {
                let client = Client::from_environment(environment)?;
                let flows = client.list("/v1/flows", &tenant_query(tenant.as_ref())).await?;
                output.table(&flows, &["name", "version", "purpose", "app"]);
                output.hint_at_tenant(&flows, tenant.as_ref());
            }
        }
        Ok(())
    }
}

fn check(file: &Path, app: Option<&Path>, dev: bool, output: &Output) -> Result<(), Failure> {
    let refused_and = |error: crate::flows::Error, next: &str| {
        Failure::new(format!("{} is refused", file.display())).because(error).so(next)
    };
    let refused = |error| refused_and(error, "mend what is named and check again");
    let flow = Flow::from_toml(&read_document(file)?).map_err(refused)?;
    let egress = EgressPolicy { allow_loopback_http: dev, ..EgressPolicy::default() };
    flow.check_egress(&egress).map_err(|error| {
        let under_dev = EgressPolicy { allow_loopback_http: true, ..EgressPolicy::default() };
        if flow.check_egress(&under_dev).is_ok() {
            return refused_and(
                error,
                "for a `siv dev`, which may speak to loopback, check with --dev; else name a public https address",
            );
        }
        refused(error)
    })?;
    let mut warnings = Vec::new();
    if let Some(path) = app {
        let app = AppDocument::from_toml(&read_document(path)?)
            .map_err(|error| Failure::new(format!("{} is not an app's document", path.display())).because(error))?;
        let tenant = supposed_tenant()?;
        let destinations = BTreeMap::new();
        let surroundings = Surroundings { app: &app, tenant: &tenant, destinations: &destinations, egress: &egress };
        flow.check(&surroundings).map_err(refused)?;
        warnings = flow.unbound(&app);
    }
    let summary = serde_json::to_value(flow.summary(0))
        .map_err(|error| Failure::new("the summary cannot be printed").because(error))?;
    let revealed = if flow.reveal.is_empty() { "" } else { "; it reveals, so the tenant's switch must be on" };
    let unbound: String =
        warnings.iter().map(|warning| format!("\nBut {warning}: such values will be refused.")).collect();
    output.sentence(
        &json!({ "holds": true, "flow": summary, "warnings": warnings }),
        &format!("{} holds{revealed}{unbound}", file.display()),
    );
    Ok(())
}

/// A tenant that allows all a tenant can allow: what the real one allows, the vault decides when the flow is applied.
fn supposed_tenant() -> Result<Tenant, Failure> {
    let name = "supposed".parse().map_err(|_| Failure::new("a name of ours is none"))?;
    Ok(Tenant {
        name,
        reveal: true,
        sealed: false,
        key_provider: KeyProviderKind::Local,
        cache_seconds: 300,
        created_at: Clock::System.now(),
    })
}

/// The text of a document.
pub(super) fn read_document(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("{} cannot be read", file.display())).because(error))
}

/// The name a document gives itself.
fn name_in(text: &str, file: &Path) -> Result<FlowName, Failure> {
    let wrong =
        |why: &str| Failure::new(format!("{} is not a flow's document", file.display())).because(why.to_owned());
    let document: toml::Table = toml::from_str(text).map_err(|_| wrong("it is not TOML"))?;
    let name = document.get("name").and_then(toml::Value::as_str).ok_or_else(|| wrong("it has no name"))?;
    name.parse().map_err(|_| wrong("its name is not of lower-case letters, digits and hyphens"))
}
