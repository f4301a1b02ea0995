//! A node that was started without its root key (`root_key = "sealed"`): it lives, says that it is sealed, takes a passphrase on
//! the private listener, and answers everything else 503 `tenant.sealed`. It holds ciphertext and knows of no tenant.
//!
//! Whoever reaches the private listener may try a passphrase: before the root key is here, no credential can be checked. So one
//! try is under way at a time, each costs what Argon2id costs, a refused one makes its address wait, all are traced here and
//! stand in the system's log once the node is open.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;

use super::authentication::arrival;
use super::dress::{Arrival, Desk, carrying_plaintext, dress};
use super::edge::Listener;
use super::edge::listener::accept;
use super::json::{RawBody, SensitiveText};
use super::metrics::{Metrics, scrape_sealed};
use super::problem::{Code, Problem};
use super::router::{private_routes, public_routes};
use super::routes::health::{Readiness, alive, answer};
use super::settings::Settings;
use super::unseal_tries::{RefusedTries, Tries};
use crate::domain::{Clock, Timestamp};
use crate::keys::{Error, Keys, RootKeySource, SealedKeys};

/// A request with a passphrase is no longer than this.
const BODY: usize = 8 * 1024;
/// It has so long to come.
const PATIENCE: Duration = Duration::from_secs(3);
/// After a refusal nobody may try for so long: this bounds how many guesses all addresses together make.
const PAUSE: Duration = Duration::from_secs(1);
/// So long a try waits for those before it.
const TURN: Duration = Duration::from_secs(60);
/// How long a sealed node lets its answers go out when it ends or opens.
const GRACE: Duration = Duration::from_secs(5);

/// A passphrase.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unseal {
    /// What the root key is made from.
    #[schema(value_type = String)]
    passphrase: SensitiveText,
}

/// How a node was opened.
pub struct Unsealed {
    /// Its keys.
    pub keys: Keys,
    /// Who brought the passphrase.
    pub(crate) by: Arrival,
    /// The tries that were refused before.
    pub refused: Vec<RefusedTries>,
}

impl std::fmt::Debug for Unsealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unsealed").field("by", &self.by).field("refused", &self.refused).finish_non_exhaustive()
    }
}

/// A sealed node. Clones share it.
#[derive(Clone)]
pub struct SealedNode {
    inner: Arc<Inner>,
}

struct Inner {
    keys: SealedKeys,
    settings: Arc<Settings>,
    clock: Clock,
    started: Timestamp,
    public: Arc<Metrics>,
    private: Arc<Metrics>,
    tries: Tries,
    /// Held by the one try under way; true once a passphrase was right.
    turn: Arc<tokio::sync::Mutex<bool>>,
    unsealed: Mutex<Option<Unsealed>>,
    opened: Notify,
}

impl SealedNode {
    /// A node around a key store that was found.
    #[must_use]
    pub fn new(keys: SealedKeys, settings: Settings, clock: Clock) -> Self {
        let inner = Inner {
            keys,
            settings: Arc::new(settings),
            started: clock.now(),
            clock,
            public: Arc::default(),
            private: Arc::default(),
            tries: Tries::default(),
            turn: Arc::default(),
            unsealed: Mutex::default(),
            opened: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Waits for the right passphrase. To be called once.
    pub async fn unsealed(&self) -> Unsealed {
        loop {
            let opened = self.inner.opened.notified();
            if let Some(unsealed) = self.inner.unsealed.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return unsealed;
            }
            opened.await;
        }
    }

    /// Tries a passphrase, if it is somebody's turn.
    async fn open(&self, passphrase: SensitiveText, by: Arrival) -> Result<(), Problem> {
        let inner = &self.inner;
        let _waits = inner.tries.line_up(by.address)?;
        // In the order in which they came.
        let turn = tokio::time::timeout(TURN, Arc::clone(&inner.turn).lock_owned()).await;
        let mut turn = turn.map_err(|_| Problem::new(Code::RateLimited).retry_after(1))?;
        if *turn {
            return Err(Problem::new(Code::Conflict));
        }
        // Again, now that it is our turn: of several sent at once only the first has not been refused yet.
        inner.tries.admit(by.address, Instant::now())?;
        let root = RootKeySource::Passphrase(SecretString::from(passphrase.0.as_str()));
        drop(passphrase);
        match inner.keys.open(root).await {
            Ok(keys) => {
                *turn = true;
                tracing::info!(address = %by.address, "the root key is here: the node opens");
                let unsealed = Unsealed { keys, by, refused: inner.tries.refused() };
                *inner.unsealed.lock().unwrap_or_else(PoisonError::into_inner) = Some(unsealed);
                inner.opened.notify_one();
                Ok(())
            }
            Err(error @ (Error::WrongRootKey | Error::OtherRootKind { .. })) => {
                let tries = inner.tries.refuse(by.address, (Instant::now(), inner.clock.now()));
                tracing::warn!(address = %by.address, tries, %error, "a passphrase for the root key was refused");
                tokio::spawn(async move {
                    tokio::time::sleep(PAUSE).await;
                    drop(turn);
                });
                // Whoever reaches the node hears no more: how the root key is kept is nobody's to learn here, and the note of it is no seal's.
                Err(Problem::invalid("passphrase", "wrong"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Serves both listeners of a sealed node until `shutdown`.
pub async fn serve_sealed(node: SealedNode, public: Listener, private: Listener, shutdown: CancellationToken) {
    let (connections, accepting, ending) = (TaskTracker::new(), TaskTracker::new(), CancellationToken::new());
    let routers = [(public, public_router(&node)), (private, private_router(&node))];
    for (listener, router) in routers {
        accepting.spawn(accept(listener, router, connections.clone(), ending.clone()));
    }
    shutdown.cancelled().await;
    ending.cancel();
    accepting.close();
    connections.close();
    let ended = async {
        accepting.wait().await;
        connections.wait().await;
    };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!("requests of the sealed node were still under way");
    }
}

fn public_router(node: &SealedNode) -> Router {
    node.inner.public.name(public_routes().iter());
    dressed(node, Router::new(), &node.inner.public)
}

fn private_router(node: &SealedNode) -> Router {
    node.inner.private.name(private_routes().iter());
    let own = Router::new().route("/metrics", get(metrics)).route("/v1/unseal", carrying_plaintext(post(unseal)));
    dressed(node, own, &node.inner.private)
}

fn dressed(node: &SealedNode, own: Router<SealedNode>, metrics: &Arc<Metrics>) -> Router {
    let Inner { settings, clock, .. } = &*node.inner;
    let desk = Desk::new(Arc::clone(settings), Arc::clone(metrics), clock.clone(), settings.request_time);
    let routes = own
        .route("/healthz", get(alive))
        .route("/readyz", get(|| std::future::ready(answer(Readiness::sealed()))))
        .fallback(|| std::future::ready(Problem::new(Code::TenantSealed).saying(WAITS)));
    dress(routes.with_state(node.clone()), Arc::new(desk))
}

/// Why nothing is served.
const WAITS: &str = "The node waits for its root key.";

/// Takes a passphrase.
async fn unseal(Shared(node): Shared<SealedNode>, request: Request) -> Result<StatusCode, Problem> {
    let (parts, body) = request.into_parts();
    let by = arrival(&parts);
    node.inner.tries.admit(by.address, Instant::now())?;
    let reading = RawBody::read(&parts.headers, body, BODY, &["application/json"]);
    let read = tokio::time::timeout(PATIENCE, reading).await;
    let Unseal { passphrase } = read.unwrap_or_else(|_| Err(Problem::new(Code::Overloaded)))?.parse()?;
    // To its end whatever the client does: a try that nobody waits for is a try.
    let trying = tokio::spawn(async move { node.open(passphrase, by).await });
    trying.await.unwrap_or_else(|_| Err(Problem::new(Code::Internal)))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the open node answers to a passphrase: it is not read, and changes nothing.
pub(crate) async fn open_already() -> Problem {
    Problem::new(Code::Conflict)
}

async fn metrics(Shared(node): Shared<SealedNode>) -> Response {
    let Inner { public, private, started, .. } = &*node.inner;
    let mut response = scrape_sealed(public, private, *started).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}
