//! `/healthz`, `/readyz`, `/metrics`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt as _};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::domain::{DataKeyClass, TenantName, Timestamp};
use crate::http::metrics::scrape;
use crate::http::state::State;
use crate::keys::HsmState;

/// An answer is given again for so long: however many probes come, one check a second is made.
const KEPT: Duration = Duration::from_secs(1);
/// A node that could not write a sign of life for so long, three of them, can write nothing else.
const SILENCE: Duration = Duration::from_secs(15);
/// So many tenants are looked at beside each other: a token that is away takes its time.
const AT_ONCE: usize = 16;

/// Alive.
#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    status: &'static str,
}

/// Whether somebody can be served, and why not.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Readiness {
    status: &'static str,
    /// `sealed`, `kms`, `store`, `log`, `stopping`.
    reasons: Vec<&'static str>,
    /// On the private listener: the reasons of each tenant. A node that is sealed itself knows of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    tenants: Option<BTreeMap<String, Vec<&'static str>>>,
}

impl Readiness {
    /// Of a node whose root key is not here: it knows of no tenant.
    pub(crate) fn sealed() -> Self {
        Self { status: "unavailable", reasons: vec!["sealed"], tenants: None }
    }

    fn ready(tenants: BTreeMap<String, Vec<&'static str>>) -> Self {
        Self { status: "ready", reasons: Vec::new(), tenants: Some(tenants) }
    }

    fn not(reasons: Vec<&'static str>) -> Self {
        Self { status: "unavailable", reasons, tenants: Some(BTreeMap::new()) }
    }
}

/// How much a probe asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// Whether there is a tenant that can be served.
    Some,
    /// What every tenant lacks.
    All,
}

/// A check that is under way, or done and when.
#[derive(Clone)]
struct Check(watch::Receiver<Option<(Instant, Readiness)>>);

impl Check {
    /// Starts one. It goes on when the client goes away.
    fn start(look: impl Future<Output = Readiness> + Send + 'static) -> Self {
        let (found, check) = watch::channel(None);
        tokio::spawn(async move {
            let readiness = look.await;
            found.send_replace(Some((Instant::now(), readiness)));
        });
        Self(check)
    }

    /// How long ago it was done; `None` while it is under way.
    fn age(&self) -> Option<Duration> {
        match &*self.0.borrow() {
            Some((done, _)) => Some(done.elapsed()),
            // It panicked, which is told where it did: no answer to be given again.
            None if self.0.has_changed().is_err() => Some(Duration::MAX),
            None => None,
        }
    }

    async fn readiness(mut self) -> Readiness {
        let found = self.0.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        found.map_or_else(|| Readiness::not(vec!["store"]), |(_, readiness)| readiness)
    }
}

/// The checks that probes share.
pub(crate) struct Probes {
    since: Instant,
    /// How long an answer is given again.
    kept: Duration,
    /// The last one of a tenant that can be served, and of all tenants.
    checks: Mutex<[Option<Check>; 2]>,
}

impl Probes {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), kept: KEPT, checks: Mutex::default() }
    }

    /// The check that answers a probe: one that is under way or was done just now, else a new one.
    fn check<L>(&self, sight: Sight, look: impl FnOnce() -> L) -> Check
    where
        L: Future<Output = Readiness> + Send + 'static,
    {
        let is_good = |check: &&Check| check.age().is_none_or(|age| age < self.kept);
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let [some, all] = &mut *checks;
        // What is known of all answers both, once it is known: who asks for one tenant waits for no other.
        let of_all = all.as_ref().filter(is_good).filter(|check| sight == Sight::All || check.age().is_some());
        let own = if sight == Sight::All { None } else { some.as_ref().filter(is_good) };
        if let Some(check) = of_all.or(own) {
            return check.clone();
        }
        let check = Check::start(look());
        *(if sight == Sight::All { all } else { some }) = Some(check.clone());
        check
    }
}

/// Says that the process answers.
pub(crate) async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Says whether some tenant can be served; tells of no tenant.
pub(crate) async fn ready(Shared(state): Shared<State>) -> Response {
    answer(Readiness { tenants: None, ..readiness(&state, Sight::Some).await })
}

/// The same with each tenant's reasons.
pub(crate) async fn ready_by_tenant(Shared(state): Shared<State>) -> Response {
    answer(readiness(&state, Sight::All).await)
}

pub(crate) fn answer(readiness: Readiness) -> Response {
    let status = if readiness.status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = (status, Json(readiness)).into_response();
    if status != StatusCode::OK {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What costs nothing to know is asked each time, the rest once a second.
async fn readiness(state: &State, sight: Sight) -> Readiness {
    if let Some(reason) = at_once(state.is_ending(), state.rooms().store.log_health().is_serving()) {
        return Readiness::not(vec![reason]);
    }
    let check = state.probes().check(sight, || {
        let state = state.clone();
        async move { look(&state, sight).await }
    });
    check.readiness().await
}

/// Why the whole node takes no more. That it ends comes first: nobody has to look into its log.
fn at_once(is_ending: bool, is_serving: bool) -> Option<&'static str> {
    if is_ending {
        return Some("stopping");
    }
    (!is_serving).then_some("log")
}

async fn look(state: &State, sight: Sight) -> Readiness {
    let rooms = state.rooms();
    if !writes(state).await {
        return Readiness::not(vec!["store"]);
    }
    let Ok(mut names) = rooms.catalog.tenants().await else { return Readiness::not(vec!["store"]) };
    names.retain(|name| !name.is_system());
    let hsms = rooms.keys.hsm_states();
    let looks = names.into_iter().map(|name| {
        let hsm = hsms.get(&name).copied();
        async move { (name.to_string(), reasons(state, &name, hsm).await) }
    });
    let (mut looks, mut tenants) = (stream::iter(looks).buffer_unordered(AT_ONCE), BTreeMap::new());
    while let Some((name, reasons)) = looks.next().await {
        if reasons.is_empty() && sight == Sight::Some {
            return Readiness::ready(BTreeMap::new());
        }
        tenants.insert(name, reasons);
    }
    if tenants.values().any(Vec::is_empty) || tenants.is_empty() {
        return Readiness::ready(tenants);
    }
    let mut all: Vec<&'static str> = tenants.values().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    Readiness { tenants: Some(tenants), ..Readiness::not(all) }
}

/// Whether this node could write just now: its signs of life come through the same database, and end with its writer. A
/// database that still reads and writes nothing any more (a full disk, a standby) shows nowhere else while nobody asks.
async fn writes(state: &State) -> bool {
    let (store, boot) = (&state.rooms().store, state.rooms().committer.identity().boot());
    let Ok(beats) = store.open_heartbeats().await else { return false };
    let last = beats.iter().find(|beat| beat.boot == boot).map(|beat| beat.time);
    !is_silent(last, state.now(), state.probes().since.elapsed())
}

/// Whether the last sign of life is too old; the first one comes some seconds after the start.
fn is_silent(last: Option<Timestamp>, now: Timestamp, up: Duration) -> bool {
    last.map_or(up, |last| now.since(last)) >= SILENCE
}

/// Why a tenant cannot be served.
async fn reasons(state: &State, name: &TenantName, hsm: Option<HsmState>) -> Vec<&'static str> {
    let rooms = state.rooms();
    // A probe is no use of the tenant: nobody is answered with what it reads.
    let Ok(Some(tenant)) = rooms.catalog.look_at(name).await else { return vec!["store"] };
    let mut reasons = Vec::new();
    if tenant.tenant.sealed {
        reasons.push("sealed");
    }
    // Shredded, or about to be: no key provider is asked for it any more.
    if !tenant.keks.is_empty() && !tenant.keks.values().any(|(_, kek)| kek.state.may_unwrap()) {
        return reasons;
    }
    let class = DataKeyClass::Session;
    // What is opened already still serves for its time; that the token is away is told all the same.
    let away = hsm.is_some_and(|state| state.is_away);
    let refused = tenant.providers.values().any(|(_, provider)| provider.quarantined && tenant.uses(provider));
    // A worker that is yet to come says nothing of its token.
    let probed = rooms.keys.probe(&rooms.store, name, class, state.now()).await;
    if away || refused || probed.is_err_and(|error| !error.is_unasked()) {
        reasons.push("kms");
    }
    reasons
}

/// Counts for a scraper.
pub(crate) async fn metrics(Shared(state): Shared<State>) -> Response {
    let mut response = scrape(&state).await.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn any_number_of_probes_costs_one_check_until_its_time_is_over() {
        let (mut probes, made) = (Probes::new(), Arc::new(AtomicU32::new(0)));
        probes.kept = Duration::from_secs(3600);
        let look = || {
            let made = Arc::clone(&made);
            async move {
                made.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                Readiness::ready(BTreeMap::new())
            }
        };
        // Who gives up does not end it for the others.
        drop(probes.check(Sight::Some, look));
        let of_all: Vec<Check> = (0..100).map(|_| probes.check(Sight::All, look)).collect();
        let all = futures_util::future::join_all(of_all.into_iter().map(Check::readiness)).await;
        assert!(all.iter().all(|readiness| readiness.status == "ready"));
        assert_eq!(made.load(Ordering::Relaxed), 2, "one tenant says nothing of the others");
        // What is known of all tenants answers who asks for one.
        probes.check(Sight::Some, look).readiness().await;
        assert_eq!(made.load(Ordering::Relaxed), 2);
        probes.kept = Duration::ZERO;
        probes.check(Sight::All, look).readiness().await;
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_check_that_broke_off_is_made_anew() {
        let probes = Probes::new();
        let (sender, receiver) = watch::channel(None);
        drop(sender);
        probes.checks.lock().unwrap()[1] = Some(Check(receiver.clone()));
        assert_eq!(Check(receiver).readiness().await.reasons, ["store"]);
        let anew = probes.check(Sight::All, || async { Readiness::ready(BTreeMap::new()) });
        assert_eq!(anew.readiness().await.status, "ready");
    }

    #[test]
    fn a_node_that_was_asked_to_end_says_so_whatever_else_is_wrong() {
        let reasons =
            [(true, true), (true, false), (false, false), (false, true)].map(|(ends, serves)| at_once(ends, serves));
        assert_eq!(reasons, [Some("stopping"), Some("stopping"), Some("log"), None]);
    }

    #[test]
    fn a_node_whose_signs_of_life_are_not_written_is_not_ready() {
        let (start, up) = (Timestamp::from_millis(1_000_000), Duration::from_secs(3600));
        assert!(!is_silent(Some(start), start.plus(Duration::from_secs(14)), up));
        assert!(is_silent(Some(start), start.plus(SILENCE), up));
        assert!(!is_silent(None, start, Duration::from_secs(4)) && is_silent(None, start, up));
    }
}
