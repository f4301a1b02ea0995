//! `siv init`: makes an installation and its first operator credential.

use std::path::PathBuf;

use clap::Args;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::config::{Environment, Settings};
use crate::telemetry;

use super::bootstrap::first_operator;
use super::failure::Failure;
use super::installation::{Installation, Making};
use super::node::Writer;
use super::output::Output;

/// Make the key store and the database, and print the first operator credential.
///
/// It can be run again, and replaces the credential, until that one has been used.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  siv init --config /etc/siv/siv.toml")]
pub(super) struct Command {
    /// The settings (docs/siv.toml shows every one).
    #[arg(long, default_value = "siv.toml", value_name = "FILE")]
    config: PathBuf,
}

impl Command {
    #[expect(clippy::disallowed_methods, reason = "this is the one time the first credential is shown")]
    pub(super) async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        let settings = Settings::load(&self.config)?;
        telemetry::start(environment.log_level.unwrap_or(telemetry::LogLevel::Warn));
        let installation = Installation::open(&settings, environment, Making::Yes).await?;
        let writer = Writer::start(&settings, installation).await?;
        let made = first_operator(&writer).await;
        writer.stop().await?;
        let first = made?;
        output.record(&json!({
            "installationId": writer.installation.keys.installation_id().to_string(),
            "credentialId": first.id.to_string(),
            "credential": first.text.expose_secret(),
        }));
        Ok(())
    }
}
