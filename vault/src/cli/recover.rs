//! `siv recover`: takes on a database that was put back on purpose, with the node stopped.

use std::path::PathBuf;

use clap::Args;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::config::{Environment, Settings};
use crate::sequencer::{Recovered, Recovery};
use crate::telemetry;

use super::bootstrap::{FirstOperator, recovering_operator};
use super::failure::Failure;
use super::installation::{Installation, Making, chain};
use super::node::{self, Writer};
use super::output::Output;
use super::passphrase::PassphraseFrom;
use super::root_key;

/// Take on a database that was put back from a backup.
///
/// What was signed since the backup is lost for good; the logs go on under new names and say so. Values with counted uses
/// become void, and every credential is suspended until an operator confirms it (siv credential confirm). A new operator
/// credential is printed. Give every auditor the new verifier key (siv log vkey).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  siv recover --accept-database-of checkpoint-of-tuesday --config /etc/siv/siv.toml")]
pub(super) struct Command {
    /// A file with a checkpoint from before the backup, of any log: the database must hold what it speaks of.
    #[arg(long, value_name = "CHECKPOINT")]
    accept_database_of: PathBuf,
    /// The settings (docs/siv.toml shows every one).
    #[arg(long, default_value = "siv.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseFrom,
}

impl Command {
    pub(super) async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        let settings = Settings::load(&self.config)?;
        telemetry::start(environment.log_level.unwrap_or(telemetry::LogLevel::Warn));
        let note = std::fs::read_to_string(&self.accept_database_of).map_err(|error| {
            Failure::new(format!("{} cannot be read", self.accept_database_of.display())).because(error)
        })?;
        let root = root_key::source(&settings, environment, &self.passphrase, Making::No)?;
        let installation = Installation::open(&settings, environment, root, Making::No).await?;
        let refused = |error: crate::sequencer::Error| {
            Failure::new("this database is not taken on")
                .because(chain(&error))
                .so("name a checkpoint that this very database had reached, and stop the node")
        };
        let (store, keys) = (installation.store.clone(), installation.keys.clone());
        let mut recovery = Recovery::check(&note, store, keys).await.map_err(refused)?;
        let broken = |error: crate::sequencer::Error| {
            Failure::new("the recovery broke off").because(chain(&error)).so("run the same command again")
        };
        let identity = node::identity(&settings, &installation)?;
        let words = recovery.begin(identity.boot()).await.map_err(broken)?;
        let writer = Writer::start_after(words, identity, installation).await?;
        let done = recovery.run(&writer.committer).await.map_err(broken);
        let made = match done {
            Ok(done) => recovering_operator(&writer).await.map(|made| (done, made)),
            Err(failure) => Err(failure),
        };
        writer.stop().await?;
        let (done, made) = made?;
        output.record(&told(&done, &made));
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one time the recovering credential is shown")]
fn told(done: &Recovered, made: &FirstOperator) -> Value {
    let log = |(log, signed, kept): &(crate::domain::TenantName, u64, u64)| json!({ "log": log.to_string(), "signed": signed, "kept": kept });
    json!({
        "logs": done.logs.iter().map(log).collect::<Vec<_>>(),
        "valuesVoid": done.voided,
        "credentialsSuspended": done.suspended,
        "keysDestroyedAgain": done.destroyed,
        "credentialId": made.id.to_string(),
        "credential": made.text.expose_secret(),
        "expiresAt": made.expires_at.to_string(),
    })
}
