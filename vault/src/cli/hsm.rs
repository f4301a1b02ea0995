//! `siv hsm`: what a customer's module and token can do, found out before they are relied on. Needs no server.

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hsm::check::{CheckOptions, CheckReport, Verdict};
use hsm::{Configuration, Crew, Host, HsmError, KekSelector, Launch, PinSource, TokenSelector};

use crate::config::{Environment, Settings};
use crate::keys::HsmSetup;

use super::failure::Failure;
use super::hsm_report::{Signing, Verify};
use super::output::Output;

/// How this program is called to be the process that loads a vendor's module.
pub(super) const WORKER: &str = "hsm-worker";

/// Address space of the worker, in bytes: each thread reserves some 64 MiB of it for its allocations, used or not.
const MEMORY: u64 = 4 << 30;
/// How long the whole report may take: a network HSM needs a while for some hundred unwraps.
const PATIENCE: Duration = Duration::from_secs(180);
/// Sessions at once while the latency is measured.
const SESSIONS: usize = 16;

/// What to do with a customer's HSM.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Try out what a PKCS#11 module does with a token, and say whether a tenant's key can live there.
    ///
    /// Every wrap profile is executed, altered bytes are offered, keys are asked for what they must not give. It makes
    /// throw-away keys named `siv-check-…` and destroys them. It runs in a process of its own, since modules crash in it.
    #[command(
        after_help = "Examples:\n  siv hsm check --module /opt/vendor/lib/pkcs11.so --token acme --pin-file pin\n  \
        siv hsm check --module /opt/vendor/lib/pkcs11.so --token acme --pin-file pin \\\n      --kek siv-kek-1 --json > report.json"
    )]
    Check(Check),
    Verify(Verify),
}

/// What is checked.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// The vendor's module.
    #[arg(long)]
    module: PathBuf,
    /// The token's label.
    #[arg(long)]
    token: String,
    /// The token's serial number, where a label is not enough.
    #[arg(long)]
    serial: Option<String>,
    /// A file of mode 0400 or 0600 with the user PIN.
    #[arg(long)]
    pin_file: PathBuf,
    /// Label of the key-encryption key that is to be used; without it profiles are tried on throw-away keys.
    #[arg(long)]
    kek: Option<String>,
    /// Unwraps per session for the latency; 0 leaves it out.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Also try one wrong PIN. It counts at the token: only on a token whose PIN may be lost.
    #[arg(long)]
    wrong_pin: bool,
    /// A variable that the module needs in its environment (`NAME=VALUE`); those of known modules are passed on by themselves.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = named)]
    environment: Vec<(OsString, OsString)>,
    #[command(flatten)]
    signing: Signing,
}

/// What the keys must know to reach customers' tokens: how a worker is started, and which modules the settings allow.
pub(super) fn setup(settings: &Settings, environment: &Environment) -> HsmSetup {
    let launch = launch(environment.of_modules.clone(), settings.hsm_workers);
    HsmSetup { launch, modules: settings.hsm_modules.clone(), lost_after: settings.hsm_lost_after }
}

/// This very program, and not what lies by now under the path it was started from: after an upgrade that is another version, and
/// host and worker of two versions do not understand each other.
const THIS_PROGRAM: &str = "/proc/self/exe";

fn launch(environment: Vec<(OsString, OsString)>, workers: NonZeroU16) -> Launch {
    let crew = Crew::new(workers.get().into());
    Launch { program: THIS_PROGRAM.into(), arguments: vec![WORKER.into()], environment, crew }
}

fn named(text: &str) -> Result<(OsString, OsString), &'static str> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("it is written NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

impl Command {
    pub(super) async fn run(self, environment: &Environment, output: &Output) -> Result<(), Failure> {
        let check = match self {
            Self::Check(check) => check,
            Self::Verify(verify) => return verify.run(output),
        };
        let signed = check.signing.begin(environment).await?;
        let asked = check.asked(environment)?;
        let ran = tokio::task::spawn_blocking(move || {
            let (launch, configuration, options) = &asked;
            Host::check(launch, configuration, options, PATIENCE)
        });
        let report = ran.await.map_err(|_| Failure::new("the check broke off"))?.map_err(refused)?;
        show(&report, output)?;
        if let Some(signed) = signed {
            signed.write(&report).await?;
        }
        match report.verdict {
            Verdict::Fit | Verdict::FitWithReservations => Ok(()),
            Verdict::Unfit => Err(Failure::new("no tenant's key should live there")
                .because(report.reasons.join("; "))
                .so("docs/hsm.md says what a module and a key need")),
        }
    }
}

impl Check {
    fn asked(self, environment: &Environment) -> Result<(Launch, Configuration, CheckOptions), Failure> {
        let mut variables = environment.of_modules.clone();
        variables.extend(self.environment);
        let launch = launch(variables, NonZeroU16::MIN);
        let token = TokenSelector { label: Some(self.token), serial: self.serial, ..TokenSelector::default() };
        let configuration = Configuration {
            module: std::path::absolute(&self.module).unwrap_or(self.module),
            module_sha256: None,
            token,
            // The worker has a working directory of its own.
            pin: PinSource::File(std::path::absolute(&self.pin_file).unwrap_or(self.pin_file)),
            sessions: SESSIONS,
            memory_bytes: MEMORY,
            canaries: Vec::new(),
            sha1_for_tests: false,
        };
        let kek = self.kek.map(|label| KekSelector { label: Some(label), id: None });
        Ok((launch, configuration, CheckOptions { kek, wrong_pin: self.wrong_pin, rounds: self.rounds }))
    }
}

/// What is told where there is no report: the module died or hung, or token, PIN or key are not what was named.
fn refused(error: HsmError) -> Failure {
    let next = match &error {
        HsmError::Quarantined(_) => "look at the PIN before you try again: a token locks itself after a few wrong ones",
        HsmError::Configuration(why) if why.contains("PIN file") => {
            "write the token's user PIN into a file of your own of mode 0400, and name that with --pin-file"
        }
        HsmError::Configuration(_) => "mend what it names",
        HsmError::TokenNotFound(_) | HsmError::TokenAmbiguous(_) => {
            "name the token's label and serial as its vendor's tool shows them; a module that needs a variable gets it by --env"
        }
        HsmError::KekNotFound => {
            "name one that is there, or leave out --kek: then profiles are tried on throw-away keys, and siv can make the key itself"
        }
        HsmError::KekAmbiguous(_) | HsmError::KekUnfit(_) => {
            "make one key of that label: AES-256, or RSA of 3072 bits and more, sensitive and not extractable"
        }
        _ => "a module that crashes or hangs cannot be used; --rounds 0 leaves the latency out",
    };
    Failure::new("there is no report").because(error).so(next)
}

fn show(report: &CheckReport, output: &Output) -> Result<(), Failure> {
    if !output.is_json() {
        output.line(report.to_string().trim_end());
        return Ok(());
    }
    let document =
        serde_json::to_value(report).map_err(|error| Failure::new("the report cannot be written").because(error))?;
    output.record(&document);
    Ok(())
}
