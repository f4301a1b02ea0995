//! Batches: what is shared, what is not, what is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::on_every_engine;
use super::vault::{Vault, demo, entry, tenant_row};
use crate::access_log::{Action, Leaf};
use crate::crypto::{StateCode, ValueState};
use crate::domain::{CaptureSessionId, DataKeyClass, RetentionClass, ValueId};
use crate::store::committer::operation::{Changes, Decision, Generation, ReadValue, Reads, Rows, current_state};
use crate::store::rows::{StateRow, Table, ValueRow};
use crate::store::{EntryFilter, Error};

on_every_engine!(
    operations_that_wait_share_a_commit,
    a_failing_row_never_fails_its_neighbours,
    a_panicking_decision_fails_alone,
    a_single_use_is_spent_once_in_a_batch,
    an_old_state_shows_in_the_newest_entry,
    an_entry_that_only_looks_newest_refuses_the_value,
    a_stale_generation_is_decided_anew,
    a_late_operation_writes_nothing,
    a_key_that_is_not_at_hand_is_fetched_outside_the_batch,
    an_access_whose_asker_cannot_be_kept_is_refused_and_a_refusal_is_told,
    no_batch_has_more_entries_than_one_slice_of_integration,
    a_full_queue_refuses_at_once,
    what_was_acknowledged_survives_a_kill,
    a_value_reads_back_as_it_was_written,
    many_values_of_one_operation_read_back_as_they_were_written_all_or_none,
);

async fn operations_that_wait_share_a_commit(vault: Vault) {
    let vault = vault.with_tenant().await;
    let before = vault.number("SELECT count(*) FROM log_batches").await;
    let one =
        || vault.write(|| Changes { entries: vec![entry(&demo(), Action::ValueDeleted).into()], ..Changes::default() });
    let all = futures_util::future::join_all((0..300).map(|_| one())).await;
    let mut numbers: Vec<u64> = all.into_iter().map(|done| done.unwrap().receipts()[0].position.number).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "contiguous");
    let batches = vault.number("SELECT count(*) FROM log_batches").await - before;
    assert!(batches <= 30, "{batches} commits for 300 operations");
}

async fn a_failing_row_never_fails_its_neighbours(vault: Vault) {
    let vault = vault.with_tenant().await;
    let session = CaptureSessionId::generate(vault.clock.now());
    let until = vault.clock.now().plus(Duration::from_secs(60));
    let seen = move || Changes { encs: vec![(session, [1; 32], until)], ..Changes::default() };
    vault.write(seen).await.unwrap();
    // It does not look before it writes, so only the primary key can refuse it.
    let wrong = vault.write(seen);
    let right = (0..40_u8).map(|at| {
        vault.write(move || Changes {
            encs: vec![(session, [at + 2; 32], until)],
            entries: vec![entry(&demo(), Action::ValueCaptured).into()],
            ..Changes::default()
        })
    });
    let (wrong, right) = futures_util::future::join(wrong, futures_util::future::join_all(right)).await;
    assert!(matches!(wrong, Err(Error::Conflict)), "{wrong:?}");
    for done in right {
        assert_eq!(done.unwrap().receipts().len(), 1);
    }
}

async fn a_panicking_decision_fails_alone(vault: Vault) {
    let panicking = vault.committer.submit(vault.ask::<()>(Reads::default(), |_, _| panic!("a fault of ours")));
    let fine = vault.write(Changes::default);
    let (panicking, fine) = futures_util::future::join(panicking, fine).await;
    assert!(matches!(panicking, Err(Error::Rule(_))) && fine.is_ok());
}

fn spend(value: &ReadValue) -> Option<StateRow> {
    let state = current_state(value);
    let left = state.uses_left?.checked_sub(1)?;
    let state = ValueState { version: state.version + 1, uses_left: Some(left), code: StateCode::Active, ..state };
    let (value_id, data_key_id) = (value.row.metadata.value_id, value.row.data_key_id);
    Some(StateRow { value_id, data_key_id, state, mac: [0; 32] })
}

fn spending(rows: &dyn Rows, value_id: ValueId) -> Decision<bool> {
    let Some(state) = rows.value(value_id).and_then(spend) else { return Decision::Answer(false) };
    let mut used = entry(&demo(), Action::ValueDereferenced);
    (used.value_id, used.state_version) = (Some(value_id), Some(state.state.version));
    Decision::Write(Changes { entries: vec![used.into()], states: vec![state], ..Changes::default() }, true)
}

async fn a_single_use_is_spent_once_in_a_batch(vault: Vault) {
    let vault = vault.with_tenant().await;
    let row = vault.value(RetentionClass::Session, None);
    let value_id = row.metadata.value_id;
    vault.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
    let reads = || Reads { values: vec![value_id], ..Reads::default() };
    let two = (0..2).map(|_| vault.committer.submit(vault.ask(reads(), move |rows, _| spending(rows, value_id))));
    let two: Vec<bool> =
        futures_util::future::join_all(two).await.into_iter().map(|done| done.unwrap().output).collect();
    assert_eq!(two.iter().filter(|spent| **spent).count(), 1);
    let later = vault.committer.submit(vault.ask(reads(), move |rows, _| spending(rows, value_id))).await.unwrap();
    assert!(!later.output);
}

async fn an_old_state_shows_in_the_newest_entry(vault: Vault) {
    let vault = vault.with_tenant().await;
    let mut row = vault.value(RetentionClass::Session, None);
    row.metadata.uses = Some(5);
    let value_id = row.metadata.value_id;
    vault.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
    for version in 1..3 {
        let reads = Reads { values: vec![value_id], ..Reads::default() };
        vault.committer.submit(vault.ask(reads, move |rows, _| spending(rows, value_id))).await.unwrap();
        let value = vault.store.value(&demo(), value_id).await.unwrap().unwrap();
        assert_eq!((value.newest_state_version, value.state.unwrap().state.version), (version, version));
    }
    vault.tamper("DELETE FROM value_states").await;
    let value = vault.store.value(&demo(), value_id).await.unwrap().unwrap();
    assert!(value.state.is_none() && value.newest_state_version == 2);
}

/// Lets an older entry pass for the newest: by its column, by a forged row beside it, by a forged row with a leaf to match.
async fn an_entry_that_only_looks_newest_refuses_the_value(vault: Vault) {
    let vault = vault.with_tenant().await;
    let mut row = vault.value(RetentionClass::Session, None);
    row.metadata.uses = Some(5);
    let value_id = row.metadata.value_id;
    vault.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
    let reads = || Reads { values: vec![value_id], ..Reads::default() };
    for version in 1..3 {
        if version == 2 {
            vault.tamper("CREATE TABLE kept AS SELECT * FROM value_states").await;
        }
        vault.committer.submit(vault.ask(reads(), move |rows, _| spending(rows, value_id))).await.unwrap();
    }
    vault.tamper("DELETE FROM value_states; INSERT INTO value_states SELECT * FROM kept").await;
    let forge = "INSERT INTO access_log (tenant, boot, lane, number, time, action, outcome, value_id, actor_id, \
                 state_version, leaf) SELECT tenant, boot, lane, number + 1000, time, action, outcome, value_id, actor_id, \
                 999,";
    let forged_row = format!("{forge} leaf FROM access_log WHERE state_version = 1");
    for sql in ["UPDATE access_log SET state_version = 999 WHERE state_version = 1".to_owned(), forged_row] {
        vault.tamper(&sql).await;
        let read = vault.store.value(&demo(), value_id).await;
        assert!(matches!(read, Err(Error::Tampered("access_log"))), "{read:?}");
        let asked = vault.committer.submit(vault.ask(reads(), move |rows, _| spending(rows, value_id))).await;
        assert!(matches!(asked, Err(Error::Tampered("access_log"))), "{asked:?}");
        vault.tamper("UPDATE access_log SET state_version = 1 WHERE state_version = 999 AND number < 1000").await;
        vault.tamper("DELETE FROM access_log WHERE number >= 1000").await;
    }
    let leaf = vault.replaced("leaf", "\"stateVersion\":1", "\"stateVersion\":999");
    vault.tamper(&format!("{forge} {leaf} FROM access_log WHERE state_version = 1")).await;
    let value = vault.store.value(&demo(), value_id).await.unwrap().unwrap();
    let state = value.state.unwrap().state.version;
    assert_eq!((value.newest_state_version, state), (999, 1), "who judges it finds the state older than its entry");
}

async fn a_stale_generation_is_decided_anew(vault: Vault) {
    let vault = vault.with_tenant().await;
    let decided = Arc::new(AtomicUsize::new(0));
    let at = |generation: u64| {
        let decided = Arc::clone(&decided);
        let mut ask = vault.ask(Reads::default(), move |_, _| {
            decided.fetch_add(1, Ordering::SeqCst);
            Decision::Write(Changes::default(), ())
        });
        ask.generation = Some(Generation(generation));
        ask
    };
    assert!(matches!(vault.committer.submit(at(1)).await, Err(Error::Stale)));
    assert_eq!(decided.load(Ordering::SeqCst), 0);
    vault.committer.submit(at(2)).await.unwrap();
    vault.decree(tenant_row(&demo(), 2, true)).await.unwrap();
    assert!(matches!(vault.committer.submit(at(2)).await, Err(Error::Stale)));
    let again = vault.decree(tenant_row(&demo(), 2, false)).await;
    assert!(matches!(again, Err(Error::Conflict)), "version 2 is taken: {again:?}");
}

async fn a_late_operation_writes_nothing(vault: Vault) {
    let mut ask = vault.ask(Reads::default(), |_, _| Decision::Write(Changes::default(), ()));
    ask.deadline = crate::domain::Timestamp::from_millis(vault.clock.now().as_millis() - 1);
    assert!(matches!(vault.committer.submit(ask).await, Err(Error::Late)));
}

async fn a_key_that_is_not_at_hand_is_fetched_outside_the_batch(vault: Vault) {
    let vault = vault.with_tenant().await;
    let class = DataKeyClass::Session;
    let id = vault.keys.data_key_to_seal(&vault.store, &demo(), class, vault.clock.now()).await.unwrap().id();
    vault.keys.forget_tenant(&demo());
    let rounds = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&rounds);
    let ask = vault.ask(Reads::default(), move |_, held| {
        counted.fetch_add(1, Ordering::SeqCst);
        match held.get(&demo(), id) {
            Some(key) => Decision::Answer(key.id()),
            None => Decision::NeedDataKeys(vec![id]),
        }
    });
    assert_eq!(vault.committer.submit(ask).await.unwrap().output, id);
    assert_eq!(rounds.load(Ordering::SeqCst), 2);
    let missing = crate::domain::DataKeyId::generate(vault.clock.now());
    let ask = vault.ask::<()>(Reads::default(), move |_, _| Decision::NeedDataKeys(vec![missing]));
    assert!(matches!(vault.committer.submit(ask).await, Err(Error::Keys(crate::keys::Error::NoDataKey))));
}

async fn an_access_whose_asker_cannot_be_kept_is_refused_and_a_refusal_is_told(vault: Vault) {
    // No tenant was made: there is no KEK, as when an HSM is away.
    let write = |action: Action| {
        let mut said = entry(&demo(), action);
        said.reference = Some("order-1".to_owned());
        vault.write(move || Changes { entries: vec![said.clone().into()], ..Changes::default() })
    };
    for access in [Action::ValueCaptured, Action::ValueDereferenced, Action::ValueRevealed, Action::RelayIntent] {
        let refused = write(access).await;
        assert!(matches!(refused, Err(Error::Keys(crate::keys::Error::KekUnusable))), "{refused:?}");
    }
    let mut given_back = entry(&demo(), Action::ValueCaptured);
    given_back.reference = Some("order-1".to_owned());
    given_back.run_id = Some(crate::domain::RunId::generate(vault.clock.now()));
    vault.write(move || Changes { entries: vec![given_back.clone().into()], ..Changes::default() }).await.unwrap();
    for other in [Action::AccessDenied, Action::RelayOutcome, Action::LogRead] {
        write(other).await.unwrap();
    }
}

async fn no_batch_has_more_entries_than_one_slice_of_integration(vault: Vault) {
    let vault = vault.with_tenant().await;
    let many = |tenants: Vec<crate::domain::TenantName>| {
        vault.write(move || Changes {
            entries: tenants.iter().map(|tenant| entry(tenant, Action::LogRead).into()).collect(),
            ..Changes::default()
        })
    };
    let of = |at: usize| (0..120).map(move |number| format!("t-{at}-{number}").parse().unwrap()).collect();
    let writes = (0..4).map(|at| many(of(at))).chain((0..6).map(|_| many(vec![demo(); 100])));
    for done in futures_util::future::join_all(writes).await {
        done.unwrap();
    }
    vault.committer.stop().await.unwrap();
    assert!(vault.number("SELECT max(count) FROM log_batches").await <= 256);
    assert_eq!(vault.number("SELECT count(*) FROM access_log WHERE action = 'node.stopped'").await, 4 * 120 + 2);
}

async fn a_full_queue_refuses_at_once(vault: Vault) {
    let vault = vault.with_tenant().await;
    // The tenant's keys are made before: making them takes the writer too.
    vault.write(Changes::default).await.unwrap();
    let writer = vault.store.writer().await;
    // The writer is held until a thousand were told so: nobody waits for room.
    let told = AtomicUsize::new(0);
    let many = futures_util::future::join_all((0..6000).map(|_| async {
        let done = vault.write(Changes::default).await;
        told.fetch_add(usize::from(matches!(done, Err(Error::Overloaded))), Ordering::SeqCst);
        done
    }));
    let (many, ()) = futures_util::future::join(many, async {
        let enough = async {
            while told.load(Ordering::SeqCst) < 1000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), enough).await.expect("the others wait instead of being refused");
        drop(writer);
    })
    .await;
    let refused = many.iter().filter(|done| matches!(done, Err(Error::Overloaded))).count();
    let written = many.iter().filter(|done| done.is_ok()).count();
    assert_eq!(refused + written, 6000);
    assert!((1000..=1904).contains(&refused), "{refused}");
}

async fn what_was_acknowledged_survives_a_kill(vault: Vault) {
    let vault = vault.with_tenant().await;
    let row = vault.value(RetentionClass::Session, None);
    let value_id = row.metadata.value_id;
    let done = vault
        .write(move || Changes {
            new_values: vec![row.clone().into()],
            entries: vec![entry(&demo(), Action::ValueCaptured).into()],
            ..Changes::default()
        })
        .await
        .unwrap();
    let vault = vault.killed_and_started().await;
    assert!(vault.store.value(&demo(), value_id).await.unwrap().is_some());
    let there = vault.store.entry_at(&demo(), &done.receipts()[0].position).await.unwrap().unwrap();
    assert_eq!(crate::access_log::leaf_hash(&there.leaf), done.receipts()[0].leaf_hash);
    // The new boot writes to a lane of its own.
    let again =
        vault.write(|| Changes { entries: vec![entry(&demo(), Action::LogRead).into()], ..Changes::default() }).await;
    assert_ne!(again.unwrap().receipts()[0].position.boot, done.receipts()[0].position.boot);
    let page = vault.store.entries(&demo(), &EntryFilter::default(), None, 100).await.unwrap();
    let starts = page.entries.iter().filter(|entry| Leaf::parse(&entry.leaf).unwrap().action == "node.started");
    assert_eq!(starts.count(), 2);
}

async fn a_value_reads_back_as_it_was_written(vault: Vault) {
    let vault = vault.with_tenant().await;
    let row = vault.value(RetentionClass::Stored, Some(Duration::from_secs(60)));
    let (written, value_id) = (row.clone(), row.metadata.value_id);
    vault.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
    let read = vault.store.value(&demo(), value_id).await.unwrap().unwrap();
    assert_eq!(format!("{:?}", read.row), format!("{written:?}"));
    assert!(vault.store.value(&"other".parse().unwrap(), value_id).await.unwrap().is_none());
    assert!(vault.store.row(Table::Apps, &demo(), "none").await.unwrap().is_none());
}

/// So many that PostgreSQL takes them another way.
async fn many_values_of_one_operation_read_back_as_they_were_written_all_or_none(vault: Vault) {
    let vault = vault.with_tenant().await;
    let rows: Vec<_> = (0..300_u16)
        .map(|at| {
            let mut row = vault.value(RetentionClass::Stored, (at % 2 == 0).then_some(Duration::from_secs(60)));
            row.metadata.uses = (at % 3 == 0).then_some(u32::from(at));
            row.metadata.subject = (at % 5 == 0).then_some([9; 32]);
            row.metadata.session = row.metadata.session.filter(|_| at % 7 == 0);
            row.sealed = vec![1; usize::from(at) * 20 + 30];
            Arc::new(row)
        })
        .collect();
    let told = |row: &Arc<ValueRow>| {
        let mut told = entry(&demo(), Action::ValueCaptured);
        (told.value_id, told.uses) = (Some(row.metadata.value_id), row.metadata.uses);
        told.reference = row.metadata.uses.map(|uses| format!("order \"{uses}\""));
        told.app = row.metadata.subject.map(|_| row.metadata.app.clone());
        Arc::new(told)
    };
    let write = |rows: &[Arc<ValueRow>]| {
        let (new_values, entries) = (rows.to_vec(), rows.iter().map(told).collect::<Vec<_>>());
        vault.write(move || Changes { new_values: new_values.clone(), entries: entries.clone(), ..Changes::default() })
    };
    write(&rows).await.unwrap();
    for row in &rows {
        let read = vault.store.value(&demo(), row.metadata.value_id).await.unwrap().unwrap();
        assert_eq!(format!("{:?}", read.row), format!("{row:?}"));
        let filter = EntryFilter { value_id: Some(row.metadata.value_id), ..EntryFilter::default() };
        let page = vault.store.entries(&demo(), &filter, None, 10).await.unwrap();
        assert_eq!((page.entries.len(), page.entries[0].openings.len()), (1, 4));
        let leaf = Leaf::parse(&page.entries[0].leaf).unwrap();
        assert_eq!((leaf.uses, leaf.app.is_some()), (row.metadata.uses, row.metadata.subject.is_some()));
    }
    let mut again: Vec<_> = (0..299).map(|_| Arc::new(vault.value(RetentionClass::Stored, None))).collect();
    again.push(Arc::clone(&rows[7]));
    let taken = write(&again).await;
    assert!(matches!(taken, Err(Error::Conflict)), "{taken:?}");
    assert_eq!(vault.number("SELECT count(*) FROM secure_values").await, 300);
    write(&again[..299]).await.unwrap();
    assert_eq!(vault.number("SELECT count(*) FROM secure_values").await, 599);
}
