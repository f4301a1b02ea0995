//! `siv recover`: takes on a database that was put back on purpose, with the node stopped.

use std::path::PathBuf;

use clap::Args;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::config::{Environment, Settings};
use crate::domain::{TenantName, chain};
use crate::sequencer::{Recovered, Recovery};
use crate::telemetry;

use super::bootstrap::{FirstOperator, Operators, operators, recovering_operator};
use super::failure::Failure;
use super::installation::{Installation, Making};
use super::node::{self, Writer};
use super::output::Output;
use super::passphrase::PassphraseFrom;
use super::root_key;

/// Take on a database that was put back from a backup.
///
/// What was signed since the backup is lost for good; the logs go on under new names and say so. Values with counted uses
/// become void, and every credential is suspended until an operator confirms it (siv credential confirm). A new operator
/// credential is printed. Give every auditor the new verifier key (siv log vkey). Where the database holds every log as far as
/// the key store knows it, it does nothing.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  siv recover --accept-database-of checkpoint-of-tuesday --config /etc/siv/siv.toml --dry-run\n  siv recover --accept-database-of checkpoint-of-tuesday --config /etc/siv/siv.toml"
)]
pub(super) struct Command {
    /// A file with a checkpoint from before the backup, of any log: the database must hold what it speaks of.
    #[arg(long, value_name = "CHECKPOINT")]
    accept_database_of: PathBuf,
    /// The settings (docs/siv.toml shows every one).
    #[arg(long, default_value = "siv.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseFrom,
    /// Only tell what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Also where nothing that was signed is missing: when the key store was put back together with the database, neither
    /// knows what was spent and revoked since.
    #[arg(long)]
    even_if_nothing_is_missing: bool,
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
        // Where entries are missing nobody is looked for: credentials may not even read.
        let whole = match recovery.is_needed().await.map_err(refused)? {
            true => None,
            false => Some(operators(&installation).await?),
        };
        // One that broke off before its operator had a credential is gone on with.
        let needed = match whole {
            None => Some("entries_missing"),
            Some(Operators::RecoveryBrokeOff) => Some("recovery_broke_off"),
            Some(Operators::InForce | Operators::Ended) => None,
        };
        if self.dry_run {
            let done = recovery.forecast().await.map_err(refused)?;
            output.record(&forecast(&done, needed, output.is_json()));
            return Ok(());
        }
        if let (None, Some(operators), false) = (needed, whole, self.even_if_nothing_is_missing) {
            return Err(refusal(operators));
        }
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
        output.record(&told(&done, &made, output.is_json()));
        Ok(())
    }
}

/// Nothing is missing.
fn refusal(operators: Operators) -> Failure {
    let failure = Failure::new("nothing is to be recovered");
    if operators == Operators::InForce {
        return failure
            .because("the database holds every log as far as the key store knows it, and an operator's credential is in force")
            .so("start the node; --dry-run shows what a recovery would do, --even-if-nothing-is-missing does it");
    }
    failure
        .because("the database holds every log as far as the key store knows it; but no operator's credential is in force")
        .so("if none can be found, --even-if-nothing-is-missing makes one, and costs every other credential, every value with counted uses and every auditor's key: --dry-run shows how many")
}

#[expect(clippy::disallowed_methods, reason = "this is the one time the recovering credential is shown")]
fn told(done: &Recovered, made: &FirstOperator, json: bool) -> Value {
    json!({
        "logs": logs(done, json),
        "valuesVoid": done.voided,
        "credentialsSuspended": done.suspended,
        "keysDestroyedAgain": done.destroyed,
        "credentialId": made.id.to_string(),
        "credential": made.text.expose_secret(),
        "expiresAt": made.expires_at.to_string(),
    })
}

/// What would be done.
fn forecast(done: &Recovered, needed: Option<&str>, json: bool) -> Value {
    json!({
        "dryRun": true,
        "needed": needed.is_some(),
        "why": needed,
        "logs": logs(done, json),
        "valuesVoid": done.voided,
        "credentialsSuspended": done.suspended,
        "keysDestroyedAgain": done.destroyed,
    })
}

/// Of each log how much was signed and how much the database has: as words for a person.
fn logs(done: &Recovered, json: bool) -> Value {
    let one = |(log, signed, kept): &(TenantName, u64, u64)| match json {
        true => json!({ "log": log.to_string(), "signed": signed, "kept": kept }),
        false => json!(format!("{log}: {kept} of {signed} signed entries are there")),
    };
    done.logs.iter().map(one).collect()
}
