//! The sequencer: gives entries their indices, signs checkpoints, watches that nothing signed is lost or altered.

mod alone;
mod anchoring;
mod checkpoints;
mod closing;
mod destruction;
mod duty;
mod error;
mod export;
mod heads;
mod integrate;
mod judge;
mod lanes;
mod progress;
mod reader;
mod record;
mod recover;
mod self_check;
mod tiles;
mod voiding;
mod watch;

use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub use alone::is_alone;
pub use destruction::Certified;
pub use error::Error;
pub use export::{Part, Sink, Tar};
pub use reader::LogReader;
pub use recover::{Recovered, Recovery, stopped};
pub use self_check::Pass;

use crate::access_log::{Action, Distrust, Entry, LogHealth, Outcome};
use crate::domain::{Actor, TenantName};
use crate::keys::Keys;
use crate::store::{Committer, Store};
use anchoring::Anchoring;
use closing::Closing;
use integrate::Integrator;
use record::record;
use watch::Watch;

/// So often it looks for what waits; integration then follows a commit within a second.
const POLL: Duration = Duration::from_millis(200);
/// So often the heads and the acknowledged numbers are compared (promise 5: within ten seconds).
const LOOK: Duration = Duration::from_secs(5);
/// So often where the heads could not be compared: a key store that is back is noticed soon.
const AGAIN: Duration = Duration::from_secs(1);
/// So often a tenant's checkpoint goes into the system log, if it grew.
const MINUTE: Duration = Duration::from_secs(60);
/// So often boots that ended are looked for.
const ENDED: Duration = Duration::from_secs(20);
/// So often signs of life are counted: more often than they are given.
const BEATS: Duration = Duration::from_secs(4);
/// So often all boots that ever were are read for one without its last word.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// A round of integration takes about so long at most.
const ROUND: Duration = Duration::from_millis(500);
/// So many alarms go in one commit.
const ALARMS_AT_ONCE: usize = 100;

/// The running sequencer of a node. Dropping it does not stop it; [`Sequencer::stop`] does.
pub struct Sequencer {
    stop: CancellationToken,
    supervisor: JoinHandle<()>,
}

impl Sequencer {
    /// Compares the database with the heads outside, then works until it is stopped. Start the committer before it and the
    /// listeners after it: until the first comparison nothing may be served.
    ///
    /// # Errors
    /// The store does not answer. A database that was put back is no error: the node's [`LogHealth`] says so.
    pub async fn start(store: Store, keys: Keys, committer: Committer) -> Result<Self, Error> {
        let health = store.log_health().clone();
        let mut watch = Watch::new(store.clone(), keys.clone(), committer.clone());
        watch.compare().await?;
        let stop = CancellationToken::new();
        let reader = LogReader::new(store.clone(), keys.clone());
        let check = |pass| check(pass, reader.clone(), health.clone(), stop.clone());
        let passes = [check(Pass::All), check(Pass::Recent)];
        let work = Work {
            integrator: Integrator::new(store.clone(), keys.clone(), health.clone()),
            anchoring: Anchoring::new(store.clone(), keys),
            closing: Closing::new(store.clone()),
            store,
            committer,
            health: health.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(work.run(stop.clone()));
        tasks.spawn(watch_over(watch, stop.clone()));
        passes.into_iter().for_each(|pass| drop(tasks.spawn(pass)));
        let supervisor = tokio::spawn(supervise(tasks, stop.clone(), health));
        Ok(Self { stop, supervisor })
    }

    /// Waits until it ends, asked to or not.
    pub async fn ended(&self) {
        self.stop.cancelled().await;
    }

    /// Whether it ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Integrates what the committer wrote to its end, then stops. Stop the committer first.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.supervisor.await {
            tracing::error!(%error, "the sequencer ended badly");
        }
    }
}

/// Compares the database once with the heads outside and sets the node's health, for a command that runs no sequencer.
///
/// # Errors
/// The store does not answer.
pub async fn compare(store: Store, keys: Keys) -> Result<(), Error> {
    let health = store.log_health().clone();
    let distrust = heads::HeadWatch::new(store, keys).look(&health).await?;
    health.set(distrust);
    Ok(())
}

struct Work {
    integrator: Integrator,
    anchoring: Anchoring,
    closing: Closing,
    store: Store,
    committer: Committer,
    health: LogHealth,
}

impl Work {
    async fn run(mut self, stop: CancellationToken) {
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut minute, mut ended, mut beats) = (None::<Instant>, None::<Instant>, None::<Instant>);
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                _ = polls.tick() => false,
            };
            // At the end all that waits goes in; before it a round is bounded, so that everything else has its turn.
            self.integrate(if stopping { Duration::MAX } else { ROUND }).await;
            let recorded = self.record_alarms().await;
            tell("recording alarms", recorded);
            if stopping {
                return;
            }
            if due(&mut beats, BEATS) {
                let counted = self.closing.watch(self.committer.identity().boot()).await;
                tell("counting signs of life", counted);
            }
            let (is_minute, is_ended) = (due(&mut minute, MINUTE), due(&mut ended, ENDED));
            if (is_minute || is_ended) && self.health.is_serving() {
                let done = self.duties(is_minute, is_ended).await;
                tell("what one node does for all", done);
            }
        }
    }

    /// What is done once, however many nodes there are.
    async fn duties(&mut self, is_minute: bool, is_ended: bool) -> Result<(), Error> {
        // Every node watches, so that one that takes over knows who lives.
        let silent = if is_ended { self.closing.silent().await? } else { Vec::new() };
        if !duty::is_on_duty(&self.committer, &self.store).await? {
            return Ok(());
        }
        if is_minute {
            let anchored = self.anchoring.run(&self.committer).await;
            tell("noting checkpoints in the system log", anchored);
        }
        self.closing.close_all(silent, &self.committer).await
    }

    /// Integrates; a log that cannot be relied on does not grow.
    async fn integrate(&mut self, at_most: Duration) {
        if !self.health.is_serving() {
            return;
        }
        let integrated = if self.integrator.stands_by() && at_most != Duration::MAX {
            self.integrator.look().await
        } else {
            self.integrator.run(at_most).await
        };
        tell("integration", integrated);
        let boot = self.committer.identity().boot();
        if self.integrator.refused().iter().any(|(of, _)| *of == boot) {
            self.health.set(Some(Distrust::Pending));
        }
    }

    /// Each alarm becomes an entry of the system log, once.
    async fn record_alarms(&mut self) -> Result<(), Error> {
        let (now, boot) = (self.store.clock().now(), self.committer.identity().boot());
        let entry = |alarm: &String| {
            let action = Action::Admin("log.alarm");
            let mut entry = Entry::by(TenantName::system(), now, action, Outcome::Failed, Actor::node(boot));
            entry.facts = vec![("alarm", alarm.clone())];
            entry
        };
        loop {
            let alarms = self.health.unrecorded(ALARMS_AT_ONCE);
            if alarms.is_empty() {
                return Ok(());
            }
            record(alarms.iter().map(entry).collect(), &self.committer, now).await?;
            self.health.recorded(alarms.len());
        }
    }
}

/// Waits for the end of every part. Without one of them nobody integrates, compares or checks what is stored, so that one
/// that ends unasked closes the node: the others are stopped, nothing is served, and the node leaves, so that it does not hold
/// the sequencer's place for nothing.
async fn supervise(mut parts: JoinSet<()>, stop: CancellationToken, health: LogHealth) {
    let mut is_closed = false;
    while let Some(ended) = parts.join_next().await {
        let panicked = ended.is_err();
        if !stop.is_cancelled() {
            tracing::error!(
                panicked,
                "a part of the sequencer ended unasked: nothing is served, start this node again"
            );
            is_closed = true;
        } else if panicked {
            tracing::error!("a part of the sequencer ended badly");
        }
        if is_closed {
            // Before the others end, and after each of them: the watch compares once more, and must not have the last word.
            health.set(Some(Distrust::Heads));
            stop.cancel();
        }
    }
}

/// Looks every few seconds, and once more at the end.
async fn watch_over(mut watch: Watch, stop: CancellationToken) {
    let mut looks = interval(AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = None::<Instant>;
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            _ = looks.tick() => false,
        };
        if due(&mut looked, LOOK) || stopping || watch.waits_for_heads() {
            watch.look().await;
        }
        if stopping {
            return;
        }
    }
}

/// The self-check: once at the start and then each period, from the start of one pass to that of the next.
async fn check(pass: Pass, reader: LogReader, health: LogHealth, stop: CancellationToken) {
    let mut passes = interval(pass.period());
    passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = passes.tick() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            done = reader.self_check(pass, &health) => tell("the self-check", done),
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
