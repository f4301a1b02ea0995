//! Both listeners from their first connection to their orderly end.

use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::edge::Listener;
use super::edge::listener::accept;
use super::router;
use super::state::State;

/// How long an orderly end may take.
const GRACE: Duration = Duration::from_secs(30);

/// The two listeners and the console's pages.
pub struct Listeners {
    /// Browsers'.
    pub public: Listener,
    /// Servers', operators', custodians' and auditors'.
    pub private: Listener,
    /// Pages below `/console/`, on the private listener.
    pub console: Router,
}

impl Listeners {
    /// Listeners without a console.
    #[must_use]
    pub fn new(public: Listener, private: Listener) -> Self {
        Self { public, private, console: Router::new() }
    }

    /// The same with the console's pages.
    #[must_use]
    pub fn with_console(self, console: Router) -> Self {
        Self { console, ..self }
    }
}

/// Serves until `shutdown`; then takes nothing new, finishes what is in flight and comes back, after 30 s at the latest.
/// The committer is the caller's to stop, afterwards.
pub async fn serve(state: State, listeners: Listeners, shutdown: CancellationToken) {
    let (connections, ending) = (TaskTracker::new(), CancellationToken::new());
    let public = router::public(&state);
    let private = router::private(&state, listeners.console);
    let accepting = TaskTracker::new();
    for (listener, router) in [(listeners.public, public), (listeners.private, private)] {
        accepting.spawn(accept(listener, router, connections.clone(), ending.clone()));
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = housekeeping(&state) => {}
    }
    ending.cancel();
    accepting.close();
    connections.close();
    state.works().close();
    let ended = async {
        accepting.wait().await;
        connections.wait().await;
        state.works().wait().await;
    };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!("requests were still under way at the end of the grace period");
    }
    state.write_notes(true).await;
}

/// Writes what is counted and forgets who has not asked for a while; never ends.
async fn housekeeping(state: &State) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in 1_u64.. {
        second.tick().await;
        state.write_notes(false).await;
        if tick.is_multiple_of(60) {
            state.limits().forget();
        }
    }
}
