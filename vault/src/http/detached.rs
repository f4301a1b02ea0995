//! Work that goes on when nobody waits for it any more.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Work in the place of whoever waits for it. When that one gives up (the client went away, the request's time is up), it
/// becomes a task of its own and is done to its end: a task for each request from the start would cost each of them a
/// change of threads.
pub(crate) struct ToTheEnd<T: Send + 'static> {
    /// Nothing once it has ended, or panicked: what panicked must not be polled again.
    work: Option<Work<T>>,
    tasks: TaskTracker,
    span: Span,
}

impl<T: Send + 'static> ToTheEnd<T> {
    /// `tasks` are waited for when the node ends.
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static, tasks: &TaskTracker) -> Self {
        Self { work: Some(Box::pin(work)), tasks: tasks.clone(), span: Span::current() }
    }
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end, and so is the work.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            self.tasks.spawn_on(work.instrument(self.span.clone()), &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn work_that_is_given_up_is_done_to_its_end() {
        let (tasks, may_end, done) = (TaskTracker::new(), Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let work = {
            let (may_end, done) = (Arc::clone(&may_end), Arc::clone(&done));
            async move {
                may_end.notified().await;
                done.store(true, Ordering::Release);
            }
        };
        let waited = ToTheEnd::new(work, &tasks);
        assert!(tokio::time::timeout(Duration::from_millis(20), waited).await.is_err());
        assert!(!done.load(Ordering::Acquire));
        may_end.notify_one();
        tasks.close();
        tokio::time::timeout(Duration::from_secs(30), tasks.wait()).await.unwrap();
        assert!(done.load(Ordering::Acquire));
    }

    #[tokio::test]
    async fn work_that_nobody_began_to_wait_for_is_done_too() {
        let (tasks, done) = (TaskTracker::new(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&done);
        drop(ToTheEnd::new(async move { told.store(true, Ordering::Release) }, &tasks));
        tasks.close();
        tokio::time::timeout(Duration::from_secs(30), tasks.wait()).await.unwrap();
        assert!(done.load(Ordering::Acquire));
    }

    #[tokio::test]
    async fn work_that_ended_or_panicked_leaves_no_task() {
        let tasks = TaskTracker::new();
        assert_eq!(ToTheEnd::new(async { 7 }, &tasks).await, 7);
        let panicking = tokio::spawn(ToTheEnd::new(async { panic!("a fault of ours") }, &tasks));
        let ended: Result<(), _> = panicking.await;
        assert!(ended.unwrap_err().is_panic());
        assert!(tasks.is_empty());
    }
}
