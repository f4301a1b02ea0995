//! A vault to be measured: `siv init` and `siv serve` on a database, a tenant with an app and two flows, and its targets.

use std::time::Duration;

use serde_json::{Value, json};
use tests::installation::{FLOW, SETTINGS};
use tests::token::LABEL;
use tests::{Actor, Installation, Serving, Token};

use super::acknowledged::Acknowledged;
use super::custody;
use super::database::{Databases, Rows};
use super::load;
use super::request::{self, Cards, SAMPLE, Target};

/// The tenant that is measured.
pub const TENANT: &str = "bench";
/// Items of one request of the bulk route.
pub const BULK: usize = 1_000;

const APP: &str = r#"
name    = "shop"
origins = ["https://shop.example"]
[fields.card-number]
type        = "card-number"
retention   = "stored"
purposes    = ["support"]
flows       = ["card-summary", "reveal-card"]
ttl_seconds = 31536000
"#;
const REVEAL: &str = r#"
name    = "reveal-card"
purpose = "support"
app     = "shop"
reveal  = ["card"]
[inputs]
card = { secure = "card-number" }
[outputs]
card = "{{ inputs.card }}"
"#;
/// The limits of a node stand far above what is measured: a refusal is one of the machine, not of a rule.
const LIMITS: &str = "[limits]\nrequests_per_second = 10000000\ncaptures_per_minute = 600000000\n\
                      open_sessions_per_minute = 60000\ncredential_per_second = 10000000\n";

/// A running vault.
pub struct Vault {
    /// Its folder and settings.
    pub installation: Installation,
    environment: Vec<(String, String)>,
    serving: Option<Serving>,
    /// Where its rows are.
    pub rows: Rows,
    /// Credentials.
    operator: String,
    app: String,
    auditor: String,
    flows: [String; 2],
    cards: Cards,
    /// Keys of values that are there to be used.
    pub stored: Vec<String>,
    /// What it acknowledged.
    pub acknowledged: Acknowledged,
}

impl Vault {
    /// A vault of its own on a database of that name, with so many values in it.
    pub async fn start(name: &str, values: u64, databases: &Databases, cards: &Cards) -> Self {
        Self::start_in(None, name, values, databases, cards).await
    }

    /// The same, with its tenant's key in a token if one is named.
    pub async fn start_in(
        token: Option<&Token>,
        name: &str,
        values: u64,
        databases: &Databases,
        cards: &Cards,
    ) -> Self {
        let address = databases.create(name).await;
        let database = address.clone().unwrap_or_else(|| "sqlite:rows/siv.db".to_owned());
        let settings = SETTINGS.replacen("sqlite:rows/siv.db", &database, 1);
        let installation = Installation::described_as(&format!("plain_capture = true\n{settings}{LIMITS}"));
        let operator = credential(&installation.init());
        let text = |text: &std::ffi::OsString| text.to_str().unwrap().to_owned();
        let variables = token.iter().flat_map(|token| &token.variables);
        let environment: Vec<_> = variables.map(|(name, value)| (text(name), text(value))).collect();
        let serving = Serving::begin(&installation, &environment).unwrap_or_else(|why| panic!("{why}"));
        let rows = match address {
            Some(address) => Rows::Postgres(address),
            None => Rows::Sqlite(installation.folder.path().join("rows/siv.db")),
        };
        let cards = cards.clone();
        let mut vault = Self {
            installation,
            environment,
            serving: Some(serving),
            rows,
            operator,
            app: String::new(),
            auditor: String::new(),
            flows: Default::default(),
            cards,
            stored: Vec::new(),
            acknowledged: Acknowledged::default(),
        };
        vault.app = vault.tenant(TENANT, token.map(|token| custody::described(token, LABEL))).await;
        vault.auditor = vault.credential(TENANT, "auditor", "").await;
        for (flow, document, place) in [("card-summary", FLOW, 0), ("reveal-card", REVEAL, 1)] {
            vault.apply(&format!("flows/{flow}"), TENANT, document).await;
            vault.flows[place] = vault.credential(TENANT, "flow", flow).await;
        }
        vault.preload(values).await;
        vault
    }

    fn operator(&self) -> Actor {
        Actor::new(&self.serving().private, Some(&self.operator))
    }

    /// Makes a tenant with an app, its key in the token that is described; the app's credential.
    pub async fn tenant(&self, name: &str, token: Option<Value>) -> String {
        let mut tenant = json!({"name": name, "keyProvider": "local", "cacheSeconds": 300, "reveal": true});
        if let Some(token) = token {
            (tenant["keyProvider"], tenant["hsm"]) = ("hsm".into(), token);
        }
        self.operator().post("/v1/tenants", &tenant).await.expect(201);
        let app = if name == TENANT { "shop" } else { name };
        self.apply(&format!("apps/{app}"), name, &APP.replacen("\"shop\"", &format!("\"{app}\""), 1)).await;
        self.credential(name, "app", app).await
    }

    async fn apply(&self, path: &str, tenant: &str, document: &str) {
        let answer = self.operator().put_toml(&format!("/v1/{path}?tenant={tenant}"), document).await;
        assert!(answer.status < 300, "{path}: {}", answer.text);
    }

    async fn credential(&self, tenant: &str, kind: &str, bound: &str) -> String {
        let mut asked = json!({"kind": kind, "name": format!("{kind} {bound}")});
        if !bound.is_empty() {
            asked[kind] = bound.into();
        }
        let made = self.operator().post(&format!("/v1/credentials?tenant={tenant}"), &asked).await.expect(201);
        credential(&made.json())
    }

    /// A tenant's custodian.
    pub async fn custodian(&self, tenant: &str) -> Actor {
        Actor::new(&self.serving().private, Some(&self.credential(tenant, "custodian", "").await))
    }

    fn serving(&self) -> &Serving {
        self.serving.as_ref().expect("it runs")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.serving().pid()
    }

    /// The shop's server.
    pub fn app(&self) -> Actor {
        Actor::new(&self.serving().private, Some(&self.app))
    }

    /// A browser without a token.
    pub fn browser(&self) -> Actor {
        Actor::new(&self.serving().public, None)
    }

    /// Captures values until there are so many. What is refused is sent again: that is not measured.
    pub async fn preload(&mut self, values: u64) {
        let batch = BULK as u64;
        let requests = values.div_ceil(batch);
        let (mut left, mut idle) = (requests, 0);
        while left > 0 {
            let mut target = self.bulk();
            target.fill = request::only(left, target.fill);
            // The first batch's keys are what the flows use.
            target.keep_one_of = u64::from(self.stored.is_empty());
            let mut slice = load::closed(&target, 4, Duration::from_secs(5)).await;
            if self.stored.is_empty() {
                self.stored.clone_from(&slice.keys);
                self.stored.truncate(BULK);
            }
            self.acknowledged.take(&mut slice);
            idle = if slice.done == 0 { idle + 1 } else { 0 };
            assert!(idle < 6, "no value can be put in: {:?}", slice.complaint);
            left = left.saturating_sub(slice.done);
            if let Some(complaint) = slice.complaint {
                eprintln!("  {} batches were refused and are sent again: {complaint}", slice.refused);
            }
            if requests > 20 {
                eprintln!("  {} of {values} values are in", (requests - left) * batch);
            }
        }
    }

    fn target(&self, name: &'static str, path: &str, bearer: &str, body: &Value) -> Target {
        let host = host(&self.serving().private);
        let request = request::post(&host, path, Some(bearer), body);
        let fill = self.cards.put_into(request);
        Target { name, server: self.pid(), fill, host, proofs: &["secureValueKey"], values: 1, keep_one_of: SAMPLE }
    }

    /// A capture of one value by the app's server.
    pub fn capture(&self) -> Target {
        self.target("siv capture, server side", "/v1/values", &self.app, &request::items(1))
    }

    /// A thousand values in one request.
    pub fn bulk(&self) -> Target {
        let target = self.target("siv bulk", "/v1/values", &self.app, &request::items(BULK));
        Target { values: BULK as u64, keep_one_of: 0, ..target }
    }

    /// A use of stored values by a flow: the one that shows four digits, or the one that reveals.
    pub fn invoke(&self, reveals: bool) -> Target {
        let (name, flow, proofs): (_, _, &[_]) = match reveals {
            false => ("siv invoke, mask", "card-summary", &["last4"]),
            true => ("siv invoke, reveal", "reveal-card", &["\"card\""]),
        };
        let bearer = &self.flows[usize::from(reveals)];
        Target { proofs, ..self.invoke_of(&self.stored, (name, flow), bearer) }
    }

    fn invoke_of(&self, keys: &[String], (name, flow): (&'static str, &str), by: &str) -> Target {
        let host = host(&self.serving().private);
        let path = format!("/v1/flows/{flow}/invoke");
        let request = |key: &String| request::post(&host, &path, Some(by), &json!({"inputs": {"card": key}}));
        let fill = request::in_turn(keys.iter().map(request).collect());
        Target { name, server: self.pid(), fill, host, proofs: &["last4"], values: 0, keep_one_of: SAMPLE }
    }

    /// One use of each of these keys.
    pub fn open_each(&self, keys: &[String]) -> Target {
        let target = self.invoke_of(keys, ("opening", "card-summary"), &self.flows[0]);
        Target { keep_one_of: 0, fill: request::only(keys.len() as u64, target.fill), ..target }
    }

    /// Four captures to one use.
    pub fn mixed(&self) -> Target {
        let (capture, invoke) = (self.capture(), self.invoke(false));
        let fill = request::four_to_one(capture.fill, invoke.fill);
        Target { name: "siv mixed, 80 captures to 20 uses", fill, proofs: &["secureValueKey", "last4"], ..capture }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.serving = None;
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop();
        }
    }

    /// Starts it again.
    pub fn start_again(&mut self) -> Result<(), String> {
        self.serving = Some(Serving::begin(&self.installation, &self.environment)?);
        Ok(())
    }

    /// Exports the log as the auditor and verifies it offline.
    pub fn verify_log(&self) -> Result<String, String> {
        let (folder, serving) = (self.installation.folder.path(), self.serving());
        let told = |output: std::process::Output| match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        };
        let vkey = folder.join("vkey");
        std::fs::write(&vkey, told(serving.command(&self.auditor, &["log", "vkey"]))?).unwrap();
        let bundle = folder.join("bundle");
        let _ = std::fs::remove_dir_all(&bundle);
        let [vkey, bundle] = [&vkey, &bundle].map(|path| path.to_str().unwrap());
        told(serving.command(&self.auditor, &["log", "export", "--out", bundle]))?;
        told(serving.command("", &["log", "verify", bundle, "--vkey", vkey]))
    }
}

fn credential(document: &Value) -> String {
    document["credential"].as_str().unwrap().to_owned()
}

/// Host and port of a base address.
pub fn host(base: &str) -> String {
    base.trim_start_matches("http://").to_owned()
}
