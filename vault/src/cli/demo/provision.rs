//! Makes the demo's tenant, app, flows and credentials over the private listener, as an operator would. Repeatable.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::dev_file::{self, DevFile};
use crate::cli::failure::Failure;
use crate::domain::Clock;

use super::acquirer;

/// The tenant, the app and the destination of the demo.
pub(crate) const TENANT: &str = "demo";
const APP: &str = "demo-shop";
const DESTINATION: &str = "acquirer";

/// Just under the longest a credential may last.
const LIFETIME: Duration = Duration::from_secs(3_649 * 86_400);

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
    pub(crate) async fn run(&self, dev: &mut DevFile) -> Result<(), Failure> {
        let demo = self.folder.join("demo");
        std::fs::create_dir_all(&demo)
            .map_err(|error| Failure::new("the folder of the demo cannot be made").because(error))?;
        TENANT.clone_into(&mut dev.tenant);
        APP.clone_into(&mut dev.app);
        self.tenant().await?;
        let app = SHOP.replace(ORIGIN_WORD, self.origin);
        self.apply(&demo, &format!("/v1/apps/{APP}"), "demo-shop.toml", &app).await?;
        self.destination(&demo).await?;
        for (flow, document) in FLOWS {
            let document = document.replace(&format!("https://{ACQUIRER_WORD}"), &format!("http://{}", self.acquirer));
            self.apply(&demo, &format!("/v1/flows/{flow}"), &format!("{flow}.toml"), &document).await?;
        }
        self.credentials(dev).await
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

    /// Applies a document unless it is the one applied last.
    async fn apply(&self, demo: &Path, path: &str, file: &str, document: &str) -> Result<(), Failure> {
        let kept = demo.join(file);
        if std::fs::read_to_string(&kept).is_ok_and(|text| text.trim_end() == document.trim_end()) {
            return Ok(());
        }
        self.operator.put_toml(path, &[("tenant", TENANT.to_owned())], document.to_owned()).await?;
        keep(&kept, document)
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

    /// A credential that lasts as long as one may: a folder of `siv dev` can be taken up again after years.
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

fn keep(file: &Path, text: &str) -> Result<(), Failure> {
    dev_file::replace(file, text.trim_end())
        .map_err(|error| Failure::new(format!("{} cannot be written", file.display())).because(error))
}
