//! When the process is asked to end: SIGTERM from an init system, Ctrl-C from a person.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Resolves when the process is asked to end. Listens from the moment it is called, so that nothing is missed before the first poll.
pub(super) fn ended() -> impl Future<Output = ()> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    async move {
        tokio::select! {
            () = next(&mut terminate) => {}
            () = next(&mut interrupt) => {}
        }
    }
}

fn listen(kind: SignalKind) -> Option<Signal> {
    signal(kind).inspect_err(|error| tracing::warn!(%error, "a signal cannot be listened for")).ok()
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
