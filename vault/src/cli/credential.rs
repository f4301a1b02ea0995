//! `siv credential`: what callers authenticate with.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::domain::{AppName, Clock, CredentialId, FlowName, TenantName};

use super::client::{Client, tenant_query};
use super::failure::Failure;
use super::output::Output;

/// What to do with credentials.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a credential. It is shown once.
    #[command(
        after_help = "Examples:\n  siv credential create --kind flow --flow charge-card --name checkout --expires-days 90\n  siv credential create --kind app --app demo-shop --name shop-server"
    )]
    Create {
        /// What it is for. An operator made without --tenant by an operator of the installation is one of the installation.
        #[arg(long, value_enum)]
        kind: Kind,
        /// Its name, as the access log shows it.
        #[arg(long)]
        name: String,
        /// The tenant, where the credential is the installation's operator's.
        #[arg(long)]
        tenant: Option<TenantName>,
        /// The app it serves (kind app).
        #[arg(long, required_if_eq("kind", "app"))]
        app: Option<AppName>,
        /// The flow it invokes (kind flow).
        #[arg(long, required_if_eq("kind", "flow"))]
        flow: Option<FlowName>,
        /// After how many days it ends: 1 to 3650; 90 where none are named.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3650))]
        expires_days: Option<u32>,
    },
    /// List credentials, without their secrets.
    #[command(after_help = "Example:\n  siv credential list --tenant acme")]
    List {
        /// The tenant, where the credential is the installation's operator's.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// End a credential at once.
    #[command(after_help = "Example:\n  siv credential revoke 0198c1f2-… --tenant acme")]
    Revoke {
        /// Its id, as `list` shows it.
        id: CredentialId,
        /// The tenant, where the credential is the installation's operator's.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
    /// Confirm a credential that `siv recover` suspended.
    #[command(after_help = "Example:\n  siv credential confirm 0198c1f2-… --tenant acme")]
    Confirm {
        /// Its id, as `list` shows it.
        id: CredentialId,
        /// The tenant, where the credential is the installation's operator's.
        #[arg(long)]
        tenant: Option<TenantName>,
    },
}

/// What a credential is for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    /// Manages tenants, apps, flows and credentials.
    Operator,
    /// Manages a tenant's keys.
    Custodian,
    /// An app's server.
    App,
    /// Invokes one flow.
    Flow,
    /// Reads the access log.
    Auditor,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Custodian => "custodian",
            Self::App => "app",
            Self::Flow => "flow",
            Self::Auditor => "auditor",
        }
    }
}

impl Command {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Create { kind, name, tenant, app, flow, expires_days } => {
                let mut body = json!({ "kind": kind.as_str(), "name": name });
                let day = |days: u32| Duration::from_secs(u64::from(days) * 86_400);
                let expires_at = expires_days.map(|days| Clock::System.now().plus(day(days)).to_string());
                for (member, value) in [
                    ("app", app.map(|app| app.to_string())),
                    ("flow", flow.map(|flow| flow.to_string())),
                    ("expiresAt", expires_at),
                ] {
                    if let (Some(value), Some(members)) = (value, body.as_object_mut()) {
                        members.insert(member.to_owned(), Value::from(value));
                    }
                }
                output.record(&client.post("/v1/credentials", &tenant_query(tenant.as_ref()), &body).await?);
            }
            Self::List { tenant } => {
                let credentials = client.list("/v1/credentials", &tenant_query(tenant.as_ref())).await?;
                let columns = ["credentialId", "kind", "name", "app", "flow", "expiresAt", "revokedAt", "suspended"];
                output.table(&credentials, &columns);
            }
            Self::Revoke { id, tenant } => {
                let path = format!("/v1/credentials/{id}/revoke");
                client.post(&path, &tenant_query(tenant.as_ref()), &json!({})).await?;
                let done = json!({ "credentialId": id.to_string(), "state": "revoked" });
                output.sentence(&done, &format!("credential {id} is revoked"));
            }
            Self::Confirm { id, tenant } => {
                let path = format!("/v1/credentials/{id}/confirm");
                client.post(&path, &tenant_query(tenant.as_ref()), &json!({})).await?;
                let done = json!({ "credentialId": id.to_string(), "state": "active" });
                output.sentence(&done, &format!("credential {id} is confirmed"));
            }
        }
        Ok(())
    }
}
