//! Which operations go into a batch, and where those go that did not come through it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;

use super::gathered::{Left, fail_all};
use super::put_off::Until;
use super::queued::Queued;
use super::writer::Message;
use crate::domain::{TenantName, Timestamp};
use crate::store::Error;

/// An operation that has more time left than this is tried whatever transactions took lately: else one that was slow would
/// keep all others from showing that they are not.
const LEFT: Duration = Duration::from_millis(900);

/// Takes what is queued, and waits where there is nothing else to do; false at the end of everything.
pub(super) async fn receive(
    queue: &mut mpsc::UnboundedReceiver<Message>,
    messages: &mut Vec<Message>,
    until: Until,
) -> bool {
    match until {
        Until::Now => {}
        Until::At(at) => match tokio::time::timeout_at(at, queue.recv()).await {
            Ok(Some(first)) => messages.push(first),
            // Nothing comes any more: only the time is waited for.
            Ok(None) => tokio::time::sleep_until(at).await,
            Err(_) => {}
        },
        Until::Message => match queue.recv().await {
            Some(first) => messages.push(first),
            None => return false,
        },
    }
    while let Ok(message) = queue.try_recv() {
        messages.push(message);
    }
    true
}

/// Parts of a batch of which one waits: each tenant alone, and of one tenant's operations two halves.
pub(super) fn apart(mut jobs: Vec<Box<dyn Queued>>) -> Vec<Vec<Box<dyn Queued>>> {
    let mut tenants: BTreeMap<TenantName, Vec<Box<dyn Queued>>> = BTreeMap::new();
    if jobs.iter().any(|job| job.tenant() != jobs[0].tenant()) {
        for job in jobs {
            tenants.entry(job.tenant().clone()).or_default().push(job);
        }
        return tenants.into_values().collect();
    }
    let half = jobs.split_off(jobs.len() / 2);
    [jobs, half].into_iter().filter(|part| !part.is_empty()).collect()
}

/// Those that somebody still waits for, and will when a transaction of the usual length is over: what would be written and
/// never acknowledged is refused before.
pub(super) fn in_time(jobs: Vec<Box<dyn Queued>>, now: Timestamp, usual: Duration) -> Vec<Box<dyn Queued>> {
    let mut fresh = Vec::with_capacity(jobs.len());
    let over = tokio::time::Instant::now() + usual.min(LEFT);
    for job in jobs {
        if job.deadline() < now {
            job.fail(Error::Late);
        } else if job.is_abandoned() {
            drop(job);
        } else if job.until() < over {
            job.fail(Error::Overloaded);
        } else {
            fresh.push(job);
        }
    }
    fresh
}

/// A row that does not read back is one operation's misfortune.
pub(super) fn alone_or_failed(mut jobs: Vec<Box<dyn Queued>>, error: Error) -> Left {
    if matches!(error, Error::Unreadable(_) | Error::Tampered(_)) {
        if jobs.len() > 1 {
            return Left { split: jobs, later: Vec::new() };
        }
        if let Some(job) = jobs.pop() {
            job.fail(error);
        }
        return Left::default();
    }
    fail_all(jobs, &error);
    Left::default()
}
