//! The report of `siv hsm check` as a file that an installation signed, and its verification, which needs nothing but the
//! file and the public key.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use hsm::check::CheckReport;
use serde_json::json;

use crate::access_log::{Note, VerifierKey};
use crate::config::{Environment, Settings};
use crate::domain::{Clock, TenantName, Timestamp, chain};
use crate::keys::Keys;

use super::failure::Failure;
use super::installation::{self, Making};
use super::output::Output;
use super::passphrase::PassphraseFrom;
use super::root_key;

/// First line of a signed report: neither a checkpoint nor a certificate begins with it.
const HEADER: &str = "siv/v1/hsm-report";

/// Where a signed report goes.
#[derive(Debug, Args)]
pub(super) struct Signing {
    /// Also write the report into a new file, signed with the system log's key of the installation that --config names.
    #[arg(long, value_name = "FILE", requires = "config")]
    out: Option<PathBuf>,
    /// The settings of the installation that signs. A key store in a folder is free only while its node is stopped.
    #[arg(long, value_name = "FILE", requires = "out")]
    config: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseFrom,
}

/// Keys that are open, and the file to write.
pub(super) struct Signed {
    keys: Keys,
    out: PathBuf,
}

impl Signing {
    /// Opens the key store, before anything is asked of a token; nothing where no file is wanted.
    pub(super) async fn begin(&self, environment: &Environment) -> Result<Option<Signed>, Failure> {
        let (Some(out), Some(config)) = (&self.out, &self.config) else { return Ok(None) };
        if out.exists() {
            return Err(Failure::new(format!("{} is there already", out.display())).so("name a new file"));
        }
        let settings = Settings::load(config)?;
        let root = root_key::source(&settings, environment, &self.passphrase, Making::No)?;
        let keys = installation::keys(&settings, root, &Clock::System, Making::No).await?;
        Ok(Some(Signed { keys, out: out.clone() }))
    }
}

impl Signed {
    /// Signs and writes it.
    pub(super) async fn write(&self, report: &CheckReport) -> Result<(), Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::new(format!("{} cannot be written", self.out.display())).because(why)
        };
        let signer = self.keys.log_signer(&TenantName::system()).await.map_err(|error| failed(&chain(&error)))?;
        let text = text_of(report, Clock::System.now()).map_err(|error| failed(&error))?;
        let signature = signer.sign(text.as_bytes());
        let note = Note::new(text).map_err(|error| failed(&error))?.signed(signer.verifier(), signature);
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&self.out).map_err(|error| failed(&error))?;
        file.write_all(note.to_string().as_bytes()).and_then(|()| file.sync_all()).map_err(|error| failed(&error))
    }
}

/// Check that an installation signed a report, offline.
///
/// The key is the one that `siv log vkey` prints for an auditor of the installation itself. It says who made the report and
/// when, and that it was not altered; it does not say that the module told the truth.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  siv hsm verify report.note --vkey vkey")]
pub(super) struct Verify {
    /// The file that `siv hsm check --out` wrote.
    report: PathBuf,
    /// A file with the public key line of the installation's system log.
    #[arg(long, value_name = "FILE")]
    vkey: PathBuf,
}

impl Verify {
    pub(super) fn run(&self, output: &Output) -> Result<(), Failure> {
        let trusted = VerifierKey::parse_file(&read(&self.vkey)?)
            .map_err(|error| Failure::new(format!("{}: {error}", self.vkey.display())))?;
        let note = read(&self.report)?;
        let refused = |why: &dyn std::fmt::Display| {
            Failure::new(format!("{} is no report that this key signed", self.report.display())).because(why)
        };
        let note = Note::parse(&note).map_err(|error| refused(&error))?;
        let text = note.open(&trusted).map_err(|error| refused(&error))?;
        let (time, report) = opened(text).ok_or_else(|| refused(&"it is another kind of note"))?;
        if output.is_json() {
            output.record(&json!({ "time": time, "report": report }));
            return Ok(());
        }
        output.line(&format!("signed at {time}, and not altered since\n\n{}", report.to_string().trim_end()));
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::new(format!("{} cannot be read", path.display())).because(error);
    std::fs::read_to_string(path).map_err(failed)
}

fn text_of(report: &CheckReport, at: Timestamp) -> Result<String, serde_json::Error> {
    Ok(format!("{HEADER}\n{at}\n{}\n", serde_json::to_string(report)?))
}

/// Time and report of a signed text; nothing for any other spelling of them.
fn opened(text: &str) -> Option<(String, CheckReport)> {
    let (time, json) = text.strip_prefix(HEADER)?.strip_prefix('\n')?.split_once('\n')?;
    let report: CheckReport = serde_json::from_str(json.strip_suffix('\n')?).ok()?;
    (serde_json::to_string(&report).ok()? == json.trim_end()).then(|| (time.to_owned(), report))
}
