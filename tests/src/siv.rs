//! The real binary under `siv dev`, on a folder of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::{children_of, signal};
use super::{Actor, Answer, bound};

/// A running vault with its demo tenant.
pub struct Siv {
    child: Option<Child>,
    /// Whether the child is a wrapper whose own child is the vault.
    wrapped: bool,
    folder: TempDir,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    user: Option<u32>,
    /// What `dev.json` says.
    pub dev: Value,
}

impl Siv {
    /// Starts a vault on a new folder.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a vault on a new folder with further options of `siv dev`.
    pub fn start_with(options: &[&str]) -> Self {
        let mut siv = Self::unstarted();
        siv.options = options.iter().map(|o| (*o).to_owned()).collect();
        siv.begin().unwrap_or_else(|why| panic!("{why}"));
        siv
    }

    /// A new folder on which nothing was started yet.
    pub fn unstarted() -> Self {
        Self {
            child: None,
            wrapped: false,
            folder: TempDir::new().unwrap(),
            options: Vec::new(),
            environment: Vec::new(),
            user: None,
            dev: Value::Null,
        }
    }

    /// Starts a vault that runs as another user (by number), on a folder and from a binary of that user's own.
    pub fn start_as(user: u32) -> Self {
        let mut siv = Self::unstarted();
        let own = siv.folder.path().join("siv");
        fs::copy(binary(), &own).unwrap();
        for path in [siv.folder.path(), &own] {
            std::os::unix::fs::chown(path, Some(user), Some(user)).expect("this test needs root");
        }
        siv.user = Some(user);
        siv.begin().unwrap_or_else(|why| panic!("{why}"));
        siv
    }

    /// A copy of the data of a vault that is stopped, in a folder of its own; nothing runs on it yet.
    pub fn copy_of(stopped: &Self) -> Self {
        assert!(stopped.child.is_none(), "it runs");
        let copy = Self::unstarted();
        let copied = Command::new("cp").arg("-a").arg(stopped.data()).arg(copy.data()).status().unwrap();
        assert!(copied.success());
        copy
    }

    /// What the process finds in its environment from its next start on.
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything the vault wrote to standard error, at trace level.
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        let own = self.child.as_ref().map(Child::id).unwrap_or_default();
        if !self.wrapped {
            return own;
        }
        children_of(own).first().copied().unwrap_or_default()
    }

    /// Starts the process; the error says what it printed instead of `siv is ready`.
    pub fn begin(&mut self) -> Result<(), String> {
        self.begin_under(&[])
    }

    /// Starts the process under strace, which does to its system calls what `faults` say: `fsync:signal=KILL:when=3` and
    /// the like. strace counts the calls of each thread on its own.
    pub fn begin_with_faults(&mut self, faults: &[String]) -> Result<(), String> {
        let calls: Vec<&str> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
        let trace = format!("trace={}", calls.join(","));
        let mut wrapper: Vec<String> =
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace].map(str::to_owned).to_vec();
        // Stopping at these calls alone is fast, but strace 6.1 then sends no signals.
        if faults.iter().all(|fault| !fault.contains(":signal=")) {
            wrapper.push("--seccomp-bpf".to_owned());
        }
        for fault in faults {
            wrapper.extend(["-e".to_owned(), format!("inject={fault}")]);
        }
        self.begin_under(&wrapper)
    }

    fn begin_under(&mut self, wrapper: &[String]) -> Result<(), String> {
        assert!(self.child.is_none(), "it runs already");
        let errors = File::options().create(true).append(true).open(self.folder.path().join("stderr")).unwrap();
        let mut command = match wrapper {
            [] if self.user.is_some() => Command::new(self.folder.path().join("siv")),
            [] => Command::new(binary()),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary());
                command
            }
        };
        if let Some(user) = self.user {
            use std::os::unix::process::CommandExt as _;
            command.uid(user).gid(user);
        }
        self.wrapped = !wrapper.is_empty();
        let mut child = command
            .args(["dev", "--public", "127.0.0.1:0", "--private", "127.0.0.1:0", "--demo", "127.0.0.1:0", "--data-dir"])
            .arg(self.data())
            .args(&self.options)
            .env("SIV_LOG", "trace")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(|e| format!("{}: {e}; build it first (make test does)", binary().display()))?;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (ready, waits) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains("siv is ready") {
                    let _ = ready.send(());
                }
            }
        });
        self.child = Some(child);
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if waits.recv_timeout(Duration::from_millis(50)).is_ok() {
                break;
            }
            let ended = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > end {
                self.kill();
                return Err(format!("siv did not become ready ({ended:?}):\n{}", tail(&self.log_text())));
            }
        }
        self.dev = serde_json::from_str(&fs::read_to_string(self.data().join("dev.json")).unwrap()).unwrap();
        Ok(())
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let pid = self.pid();
        if let Some(mut child) = self.child.take() {
            if self.wrapped {
                // A killed strace would leave the vault running.
                signal(pid, rustix::process::Signal::KILL);
            } else {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }

    /// SIGTERM; the exit code once it is gone, which is promised within 30 seconds.
    pub fn terminate(&mut self) -> Option<i32> {
        let pid = self.pid();
        let mut child = self.child.take()?;
        signal(pid, rustix::process::Signal::TERM);
        let end = Instant::now() + bound(Duration::from_secs(30), Duration::from_secs(90));
        while Instant::now() < end {
            if let Ok(Some(status)) = child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        signal(pid, rustix::process::Signal::KILL);
        let _ = child.wait();
        None
    }

    /// Waits until the process has ended by itself: the signal that ended it, if one did; nothing if it still runs after
    /// half a minute.
    pub fn ended_by(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        let end = Instant::now() + Duration::from_secs(30);
        while Instant::now() < end {
            if let Ok(Some(status)) = self.child.as_mut()?.try_wait() {
                self.child = None;
                return status.signal();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// True while the process runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    fn base(&self, listener: &str) -> String {
        self.dev[listener].as_str().unwrap_or_default().to_owned()
    }

    fn credential(&self, kind: &str) -> String {
        self.dev["credentials"][kind].as_str().unwrap_or_else(|| panic!("dev.json has no {kind} credential")).to_owned()
    }

    /// A browser: the public listener, no credential.
    pub fn browser(&self) -> Actor {
        Actor::new(&self.base("public"), None)
    }

    /// Somebody on the private network without a credential.
    pub fn stranger(&self) -> Actor {
        Actor::new(&self.base("private"), None)
    }

    /// The shop's server.
    pub fn app(&self) -> Actor {
        Actor::new(&self.base("private"), Some(&self.credential("app")))
    }

    /// The auditor.
    pub fn auditor(&self) -> Actor {
        Actor::new(&self.base("private"), Some(&self.credential("auditor")))
    }

    /// The operator.
    pub fn operator(&self) -> Actor {
        Actor::new(&self.base("private"), Some(&self.credential("operator")))
    }

    /// The key custodian.
    pub fn custodian(&self) -> Actor {
        Actor::new(&self.base("private"), Some(&self.credential("custodian")))
    }

    /// The holder of a flow's credential.
    pub fn flow(&self, name: &str) -> Actor {
        let bearer = self.dev["credentials"]["flows"][name].as_str().unwrap_or_else(|| panic!("no flow {name}"));
        Actor::new(&self.base("private"), Some(bearer))
    }

    /// The demo shop.
    pub fn shop(&self) -> Actor {
        Actor::new(&self.base("demo"), None)
    }

    /// A capture session for these fields: its token.
    pub async fn session(&self, fields: &[&str]) -> String {
        let body = json!({ "app": self.dev["app"], "fields": fields, "maxValues": 50 });
        let answer = self.app().post("/v1/capture/sessions", &body).await.expect(201);
        answer.json()["captureToken"].as_str().unwrap().to_owned()
    }

    /// Captures a value in the plain form, as a browser: its `secureValueKey`.
    pub async fn capture(&self, field: &str, value: &str) -> String {
        let token = self.session(&[field]).await;
        let browser = self.browser().with_bearer(&token);
        let answer = browser.post("/v1/capture/values", &json!({"values": [{"field": field, "value": value}]})).await;
        answer.expect(201).json()["values"][0]["secureValueKey"].as_str().unwrap().to_owned()
    }

    /// Invokes a flow.
    pub async fn invoke(&self, flow: &str, inputs: Value) -> Answer {
        self.flow(flow).post(&format!("/v1/flows/{flow}/invoke"), &json!({ "inputs": inputs })).await
    }

    /// The entries that match a filter such as `valueId=…`, newest state of all pages.
    pub async fn entries(&self, filter: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        for _ in 0..1000 {
            let path = format!("/v1/log/entries?limit=100&{filter}{cursor}");
            let page = self.auditor().get(&path).await.expect(200).json();
            all.extend(page["data"].as_array().cloned().unwrap_or_default());
            match page["page"]["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
        panic!("the pages do not end");
    }

    /// Runs a command of the binary with a credential of this vault.
    pub fn command(&self, credential: &str, arguments: &[&str]) -> std::process::Output {
        Command::new(binary())
            .args(arguments)
            .env("SIV_URL", self.base("private"))
            .env("SIV_CREDENTIAL", credential)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Exports the log as the auditor and verifies it offline; what the command printed.
    pub fn verify_log(&self) -> Result<String, String> {
        let out = self.folder.path().join(format!("bundle-{}", uuid::Uuid::new_v4()));
        let vkey = self.folder.path().join("vkey");
        fs::write(&vkey, format!("{}\n", self.dev["logVkey"].as_str().unwrap())).unwrap();
        let bearer = self.credential("auditor");
        let exported = self.command(&bearer, &["log", "export", "--out", path(&out)]);
        if !exported.status.success() {
            return Err(format!("export: {}", String::from_utf8_lossy(&exported.stderr)));
        }
        let checked = Command::new(binary())
            .args(["log", "verify", path(&out), "--vkey", path(&vkey)])
            .env_clear()
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
        if checked.status.success() { Ok(text) } else { Err(text) }
    }

    /// A folder beside the data, for what a test writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Siv {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The binary `siv` of this build: beside the folder of the test's own binary.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.ancestors().find(|folder| folder.join("siv").is_file() && folder.join("deps").is_dir());
    profile.map(|folder| folder.join("siv")).unwrap_or_else(|| PathBuf::from("siv"))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("TRACE")).collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
