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

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;
    use crate::store::committer::operation::Changes;
    use crate::store::committer::own_work::OwnWork;
    use crate::store::committer::queued::{Job, OpeningKeys, Reply};

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    /// One whose caller waits for so long.
    fn job(left: Duration, deadline: u64) -> (Box<dyn Queued>, oneshot::Receiver<Reply<OwnWork>>) {
        let operation = OwnWork::new(TenantName::system(), Timestamp::from_millis(deadline), Changes::default);
        let (reply, answer) = oneshot::channel();
        let (openings, until) = (OpeningKeys::new(), Instant::now() + left);
        (Box::new(Job { operation, openings, output: None, reply, until, place: None, moved: Vec::new() }), answer)
    }

    fn told(answer: &mut oneshot::Receiver<Reply<OwnWork>>) -> Option<Error> {
        match answer.try_recv() {
            Ok(Reply::Failed(error)) => Some(error),
            _ => None,
        }
    }

    #[test]
    fn what_would_be_written_and_answered_too_late_is_refused_before() {
        let (long, short) = (Duration::from_secs(60), Duration::from_millis(100));
        for (usual, left, is_refused) in [
            (Duration::from_millis(500), long, false),
            (Duration::from_millis(500), short, true),
            (Duration::ZERO, long, false),
            // However slow transactions were: who has time left shows that they are not any more.
            (Duration::from_secs(100), Duration::from_secs(30), false),
            (Duration::from_secs(100), short, true),
        ] {
            let (job, mut answer) = job(left, 2_000);
            let kept = in_time(vec![job], NOW, usual);
            assert_eq!((kept.len(), told(&mut answer).is_some()), (usize::from(!is_refused), is_refused), "{usual:?}");
        }
    }

    #[test]
    fn what_nobody_waits_for_does_not_happen() {
        let ((late, mut answer), (abandoned, caller)) =
            (job(Duration::from_secs(60), 1), job(Duration::from_secs(60), 2_000));
        drop(caller);
        assert!(in_time(vec![late, abandoned], NOW, Duration::ZERO).is_empty());
        assert!(matches!(told(&mut answer), Some(Error::Late)));
    }
}
