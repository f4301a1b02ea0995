//! What a node shows of itself: how far integration is behind, and what was counted.

use futures_util::FutureExt;

use super::on_every_engine;
use super::vault::{NOW, Vault, demo, entry};
use crate::access_log::Action;
use crate::store::EntryFilter;
use crate::store::committer::operation::Changes;

on_every_engine!(
    what_waits_for_integration_is_counted_by_log,
    a_batch_is_counted_once_it_is_durable,
    a_reading_that_is_given_up_shows_nothing_old_to_the_next,
);

async fn write(vault: &Vault, times: usize) {
    let changes = move || {
        let entries = (0..times).map(|_| entry(&demo(), Action::ValueDereferenced).into()).collect();
        Changes { entries, ..Changes::default() }
    };
    vault.write(changes).await.unwrap();
}

async fn what_waits_for_integration_is_counted_by_log(vault: Vault) {
    let vault = vault.with_tenant().await;
    let of_demo = async || {
        let waiting = vault.store.waiting().await.unwrap();
        waiting.into_iter().find(|of| of.log == demo()).map_or((0, None), |of| (of.entries, Some(of.since)))
    };
    let (before, since) = of_demo().await;
    assert_eq!(since, Some(NOW));
    write(&vault, 3).await;
    write(&vault, 2).await;
    assert_eq!(of_demo().await, (before + 5, Some(NOW)));
    let own = vault.store.waiting_in(&demo()).await.unwrap().unwrap();
    assert_eq!((own.log, own.entries, own.since), (demo(), before + 5, NOW));
    assert_eq!(vault.store.waiting_in(&"nobody".parse().unwrap()).await.unwrap(), None);
    vault.tamper("UPDATE log_lanes SET next = 1000000").await;
    assert_eq!(vault.store.waiting().await.unwrap(), []);
}

async fn a_batch_is_counted_once_it_is_durable(vault: Vault) {
    let vault = vault.with_tenant().await;
    let meter = &vault.store.meter().committer;
    let entries = |of: &str| {
        let counts = meter.entries().filter(|(action, ..)| *action == of);
        counts.map(|(.., count)| count).sum::<u64>()
    };
    assert!(entries("node.started") >= 1);
    let (batches, used) = (meter.operations.count(), entries("value.dereferenced"));
    write(&vault, 3).await;
    assert_eq!((meter.operations.count(), entries("value.dereferenced")), (batches + 1, used + 3));
    assert!(meter.commits.count() > batches && meter.transactions.count() > batches);
    let queue = vault.committer.queued();
    assert!(queue.0 == 0 && queue.1 > 0, "{queue:?}");
}

async fn a_reading_that_is_given_up_shows_nothing_old_to_the_next(vault: Vault) {
    let vault = vault.with_tenant().await;
    let entries = async || vault.store.waiting().await.unwrap().iter().map(|of| of.entries).sum::<u64>();
    // Given up after so many steps: while it waits for a connection, while its snapshot begins, in the middle of it.
    for steps in 1..=8 {
        let (log, filter) = (demo(), EntryFilter::default());
        let mut reading = Box::pin(vault.store.entries(&log, &filter, None, 100));
        for _ in 0..steps {
            if reading.as_mut().now_or_never().is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        drop(reading);
        let before = entries().await;
        write(&vault, 1).await;
        assert_eq!(entries().await, before + 1, "after {steps} steps");
    }
}
