//! An installation made by `siv init` and served by `siv serve`: the real binary with settings of its own.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::siv::binary;

/// Settings of a node on SQLite that listens on loopback.
pub const SETTINGS: &str = r#"
database   = "sqlite:rows/siv.db"
key_store  = "dir:key-store"
root_key   = "file:root/root.key"
realm      = "test"
public_url = "https://vault.example"
[public]
address = "127.0.0.1:0"
[private]
address = "127.0.0.1:0"
"#;

/// An installation in a folder of its own, as its `siv.toml` describes it.
pub struct Installation {
    /// Its folder.
    pub folder: TempDir,
}

impl Installation {
    /// A folder with [`SETTINGS`] in it.
    pub fn described() -> Self {
        Self::described_as(SETTINGS)
    }

    /// A folder with other settings in it.
    pub fn described_as(settings: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("siv.toml"), settings).unwrap();
        Self { folder }
    }

    /// The file of settings.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("siv.toml")
    }

    /// Writes [`SETTINGS`] with one place of them changed.
    pub fn rewrite(&self, from: &str, to: &str) {
        assert!(SETTINGS.contains(from), "{from}");
        std::fs::write(self.path(), SETTINGS.replacen(from, to, 1)).unwrap();
    }

    /// Runs a command of the binary on these settings.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(binary()).args(arguments).arg("--config").arg(self.path()).env_clear().output().unwrap()
    }

    /// `siv init`: what it printed.
    pub fn init(&self) -> Value {
        let output = self.run(&["init", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A running `siv serve`.
pub struct Serving {
    child: Child,
    /// The public listener's base address.
    pub public: String,
    /// The private listener's base address.
    pub private: String,
}

impl Serving {
    /// Starts the node, and waits until it says that it is ready.
    pub fn start(installation: &Installation) -> Self {
        Self::begin(installation).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Starts the node; the error is what it wrote instead of getting ready.
    pub fn begin(installation: &Installation) -> Result<Self, String> {
        let errors = std::fs::File::create(installation.folder.path().join("stderr")).unwrap();
        let mut child = Command::new(binary())
            .args(["serve", "--config"])
            .arg(installation.path())
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let (mut public, mut private) = (String::new(), String::new());
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            for (listener, address) in [("public", &mut public), ("private", &mut private)] {
                if let Some(named) = line.strip_prefix(listener) {
                    *address = format!("http://{}", named.trim());
                }
            }
            if line.contains("siv is ready") {
                return Ok(Self { child, public, private });
            }
        }
        let _ = child.wait();
        Err(std::fs::read_to_string(installation.folder.path().join("stderr")).unwrap())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command of the binary against the private listener.
    pub fn command(&self, credential: &str, arguments: &[&str]) -> Output {
        Command::new(binary())
            .args(arguments)
            .env_clear()
            .env("SIV_URL", &self.private)
            .env("SIV_CREDENTIAL", credential)
            .output()
            .unwrap()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends the node in order.
    pub fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

/// `kill -9`, and waits until it is gone.
impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
