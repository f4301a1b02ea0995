//! A vault for one test: real rooms in a temporary folder, a demo tenant made through the routes themselves.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::access_log::NodeIdentity;
use crate::capture::Capture;
use crate::domain::credential::CredentialRecord;
use crate::domain::{
    Actor, Clock, Credential, CredentialId, CredentialKind, Origin, RequestContext, RequestId, TenantName,
};
use crate::flows::{EgressPolicy, Passwords, Relay, Runner};
use crate::http::{Rooms, Settings, State, router};
use crate::keys::{Keys, MacPurpose, RootKeySource};
use crate::store::administration::{Act, Administrator, credential_message};
use crate::store::records::StoredCredential;
use crate::store::{Catalog, Committer, DatabaseSettings, Store};

/// The demo app.
pub(super) const APP: &str = r#"
name = "demo-shop"
origins = ["https://shop.example"]
[fields.card-number]
type = "card-number"
retention = "stored"
purposes = ["payment", "support"]
flows = ["card-summary"]
[fields.note]
type = "text"
"#;

/// A flow of it.
pub(super) const FLOW: &str = r#"
name = "card-summary"
purpose = "support"
app = "demo-shop"
[inputs]
card = { secure = "card-number" }
[outputs]
last4 = "{{ inputs.card | last4 }}"
"#;

pub(super) struct Vault {
    pub(super) state: State,
    pub(super) credentials: BTreeMap<&'static str, String>,
    public: Router,
    private: Router,
    _folder: TempDir,
}

/// An answer as a test looks at it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub(super) fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }

    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

/// A body as a test sends it.
pub(super) enum Sent<'a> {
    Nothing,
    Json(Value),
    Text(&'a str, &'a str),
}

impl Vault {
    /// A vault with nothing but its first operator.
    pub(super) async fn bare() -> Self {
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let folder = tempfile::tempdir().unwrap();
        let (rooms, operator) = rooms(&folder).await;
        let settings = Settings {
            public_origin: "https://vault.example".to_owned(),
            plain_capture: true,
            default_tenant: Some("demo".parse().unwrap()),
            ..Settings::default()
        };
        let state = State::new(rooms, settings);
        let (public, private) = (router::public(&state), router::private(&state, Router::new()));
        let credentials = BTreeMap::from([("operator", operator)]);
        Self { state, credentials, public, private, _folder: folder }
    }

    /// A vault with the demo tenant, its app, its flow and a credential of each kind.
    pub(super) async fn demo() -> Self {
        let mut vault = Self::bare().await;
        vault.ask("POST", "/v1/tenants", "operator", Sent::Json(json!({"name": "demo"}))).await.expect(201);
        let toml = "application/toml";
        vault.ask("PUT", "/v1/apps/demo-shop", "operator", Sent::Text(toml, APP)).await.expect(200);
        vault.ask("PUT", "/v1/flows/card-summary", "operator", Sent::Text(toml, FLOW)).await.expect(200);
        for (kind, more) in [
            ("app", json!({"app": "demo-shop"})),
            ("flow", json!({"flow": "card-summary"})),
            ("auditor", json!({})),
            ("custodian", json!({})),
        ] {
            let mut body = json!({"kind": kind, "name": format!("the {kind}")});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let made = vault.ask("POST", "/v1/credentials", "operator", Sent::Json(body)).await.expect(201).json();
            vault.credentials.insert(kind, made["credential"].as_str().unwrap().to_owned());
        }
        vault
    }

    /// Asks the private listener as one of the known callers, or with that very bearer, or as nobody.
    pub(super) async fn ask(&self, method: &str, path: &str, who: &str, sent: Sent<'_>) -> Answer {
        self.send(&self.private, method, path, who, sent, &[]).await
    }

    /// The same with headers.
    pub(super) async fn ask_with(
        &self,
        method: &str,
        path: &str,
        who: &str,
        sent: Sent<'_>,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.send(&self.private, method, path, who, sent, headers).await
    }

    /// Asks the public listener.
    pub(super) async fn browse(
        &self,
        method: &str,
        path: &str,
        who: &str,
        sent: Sent<'_>,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.send(&self.public, method, path, who, sent, headers).await
    }

    async fn send(
        &self,
        router: &Router,
        method: &str,
        path: &str,
        who: &str,
        sent: Sent<'_>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        let bearer = self.credentials.get(who).map_or(who, String::as_str);
        if !bearer.is_empty() {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match sent {
            Sent::Nothing => request.body(Body::empty()),
            Sent::Json(body) => request.header("content-type", "application/json").body(Body::from(body.to_string())),
            Sent::Text(kind, body) => request.header("content-type", kind).body(Body::from(body.to_owned())),
        };
        let (parts, body) = router.clone().oneshot(request.unwrap()).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// The entries of the demo tenant's log with this action.
    pub(super) async fn entries(&self, action: &str) -> Vec<Value> {
        let path = format!("/v1/log/entries?limit=1000&action={action}");
        let listed = self.ask("GET", &path, "auditor", Sent::Nothing).await.expect(200).json();
        listed["data"].as_array().unwrap().clone()
    }
}

async fn rooms(folder: &TempDir) -> (Rooms, String) {
    let clock = Clock::System;
    let root = RootKeySource::FileBeside(folder.path().join("root.key"));
    let realm: crate::domain::Realm = "test".parse().unwrap();
    let key_store = folder.path().join("keys");
    let keys = Keys::create_or_open(&key_store, root, realm.clone(), clock.clone(), true).await.unwrap();
    let database = DatabaseSettings::Sqlite { path: folder.path().join("siv.db") };
    let store = Store::open(&database, keys.clone(), clock.clone()).await.unwrap();
    let identity = NodeIdentity::generate(realm, "node-1", "siv/test", clock.now()).unwrap();
    let committer = Committer::start(store.clone(), keys.clone(), clock.clone(), identity).await.unwrap();
    let catalog = Catalog::start(store.clone());
    let operator = operator(&keys, &committer, &clock).await;
    catalog.refresh(&TenantName::system());
    let egress = EgressPolicy { allow_loopback_http: true, ..EgressPolicy::default() };
    let relay = Relay::new(egress.clone());
    let parts = (store.clone(), committer.clone(), keys.clone(), catalog.clone(), clock.clone());
    let (a, b, c, d, e) = parts.clone();
    let runner = Runner::new(a, b, c, d, e, (relay, Passwords::new(1)));
    let (a, b, c, d, e) = parts;
    let capture = Capture::new(a, b, c, d, e);
    (Rooms { store, committer, keys, catalog, capture, runner, egress, clock }, operator)
}

#[expect(clippy::disallowed_methods, reason = "a test shows itself its first credential")]
async fn operator(keys: &Keys, committer: &Committer, clock: &Clock) -> String {
    let now = clock.now();
    let id = CredentialId::generate(now);
    let credential = Credential::generate(CredentialKind::Operator, *id.as_bytes()).unwrap();
    let record = CredentialRecord {
        credential_id: id,
        kind: CredentialKind::Operator,
        name: "first operator".to_owned(),
        app: None,
        flow: None,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        suspended: false,
    };
    let message = credential_message(&credential, &record, &TenantName::system(), keys.realm());
    let hash = keys.mac(MacPurpose::Credential).mac(&message);
    let by = Administrator {
        tenant: TenantName::system(),
        generation: None,
        context: RequestContext {
            request_id: RequestId::generate(now),
            actor: Actor::anonymous(),
            on_behalf_of: None,
            origin: Origin::default(),
            reference: None,
        },
        realm: keys.realm().clone(),
        deadline: now.plus(std::time::Duration::from_secs(10)),
    };
    let act = Act::create_credential(by, &StoredCredential { record, hash }).unwrap();
    committer.submit(act).await.unwrap();
    credential.expose_secret().to_owned()
}
