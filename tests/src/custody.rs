//! A served installation whose tenants bring their own keys: tokens in its environment, and a tenant at work for each.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::installation::{APP, FLOW, SETTINGS};
use super::process::children_of;
use super::siv::binary;
use super::token::{LABEL, PIN};
use super::{Actor, Answer, Installation, Postgres, Serving, Token};

/// So generous that only what never comes meets it; what upkeep does comes once a minute.
const LONG: Duration = Duration::from_secs(180);
/// The label of a key that a customer made themselves.
pub const OWN_KEY: &str = "customers-own";
/// The database of the key store that nodes share.
const KEYS: &str = "siv_keys";

/// The installation with its node.
pub struct Custody {
    serving: Option<Serving>,
    /// Where everything of it lies.
    pub installation: Installation,
    environment: Vec<(String, String)>,
    operator: String,
}

/// A tenant at work: who acts in it.
pub struct Customer {
    /// Its name.
    pub name: String,
    /// The custodian's credential.
    pub custodian: String,
    /// The second custodian's.
    pub second: String,
    /// The auditor's credential.
    pub auditor: String,
    app: String,
    flow: String,
}

impl Custody {
    /// A node that finds these tokens.
    pub fn of(tokens: &[&Token]) -> Self {
        Self::with_settings(tokens, "")
    }

    /// The same with further lines of settings.
    pub fn with_settings(tokens: &[&Token], more: &str) -> Self {
        Self::made(tokens, Installation::described_as(&format!("{more}\n{SETTINGS}")))
    }

    /// The first of two nodes on a server.
    pub fn on_postgres(tokens: &[&Token], postgres: &Postgres) -> Self {
        let keys = postgres.create_database(KEYS);
        Self::made(tokens, Installation::of_node("one", &postgres.address(), &keys))
    }

    /// The second node beside it.
    pub fn beside(&self, postgres: &Postgres) -> Self {
        let installation = self.installation.beside(&postgres.address(), &postgres.address_of(KEYS));
        Self::started(installation, self.environment.clone(), self.operator.clone())
    }

    fn made(tokens: &[&Token], installation: Installation) -> Self {
        let text = |text: &std::ffi::OsString| text.to_str().unwrap().to_owned();
        let variables = tokens.iter().flat_map(|token| &token.variables);
        let environment = variables.map(|(name, value)| (text(name), text(value))).collect();
        let operator = credential(&installation.init_in(&[]));
        Self::started(installation, environment, operator)
    }

    fn started(installation: Installation, environment: Vec<(String, String)>, operator: String) -> Self {
        let mut custody = Self { serving: None, installation, environment, operator };
        custody.begin();
        custody
    }

    /// Starts the node.
    pub fn begin(&mut self) {
        assert!(self.serving.is_none(), "it runs already");
        let serving = Serving::begin(&self.installation, &self.environment);
        self.serving = Some(serving.unwrap_or_else(|why| panic!("{why}")));
    }

    /// Ends the node in order.
    pub fn stop(&mut self) {
        self.serving.take().unwrap().stop();
    }

    /// Ends the node in order and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.begin();
    }

    /// A copy of its database (SQLite), taken while the node is ended for a moment: where it lies.
    pub fn put_aside(&mut self) -> PathBuf {
        let kept = self.folder().join("kept");
        self.stop();
        copied(&self.folder().join("rows"), &kept);
        self.begin();
        kept
    }

    /// Ends the node and puts such a copy in the place of its database.
    pub fn put_back(&mut self, kept: &Path) {
        self.stop();
        copied(kept, &self.folder().join("rows"));
    }

    /// Takes on the database of a checkpoint, which was put back while the node is ended, starts the node and confirms who acts in
    /// the tenant: what `siv recover` said.
    pub async fn recover(&mut self, customer: &Customer, checkpoint: &str) -> Value {
        let note = self.file("checkpoint", checkpoint);
        let recover = ["recover", "--accept-database-of", &note, "--json"];
        let done = self.installation.run_in(&self.environment, &recover);
        assert!(done.status.success(), "{}", text(&done));
        self.operator = credential(&done);
        self.begin();
        let (operator, tenant) = (self.actor(&self.operator), &customer.name);
        let listed = operator.get(&format!("/v1/credentials?tenant={tenant}&limit=100")).await.expect(200).json();
        for suspended in listed["data"].as_array().unwrap() {
            let id = suspended["credentialId"].as_str().unwrap();
            operator.post(&format!("/v1/credentials/{id}/confirm?tenant={tenant}"), &json!({})).await.expect(204);
        }
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// Starts the node again with one more line of settings.
    pub fn restart_with(&mut self, line: &str) {
        let settings = std::fs::read_to_string(self.installation.path()).unwrap();
        std::fs::write(self.installation.path(), format!("{line}\n{settings}")).unwrap();
        self.restart();
    }

    /// Starts the node again from a copy of the program; its path.
    pub fn serve_from_a_copy(&mut self) -> PathBuf {
        self.serving.take().unwrap().stop();
        let program = self.installation.folder.path().join("siv");
        // Not written by this process: a child that another test starts meanwhile would hold the file open, and it could not be run.
        let copied = std::process::Command::new("cp").arg(binary()).arg(&program).status();
        assert!(copied.unwrap().success());
        let serving = Serving::begin_as(&program, &self.installation, &self.environment);
        self.serving = Some(serving.unwrap_or_else(|why| panic!("{why}")));
        program
    }

    fn serving(&self) -> &Serving {
        self.serving.as_ref().expect("it runs")
    }

    /// The node's process id.
    pub fn pid(&self) -> u32 {
        self.serving().pid()
    }

    /// The processes that hold vendors' modules.
    pub fn workers(&self) -> Vec<u32> {
        children_of(self.pid())
    }

    /// Runs a command that speaks to this node, as the operator.
    pub fn operate(&self, arguments: &[&str]) -> Output {
        self.serving().command(&self.operator, arguments)
    }

    /// Runs a command that speaks to this node.
    pub fn command(&self, credential: &str, arguments: &[&str]) -> Output {
        self.serving().command(credential, arguments)
    }

    /// Runs such a command on a terminal, where this is typed.
    pub fn typed(&self, credential: &str, arguments: &[&str], typed: &str) -> Output {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        // No argument of ours has a space.
        let line = format!("{} {}", binary().display(), arguments.join(" "));
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("SIV_URL", &self.serving().private)
            .env("SIV_CREDENTIAL", credential)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("script of util-linux is there");
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> Output {
        let done = self.operate(arguments);
        assert!(done.status.success(), "{arguments:?}: {}", text(&done));
        done
    }

    /// A file of the installation with this content, for its owner only.
    pub fn file(&self, name: &str, content: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.installation.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// The options that name a token.
    pub fn options(&self, token: &Token, label: &str, pin: &str) -> Vec<String> {
        let module = token.module.display().to_string();
        let pin = self.file(&format!("pin-{label}"), pin);
        ["--key-provider", "hsm", "--module", &module, "--token", label, "--pin-file", &pin].map(str::to_owned).into()
    }

    /// The options that name a key of a token with the usual label and PIN, which its customer made themselves: now.
    pub fn own_key(&self, token: &Token) -> Vec<String> {
        token.keygen(OWN_KEY, &["--sensitive"]);
        let kek = ["--kek", OWN_KEY].map(str::to_owned);
        self.options(token, LABEL, PIN).into_iter().chain(kek).collect()
    }

    /// A tenant with its KEK in a token.
    pub fn customer_in(&self, name: &str, (token, label, pin): (&Token, &str, &str), cache_seconds: u16) -> Customer {
        self.customer(name, &words(&self.options(token, label, pin)), cache_seconds)
    }

    /// A tenant made with these options, at work.
    pub fn customer(&self, name: &str, options: &[&str], cache_seconds: u16) -> Customer {
        let seconds = cache_seconds.to_string();
        let create = ["tenant", "create", name, "--cache-seconds", &seconds, "--json"];
        self.done(&[&create[..], options].concat());
        let app = self.file("shop.toml", &APP.replacen("\"shop\"", &format!("\"{name}\""), 1));
        self.done(&["app", "apply", &app, "--tenant", name, "--json"]);
        let flow = self.file("flow.toml", &FLOW.replacen("\"shop\"", &format!("\"{name}\""), 1));
        self.done(&["flow", "apply", &flow, "--tenant", name, "--json"]);
        let of_kind = |kind: &str, bound: &[&str]| {
            let named = ["credential", "create", "--kind", kind, "--name", kind, "--tenant", name, "--json"];
            credential(&self.done(&[&named[..], bound].concat()))
        };
        Customer {
            name: name.to_owned(),
            custodian: of_kind("custodian", &[]),
            second: of_kind("custodian", &[]),
            auditor: of_kind("auditor", &[]),
            app: of_kind("app", &["--app", name]),
            flow: of_kind("flow", &["--flow", "card-summary"]),
        }
    }

    fn actor(&self, credential: &str) -> Actor {
        Actor::new(&self.serving().private, Some(credential))
    }

    /// Puts a value in: its key, or what was answered instead.
    pub async fn put(&self, customer: &Customer, value: &str) -> Result<String, Answer> {
        let item = json!({ "field": "card-number", "value": value });
        let answer = self.actor(&customer.app).post("/v1/values", &json!({ "items": [item] })).await;
        answer.json()["results"][0]["secureValueKey"].as_str().map(str::to_owned).ok_or(answer)
    }

    /// Invokes the flow on a value.
    pub async fn read(&self, customer: &Customer, key: &str) -> Answer {
        let inputs = json!({ "inputs": { "card": key } });
        self.actor(&customer.flow).post("/v1/flows/card-summary/invoke", &inputs).await
    }

    /// What `siv keys` prints for the custodian.
    pub fn keys(&self, customer: &Customer, arguments: &[&str]) -> Value {
        let done = self.command(&customer.custodian, &[&["keys"], arguments, &["--json"]].concat());
        assert!(done.status.success(), "{arguments:?}: {}", text(&done));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// The second custodian approves what was asked for: what the answer says.
    pub fn approve(&self, customer: &Customer, asked: &Value) -> Value {
        let (id, digest) = (&asked["approval"]["approvalId"], &asked["approval"]["digest"]);
        let (id, digest) = (id.as_str().expect("it is asked for"), digest.as_str().unwrap());
        let given = self.command(&customer.second, &["keys", "approve", id, "--digest", digest, "--json"]);
        assert!(given.status.success(), "{}", text(&given));
        serde_json::from_slice(&given.stdout).unwrap()
    }

    /// Why a tenant cannot be served, as `/readyz` says it.
    pub async fn reasons(&self, customer: &Customer) -> Value {
        let ready = Actor::new(&self.serving().private, None).get("/readyz").await;
        ready.json()["tenants"][&customer.name].clone()
    }

    /// The text of a scrape.
    pub async fn metrics(&self) -> String {
        Actor::new(&self.serving().private, None).get("/metrics").await.expect(200).text
    }

    /// The tenant's entries of an action.
    pub async fn entries(&self, customer: &Customer, action: &str) -> Vec<Value> {
        let path = format!("/v1/log/entries?limit=100&action={action}");
        let page = self.actor(&customer.auditor).get(&path).await.expect(200).json();
        page["data"].as_array().cloned().unwrap_or_default()
    }

    /// A checkpoint of the tenant's log.
    pub async fn checkpoint(&self, customer: &Customer) -> String {
        self.actor(&customer.auditor).checkpoint("").await
    }

    /// A bundle of the tenant's log, or what was answered instead; once there is a tree.
    pub async fn export(&self, customer: &Customer) -> Answer {
        let (auditor, end) = (self.actor(&customer.auditor), Instant::now() + LONG);
        loop {
            let answer = auditor.get("/v1/log/export").await;
            if answer.status != 409 || Instant::now() > end {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where everything of it lies.
    pub fn folder(&self) -> &Path {
        self.installation.folder.path()
    }
}

/// Asks until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let end = Instant::now() + LONG;
    while !ask().await {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn copied(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn credential(output: &Output) -> String {
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    document["credential"].as_str().unwrap_or_else(|| panic!("{}", text(output))).to_owned()
}

/// Options as a command takes them.
pub fn words(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

/// All that a command printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
