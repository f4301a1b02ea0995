//! What a node counts, as text for a scraper (private listener only). Each room counts; here the counts get their names.
//!
//! No label holds a value, a valueId, a secret, an address or a key. The names of tenants stand at the lag of the logs
//! and at their HSMs alone. docs/metrics.md has every metric.

mod process;
mod requests;
mod rooms;
mod text;

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

pub(crate) use requests::Metrics;

use super::state::State;
use crate::domain::Timestamp;
use crate::store::waiting::Waiting;
use text::{Kind, Text};

/// How long a scrape waits for the store: what it does not say by then is left out.
const PATIENCE: Duration = Duration::from_secs(1);
/// The store is asked at most so often, however many scrape.
const FRESH: Duration = Duration::from_secs(1);

/// What scrapes share.
#[derive(Debug)]
pub(crate) struct Scrapes {
    started: Timestamp,
    lag: Mutex<Option<(Instant, Option<Vec<Waiting>>)>>,
}

impl Scrapes {
    pub(crate) fn new(started: Timestamp) -> Self {
        Self { started, lag: Mutex::new(None) }
    }

    /// What waits for integration, as the store said within the last second; nothing if it does not answer.
    async fn lag(&self, state: &State) -> Option<Vec<Waiting>> {
        // Held while the store is asked: whoever scrapes meanwhile waits for the same answer.
        let mut lag = self.lag.lock().await;
        if let Some((at, known)) = &*lag
            && at.elapsed() < FRESH
        {
            return known.clone();
        }
        let asked = tokio::time::timeout(PATIENCE, state.rooms().store.waiting()).await;
        let known = asked.ok().and_then(Result::ok);
        *lag = Some((Instant::now(), known.clone()));
        known
    }
}

/// The text of one scrape.
pub(crate) async fn scrape(state: &State) -> String {
    let lag = state.scrapes().lag(state).await;
    let mut text = Text::default();
    write_build(false, &mut text);
    write_listeners(state.public_metrics(), state.private_metrics(), &mut text);
    rooms::write_committer(state, &mut text);
    rooms::write_store(state, lag.is_some(), &mut text);
    rooms::write_keys(state, &mut text);
    rooms::write_log(state, &mut text);
    rooms::write_lag(state, lag.as_deref().unwrap_or_default(), &mut text);
    rooms::write_relay(state, &mut text);
    rooms::write_disks(state, &mut text);
    process::write(&mut text, state.scrapes().started.as_millis() / 1000);
    text.finish()
}

/// The text of one scrape of a node whose root key is not here: there is nothing else to tell.
pub(crate) fn scrape_sealed(public: &Metrics, private: &Metrics, started: Timestamp) -> String {
    let mut text = Text::default();
    write_build(true, &mut text);
    write_listeners(public, private, &mut text);
    process::write(&mut text, started.as_millis() / 1000);
    text.finish()
}

fn write_build(sealed: bool, text: &mut Text) {
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    text.family("siv_build_info", Kind::Gauge, "Always 1; its label says which siv this is.").sample(&build, 1);
    text.gauge("siv_node_sealed", "1 while the node waits for its root key (siv unseal).", u64::from(sealed));
}

fn write_listeners(public: &Metrics, private: &Metrics, text: &mut Text) {
    let both = [("public", public), ("private", private)];
    let mut family = text.family("siv_http_requests_total", Kind::Counter, "Requests answered, by route and status.");
    both.iter().for_each(|(listener, metrics)| metrics.write_answers(listener, &mut family));
    let name = "siv_http_request_duration_seconds";
    let mut family = text.family(name, Kind::Histogram, "From the head of a request to the head of its answer.");
    both.iter().for_each(|(listener, metrics)| metrics.write_times(listener, &mut family));
    let mut family = text.family("siv_http_problems_total", Kind::Counter, "Refusals, by their code.");
    both.iter().for_each(|(listener, metrics)| metrics.write_problems(listener, &mut family));
    let mut family =
        text.family("siv_http_shed_total", Kind::Counter, "Refused at once because too much was under way.");
    both.iter().for_each(|(listener, metrics)| family.sample(&[("listener", listener)], metrics.shed.get()));
    let mut family = text.family("siv_http_panics_total", Kind::Counter, "Handlers that panicked.");
    both.iter().for_each(|(listener, metrics)| family.sample(&[("listener", listener)], metrics.panics.get()));
}
