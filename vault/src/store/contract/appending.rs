//! PostgreSQL alone: a batch that only adds is one statement, and held to all that a transaction is held to.

use std::time::Duration;

use super::on_postgres;
use super::vault::{Vault, demo, entry, tenant_row};
use crate::access_log::Action;
use crate::domain::RetentionClass;
use crate::store::committer::operation::{Changes, Decision, Generation, Reads};
use crate::store::rows::ValueRow;
use crate::store::{Committed, Error};

on_postgres!(
    what_only_adds_is_one_statement_and_all_of_it_is_there,
    one_statement_is_held_to_the_generation_it_was_decided_under,
    one_statement_of_a_boot_that_was_closed_writes_nothing,
    one_statement_writes_nothing_while_another_node_waits_for_the_generation,
    one_statement_that_nobody_heard_of_closes_its_lane,
    a_row_that_one_statement_cannot_write_costs_no_neighbour,
);

impl Vault {
    /// A capture of these values, decided under a generation.
    async fn capture(&self, rows: Vec<ValueRow>, generation: Generation) -> Result<Committed<()>, Error> {
        let mut ask = self.ask(Reads::default(), move |_, _| {
            let captured = rows.iter().map(|row| {
                let mut captured = entry(&demo(), Action::ValueCaptured);
                captured.value_id = Some(row.metadata.value_id);
                captured.into()
            });
            let new_values = rows.iter().cloned().map(Into::into).collect();
            Decision::Write(Changes { entries: captured.collect(), new_values, ..Changes::default() }, ())
        });
        ask.generation = Some(generation);
        self.committer.submit(ask).await
    }

    async fn capture_one(&self, generation: Generation) -> Result<Committed<()>, Error> {
        self.capture(vec![self.value(RetentionClass::Session, None)], generation).await
    }

    pub(super) async fn generation(&self) -> Generation {
        let number = self.number("SELECT generation FROM generations WHERE tenant = 'demo'").await;
        Generation(number.try_into().unwrap())
    }

    async fn rows(&self) -> (i64, i64) {
        let values = self.number("SELECT count(*) FROM secure_values WHERE tenant = 'demo'").await;
        (values, self.number("SELECT count(*) FROM access_log WHERE tenant = 'demo'").await)
    }

    /// Transactions, and those of them that were one statement.
    fn transactions(&self) -> (u64, u64) {
        let meter = &self.store.meter().committer;
        (meter.transactions.count(), meter.statements.get())
    }
}

async fn what_only_adds_is_one_statement_and_all_of_it_is_there(vault: Vault) {
    let vault = vault.with_tenant().await;
    let generation = vault.generation().await;
    // The first one announces the boot in this log.
    vault.capture_one(generation).await.unwrap();
    let (rows, made) = (vault.rows().await, vault.transactions());
    let values: Vec<ValueRow> = (0..5).map(|_| vault.value(RetentionClass::Session, None)).collect();
    let done = vault.capture(values.clone(), generation).await.unwrap();
    assert_eq!(vault.transactions(), (made.0 + 1, made.1 + 1), "it is one statement");
    assert_eq!(vault.rows().await, (rows.0 + 5, rows.1 + 5));
    for (value, receipt) in values.iter().zip(done.receipts()) {
        let stored = vault.store.value(&demo(), value.metadata.value_id).await.unwrap().unwrap();
        assert_eq!((&stored.row.metadata, &stored.row.sealed), (&value.metadata, &value.sealed));
        let stored = vault.store.entry_at(&demo(), &receipt.position).await.unwrap().unwrap();
        assert_eq!(crate::access_log::Leaf::parse(&stored.leaf).unwrap().value_id, Some(value.metadata.value_id));
    }
}

async fn one_statement_is_held_to_the_generation_it_was_decided_under(vault: Vault) {
    let vault = vault.with_tenant().await;
    let generation = vault.generation().await;
    vault.capture_one(generation).await.unwrap();
    let (_store, second) = vault.second_node().await;
    // Another node seals the tenant, and this one has not heard of it.
    second.submit(vault.decreed(tenant_row(&demo(), 2, true))).await.unwrap();
    let rows = vault.rows().await;
    let refused = vault.capture_one(generation).await;
    assert!(matches!(refused, Err(Error::Stale)), "{refused:?}");
    assert_eq!(vault.rows().await, rows, "nothing of it is there");
}

async fn one_statement_of_a_boot_that_was_closed_writes_nothing(vault: Vault) {
    let vault = vault.with_tenant().await;
    let generation = vault.generation().await;
    vault.capture_one(generation).await.unwrap();
    let (other, _second) = vault.second_node().await;
    let boot = vault.committer.identity().boot();
    other.close_boot(boot).await.unwrap();
    let ends = other.lane_ends(boot).await.unwrap();
    let refused = vault.capture_one(generation).await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    assert_eq!(other.lane_ends(boot).await.unwrap(), ends);
}

async fn one_statement_writes_nothing_while_another_node_waits_for_the_generation(vault: Vault) {
    let vault = vault.with_tenant().await;
    let generation = vault.generation().await;
    vault.capture_one(generation).await.unwrap();
    let made = vault.transactions();
    vault
        .tamper(
            "INSERT INTO awaited_generations (tenant, until) \
             VALUES ('demo', (extract(epoch FROM clock_timestamp()) * 1000)::bigint + 400)",
        )
        .await;
    // It is left for a moment, and done in a transaction when nobody waits any more.
    vault.capture_one(generation).await.unwrap();
    assert_eq!(vault.transactions(), (made.0 + 1, made.1), "it was not one statement");
}

async fn one_statement_that_nobody_heard_of_closes_its_lane(vault: Vault) {
    let vault = vault.with_tenant().await;
    let generation = vault.generation().await;
    let before = vault.capture_one(generation).await.unwrap().receipts()[0].position;
    let rows = vault.rows().await;
    vault.store.writer().await.lose_the_next_answer(true);
    assert!(matches!(vault.capture_one(generation).await, Err(Error::Unavailable)));
    assert_eq!(vault.rows().await, (rows.0 + 1, rows.1 + 1), "it did happen");
    let after = vault.capture_one(generation).await.unwrap().receipts()[0].position;
    assert_eq!((before.lane, after.lane, after.number), (0, 1, 0));
}

async fn a_row_that_one_statement_cannot_write_costs_no_neighbour(vault: Vault) {
    let vault = vault.with_tenant().await;
    let generation = vault.generation().await;
    vault.capture_one(generation).await.unwrap();
    let taken = vault.value(RetentionClass::Session, None);
    vault.capture(vec![taken.clone()], generation).await.unwrap();
    // A batch waits for the writer; what comes meanwhile is one batch.
    let held = vault.store.writer().await;
    let (first, refused, neighbour, ()) = tokio::join!(
        vault.capture_one(generation),
        vault.capture(vec![taken], generation),
        vault.capture_one(generation),
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            drop(held);
        },
    );
    first.unwrap();
    neighbour.unwrap();
    assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
    assert!(vault.store.meter().committer.split.get() > 0, "they were one batch");
}
