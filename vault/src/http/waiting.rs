//! Bodies that anybody may send and that have not yet come: an address has few of them, each has a short time, and none
//! holds a place among the requests under way. Otherwise a thousand sockets that never finish would close the listener.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http::request::Parts;
use serde::Deserialize;

use super::authentication::arrival;
use super::dress::Place;
use super::json::{BODY, RawBody};
use super::problem::{Code, Problem};
use super::rate::network;
use super::state::State;

/// How many at once, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Bodies of everybody together: each may grow to its route's limit in memory.
    pub(crate) all: usize,
    /// Bodies of one address.
    pub(crate) of_one: usize,
    /// A body has this long to come.
    pub(crate) time: Duration,
}

/// The patience with strangers.
pub(crate) const STRANGERS: Patience = Patience { all: 1_024, of_one: 32, time: Duration::from_secs(3) };

/// The bodies that are waited for.
pub(crate) struct Waiting {
    patience: Patience,
    /// Whether loopback may have as many as everybody.
    loopback_free: bool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

impl Waiting {
    pub(crate) fn new(patience: Patience, loopback_free: bool) -> Self {
        Self { patience, loopback_free, counts: Mutex::default() }
    }

    /// Reads a body as [`RawBody::read`] does, outside the places of the requests under way.
    ///
    /// # Errors
    /// The same; `rate.limited` for an address with too many, `overloaded` for one that comes too late or finds no place.
    pub(crate) async fn read(
        &self,
        parts: &Parts,
        body: Body,
        limit: usize,
        types: &[&str],
    ) -> Result<RawBody, Problem> {
        let waited = self.wait(arrival(parts).address)?;
        let place = parts.extensions.get::<Place>();
        if let Some(place) = place {
            place.leave();
        }
        let reading = RawBody::read(&parts.headers, body, limit, types);
        let read = tokio::time::timeout(self.patience.time, reading).await;
        drop(waited);
        let body = read.unwrap_or_else(|_| Err(Problem::new(Code::Overloaded)))?;
        place.map_or(Ok(()), Place::take_again)?;
        Ok(body)
    }

    fn wait(&self, address: IpAddr) -> Result<Waited<'_>, Problem> {
        let free = self.loopback_free && address.to_canonical().is_loopback();
        let network = network(address);
        let mut counts = self.counts();
        if counts.all >= self.patience.all {
            return Err(Problem::new(Code::Overloaded));
        }
        let own = counts.of.entry(network).or_default();
        if *own >= self.patience.of_one && !free {
            return Err(Problem::new(Code::RateLimited).retry_after(self.patience.time.as_secs().max(1)));
        }
        *own += 1;
        counts.all += 1;
        Ok(Waited { waiting: self, network })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One body that is waited for.
struct Waited<'a> {
    waiting: &'a Waiting,
    network: IpAddr,
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        let mut counts = self.waiting.counts();
        counts.all = counts.all.saturating_sub(1);
        if let Some(own) = counts.of.get_mut(&self.network) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                counts.of.remove(&self.network);
            }
        }
    }
}

/// The JSON body of a request that anybody may send.
pub(crate) struct StrangersJson<T>(pub(crate) T);

impl<T: for<'de> Deserialize<'de>> FromRequest<State> for StrangersJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        state.strangers().read(&parts, body, BODY, &["application/json"]).await?.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const FEW: Patience = Patience { all: 3, of_one: 2, time: Duration::from_millis(20) };

    #[test]
    fn an_address_has_few_bodies_to_be_waited_for_and_everybody_has_more() {
        let waiting = Waiting::new(FEW, true);
        let [one, other, third]: [IpAddr; 3] =
            [[203, 0, 113, 1].into(), [203, 0, 113, 2].into(), [203, 0, 113, 3].into()];
        let code = |address| waiting.wait(address).map(drop).map_err(|problem| problem.code());
        let held = [waiting.wait(one), waiting.wait(one)];
        assert_eq!(code(one), Err(Code::RateLimited));
        assert_eq!(code(other), Ok(()));
        let last = waiting.wait(other);
        assert_eq!(code(third), Err(Code::Overloaded));
        drop((held, last));
        assert!(waiting.counts().of.is_empty());
        let local: IpAddr = [127, 0, 0, 1].into();
        let local = [waiting.wait(local), waiting.wait(local), waiting.wait(local)];
        assert!(local.iter().all(Result::is_ok), "a developer has as many as everybody");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up_soon() {
        let waiting = Waiting::new(FEW, false);
        let request = Request::builder().header("content-type", "application/json").body(());
        let (parts, ()) = request.unwrap().into_parts();
        let never = Body::from_stream(stream::pending::<Result<&str, std::io::Error>>());
        let reading = waiting.read(&parts, never, 64, &["application/json"]);
        let given_up = tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap().map(drop);
        assert_eq!(given_up.unwrap_err().code(), Code::Overloaded);
        assert!(waiting.counts().of.is_empty());
        // What strangers really have is far less than a request's time.
        assert!(STRANGERS.time < Duration::from_secs(10) && STRANGERS.of_one <= 32);
    }
}
