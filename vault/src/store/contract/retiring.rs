//! A data key goes only when nothing rests on it, whatever is written meanwhile.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::vault::{Vault, demo, entry};
use super::{on_every_engine, on_postgres};
use crate::access_log::Action;
use crate::domain::{DataKeyId, RetentionClass, ValueId};
use crate::keys::KeyRecords as _;
use crate::store::Catalog;
use crate::store::batch::Wanted;
use crate::store::committer::operation::{Changes, Reads};
use crate::store::resealing;
use crate::store::rows::ValueRow;
use crate::store::{Decision, Error};

on_every_engine!(
    a_data_key_that_a_value_came_to_rest_on_is_not_taken_away_at_whatever_moment_it_came,
    only_a_data_key_that_was_closed_is_retired,
    a_data_key_that_was_closed_opens_and_has_another_beside_it,
    a_slice_goes_under_another_data_key_where_the_one_before_was_closed,
    a_row_that_was_made_to_look_like_a_data_key_of_values_is_not_taken_away,
    a_data_key_that_was_made_to_look_old_seals_nothing_any_more_before_it_goes,
    what_seals_is_chosen_anew_on_each_node_when_a_data_key_is_closed,
);

mod on_one_server {
    use super::*;

    on_postgres!(what_is_sealed_under_a_data_key_is_durable_before_that_is_closed);
}

/// More than one reading takes.
const MANY: usize = 70;

impl Vault {
    async fn has(&self, id: DataKeyId) -> bool {
        self.store.load_data_key(&demo(), id).await.unwrap().is_some()
    }

    async fn close(&self, ids: Vec<DataKeyId>) {
        self.write(move || Changes { closed_data_keys: ids.clone(), ..Changes::default() }).await.unwrap();
    }
}

/// Gives the turn away and has it again after the next reading of a pass, or after its end. Turns go in the order in which they are
/// waited for: the pass gets no second one before, however soon its reading is done.
async fn next_turn<'t>(
    mut turn: SemaphorePermit<'t>,
    turns: &'t Semaphore,
    is_over: &Cell<bool>,
) -> SemaphorePermit<'t> {
    loop {
        drop(turn);
        // Nobody waited for it.
        let Ok(back) = turns.try_acquire() else { break turns.acquire().await.unwrap() };
        if is_over.get() {
            break back;
        }
        turn = back;
        tokio::task::yield_now().await;
    }
}

async fn a_data_key_that_a_value_came_to_rest_on_is_not_taken_away_at_whatever_moment_it_came(vault: Vault) {
    let vault = vault.with_tenant().await;
    let old = vault.row(vault.captured(None).await).await.data_key_id;
    for _ in 0..MANY {
        vault.captured(None).await;
    }
    vault.compromise(1).await;
    vault.pass(false).await;
    let (mut kept, mut refused) = (0, 0);
    // After one of its readings the pass waits for its turn; then a value comes whose id is smaller than all that was read.
    for after in 0..100 {
        let (turns, is_over) = (Semaphore::new(1), Cell::new(false));
        let mut turn = turns.try_acquire().unwrap();
        let came = async {
            for _ in 0..=after {
                turn = next_turn(turn, &turns, &is_over).await;
            }
            let there = vault.has(old).await;
            let mut row = ValueRow { data_key_id: old, ..vault.value(RetentionClass::Stored, None) };
            row.metadata.value_id = ValueId::from_bytes([0; 16]);
            let sealed = vault.seal(row, || ()).await;
            drop(turn);
            (there, sealed)
        };
        let pass = async {
            resealing::pass(&vault.by(), true, &turns, vault.ground()).await.unwrap();
            is_over.set(true);
        };
        let ((), (there, sealed)) = tokio::join!(pass, came);
        if sealed {
            assert!(vault.has(old).await, "a value rests on it that came after reading {after}");
            let place = vault.literal(&[0; 16]);
            vault.tamper(&format!("DELETE FROM secure_values WHERE value_id = {place}")).await;
            vault.tamper("UPDATE data_keys SET closed = 0").await;
            kept += 1;
        } else {
            refused += usize::from(there);
            break;
        }
    }
    assert!(kept >= 2 && refused == 1, "{kept} {refused}");
    assert!(!vault.has(old).await && vault.said("key.data-key.retired").await == 1);
}

async fn a_slice_goes_under_another_data_key_where_the_one_before_was_closed(vault: Vault) {
    let vault = vault.with_tenant().await;
    let mut values = Vec::new();
    for _ in 0..MANY {
        values.push(vault.captured(None).await);
    }
    // In the order the pass takes them: all are of one millisecond, so that chance orders their ids.
    values.sort();
    let old = vault.row(values[0]).await.data_key_id;
    vault.compromise(1).await;
    let (turns, is_over) = (Semaphore::new(1), Cell::new(false));
    let mut turn = turns.try_acquire().unwrap();
    let closed = async {
        loop {
            turn = next_turn(turn, &turns, &is_over).await;
            let now = vault.row(values[0]).await.data_key_id;
            assert!(now != old || !is_over.get(), "nothing was moved");
            if now != old {
                vault.close(vec![now]).await;
                vault.keys.forget_tenant(&demo());
                drop(turn);
                return now;
            }
        }
    };
    let pass = async {
        let passed = resealing::pass(&vault.by(), false, &turns, vault.ground()).await.unwrap();
        is_over.set(true);
        passed
    };
    let (passed, first) = tokio::join!(pass, closed);
    assert_eq!(passed.moved, MANY as u64, "all of them, in one pass");
    let mut under = BTreeMap::<DataKeyId, usize>::new();
    for value_id in values {
        assert!(vault.is_genuine(value_id).await);
        *under.entry(vault.row(value_id).await.data_key_id).or_default() += 1;
    }
    assert!(under.len() == 2 && under.contains_key(&first) && !under.contains_key(&old), "{under:?}");
}

async fn only_a_data_key_that_was_closed_is_retired(vault: Vault) {
    let vault = vault.with_tenant().await;
    let ids = vault.data_keys().await;
    let id = ids[0];
    let retire = || {
        vault.write(move || {
            let entries = vec![entry(&demo(), Action::Key("data-key.retired")).into()];
            Changes { entries, retired_data_keys: vec![id], ..Changes::default() }
        })
    };
    assert!(matches!(retire().await, Err(Error::Conflict)) && vault.has(id).await);
    vault.close(vec![id]).await;
    assert!(!vault.seal(ValueRow { data_key_id: id, ..vault.value(RetentionClass::Stored, None) }, || ()).await);
    retire().await.unwrap();
    assert!(!vault.has(id).await && vault.has(ids[1]).await);
    assert!(matches!(retire().await, Err(Error::Conflict)), "another node took it away");
    assert_eq!(vault.said("key.data-key.retired").await, 1, "what did not happen is not said");
    // One that is closed in the same batch, before it, is closed to it.
    let id = ids[1];
    let close = vault.ask(Reads::default(), move |_, _| {
        Decision::Write(Changes { closed_data_keys: vec![id], ..Changes::default() }, ())
    });
    let row = ValueRow { data_key_id: id, ..vault.value(RetentionClass::Stored, None) };
    let (closed, sealed) = futures_util::future::join(vault.committer.submit(close), vault.seal(row, || ())).await;
    assert!(closed.is_ok() && !sealed);
}

async fn a_data_key_that_was_closed_opens_and_has_another_beside_it(vault: Vault) {
    let vault = vault.with_tenant().await;
    let value_id = vault.captured(None).await;
    let closed = vault.row(value_id).await.data_key_id;
    vault.close(vec![closed]).await;
    vault.keys.forget_tenant(&demo());
    assert!(vault.is_genuine(value_id).await);
    let next = vault.row(vault.captured(None).await).await.data_key_id;
    assert_ne!(next, closed);
    vault.keys.forget_tenant(&demo());
    assert_eq!(vault.row(vault.captured(None).await).await.data_key_id, next);
}

async fn a_row_that_was_made_to_look_like_a_data_key_of_values_is_not_taken_away(vault: Vault) {
    use crate::domain::DataKeyClass::{Configuration, Stored};
    let vault = vault.with_tenant().await;
    let now = vault.clock.now();
    let needed = vault.keys.data_key_to_seal(&vault.store, &demo(), Configuration, now).await.unwrap().id();
    let idle = vault.keys.data_key_to_seal(&vault.store, &demo(), Stored, now).await.unwrap().id();
    vault.compromise(1).await;
    let place = vault.literal(needed.as_bytes());
    vault.tamper(&format!("UPDATE data_keys SET class = 'stored' WHERE data_key_id = {place}")).await;
    vault.pass(true).await;
    assert!(vault.has(needed).await && !vault.has(idle).await);
}

async fn a_data_key_that_was_made_to_look_old_seals_nothing_any_more_before_it_goes(vault: Vault) {
    let vault = vault.with_tenant().await;
    vault.compromise(1).await;
    let id = vault.row(vault.captured(None).await).await.data_key_id;
    vault.tamper("DELETE FROM secure_values").await;
    let catalog = Catalog::start(vault.store.clone());
    let known = catalog.tenant(&demo()).await.unwrap().unwrap();
    // Neither the era nor that it is closed is covered by its MAC, and this node holds it opened.
    let place = vault.literal(id.as_bytes());
    vault.tamper(&format!("UPDATE data_keys SET era = 0, closed = 1 WHERE data_key_id = {place}")).await;
    vault.pass(true).await;
    assert!(!vault.has(id).await, "nothing rests on it");
    let captured = Arc::new(ValueRow { data_key_id: id, ..vault.value(RetentionClass::Stored, None) });
    let mut late = vault.ask(Reads::default(), move |_, _| {
        Decision::Write(Changes { new_values: vec![Arc::clone(&captured)], ..Changes::default() }, ())
    });
    late.generation = Some(known.generation);
    assert!(matches!(vault.committer.submit(late).await, Err(Error::Stale)), "what was decided before is decided anew");
    let next = vault.captured(None).await;
    assert!(vault.row(next).await.data_key_id != id && vault.is_genuine(next).await);
}

async fn what_seals_is_chosen_anew_on_each_node_when_a_data_key_is_closed(vault: Vault) {
    let vault = vault.with_tenant().await;
    let catalog = Catalog::start(vault.store.clone());
    catalog.tenant(&demo()).await.unwrap();
    let chosen = async || vault.row(vault.captured(None).await).await.data_key_id;
    let id = chosen().await;
    // As another node closes it: nobody tells this one but the generation.
    let closed = move || Changes { closed_data_keys: vec![id], bump_generation: true, ..Changes::default() };
    vault.write(closed).await.unwrap();
    let heard = async {
        while chosen().await == id {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_secs(60), heard).await.is_ok());
    assert!(vault.keys.cached(&demo(), id).is_some(), "what is opened stays");
}

async fn what_is_sealed_under_a_data_key_is_durable_before_that_is_closed(vault: Vault) {
    let vault = vault.with_tenant().await;
    let id = vault.data_keys().await[0];
    let (_other, second) = vault.second_node().await;
    let mut writer = vault.store.writer().await;
    let mut batch = writer.begin().await.unwrap();
    let mut wanted = Wanted::by(vault.committer.identity().boot());
    wanted.data_keys.entry(demo()).or_default().insert(id);
    let loaded = batch.load(&wanted, vault.keys.realm(), &vault.clock).await.unwrap();
    assert_eq!(loaded.data_keys, [(demo(), id, true)]);
    let close = vault.ask(Reads::default(), move |_, _| {
        Decision::Write(Changes { closed_data_keys: vec![id], ..Changes::default() }, ())
    });
    let closing = second.submit(close);
    tokio::pin!(closing);
    let waits = async {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while vault.number(waiting).await == 0 {}
    };
    tokio::select! {
        done = &mut closing => panic!("it is closed while a batch seals under it: {done:?}"),
        () = waits => {}
    }
    batch.commit().await.unwrap();
    closing.await.unwrap();
    let mut batch = writer.begin().await.unwrap();
    let loaded = batch.load(&wanted, vault.keys.realm(), &vault.clock).await.unwrap();
    assert_eq!(loaded.data_keys, [(demo(), id, false)]);
}
