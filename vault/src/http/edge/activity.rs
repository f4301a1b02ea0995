//! What a connection is doing: requests in flight, requests served, when the last answer left. It closes nothing itself.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a connection may stay as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Between two requests: so that no read buffer outlives its answer by two seconds.
    pub(super) idle: Duration,
    /// Before the first request, the TLS handshake excluded.
    pub(super) first_request: Duration,
    /// During an answer, beside what its size allows ([`SLOWEST`]).
    pub(super) longest_answer: Duration,
    /// Between two pieces of an answer that the client takes, once the connection is to end.
    pub(super) untaken: Duration,
}

/// The pace of both listeners.
pub(super) const PACE: Pace = Pace {
    idle: Duration::from_secs(1),
    first_request: Duration::from_secs(10),
    longest_answer: Duration::from_secs(300),
    untaken: Duration::from_secs(10),
};

/// So long a connection of HTTP/1 rests whose request found no room, from its answer on. Who waits as `Retry-After` says
/// does not notice; who asks again at once waits in its socket, where it costs nothing. Refusing takes
/// a head, a route and an answer too: a crowd that is refused as fast as it asks would leave little for those let in.
pub(super) const REST: Duration = Duration::from_millis(250);
/// For so many bytes of an answer that were handed over its connection may last a second longer: the export of a log takes as long as the log
/// is large, and who reads as slowly as can be holds nothing for long.
const SLOWEST: u64 = 1024 * 1024;
/// How often it is looked whether something is still in flight.
const LOOK: Duration = Duration::from_millis(20);
/// What hyper's read buffer has room for, in bytes, until a longer request makes it grow.
const READ_BUFFER: usize = 8 * 1024;
/// Requests one connection may bring.
const MOST_REQUESTS: u32 = 1_000;

/// Counts of one connection, shared by its reader, its service and its watcher.
#[derive(Debug)]
pub(super) struct Activity {
    pace: Pace,
    in_flight: AtomicU32,
    served: AtomicU32,
    /// Requests in flight of which a piece of the answer is offered and the next one not yet asked for.
    offered: AtomicU32,
    /// Set by an answer that ends the connection.
    closing: AtomicBool,
    /// A request had a body, or an answer carried a plaintext: from now on the read buffer is wiped before it is read into
    /// again.
    stained: AtomicBool,
    /// The read buffer was larger once than it is made: what lies where in it is not known.
    grown: AtomicBool,
    ambiguous: AtomicBool,
    /// When it ends, whatever is asked for meanwhile.
    ends: Mutex<Option<Instant>>,
    /// Until when nothing is read.
    rests: Mutex<Option<Instant>>,
    since: Mutex<Instant>,
    /// When the client last took something.
    moved: Mutex<Instant>,
    /// How many bytes of answers it was given since one last began or ended.
    given: AtomicU64,
    /// Told when the connection may have to go at once.
    worn: Notify,
}

impl Activity {
    pub(super) fn new(pace: Pace) -> Arc<Self> {
        Arc::new(Self {
            pace,
            stained: AtomicBool::new(false),
            grown: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            served: AtomicU32::new(0),
            offered: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            ambiguous: AtomicBool::new(false),
            ends: Mutex::new(None),
            rests: Mutex::new(None),
            since: Mutex::new(Instant::now()),
            moved: Mutex::new(Instant::now()),
            given: AtomicU64::new(0),
            worn: Notify::new(),
        })
    }

    /// A request has begun; it ends when the guard is dropped with the last byte of its answer, or of its body
    /// where that comes later.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.touch();
        InFlight { activity: Arc::clone(self), offered: AtomicBool::new(false) }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(super) fn served(&self) -> u32 {
        self.served.load(Ordering::Acquire)
    }

    /// Whether the requests in flight are the last of this connection: their answers say so, else the next request would be
    /// sent into a connection that closes, and its sender could not know whether it was done.
    pub(super) fn is_last(&self) -> bool {
        self.served().saturating_add(self.in_flight()) >= MOST_REQUESTS
    }

    /// Ends the connection after the answers under way.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.worn.notify_one();
    }

    /// Ends the connection when so long has passed since this was first said: requests that overlap would else keep it, and what it has
    /// read, for as long as they come. Those under way then are answered, if that is soon ([`Activity::overdue`]).
    pub(super) fn close_within(&self, time: Duration) {
        let mut ends = self.ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if ends.is_none() {
            *ends = Some(Instant::now() + time);
            self.worn.notify_one();
        }
    }

    /// A request or answer passes that may hold a plaintext. True if its buffers can be wiped while the connection goes on; else
    /// the connection must end, and its buffers with it.
    pub(super) fn stain(&self) -> bool {
        self.stained.store(true, Ordering::Release);
        !self.grown.load(Ordering::Acquire)
    }

    pub(super) fn is_stained(&self) -> bool {
        self.stained.load(Ordering::Acquire)
    }

    /// So much room does hyper offer to be read into.
    pub(super) fn offers(&self, room: usize) {
        if room > READ_BUFFER {
            self.grown.store(true, Ordering::Release);
        }
    }

    /// A request found no room: nothing more is read for a moment.
    pub(super) fn rest(&self) {
        *self.rests.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now() + REST);
    }

    /// Until when nothing is read, if that is still to come. Said once.
    pub(super) fn take_rest(&self) -> Option<Instant> {
        let rests = self.rests.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        rests.filter(|until| *until > Instant::now())
    }

    /// The head just read has both a length and a transfer coding (RFC 9112 section 6.1).
    pub(super) fn mark_ambiguous(&self) {
        self.ambiguous.store(true, Ordering::Release);
    }

    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Acquire)
    }

    /// Waits until the connection has to go; true if an answer is under way for too long.
    ///
    /// Requests that come and go do not wake it: no deadline that follows from them is nearer than an idle connection's,
    /// so it looks again that often, and then knows the moment.
    pub(super) async fn over(&self) -> bool {
        loop {
            let busy = self.in_flight() > 0;
            let allowance = match (busy, self.served()) {
                (false, _) if self.is_worn() => return false,
                // In HTTP/2 it may never be idle.
                (true, MOST_REQUESTS..) => return false,
                (true, _) => self.longest_answer(),
                (false, 0) => self.pace.first_request,
                (false, _) => self.pace.idle,
            };
            let (deadline, now) = (self.since() + allowance, Instant::now());
            if now >= deadline {
                return busy;
            }
            let ends = self.ends();
            if ends.is_some_and(|ends| now >= ends) {
                return false;
            }
            let look = deadline.min(now + self.pace.idle);
            tokio::select! {
                () = tokio::time::sleep_until(ends.map_or(look, |ends| look.min(ends))) => {}
                () = self.worn.notified() => {}
            }
        }
    }

    /// Waits until so long after the moment of [`Activity::close_within`] that what is under way is worth less than what lies in its buffers.
    pub(super) async fn overdue(&self, after: Duration) {
        loop {
            match self.ends().map(|ends| ends + after) {
                Some(end) if Instant::now() >= end => return,
                Some(end) => tokio::time::sleep_until(end).await,
                // It may still be said by what is under way.
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }

    fn ends(&self) -> Option<Instant> {
        *self.ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn longest_answer(&self) -> Duration {
        self.pace.longest_answer + Duration::from_secs(self.given.load(Ordering::Acquire) / SLOWEST)
    }

    fn is_worn(&self) -> bool {
        self.closing.load(Ordering::Acquire) || self.served() >= MOST_REQUESTS
    }

    /// Waits until nothing is in flight; false if that is given up, because the client takes nothing more.
    pub(super) async fn settled(&self) -> bool {
        let end = Instant::now() + self.pace.longest_answer;
        while self.in_flight() > 0 {
            let stuck = self.offered.load(Ordering::Acquire) >= self.in_flight();
            if Instant::now() >= end || stuck && read(&self.moved).elapsed() >= self.pace.untaken {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    fn touch(&self) {
        self.given.store(0, Ordering::Release);
        now(&self.since);
        now(&self.moved);
    }

    fn since(&self) -> Instant {
        read(&self.since)
    }
}

fn now(of: &Mutex<Instant>) {
    *of.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
}

fn read(of: &Mutex<Instant>) -> Instant {
    *of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A request whose answer has not yet left.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    offered: AtomicBool,
}

impl InFlight {
    /// So many bytes were handed over.
    pub(super) fn gave(&self, bytes: usize) {
        self.activity.given.fetch_add(bytes as u64, Ordering::AcqRel);
    }

    /// A piece was asked for: it is offered now, or the client waits for it.
    pub(super) fn asked(&self, offered: bool) {
        now(&self.activity.moved);
        match (self.offered.swap(offered, Ordering::AcqRel), offered) {
            (false, true) => self.activity.offered.fetch_add(1, Ordering::AcqRel),
            (true, false) => self.activity.offered.fetch_sub(1, Ordering::AcqRel),
            _ => return,
        };
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.asked(false);
        self.activity.touch();
        self.activity.served.fetch_add(1, Ordering::AcqRel);
        self.activity.in_flight.fetch_sub(1, Ordering::AcqRel);
        if self.activity.is_worn() {
            self.activity.worn.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Pace = Pace {
        idle: Duration::from_millis(50),
        first_request: Duration::from_secs(3),
        longest_answer: Duration::from_secs(60),
        untaken: Duration::from_millis(50),
    };

    async fn lasts(activity: &Activity, millis: u64) -> bool {
        tokio::time::timeout(Duration::from_millis(millis), activity.over()).await.is_err()
    }

    #[tokio::test]
    async fn a_busy_connection_goes_on_and_an_idle_one_ends() {
        let activity = Activity::new(QUICK);
        let guard = activity.begin();
        assert!(lasts(&activity, 300).await);
        drop(guard);
        assert!(!lasts(&activity, 10_000).await);
    }

    #[tokio::test]
    async fn a_connection_without_a_request_lasts_longer_than_an_idle_one() {
        let activity = Activity::new(QUICK);
        assert!(lasts(&activity, 100).await);
        assert!(!lasts(&activity, 10_000).await);
    }

    #[tokio::test]
    async fn a_thousand_requests_are_enough() {
        let activity = Activity::new(PACE);
        for _ in 0..MOST_REQUESTS {
            drop(activity.begin());
        }
        assert!(!lasts(&activity, 900).await);
        let overlapping = Activity::new(PACE);
        let _under_way = overlapping.begin();
        for _ in 0..MOST_REQUESTS {
            drop(overlapping.begin());
        }
        assert!(!lasts(&overlapping, 900).await, "though it is never idle");
    }

    async fn settles(activity: &Activity) -> Option<bool> {
        tokio::time::timeout(Duration::from_millis(300), activity.settled()).await.ok()
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_is_not_waited_for() {
        let activity = Activity::new(QUICK);
        let (slow, untaken) = (activity.begin(), activity.begin());
        untaken.asked(true);
        assert_eq!(settles(&activity).await, None, "one is still being answered");
        drop(slow);
        let given_up = tokio::time::timeout(Duration::from_secs(60), activity.settled()).await;
        assert_eq!(given_up, Ok(false));
        drop(untaken);
        assert_eq!(activity.offered.load(Ordering::Acquire), 0);
        assert!(activity.settled().await);
    }

    #[tokio::test]
    async fn an_answer_may_take_as_much_longer_as_it_is_large() {
        let activity = Activity::new(Pace { longest_answer: Duration::from_millis(100), ..QUICK });
        let export = activity.begin();
        export.gave(2 * SLOWEST as usize - 1);
        assert!(lasts(&activity, 800).await, "a second longer");
        assert!(!lasts(&activity, 10_000).await, "and no more");
        // What one answer had does not help the next.
        drop(export);
        let _next = activity.begin();
        assert!(!lasts(&activity, 800).await);
    }

    #[tokio::test]
    async fn a_connection_that_is_to_end_soon_ends_though_requests_overlap() {
        let activity = Activity::new(Pace { idle: Duration::from_secs(60), ..PACE });
        let _under_way = activity.begin();
        drop(activity.begin());
        activity.close_within(Duration::from_millis(600));
        assert!(lasts(&activity, 300).await, "it serves on for a moment");
        // It is said again with each request, and counts from the first.
        activity.close_within(Duration::from_secs(60));
        let over = tokio::time::timeout(Duration::from_secs(10), activity.over()).await;
        assert_eq!(over, Ok(false), "in order: what is under way is answered");
    }

    #[test]
    fn a_plaintext_ends_a_connection_whose_buffers_cannot_be_wiped() {
        assert!(Activity::new(PACE).stain());
        let grown = Activity::new(PACE);
        grown.offers(READ_BUFFER);
        assert!(grown.stain());
        grown.offers(READ_BUFFER + 1);
        assert!(!grown.stain());
    }

    #[test]
    fn the_pace_is_the_one_that_was_promised() {
        assert_eq!(PACE.idle, Duration::from_secs(1));
        assert_eq!(MOST_REQUESTS, 1_000);
    }
}
