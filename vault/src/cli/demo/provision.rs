//! Makes the demo's tenant, app, flows and credentials over the private listener, as an operator would. Repeatable.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::dev_file::{self, DevFile};
use crate::cli::failure::Failure;
use crate::cli::refused::refused;
use crate::domain::Clock;

use super::acquirer;

/// The tenant, the app and the destination of the demo.
pub(crate) const TENANT: &str = "demo";
const APP: &str = "demo-shop";
const DESTINATION: &str = "acquirer";

/// Just under the longest a credential may last: a folder of `siv dev` can be taken up again after years.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3_649 * 86_400);

/// The addresses in the documents of the demo; those of this start take their place.
const ORIGIN_WORD: &str = "http://localhost:8090";
const ACQUIRER_WORD: &str = "acquirer.example";

const SHOP: &str = include_str!("demo-shop.toml");
const FLOWS: [(&str, &str); 4] = [
    ("charge-card", include_str!("charge-card.toml")),
    ("verify-password", include_str!("verify-password.toml")),
    ("card-summary", include_str!("card-summary.toml")),
    ("reveal-card", include_str!("reveal-card.toml")),
];

/// One of the demo's documents as it is meant to be now.
struct Stock {
    /// Where its kind is listed, and below which it is applied.
    list: &'static str,
    name: &'static str,
    text: String,
}

/// What the demo is made for: where the shop and the acquirer listen now.
pub(crate) struct Provision<'a> {
    /// The operator's client.
    pub(crate) operator: Client,
    /// The data folder; `demo/` in it keeps what was applied last.
    pub(crate) folder: &'a Path,
    /// The shop's origin.
    pub(crate) origin: &'a str,
    /// The acquirer.
    pub(crate) acquirer: SocketAddr,
}

impl Provision<'_> {
    /// Makes what is missing and applies what changed since the last start. Credentials made are kept in `dev` at once.
    /// What an operator changed since then is left alone; the sentences given back say so.
    pub(crate) async fn run(&self, dev: &mut DevFile) -> Result<Vec<String>, Failure> {
        let demo = self.folder.join("demo");
        std::fs::create_dir_all(&demo)
            .map_err(|error| Failure::new("the folder of the demo cannot be made").because(error))?;
        TENANT.clone_into(&mut dev.tenant);
        APP.clone_into(&mut dev.app);
        self.tenant().await?;
        let mut left = Vec::new();
        let app = Stock { list: "/v1/apps", name: APP, text: SHOP.replace(ORIGIN_WORD, self.origin) };
        left.extend(self.apply(&demo, &app).await?);
        self.destination(&demo).await?;
        for (flow, document) in FLOWS {
            let text = document.replace(&format!("https://{ACQUIRER_WORD}"), &format!("http://{}", self.acquirer));
            left.extend(self.apply(&demo, &Stock { list: "/v1/flows", name: flow, text }).await?);
        }
        self.credentials(dev).await?;
        Ok(left)
    }

    async fn tenant(&self) -> Result<(), Failure> {
        let body = json!({ "name": TENANT, "keyProvider": "local", "cacheSeconds": 300, "reveal": true });
        let (status, answer) = self.operator.exchange("/v1/tenants?tenant=-system", &body).await?;
        if status.is_success() || status == StatusCode::CONFLICT {
            return Ok(());
        }
        let detail = answer.get("detail").and_then(Value::as_str).unwrap_or_default().to_owned();
        Err(Failure::new("the demo's tenant cannot be made").because(format!("{status} {detail}")))
    }

    /// Applies a document of ours unless it is the one applied last, or somebody has put another in its place since.
    async fn apply(&self, demo: &Path, stock: &Stock) -> Result<Option<String>, Failure> {
        let (kept, versions) = (demo.join(format!("{}.toml", stock.name)), demo.join("versions.json"));
        if std::fs::read_to_string(&kept).is_ok_and(|text| text.trim_end() == stock.text.trim_end()) {
            return Ok(None);
        }
        let ours = versions_in(&versions).get(stock.name).copied();
        let now = self.version(stock).await?;
        // A start that ended between the vault's answer and its noting left version 1, which nobody else makes.
        if now.is_some_and(|now| now != ours.unwrap_or(1)) {
            return Ok(Some(self.left(stock, "it was changed in the vault")));
        }
        let path = format!("{}/{}", stock.list, stock.name);
        let query = [("tenant", TENANT.to_owned())];
        let (status, answer) = self.operator.offer_toml(&path, &query, stock.text.clone()).await?;
        if status == StatusCode::CONFLICT {
            return Ok(Some(self.left(stock, "what is in the vault depends on it as it is")));
        }
        if !status.is_success() {
            return Err(refused(status, &answer));
        }
        let mut known = versions_in(&versions);
        known.extend(answer.get("version").and_then(Value::as_u64).map(|version| (stock.name.to_owned(), version)));
        keep(&versions, &json!(known).to_string())?;
        keep(&kept, &stock.text)?;
        Ok(None)
    }

    /// The version of a document that the vault has now.
    async fn version(&self, stock: &Stock) -> Result<Option<u64>, Failure> {
        let listed = self.operator.list(stock.list, &[("tenant", TENANT.to_owned())]).await?;
        let mut items = listed.get("data").and_then(Value::as_array).into_iter().flatten();
        let own = items.find(|item| item.get("name").and_then(Value::as_str) == Some(stock.name));
        Ok(own.and_then(|item| item.get("version")).and_then(Value::as_u64))
    }

    fn left(&self, stock: &Stock, why: &str) -> String {
        let name = stock.name;
        if stock.list == "/v1/apps" {
            format!("the app {name} is left as it is: {why}; the demo shop needs {} in its origins", self.origin)
        } else {
            format!("the flow {name} is left as it is: {why}; the pretended acquirer is at http://{}", self.acquirer)
        }
    }

    async fn destination(&self, demo: &Path) -> Result<(), Failure> {
        let (kept, host) = (demo.join("acquirer"), self.acquirer.to_string());
        if std::fs::read_to_string(&kept).is_ok_and(|text| text.trim_end() == host) {
            return Ok(());
        }
        let body = json!({ "host": host, "secrets": { "apiKey": acquirer::KEY } });
        let path = format!("/v1/destinations/{DESTINATION}");
        self.operator.put(&path, &[("tenant", TENANT.to_owned())], &body).await?;
        keep(&kept, &host)
    }

    async fn credentials(&self, dev: &mut DevFile) -> Result<(), Failure> {
        if dev.credentials.custodian.is_empty() {
            dev.credentials.custodian =
                self.credential(&json!({ "kind": "custodian", "name": "demo custodian" })).await?;
            dev.write(self.folder)?;
        }
        if dev.credentials.app.is_empty() {
            let body = json!({ "kind": "app", "name": "demo shop", "app": APP });
            dev.credentials.app = self.credential(&body).await?;
            dev.write(self.folder)?;
        }
        if dev.credentials.auditor.is_empty() {
            dev.credentials.auditor = self.credential(&json!({ "kind": "auditor", "name": "demo auditor" })).await?;
            dev.write(self.folder)?;
        }
        for (flow, _) in FLOWS {
            if dev.credentials.flows.contains_key(flow) {
                continue;
            }
            let body = json!({ "kind": "flow", "name": format!("demo {flow}"), "flow": flow });
            dev.credentials.flows.insert(flow.to_owned(), self.credential(&body).await?);
            dev.write(self.folder)?;
        }
        Ok(())
    }

    /// A credential that lasts as long as one may.
    async fn credential(&self, body: &Value) -> Result<String, Failure> {
        let mut body = body.clone();
        body["expiresAt"] = json!(Clock::System.now().plus(LIFETIME));
        let made = self.operator.post("/v1/credentials", &[("tenant", TENANT.to_owned())], &body).await?;
        let credential = made.get("credential").and_then(Value::as_str);
        credential.map(str::to_owned).ok_or_else(|| Failure::new("the vault made a credential and did not show it"))
    }
}

/// Where the acquirer listened last time; the same port again saves a new version of the flow.
pub(crate) fn last_acquirer(folder: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(folder.join("demo/acquirer")).ok()?.trim().parse().ok()
}

/// The shop's port of the last start: the same origin again leaves the app as it is.
pub(crate) fn last_shop(dev: &DevFile) -> Option<u16> {
    url::Url::parse(&dev.demo).ok()?.port_or_known_default()
}

/// Which version of each document was ours.
fn versions_in(file: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn keep(file: &Path, text: &str) -> Result<(), Failure> {
    dev_file::replace(file, text.trim_end())
        .map_err(|error| Failure::new(format!("{} cannot be written", file.display())).because(error))
}
