//! The sequencer: gives entries their indices, signs checkpoints, watches that nothing signed is lost or altered.

mod anchoring;
mod checkpoints;
mod closing;
mod error;
mod export;
mod heads;
mod integrate;
mod judge;
mod reader;
mod record;
mod recover;
mod self_check;
mod tiles;

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub use error::Error;
pub use export::{Part, Sink, Tar};
pub use reader::LogReader;
pub use recover::{Recovered, Recovery};
pub use self_check::Pass;

use crate::access_log::{Action, Distrust, Entry, LogHealth, Outcome};
use crate::domain::{Actor, TenantName};
use crate::keys::Keys;
use crate::store::{Committer, Store};
use anchoring::Anchoring;
use closing::Closing;
use heads::HeadWatch;
use integrate::Integrator;
use record::record;

/// So often it looks for what waits; integration then follows a commit within a second.
const POLL: Duration = Duration::from_millis(200);
/// So often the heads and the acknowledged numbers are compared (promise 5: within ten seconds).
const LOOK: Duration = Duration::from_secs(5);
/// So often a tenant's checkpoint goes into the system log, if it grew; and so often ended boots are closed.
const MINUTE: Duration = Duration::from_secs(60);
/// Passes of the self-check.
const HOUR: Duration = Duration::from_secs(60 * 60);
const HOURS_OF_DAY: u64 = 24;

/// The running sequencer of a node. Dropping it does not stop it; [`Sequencer::stop`] does.
pub struct Sequencer {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Sequencer {
    /// Compares the database with the heads outside, then works until it is stopped. Start the committer before it and the
    /// listeners after it: until the first comparison nothing may be served.
    ///
    /// # Errors
    /// The store does not answer. A database that was put back is no error: the node's [`LogHealth`] says so.
    pub async fn start(store: Store, keys: Keys, committer: Committer) -> Result<Self, Error> {
        let health = store.log_health().clone();
        let mut heads = HeadWatch::new(store.clone(), keys.clone());
        heads.look(&health).await?;
        let stop = CancellationToken::new();
        let checking = check(LogReader::new(store.clone(), keys.clone()), health.clone(), stop.clone());
        let work = Work {
            integrator: Integrator::new(store.clone(), keys.clone(), health.clone()),
            heads,
            anchoring: Anchoring::new(store.clone(), keys),
            closing: Closing::new(store.clone()),
            store,
            committer,
            health,
            recorded: 0,
        };
        let tasks = vec![tokio::spawn(work.run(stop.clone())), tokio::spawn(checking)];
        Ok(Self { stop, tasks })
    }

    /// Integrates what the committer wrote to its end, then stops. Stop the committer first.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "the sequencer ended badly");
            }
        }
    }
}

/// Compares the database once with the heads outside and sets the node's health, for a command that runs no sequencer.
///
/// # Errors
/// The store does not answer.
pub async fn compare(store: Store, keys: Keys) -> Result<(), Error> {
    let health = store.log_health().clone();
    HeadWatch::new(store, keys).look(&health).await
}

struct Work {
    integrator: Integrator,
    heads: HeadWatch,
    anchoring: Anchoring,
    closing: Closing,
    store: Store,
    committer: Committer,
    health: LogHealth,
    /// How many of the alarms stand in the system log.
    recorded: usize,
}

impl Work {
    async fn run(mut self, stop: CancellationToken) {
        let (mut polls, mut looked) = (interval(POLL), None::<Instant>);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut minute = None::<Instant>;
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                _ = polls.tick() => false,
            };
            self.told("integration", self.health.is_serving()).await;
            if due(&mut looked, LOOK) || stopping {
                let looked = self.look().await;
                tell("comparing the heads", looked);
            }
            let recorded = self.record_alarms().await;
            tell("recording alarms", recorded);
            if stopping {
                return;
            }
            if due(&mut minute, MINUTE) && self.health.is_serving() {
                let anchored = self.anchoring.run(&self.committer).await;
                tell("noting checkpoints in the system log", anchored);
                let closed = self.closing.run(&self.committer).await;
                tell("closing ended boots", closed);
            }
        }
    }

    /// Integrates; a log that cannot be relied on does not grow.
    async fn told(&mut self, what: &str, serving: bool) {
        if !serving {
            return;
        }
        match self.integrator.run().await {
            Ok(refused) if refused.iter().any(|(boot, _)| *boot == self.committer.identity().boot()) => {
                self.health.set(Some(Distrust::Pending));
            }
            Ok(_) => {}
            Err(error) => tell(what, Err(error)),
        }
    }

    /// Each alarm becomes an entry of the system log, once.
    async fn record_alarms(&mut self) -> Result<(), Error> {
        let alarms = self.health.self_check().alarms;
        let fresh = alarms.get(self.recorded..).unwrap_or_default();
        if fresh.is_empty() {
            return Ok(());
        }
        let (now, boot) = (self.store.clock().now(), self.committer.identity().boot());
        let entry = |alarm: &String| {
            let action = Action::Admin("log.alarm");
            let mut entry = Entry::by(TenantName::system(), now, action, Outcome::Failed, Actor::node(boot));
            entry.facts = vec![("alarm", alarm.clone())];
            entry
        };
        record(fresh.iter().map(entry).collect(), &self.committer, now).await?;
        self.recorded = alarms.len();
        Ok(())
    }

    /// The heads, and what this node acknowledged: all of it must be there and integrated by now.
    async fn look(&mut self) -> Result<(), Error> {
        self.heads.look(&self.health).await?;
        if !self.health.is_serving() {
            return Ok(());
        }
        // First what was promised, then what is there: the other way round a commit in between would look like a loss.
        let promised = self.committer.lanes();
        self.integrator.run().await?;
        for end in promised.into_iter().filter(|end| end.next > 0) {
            let progress = self.store.lane(self.committer.identity().boot(), end.lane).await?;
            let kept = progress
                .is_some_and(|lane| lane.next > end.next || (lane.next == end.next && lane.previous == end.previous));
            if !kept {
                self.health.alarm(&format!("lane {} of this boot: acknowledged entries are gone", end.lane));
                self.health.set(Some(Distrust::Pending));
            }
        }
        Ok(())
    }
}

/// The self-check: recent entries at once and each hour, all of them each day.
async fn check(reader: LogReader, health: LogHealth, stop: CancellationToken) {
    for hour in 0_u64.. {
        let pass = if hour % HOURS_OF_DAY == HOURS_OF_DAY - 1 { Pass::All } else { Pass::Recent };
        tokio::select! {
            () = stop.cancelled() => return,
            done = reader.self_check(pass, &health) => tell("the self-check", done),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(HOUR) => {}
        }
    }
}

/// True the first time and whenever the period has passed since it last was.
fn due(last: &mut Option<Instant>, period: Duration) -> bool {
    let now = Instant::now();
    let is_due = last.is_none_or(|at| now.duration_since(at) >= period);
    if is_due {
        *last = Some(now);
    }
    is_due
}

fn tell(what: &str, done: Result<(), Error>) {
    if let Err(error) = done {
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%error, cause, "{what} did not succeed and is tried again");
    }
}

#[cfg(test)]
mod tests;
