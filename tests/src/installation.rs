//! An installation made by `siv init` and served by `siv serve`: the real binary with settings of its own.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::siv::binary;
use super::{bound, process};

/// An app with one field, and the flow that reads it.
pub const APP: &str = r#"
name    = "shop"
origins = ["https://shop.example"]
[fields.card-number]
type      = "card-number"
retention = "stored"
purposes  = ["support"]
flows     = ["card-summary"]
"#;

/// The flow.
pub const FLOW: &str = r#"
name    = "card-summary"
purpose = "support"
app     = "shop"
[inputs]
card = { secure = "card-number" }
[outputs]
last4 = "{{ inputs.card | last4 }}"
"#;

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
        fs::write(folder.path().join("siv.toml"), settings).unwrap();
        // An address may hold a password.
        fs::set_permissions(folder.path().join("siv.toml"), Permissions::from_mode(0o600)).unwrap();
        Self { folder }
    }

    /// The folder of one node of several, on databases for its rows and its key store.
    pub fn of_node(name: &str, rows: &str, keys: &str) -> Self {
        let settings = SETTINGS.replacen("sqlite:rows/siv.db", rows, 1).replacen("dir:key-store", keys, 1);
        Self::described_as(&settings.replacen("realm ", &format!("node = \"{name}\"\nrealm "), 1))
    }

    /// A second node's folder, under another name and with the same root key.
    pub fn beside(&self, rows: &str, keys: &str) -> Self {
        let second = Self::of_node("two", rows, keys);
        let [from, to] = [self, &second].map(|node| node.folder.path().join("root"));
        fs::create_dir(&to).unwrap();
        fs::copy(from.join("root.key"), to.join("root.key")).unwrap();
        fs::set_permissions(to.join("root.key"), Permissions::from_mode(0o600)).unwrap();
        second
    }

    /// Everything its node wrote to standard error.
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// The file of settings.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("siv.toml")
    }

    /// Writes [`SETTINGS`] with one place of them changed.
    pub fn rewrite(&self, from: &str, to: &str) {
        assert!(SETTINGS.contains(from), "{from}");
        fs::write(self.path(), SETTINGS.replacen(from, to, 1)).unwrap();
    }

    /// Runs a command of the binary on these settings.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_in(&[], arguments)
    }

    /// The same with this environment.
    pub fn run_in(&self, environment: &[(String, String)], arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--config").arg(self.path());
        command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
        // Without a terminal of its own: nobody is asked for anything.
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Writes its own settings with one place of them changed.
    pub fn change(&self, from: &str, to: &str) {
        let settings = fs::read_to_string(self.path()).unwrap();
        assert!(settings.contains(from), "{from}");
        fs::write(self.path(), settings.replacen(from, to, 1)).unwrap();
    }

    /// `siv init` with this environment.
    pub fn init_in(&self, environment: &[(String, String)]) -> Output {
        let mut command = Command::new(binary());
        command.args(["init", "--json", "--config"]).arg(self.path());
        command.env_clear().envs(environment.iter().map(|(name, value)| (name, value))).output().unwrap()
    }

    /// `siv init`: what it printed.
    pub fn init(&self) -> Value {
        let output = self.init_in(&[]);
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
    /// Starts the node, and waits until it says that it is ready, or sealed.
    pub fn start(installation: &Installation) -> Self {
        Self::begin(installation, &[]).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Starts the node with this environment; the error is what it wrote instead of getting ready.
    pub fn begin(installation: &Installation, environment: &[(String, String)]) -> Result<Self, String> {
        Self::begin_as(&binary(), installation, environment)
    }

    /// The same as this program.
    pub fn begin_as(
        program: &Path,
        installation: &Installation,
        environment: &[(String, String)],
    ) -> Result<Self, String> {
        let log = installation.folder.path().join("stderr");
        let child = Command::new(program)
            .args(["serve", "--config"])
            .arg(installation.path())
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log).unwrap())
            .spawn()
            .map_err(|error| format!("{}: {error}; build it first (make test does)", program.display()))?;
        let mut serving = Self { child, public: String::new(), private: String::new() };
        if serving.becomes_ready() {
            return Ok(serving);
        }
        serving.kill();
        Err(format!("siv did not become ready:\n{}", installation.log_text()))
    }

    /// Reads what it says until it is ready, ends, or takes too long.
    fn becomes_ready(&mut self) -> bool {
        let lines = BufReader::new(self.child.stdout.take().unwrap()).lines();
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| {
                let _ = say.send(line);
            });
        });
        let end = Instant::now() + Duration::from_secs(120);
        while Instant::now() < end {
            let Ok(line) = said.recv_timeout(Duration::from_millis(50)) else {
                if self.runs() {
                    continue;
                }
                return false;
            };
            for (listener, address) in [("public", &mut self.public), ("private", &mut self.private)] {
                if let Some(named) = line.strip_prefix(listener) {
                    *address = format!("http://{}", named.trim());
                }
            }
            if line.contains("siv is ready") || line.contains("siv is sealed") {
                return true;
            }
        }
        false
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True while the process runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Runs a command of the binary against the private listener.
    pub fn command(&self, credential: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).env_clear().env("SIV_URL", &self.private).env("SIV_CREDENTIAL", credential);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; the exit code once it is gone, which is promised within 30 seconds.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let end = Instant::now() + bound(Duration::from_secs(30), Duration::from_secs(90));
        while self.runs() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let ended = self.child.try_wait().ok().flatten();
        self.kill();
        ended?.code()
    }

    /// Ends the node in order.
    pub fn stop(mut self) {
        assert_eq!(self.terminate(), Some(0));
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.kill();
    }
}
