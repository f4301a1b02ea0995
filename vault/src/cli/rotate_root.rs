//! `siv keys rotate-root`: seals the key store under another root key, with the node stopped.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::access_log::{Action, Entry, Outcome};
use crate::config::{Environment, RootKey, Settings};
use crate::domain::{Actor, ActorKind, Clock, TenantName, Timestamp, chain};
use crate::keys::{RootKeySource, Rotation};
use crate::sequencer;
use crate::store::administration::Record;
use crate::telemetry;

use super::bootstrap::PATIENCE;
use super::failure::Failure;
use super::installation::{Installation, Making};
use super::node::Writer;
use super::output::Output;
use super::passphrase::PassphraseFrom;
use super::{Client, keys, root_key};

/// What `siv keys` does: custodians' acts over the private listener, and one that needs the machine.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    #[command(flatten)]
    OfTenants(keys::Command),
    RotateRoot(Command),
}

impl KeysCommand {
    pub(super) async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        match self {
            Self::OfTenants(command) => command.run(&Client::from_environment(environment)?, output).await,
            Self::RotateRoot(command) => command.run(environment, output).await,
        }
    }
}

/// Seal everything in the key store under another root key.
///
/// Every node must be stopped. Everything is sealed anew beside what is there, then the key store is switched in one step, then
/// the old is overwritten and removed: killed at any point, it opens under the old root key or under the new one, and the same
/// command can be run again. Afterwards set `root_key` in the settings to the new one. The next start writes `key.root.rotated`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  siv keys rotate-root --to file:/etc/siv/root-key-2 --dry-run\n  siv keys rotate-root --to systemd:siv-root-key-2 --config /etc/siv/siv.toml"
)]
pub(super) struct Command {
    /// The new root key, spelled as `root_key` in the settings; a file that does not exist is made; for "sealed" a passphrase is
    /// asked for.
    #[arg(long, value_name = "ROOT_KEY")]
    to: String,
    /// The settings, with the root key of now (docs/siv.toml shows every one).
    #[arg(long, default_value = "siv.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseFrom,
    /// For --to sealed: a file with the new passphrase, as --passphrase-file is one with that of now.
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// Say how much would be sealed anew, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Command {
    async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        let settings = Settings::load(&self.config)?;
        telemetry::start(environment.log_level.unwrap_or(telemetry::LogLevel::Warn));
        let new = settings.with_root_key(&self.to, &self.config)?;
        let root = root_key::source(&settings, environment, &self.passphrase, Making::No)?;
        let installation = Installation::open(&settings, environment, root, Making::No).await?;
        let Installation { keys, store, .. } = &installation;
        // A folder is locked by the node that runs; of a key store that is shared only signs of life tell.
        sequencer::stopped(store, keys).await.map_err(|error| {
            Failure::new("the root key is not rotated").because(chain(&error)).so("stop every node for half a minute")
        })?;
        if self.dry_run {
            // The new root key is not looked at: nothing is asked for and no file is made.
            let rotation = keys.root_rotation(RootKeySource::File(PathBuf::new()));
            let secrets = rotation.count().await.map_err(|error| failed(&error))?;
            let text = format!("{secrets} secrets would be sealed under the new root key");
            output.sentence(&json!({ "dryRun": true, "secrets": secrets }), &text);
            return Ok(());
        }
        let source = self.new_source(&new, environment)?;
        let done = rotate(keys.root_rotation(source)).await?;
        let text = format!(
            "{} secrets are sealed under the new root key and the old is removed: set root_key = \"{}\" in {}",
            done.secrets,
            self.to,
            self.config.display()
        );
        let document = json!({ "dryRun": false, "secrets": done.secrets, "rootVersion": done.root_version });
        output.sentence(&document, &text);
        Ok(())
    }

    /// The new root key; one that a person brings is chosen now.
    fn new_source(&self, new: &Settings, environment: &Environment) -> Result<RootKeySource, Failure> {
        if new.root_key == RootKey::Sealed {
            let from = PassphraseFrom { passphrase_file: self.new_passphrase_file.clone() };
            return from.choose("--new-passphrase-file").map(RootKeySource::Passphrase);
        }
        if self.new_passphrase_file.is_some() {
            return Err(Failure::new("--new-passphrase-file is given without --to sealed").so("leave it away"));
        }
        root_key::configured(new, environment)
    }
}

/// Writes the entry of a rotation into the system's log: while it was done, nobody wrote.
pub(super) async fn record(writer: &Writer) -> Result<(), Failure> {
    let keys = &writer.installation.keys;
    let failed = |error: &dyn std::error::Error| {
        Failure::new("the rotation of the root key could not be recorded").because(chain(error))
    };
    let Some(done) = keys.root_rotated().await.map_err(|error| failed(&error))? else { return Ok(()) };
    let (system, now) = (TenantName::system(), writer.installation.clock.now());
    let actor = Actor { id: writer.boot.clone(), kind: ActorKind::Node, name: None };
    let mut entry = Entry::by(system.clone(), now, Action::Key("root.rotated"), Outcome::Allowed, actor);
    entry.count = Some(done.secrets);
    let at = Timestamp::from_millis(done.at).to_string();
    entry.facts = vec![("rootVersion", done.root_version.to_string()), ("rotatedAt", at)];
    let record = Record::new(system, vec![entry], now.plus(PATIENCE));
    writer.committer.submit(record).await.map_err(|error| failed(&error))?;
    // Killed in between it is recorded twice, and never not at all.
    keys.forget_root_rotated().await.map_err(|error| failed(&error))
}

async fn rotate(rotation: Rotation<'_>) -> Result<crate::keys::Rotated, Failure> {
    let all = rotation.count().await.map_err(|error| failed(&error))?;
    let bar = ProgressBar::new(all);
    if let Ok(style) = ProgressStyle::with_template("{elapsed} {wide_bar} {pos}/{len} secrets") {
        bar.set_style(style);
    }
    let step = all.div_ceil(10).max(100);
    let told = |done: u64| {
        if std::io::stderr().is_terminal() {
            bar.set_position(done);
        } else if done.is_multiple_of(step) {
            Output::progress(&format!("{done} of {all} secrets are sealed anew"));
        }
    };
    let done = rotation.run(Clock::System.now(), told).await.map_err(|error| failed(&error));
    bar.finish_and_clear();
    done
}

fn failed(error: &crate::keys::Error) -> Failure {
    Failure::new("the root key is not rotated")
        .because(chain(error))
        .so("mend what is named and run the same command again; if it is switched already, set root_key to the new one")
}
