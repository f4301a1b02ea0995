//! `siv init`: makes an installation and its first operator credential.

use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::config::{Environment, RootKey, Settings};
use crate::sequencer;
use crate::telemetry;

use super::bootstrap::{YEAR, continues, first_operator};
use super::failure::Failure;
use super::installation::{Installation, Making, has_key_store};
use super::node::Writer;
use super::output::Output;
use super::passphrase::PassphraseFrom;
use super::root_key;
use crate::domain::chain;

/// Make the key store and the database, and print the first operator credential.
///
/// It can be run again, and replaces the credential, until that one has been used. The credential lasts a year: make
/// operators of your own with it before (siv credential create --kind operator).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  siv init --config /etc/siv/siv.toml")]
pub(super) struct Command {
    /// The settings (docs/siv.toml shows every one).
    #[arg(long, default_value = "siv.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseFrom,
}

impl Command {
    #[expect(clippy::disallowed_methods, reason = "this is the one time the first credential is shown")]
    pub(super) async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        let settings = Settings::load(&self.config)?;
        telemetry::start(environment.log_level.unwrap_or(telemetry::LogLevel::Warn));
        // A passphrase that exists is asked for once; a new one is chosen.
        let root_key = if has_key_store(&settings).await? { Making::No } else { Making::Yes };
        let root = root_key::source(&settings, environment, &self.passphrase, root_key)?;
        let to_be_made = key_file(&settings).filter(|path| !path.exists());
        let installation = Installation::open(&settings, environment, root, Making::Yes).await?;
        // Told at once: whatever fails now, the key stays where it is.
        let made_at = to_be_made.filter(|path| path.exists()).map(|path| path.display().to_string());
        if let Some(path) = &made_at {
            Output::progress(&format!(
                "the root key was made at {path}: keep a copy of it elsewhere, apart from the backups. Nothing opens without it"
            ));
        }
        // Before anything is written: a database that was put back must not get a second first operator.
        let compared = sequencer::compare(installation.store.clone(), installation.keys.clone()).await;
        compared.map_err(|error| Failure::new("the logs could not be compared").because(chain(&error)))?;
        continues(&installation)?;
        let writer = Writer::start(&settings, installation).await?;
        let made = first_operator(&writer, YEAR).await;
        writer.stop().await?;
        let first = made?.ok_or_else(|| {
            Failure::new("the first operator credential was used already, so no other is made here")
                .so("make operators with it: siv credential create --kind operator")
        })?;
        output.record(&json!({
            "installationId": writer.installation.keys.installation_id().to_string(),
            "credentialId": first.id.to_string(),
            "credential": first.text.expose_secret(),
            "expiresAt": first.expires_at.to_string(),
            "rootKey": made_at,
        }));
        Ok(())
    }
}

/// The file that the root key is in, where it is in one.
fn key_file(settings: &Settings) -> Option<&Path> {
    match &settings.root_key {
        RootKey::File(path) => Some(path),
        RootKey::Systemd(_) | RootKey::PassphraseFile(_) | RootKey::Sealed => None,
    }
}
