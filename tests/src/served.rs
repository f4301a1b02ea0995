//! An installation that `siv serve` runs, on either engine, with a tenant at work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::installation::{self, APP, FLOW};
use super::{Actor, Answer, Installation, Postgres, Serving};

/// A node with its installation and the credentials of the tenant `acme`.
pub struct Served {
    serving: Option<Serving>,
    installation: Installation,
    environment: Vec<(String, String)>,
    /// Where it listens, or last did.
    private: String,
    public: String,
    operator: String,
    auditor: String,
    app: String,
    /// Flows with their credentials.
    flows: Vec<(&'static str, String)>,
}

/// Further fields of the app.
const FIELDS: &str = r#"
[fields.once]
type      = "card-number"
purposes  = ["support"]
flows     = ["peek"]
uses      = 1
[fields.brief]
type        = "card-number"
purposes    = ["support"]
flows       = ["glance"]
ttl_seconds = 10
"#;

/// Flows with the field each reads.
const FLOWS: [(&str, &str); 3] = [("card-summary", "card-number"), ("peek", "once"), ("glance", "brief")];

fn flow(name: &str, field: &str) -> String {
    FLOW.replace("card-summary", name).replace("card-number", field)
}

impl Served {
    /// On a file, serving.
    pub fn on_sqlite() -> Self {
        Self::on("sqlite:rows/siv.db", "")
    }

    /// On a server, serving.
    pub fn on_postgres(postgres: &Postgres) -> Self {
        Self::on(&postgres.address(), "")
    }

    /// On the database of this address, with further lines of settings.
    pub fn on(database: &str, more: &str) -> Self {
        let settings = installation::SETTINGS.replacen("sqlite:rows/siv.db", database, 1);
        let mut served = Self {
            serving: None,
            installation: Installation::described_as(&format!("{settings}{more}\n")),
            environment: Vec::new(),
            private: String::new(),
            public: String::new(),
            operator: String::new(),
            auditor: String::new(),
            app: String::new(),
            flows: Vec::new(),
        };
        served.operator = credential(&served.installation.init_in(&[]));
        served.begin().unwrap_or_else(|why| panic!("{why}"));
        served.put_to_work();
        served
    }

    fn put_to_work(&mut self) {
        let make = |arguments: &[&str]| {
            let made = self.command(&self.operator, arguments);
            assert!(made.status.success(), "{arguments:?}: {}", text(&made));
            made
        };
        let file = |name: &str, document: &str| {
            let path = self.folder().join(name);
            fs::write(&path, document).unwrap();
            path.display().to_string()
        };
        make(&["tenant", "create", "acme", "--cache-seconds", "60", "--json"]);
        make(&["app", "apply", &file("shop.toml", &format!("{APP}{FIELDS}")), "--tenant", "acme", "--json"]);
        for (name, field) in FLOWS {
            make(&["flow", "apply", &file(name, &flow(name, field)), "--tenant", "acme", "--json"]);
        }
        let credential_of = |kind: &str, bound: &[&str]| {
            let named = ["credential", "create", "--kind", kind, "--name", kind, "--tenant", "acme", "--json"];
            credential(&make(&[&named[..], bound].concat()))
        };
        let (auditor, app) = (credential_of("auditor", &[]), credential_of("app", &["--app", "shop"]));
        let flows = FLOWS.map(|(name, _)| (name, credential_of("flow", &["--flow", name])));
        (self.auditor, self.app, self.flows) = (auditor, app, flows.into());
    }

    /// A copy of everything of an installation whose node is stopped; nothing runs on it yet.
    pub fn copy_of(stopped: &Self) -> Self {
        assert!(stopped.serving.is_none(), "it runs");
        let folder = TempDir::new().unwrap();
        let from = stopped.folder().join(".");
        let copied = Command::new("cp").arg("-a").arg(from).arg(folder.path()).status().unwrap();
        assert!(copied.success());
        Self {
            serving: None,
            installation: Installation { folder },
            environment: Vec::new(),
            private: String::new(),
            public: String::new(),
            operator: stopped.operator.clone(),
            auditor: stopped.auditor.clone(),
            app: stopped.app.clone(),
            flows: stopped.flows.clone(),
        }
    }

    /// What the process finds in its environment from its next start on.
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// Starts the node; the error says what it printed instead of `siv is ready`.
    pub fn begin(&mut self) -> Result<(), String> {
        assert!(self.serving.is_none(), "it runs already");
        let serving = Serving::begin(&self.installation, &self.environment)?;
        (self.private, self.public) = (serving.private.clone(), serving.public.clone());
        self.serving = Some(serving);
        Ok(())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.serving.as_ref().map(Serving::pid).unwrap_or_default()
    }

    /// True while the process runs.
    pub fn runs(&mut self) -> bool {
        self.serving.as_mut().is_some_and(Serving::runs)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.serving = None;
    }

    /// SIGTERM; the exit code once it is gone.
    pub fn terminate(&mut self) -> Option<i32> {
        self.serving.take()?.terminate()
    }

    /// What is installed.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Where everything of it lies.
    pub fn folder(&self) -> &Path {
        self.installation.folder.path()
    }

    /// The database's file, on SQLite.
    pub fn database(&self) -> PathBuf {
        self.folder().join("rows/siv.db")
    }

    /// Everything the node wrote to standard error.
    pub fn log_text(&self) -> String {
        self.installation.log_text()
    }

    /// Somebody on the private network without a credential.
    pub fn stranger(&self) -> Actor {
        Actor::new(&self.private, None)
    }

    /// A browser: the public listener, no credential.
    pub fn browser(&self) -> Actor {
        Actor::new(&self.public, None)
    }

    /// The shop's server.
    pub fn app(&self) -> Actor {
        Actor::new(&self.private, Some(&self.app))
    }

    /// The tenant's auditor.
    pub fn auditor(&self) -> Actor {
        Actor::new(&self.private, Some(&self.auditor))
    }

    /// The installation's operator.
    pub fn operator(&self) -> Actor {
        Actor::new(&self.private, Some(&self.operator))
    }

    /// The holder of a flow's credential.
    pub fn flow(&self, name: &str) -> Actor {
        let (_, bearer) = self.flows.iter().find(|(known, _)| *known == name).unwrap();
        Actor::new(&self.private, Some(bearer))
    }

    /// Puts one value in as the shop's server: its key, or what was answered instead.
    pub async fn put(&self, field: &str) -> Result<String, Answer> {
        let item = json!({"field": field, "value": "4242424242424242"});
        let answer = self.app().post("/v1/values", &json!({"items": [item]})).await;
        answer.json()["results"][0]["secureValueKey"].as_str().map(str::to_owned).ok_or(answer)
    }

    /// Puts many in at once: a key for each text, in their order.
    pub async fn put_all(&self, field: &str, texts: &[&str]) -> Vec<String> {
        let items: Vec<Value> = texts.iter().map(|text| json!({"field": field, "value": text})).collect();
        let answer = self.app().post("/v1/values", &json!({ "items": items })).await.expect(200).json();
        let key = |result: &Value| result["secureValueKey"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned();
        answer["results"].as_array().unwrap().iter().map(key).collect()
    }

    /// Puts one in as soon as the node does that again by itself.
    pub async fn serves_again(&self) -> String {
        let served = async {
            loop {
                if let Ok(key) = self.put("card-number").await {
                    return key;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), served).await.expect("it goes on by itself")
    }

    /// The tenant's entries that match a filter such as `action=…`.
    pub async fn entries(&self, filter: &str) -> Vec<Value> {
        let mut all = Vec::new();
        self.each_entry(filter, |entry| all.push(entry.clone())).await;
        all
    }

    /// Shows each of them, however many there are.
    pub async fn each_entry(&self, filter: &str, mut see: impl FnMut(&Value)) {
        let (auditor, mut cursor) = (self.auditor(), String::new());
        for _ in 0..200_000 {
            let path = format!("/v1/log/entries?limit=100&{filter}{cursor}");
            let page = retried(|| auditor.get(&path)).await.expect(200).json();
            page["data"].as_array().into_iter().flatten().for_each(&mut see);
            match page["page"]["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return,
            }
        }
        panic!("the pages do not end");
    }

    /// Exports the tenant's log as the auditor and verifies it offline.
    pub fn verify_log(&self) -> Result<(), String> {
        let named = |name: &str| self.folder().join(name).display().to_string();
        let (out, file) = (named(&format!("bundle-{}", uuid::Uuid::new_v4())), named("vkey"));
        let vkey = self.command(&self.auditor, &["log", "vkey"]);
        fs::write(&file, &vkey.stdout).map_err(|error| error.to_string())?;
        let exported = self.command(&self.auditor, &["log", "export", "--out", &out]);
        let verified = self.command("", &["log", "verify", &out, "--vkey", &file]);
        let _ = fs::remove_dir_all(&out);
        for done in [&vkey, &exported, &verified] {
            if !done.status.success() {
                return Err(text(done));
            }
        }
        Ok(())
    }

    /// Runs a command that speaks to this node.
    pub fn command(&self, credential: &str, arguments: &[&str]) -> Output {
        self.serving.as_ref().expect("it runs").command(credential, arguments)
    }

    /// Runs a command that reads the settings.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.installation.run(arguments)
    }
}

/// Asks again while the answer is 503, as its `Retry-After` says; not for ever.
pub async fn retried<F: Future<Output = Answer>>(ask: impl Fn() -> F) -> Answer {
    for _ in 0..60 {
        let answer = ask().await;
        if answer.status != 503 {
            return answer;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    ask().await
}

fn credential(output: &Output) -> String {
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    document["credential"].as_str().unwrap_or_else(|| panic!("{}", text(output))).to_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
