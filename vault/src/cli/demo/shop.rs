//! The demo shop's server: the pages, and what a shop's own server does with secureValueKeys. It never has a value.

mod ledger;

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, header};
use hyper::body::Bytes;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::failure::Failure;

use super::pages;
use super::server::{self, Answer, Answers, Asked};

use ledger::Ledger;

/// The password the shop's only customer has, shown on its page, as the shop's database keeps it.
const CUSTOMER_PHC: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$dTr0tjMVFIgOFtO/CRQxMA$Np0De5RYOymRKcDN04SW1/mvT1VT1gnf4Akorrmu7fM";

/// What the shop needs to know of the vault.
#[derive(Debug)]
pub(crate) struct ShopSettings {
    /// The shop's own origin, the one its app admits.
    pub(crate) origin: String,
    /// The vault's origin as browsers see it.
    pub(crate) vault: String,
    /// The address of the private listener.
    pub(crate) private: String,
    /// The shop's app.
    pub(crate) app: String,
    /// Its credential.
    pub(crate) app_credential: SecretString,
    /// The credential of the flow `charge-card`.
    pub(crate) charge_card: SecretString,
    /// The credential of the flow `verify-password`.
    pub(crate) verify_password: SecretString,
    /// The auditor's credential: a real shop's server would not have it; the page shows what an auditor sees.
    pub(crate) auditor: SecretString,
}

/// The shop.
#[derive(Debug)]
pub(crate) struct Shop {
    origin: String,
    vault: String,
    app: String,
    script: String,
    integrity: String,
    as_app: Client,
    as_charge_card: Client,
    as_verify_password: Client,
    as_auditor: Client,
    ledger: Ledger,
}

impl Shop {
    /// Starts serving on a bound listener. The vault must be serving already: its script is hashed for the page's `integrity`.
    pub(crate) async fn start(listener: tokio::net::TcpListener, settings: ShopSettings) -> Result<(), Failure> {
        let script = format!("{}/client/{}/secure-input.js", settings.vault, env!("CARGO_PKG_VERSION"));
        let client = |credential| Client::new(&settings.private, credential);
        let shop = Self {
            integrity: Client::integrity_of(&script).await?,
            script,
            as_app: client(settings.app_credential)?,
            as_charge_card: client(settings.charge_card)?,
            as_verify_password: client(settings.verify_password)?,
            as_auditor: client(settings.auditor)?,
            origin: settings.origin,
            vault: settings.vault,
            app: settings.app,
            ledger: Ledger::default(),
        };
        tokio::spawn(server::serve(listener, Arc::new(shop)));
        Ok(())
    }

    fn page(&self, path: &str) -> Answer {
        let Some((media_type, text)) = pages::find(path) else { return server::empty(StatusCode::NOT_FOUND) };
        let mut body = text.to_owned();
        if media_type.starts_with("text/html") {
            for (word, value) in [
                ("{{vault}}", &self.vault),
                ("{{app}}", &self.app),
                ("{{script}}", &self.script),
                ("{{integrity}}", &self.integrity),
                ("{{console}}", &format!("{}/console/", self.as_auditor.base())),
            ] {
                body = body.replace(word, value);
            }
        }
        let mut answer = server::with(StatusCode::OK, media_type, Bytes::from(body));
        let policy = format!(
            "default-src 'none'; script-src 'self' {vault}; style-src 'self'; img-src 'self'; connect-src 'self'; \
             frame-src {vault}/f/{app}/; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'",
            vault = self.vault,
            app = self.app
        );
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        // The page is cross-origin isolated to show that the fields work in one.
        for (name, value) in [
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-embedder-policy", "require-corp"),
            ("referrer-policy", "no-referrer"),
            ("permissions-policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
        ] {
            answer.headers_mut().insert(header::HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        answer
    }

    async fn capture_session(&self, body: &Value) -> Result<Answer, Failure> {
        let fields = body.get("fields").cloned().unwrap_or_else(|| json!([]));
        let request = json!({ "app": self.app, "fields": fields, "subject": "demo-visitor" });
        let (status, answer) = self.as_app.exchange("/v1/capture/sessions", &request).await?;
        if !status.is_success() {
            return Ok(server::json(status, &answer));
        }
        let token = json!({ "captureToken": answer.get("captureToken"), "expiresAt": answer.get("expiresAt") });
        Ok(server::json(StatusCode::CREATED, &token))
    }

    async fn charge(&self, body: &Value) -> Result<Answer, Failure> {
        let member = |name: &str| body.get(name).cloned().unwrap_or(Value::Null);
        let request = json!({
            "inputs": {
                "card": member("card"), "cvc": member("cvc"), "amount": member("amount"), "order": member("order"),
            },
            "reference": member("order"),
            "onBehalfOf": "demo-visitor",
        });
        let (status, answer) = self.as_charge_card.exchange("/v1/flows/charge-card/invoke", &request).await?;
        Ok(server::json(status, &answer))
    }

    async fn login(&self, body: &Value) -> Result<Answer, Failure> {
        let password = body.get("password").cloned().unwrap_or(Value::Null);
        let request = json!({
            "inputs": { "password": password, "phc": CUSTOMER_PHC }, "onBehalfOf": "demo-visitor",
        });
        let (status, answer) = self.as_verify_password.exchange("/v1/flows/verify-password/invoke", &request).await?;
        Ok(server::json(status, &answer))
    }

    async fn accesses(&self) -> Result<Answer, Failure> {
        let mut entries = Vec::new();
        for value_id in self.ledger.value_ids() {
            let query = [("valueId", value_id.to_string())];
            let page = self.as_auditor.get("/v1/log/entries", &query).await?;
            entries.extend(page.get("data").and_then(Value::as_array).cloned().unwrap_or_default());
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.get("time").map(ToString::to_string)));
        Ok(server::json(StatusCode::OK, &json!({ "data": entries })))
    }

    async fn post(&self, asked: &Asked) -> Result<Answer, Failure> {
        let typed = asked.headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
        let (true, Some(body)) = (typed, asked.json()) else { return Ok(server::empty(StatusCode::BAD_REQUEST)) };
        self.ledger.saw(&asked.path, &body);
        match asked.path.as_str() {
            "/api/capture-session" => self.capture_session(&body).await,
            "/api/charge" => self.charge(&body).await,
            "/api/login" => self.login(&body).await,
            _ => Ok(server::empty(StatusCode::NOT_FOUND)),
        }
    }
}

/// The shop is one origin, the one its app admits: whoever opens it by the number of this machine is sent to its name.
fn elsewhere(origin: &str, headers: &http::HeaderMap, path: &str) -> Option<Answer> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let address = host.parse::<std::net::SocketAddr>().map(|address| address.ip());
    let number = address.or_else(|_| host.parse()).is_ok_and(|ip| ip.is_loopback());
    if !number || origin.split_once("://").is_some_and(|(_, own)| own == host) {
        return None;
    }
    let location = HeaderValue::from_str(&format!("{origin}{path}")).ok()?;
    let mut answer = server::empty(StatusCode::TEMPORARY_REDIRECT);
    answer.headers_mut().insert(header::LOCATION, location);
    Some(answer)
}

impl Answers for Shop {
    async fn answer(self: Arc<Self>, asked: Asked) -> Option<Answer> {
        let answered = match (&asked.method, asked.path.as_str()) {
            (&Method::POST, _) => self.post(&asked).await,
            (&Method::GET, "/api/seen") => Ok(server::json(StatusCode::OK, &json!({ "data": self.ledger.seen() }))),
            (&Method::GET, "/api/accesses") => self.accesses().await,
            (&Method::GET, path) => {
                Ok(elsewhere(&self.origin, &asked.headers, path).unwrap_or_else(|| self.page(path)))
            }
            _ => Ok(server::empty(StatusCode::METHOD_NOT_ALLOWED)),
        };
        Some(answered.unwrap_or_else(|failure| server::json(StatusCode::BAD_GATEWAY, &failure.to_json())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_by_number_is_sent_to_the_name() {
        let location = |host: &'static str| {
            let headers = http::HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            let answer = elsewhere("http://localhost:8090", &headers, "/login.html")?;
            Some(answer.headers()[header::LOCATION].to_str().unwrap().to_owned())
        };
        for number in ["127.0.0.1:8090", "127.0.0.1", "[::1]:8090"] {
            assert_eq!(location(number).as_deref(), Some("http://localhost:8090/login.html"), "{number}");
        }
        for own in ["localhost:8090", "shop.example", "192.0.2.7:8090"] {
            assert_eq!(location(own), None, "{own}");
        }
    }

    #[test]
    fn the_customer_has_the_password_the_page_shows() {
        use argon2::password_hash::{PasswordVerifier, phc::PasswordHash};
        let phc = PasswordHash::new(CUSTOMER_PHC).unwrap();
        let hasher = argon2::Argon2::default();
        assert!(hasher.verify_password(b"correct horse battery staple", &phc).is_ok());
        assert!(hasher.verify_password(b"correct horse battery", &phc).is_err());
    }
}
