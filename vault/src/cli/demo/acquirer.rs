//! A pretended acquirer on loopback: `POST /v1/charges` approves or declines by test number. It keeps no body and logs none.
//!
//! `{"number","cvc","amount","reference"}` → 200 `{"id":"ch_…","status":"approved"}`; the number 4000 0000 0000 0002 is declined.
//! References that begin with one of these words make it misbehave, for tests and for the curious:
//!
//! | reference | what it does |
//! |---|---|
//! | `test-hang` | never answers |
//! | `test-close` | closes the connection after it has read the charge |
//! | `test-slow` | answers after two seconds |
//! | `test-error` | 500 with a text that repeats the number |
//! | `test-echo` | 200 whose `id` holds the number |
//! | `test-redirect` | 307 to another address |
//!
//! `GET /v1/charges` → `{"charges":{"<reference>":n}}`: how often each reference was charged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::server::{self, Answer, Answers, Asked};

/// What it wants to see as a bearer; a real one would not stand in a program.
pub(super) const KEY: &str = "demo-acquirer-key";

/// The number that is declined, as real acquirers' test environments have one.
const DECLINED: &str = "4000000000000002";

/// References kept; older ones are forgotten.
const KEPT: usize = 10_000;

/// The acquirer.
#[derive(Debug, Default)]
pub(crate) struct Acquirer {
    charges: Mutex<BTreeMap<String, u64>>,
}

impl Acquirer {
    /// Starts it at `wanted`, or at a free port where that is taken. The address it has.
    pub(crate) async fn start(wanted: SocketAddr) -> std::io::Result<SocketAddr> {
        let (listener, address) = match server::bind(wanted).await {
            Ok(bound) => bound,
            Err(_) => server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?,
        };
        tokio::spawn(server::serve(listener, Arc::new(Self::default())));
        Ok(address)
    }

    fn count(&self, reference: &str) {
        let mut charges = self.charges.lock().unwrap_or_else(PoisonError::into_inner);
        if charges.len() >= KEPT {
            charges.clear();
        }
        *charges.entry(reference.to_owned()).or_default() += 1;
    }

    async fn charge(&self, asked: &Asked) -> Option<Answer> {
        let bearer = asked.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if bearer.and_then(|text| text.strip_prefix("Bearer ")) != Some(KEY) {
            return Some(server::empty(StatusCode::UNAUTHORIZED));
        }
        let Some(charge) = asked.json() else { return Some(server::empty(StatusCode::BAD_REQUEST)) };
        let text = |name: &str| charge.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = text("number");
        let sound = (12..=19).contains(&number.len()) && (3..=4).contains(&text("cvc").len());
        if !sound || !charge.get("amount").is_some_and(Value::is_u64) {
            return Some(server::empty(StatusCode::UNPROCESSABLE_ENTITY));
        }
        let reference = text("reference");
        self.count(reference);
        let id = format!("ch_{}", Uuid::now_v7().simple());
        let status = if number == DECLINED { "declined" } else { "approved" };
        match misbehaviour(reference) {
            Some("test-hang") => std::future::pending().await,
            Some("test-close") => return None,
            Some("test-slow") => tokio::time::sleep(Duration::from_secs(2)).await,
            Some("test-error") => {
                let text = json!({ "error": format!("cannot charge {number}") });
                return Some(server::json(StatusCode::INTERNAL_SERVER_ERROR, &text));
            }
            Some("test-echo") => {
                let echo = json!({ "id": format!("ch_{number}"), "status": status });
                return Some(server::json(StatusCode::OK, &echo));
            }
            Some("test-redirect") => {
                let mut answer = server::empty(StatusCode::TEMPORARY_REDIRECT);
                let elsewhere = HeaderValue::from_static("http://127.0.0.1:9/v1/charges");
                answer.headers_mut().insert(header::LOCATION, elsewhere);
                return Some(answer);
            }
            _ => {}
        }
        Some(server::json(StatusCode::OK, &json!({ "id": id, "status": status })))
    }
}

fn misbehaviour(reference: &str) -> Option<&'static str> {
    ["test-hang", "test-close", "test-slow", "test-error", "test-echo", "test-redirect"]
        .into_iter()
        .find(|word| reference.starts_with(word))
}

impl Answers for Acquirer {
    async fn answer(self: Arc<Self>, asked: Asked) -> Option<Answer> {
        match (&asked.method, asked.path.as_str()) {
            (&Method::POST, "/v1/charges") => self.charge(&asked).await,
            (&Method::GET, "/v1/charges") => {
                let charges = self.charges.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Some(server::json(StatusCode::OK, &json!({ "charges": charges })))
            }
            _ => Some(server::empty(StatusCode::NOT_FOUND)),
        }
    }
}
