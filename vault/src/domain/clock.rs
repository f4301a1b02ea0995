//! Time: milliseconds since 1970 (UTC), from a clock that a test can hold.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in UTC, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment that many milliseconds after 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The form in formats: unsigned 64 bits, big-endian, milliseconds.
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// This moment and a duration later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier`; zero if it was not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads RFC 3339.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let stamp: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(stamp.as_millisecond()).ok().map(Self)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with milliseconds, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(stamp) => write!(f, "{stamp:.3}"),
            Err(_) => f.write_str("9999-12-31T23:59:59.999Z"),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_rfc3339(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

/// A clock that never goes back, and never slower than what this process measures: a clock that is set back while the
/// process runs makes no lifetime longer. One that was set ahead by mistake stays so until the next start.
struct Steady {
    /// How far the clock is ahead of [`uptime`], in milliseconds: the most that was ever seen.
    ahead: AtomicI64,
    /// Whether the database says what time it is; then the machine is not asked.
    is_databases: AtomicBool,
}

/// This process has one.
static STEADY: Steady = Steady::new();

impl Steady {
    const fn new() -> Self {
        Self { ahead: AtomicI64::new(i64::MIN), is_databases: AtomicBool::new(false) }
    }

    /// The time, when the process is so old and its machine says so.
    fn now(&self, machine: impl FnOnce() -> Timestamp, uptime: i64) -> Timestamp {
        if !self.is_databases.load(Ordering::Acquire) {
            self.ahead.fetch_max(signed(machine()) - uptime, Ordering::AcqRel);
        }
        self.at(uptime)
    }

    /// The same by the database's clock, which is one for all nodes: from now on it is the only one.
    fn by_database(&self, database: Timestamp, uptime: i64) -> Timestamp {
        let ahead = signed(database) - uptime;
        if self.is_databases.swap(true, Ordering::AcqRel) {
            self.ahead.fetch_max(ahead, Ordering::AcqRel);
        } else {
            self.ahead.store(ahead, Ordering::Release);
        }
        self.at(uptime)
    }

    fn at(&self, uptime: i64) -> Timestamp {
        let ahead = self.ahead.load(Ordering::Acquire);
        Timestamp(u64::try_from(ahead.saturating_add(uptime)).unwrap_or_default())
    }
}

fn signed(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// How old the process is, by a clock that nobody sets, in milliseconds.
fn uptime() -> i64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    i64::try_from(BEGUN.elapsed().as_millis()).unwrap_or(i64::MAX)
}

/// What the machine's own clock says.
fn machine() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Where the time comes from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's, or once there is one for all nodes the database's. It never goes back.
    #[default]
    System,
    /// One that stands still until a test moves it.
    Held(Arc<Hands>),
}

/// What a held clock shows.
#[derive(Debug)]
pub struct Hands {
    millis: AtomicU64,
    /// By how much the machine's own clock is ahead of it, in milliseconds.
    machine_ahead: AtomicI64,
}

impl Clock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn held(now: Timestamp) -> Self {
        Self::Held(Arc::new(Hands { millis: AtomicU64::new(now.0), machine_ahead: AtomicI64::new(0) }))
    }

    /// Moves a held clock on; the machine's is left alone.
    pub fn advance(&self, by: Duration) {
        if let Self::Held(hands) = self {
            hands.millis.fetch_add(u64::try_from(by.as_millis()).unwrap_or(0), Ordering::SeqCst);
        }
    }

    /// Lets the machine's own clock be so many milliseconds ahead of a held one; fewer than none is behind.
    pub fn set_machine_ahead(&self, milliseconds: i64) {
        if let Self::Held(hands) = self {
            hands.machine_ahead.store(milliseconds, Ordering::SeqCst);
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => STEADY.now(machine, uptime()),
            Self::Held(hands) => Timestamp(hands.millis.load(Ordering::SeqCst)),
        }
    }

    /// What the machine's own clock says, wherever the time comes from.
    fn machine(&self) -> Timestamp {
        match self {
            Self::System => machine(),
            Self::Held(hands) => {
                let ahead = hands.machine_ahead.load(Ordering::SeqCst);
                Timestamp(u64::try_from(signed(self.now()).saturating_add(ahead)).unwrap_or_default())
            }
        }
    }

    /// The time for what cannot be undone: the earlier of the two, which is over by both. One machine whose clock is ahead
    /// would else destroy what all nodes live on, and a database whose clock jumps ahead for a moment what is not over.
    #[must_use]
    pub fn surely(&self) -> Timestamp {
        self.now().min(self.machine())
    }

    /// Takes the time from the database, whose clock is one for all nodes, and gives it as it counts here: never earlier
    /// than it was. A test's clock stands for both.
    #[must_use]
    pub fn by_database(&self, database: Timestamp) -> Timestamp {
        match self {
            Self::System => STEADY.by_database(database, uptime()),
            Self::Held(_) => self.now(),
        }
    }

    /// By how much the machine's own clock is behind the time that counts (below 0: ahead of it), in milliseconds.
    #[must_use]
    pub fn machine_is_behind(&self) -> i64 {
        signed(self.now()).saturating_sub(signed(self.machine()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_795_489_236_007;
    const HOUR: u64 = 3_600_000;

    /// The clock of a process of that age on a machine that says so, in milliseconds after noon.
    fn after_noon(clock: &Steady, machine: u64, uptime: i64) -> u64 {
        clock.now(|| Timestamp(machine), uptime).0 - NOON
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_as_if_it_were_not() {
        let clock = Steady::new();
        assert_eq!(after_noon(&clock, NOON, 10), 0);
        assert_eq!(after_noon(&clock, NOON + 500, 510), 500);
        assert_eq!(after_noon(&clock, NOON - HOUR, 1_510), 1_500, "what ends in an hour still does");
        assert_eq!(after_noon(&clock, NOON + HOUR, 2_510), HOUR, "set ahead it is believed");
        assert_eq!(after_noon(&clock, NOON + 3_000, 3_510), HOUR + 1_000);
    }

    #[test]
    fn the_databases_clock_is_the_only_one_once_it_is_known_and_does_not_go_back_either() {
        let clock = Steady::new();
        assert_eq!(after_noon(&clock, NOON + HOUR, 0), HOUR);
        let by_database = |database, uptime| clock.by_database(Timestamp(database), uptime).0 - NOON;
        assert_eq!(by_database(NOON + 1_000, 1_000), 1_000, "the machine was an hour ahead");
        assert_eq!(after_noon(&clock, NOON + 2 * HOUR, 2_000), 2_000);
        assert_eq!(by_database(NOON - HOUR, 3_000), 3_000);
    }

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        let at = Timestamp::from_millis(1_795_489_236_007);
        assert_eq!(at.to_string(), "2026-11-24T03:00:36.007Z");
        assert_eq!(Timestamp::from_rfc3339(&at.to_string()), Some(at));
    }
}
