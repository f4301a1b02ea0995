//! What one asker takes of what all share: places in the queue, connections, time of a statement.

use std::time::Duration;

use super::vault::{NOW, Vault, demo};
use super::{on_every_engine, on_postgres};
use crate::domain::RetentionClass;
use crate::store::committer::operation::{Changes, Decision, Reads};
use crate::store::{Engine, Error, engine};

on_every_engine!(
    a_large_operation_takes_as_much_of_the_queue_as_it_writes,
    the_values_of_a_tenant_are_counted_as_far_as_one_is_told,
);

mod among_others {
    use super::*;

    on_postgres!(what_a_node_lives_by_is_asked_while_lists_hold_every_other_connection);
}

async fn a_large_operation_takes_as_much_of_the_queue_as_it_writes(vault: Vault) {
    let vault = vault.with_tenant().await;
    // The tenant's keys are made before: making them takes the writer too.
    vault.write(Changes::default).await.unwrap();
    let large = |entries| {
        let mut ask = vault.ask(Reads::default(), |_, _| Decision::Answer(()));
        ask.entries = entries;
        vault.committer.submit(ask)
    };
    let writer = vault.store.writer().await;
    let waiting = futures_util::future::join_all((0..4).map(|_| large(4000)));
    tokio::pin!(waiting);
    while vault.committer.queued().0 < 4000 {
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err());
    }
    let refused = large(1000).await;
    assert!(matches!(refused, Err(Error::Overloaded)), "{refused:?}");
    drop(writer);
    assert!(waiting.await.iter().all(Result::is_ok));
    // One that is larger than the whole queue has it for itself.
    while vault.committer.queued().0 > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    large(1_000_000).await.unwrap();
}

async fn the_values_of_a_tenant_are_counted_as_far_as_one_is_told(vault: Vault) {
    let vault = vault.with_tenant().await;
    for _ in 0..3 {
        let row = vault.value(RetentionClass::Session, None);
        vault.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
    }
    for (most, counted) in [(2, 2), (3, 3), (1000, 3)] {
        assert_eq!(engine!(vault.store, count_values(most, &demo())).unwrap(), counted);
    }
}

async fn what_a_node_lives_by_is_asked_while_lists_hold_every_other_connection(vault: Vault) {
    let vault = vault.with_tenant().await;
    let Engine::Postgres(engine) = &vault.store.inner.engine else { panic!("PostgreSQL is meant") };
    let taken = engine.take_readers().await;
    let log = demo();
    let list = vault.store.head(&log);
    assert!(tokio::time::timeout(Duration::from_millis(100), list).await.is_err(), "it waits for a connection");
    let boot = vault.committer.identity().boot();
    assert!(vault.store.is_open(boot).await.unwrap());
    assert_eq!(vault.store.open_boots().await.unwrap(), [boot]);
    vault.store.open_heartbeats().await.unwrap();
    assert!(!engine.generations().await.unwrap().is_empty());
    vault.committer.beat().await.unwrap();
    vault.write(Changes::default).await.unwrap();
    assert_eq!(vault.clock.now(), NOW);
    drop(taken);
}
