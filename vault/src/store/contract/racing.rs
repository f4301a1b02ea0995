//! PostgreSQL alone: what holds when several nodes commit at once, and when the server goes away.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::on_postgres;
use super::postgres::Cluster;
use super::vault::{NOW, Vault, demo, entry, tenant_row};
use crate::access_log::Action;
use crate::crypto::{StateCode, ValueState};
use crate::domain::{DataKeyId, RetentionClass, Timestamp, ValueId};
use crate::store::batch::{Wanted, WriteSet};
use crate::store::committer::operation::{Changes, Decision, Reads, Rows, current_state};
use crate::store::fault::NotWritten;
use crate::store::resealing;
use crate::store::rows::{IdempotencyRow, StateRow};
use crate::store::tenants::Ground;
use crate::store::{DatabaseSettings, Error, Store};

on_postgres!(
    a_single_use_is_spent_once_among_nodes,
    a_first_failure_is_counted_once_for_each_that_failed,
    one_idempotency_key_runs_once_among_nodes,
    a_value_removed_elsewhere_gets_no_state,
    a_value_sealed_anew_elsewhere_gets_no_state_under_its_old_data_key,
    a_generation_moves_on_only_after_the_batches_that_rest_on_it,
    a_batch_that_stood_still_is_over_and_holds_nobody_up,
    a_boot_is_closed_only_after_the_batch_that_it_has_under_way,
    settings_that_lose_commits_are_refused,
    a_transaction_of_which_a_part_failed_is_never_acknowledged,
    a_change_that_waits_for_another_node_holds_up_no_other_tenant,
    two_nodes_that_move_one_generation_on_do_not_wait_for_each_other,
);

/// Rounds of two nodes at the same row.
const ROUNDS: usize = 20;

/// The next state of a value, with its entry; `None` where its uses are over.
fn next(rows: &dyn Rows, value_id: ValueId, change: impl Fn(&mut ValueState) -> Option<()>) -> Option<Changes> {
    let value = rows.value(value_id)?;
    let mut state = current_state(value);
    state.version = state.version.max(value.newest_state_version) + 1;
    change(&mut state)?;
    let row = StateRow { value_id, data_key_id: value.row.data_key_id, state, mac: [0; 32] };
    let mut used = entry(&demo(), Action::ValueDereferenced);
    (used.value_id, used.state_version) = (Some(value_id), Some(state.version));
    Some(Changes { entries: vec![used.into()], states: vec![row], ..Changes::default() })
}

fn written(changes: Option<Changes>) -> Decision<bool> {
    changes.map_or(Decision::Answer(false), |changes| Decision::Write(changes, true))
}

async fn a_single_use_is_spent_once_among_nodes(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (_store, second) = vault.second_node().await;
    let spend = |rows: &dyn Rows, value_id| {
        next(rows, value_id, |state| {
            state.uses_left = Some(state.uses_left?.checked_sub(1)?);
            Some(())
        })
    };
    for _ in 0..ROUNDS {
        let row = vault.value(RetentionClass::Session, None);
        let value_id = row.metadata.value_id;
        vault.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
        let ask = || {
            let reads = Reads { values: vec![value_id], ..Reads::default() };
            vault.ask(reads, move |rows, _| written(spend(rows, value_id)))
        };
        let (one, two) = futures_util::future::join(vault.committer.submit(ask()), second.submit(ask())).await;
        let spent = [one.unwrap().output, two.unwrap().output].iter().filter(|spent| **spent).count();
        assert_eq!(spent, 1);
    }
}

/// A value that is not counted is not locked when it is read: the change is compared when it is written.
async fn a_first_failure_is_counted_once_for_each_that_failed(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (_store, second) = vault.second_node().await;
    for _ in 0..ROUNDS {
        let mut row = vault.value(RetentionClass::Session, None);
        row.metadata.uses = None;
        let value_id = row.metadata.value_id;
        vault.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
        let fail = || {
            let reads = Reads { values: vec![value_id], ..Reads::default() };
            vault.ask(reads, move |rows, _| {
                written(next(rows, value_id, |state| {
                    state.failures += 1;
                    Some(())
                }))
            })
        };
        let (one, two) = futures_util::future::join(vault.committer.submit(fail()), second.submit(fail())).await;
        assert!(one.unwrap().output && two.unwrap().output);
        let state = vault.store.value(&demo(), value_id).await.unwrap().unwrap().state.unwrap().state;
        assert_eq!((state.failures, state.version, state.code), (2, 2, StateCode::Active));
    }
}

async fn one_idempotency_key_runs_once_among_nodes(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (_store, second) = vault.second_node().await;
    for round in 0..ROUNDS {
        let lookup = [u8::try_from(round).unwrap(); 32];
        let row = IdempotencyRow {
            tenant: demo(),
            lookup,
            body_mac: [1; 32],
            data_key_id: DataKeyId::generate(NOW),
            run_id: None,
            deadline: NOW.plus(Duration::from_secs(9)),
            // Every second one meets a record whose time is over.
            expires: NOW.plus(Duration::from_secs(60)),
            answer: None,
        };
        if round % 2 == 1 {
            let over = IdempotencyRow { expires: Timestamp::from_millis(1), ..row.clone() };
            vault.write(move || Changes { idempotency: vec![over.clone()], ..Changes::default() }).await.unwrap();
        }
        let ask = || {
            let row = row.clone();
            let reads = Reads { idempotency: vec![lookup], ..Reads::default() };
            vault.ask(reads, move |rows, _| match rows.idempotency(&lookup) {
                Some(_) => Decision::Answer(false),
                None => Decision::Write(Changes { idempotency: vec![row.clone()], ..Changes::default() }, true),
            })
        };
        let (one, two) = futures_util::future::join(vault.committer.submit(ask()), second.submit(ask())).await;
        let ran = [one.unwrap().output, two.unwrap().output].iter().filter(|ran| **ran).count();
        assert_eq!(ran, 1);
    }
}

async fn a_value_removed_elsewhere_gets_no_state(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (_store, second) = vault.second_node().await;
    for _ in 0..ROUNDS {
        let mut row = vault.value(RetentionClass::Session, None);
        row.metadata.uses = None;
        let value_id = row.metadata.value_id;
        vault.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
        let reads = || Reads { values: vec![value_id], ..Reads::default() };
        let remove = vault.ask(reads(), move |rows, _| {
            written(rows.value(value_id).map(|_| Changes { removed: vec![value_id], ..Changes::default() }))
        });
        let extend = vault.ask(reads(), move |rows, _| written(next(rows, value_id, |_| Some(()))));
        let (removed, extended) =
            futures_util::future::join(vault.committer.submit(remove), second.submit(extend)).await;
        assert!(removed.unwrap().output);
        extended.unwrap();
    }
    assert_eq!(vault.number("SELECT count(*) FROM value_states").await, 0);
}

/// Its MAC would be under a data key that is taken away.
async fn a_value_sealed_anew_elsewhere_gets_no_state_under_its_old_data_key(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (store, second) = vault.second_node().await;
    let value_id = vault.captured(None).await;
    vault.compromise(1).await;
    let mut writer = vault.store.writer().await;
    let mut batch = writer.begin().await.unwrap();
    let wanted = Wanted { values: [(demo(), [value_id].into())].into(), ..of_demo(&vault) };
    let loaded = batch.load(&wanted, vault.keys.realm(), &vault.clock).await.unwrap();
    let read = &loaded.values[0].row;
    let ground = Ground { store: &store, committer: &second, keys: &vault.keys };
    assert_eq!(resealing::pass(&vault.by(), false, &Semaphore::new(1), ground).await.unwrap().moved, 1);
    let state = ValueState { version: 1, code: StateCode::Active, uses_left: None, expires: None, failures: 1 };
    let row = StateRow { value_id, data_key_id: read.data_key_id, state, mac: [0; 32] };
    let set = WriteSet { states: [((demo(), value_id), row)].into(), ..WriteSet::default() };
    let written = batch.write(&set).await;
    assert!(matches!(written, Err(NotWritten::Raced)), "{written:?}");
}

/// A batch about the demo tenant.
fn of_demo(vault: &Vault) -> Wanted {
    Wanted { tenants: [demo()].into(), ..Wanted::by(vault.committer.identity().boot()) }
}

/// A change that was acknowledged is seen by every batch that ends after it: those that began before it are waited for.
async fn a_generation_moves_on_only_after_the_batches_that_rest_on_it(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (_store, second) = vault.second_node().await;
    let mut writer = vault.store.writer().await;
    let mut batch = writer.begin().await.unwrap();
    batch.load(&of_demo(&vault), vault.keys.realm(), &vault.clock).await.unwrap();
    let change = second.submit(vault.decreed(tenant_row(&demo(), 2, true)));
    tokio::pin!(change);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut change).await;
    assert!(early.is_err(), "acknowledged while a batch rests on the generation before");
    batch.commit().await.unwrap();
    drop(writer);
    change.await.unwrap();
}

/// A node that was stopped between reading and writing commits nothing when it goes on.
async fn a_batch_that_stood_still_is_over_and_holds_nobody_up(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (_store, second) = vault.second_node().await;
    let mut writer = vault.store.writer().await;
    let mut batch = writer.begin().await.unwrap();
    batch.load(&of_demo(&vault), vault.keys.realm(), &vault.clock).await.unwrap();
    let changed = async { while second.submit(vault.decreed(tenant_row(&demo(), 2, true))).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(60), changed).await.expect("the server ends what stands still");
    assert!(batch.commit().await.is_err(), "it rested on a generation that is over");
}

/// What a frozen boot still had under way is written before, or never: between the end that is noted and the last that is
/// there lies nothing.
async fn a_boot_is_closed_only_after_the_batch_that_it_has_under_way(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (other, _second) = vault.second_node().await;
    let boot = vault.committer.identity().boot();
    let mut writer = vault.store.writer().await;
    let mut batch = writer.begin().await.unwrap();
    batch.load(&of_demo(&vault), vault.keys.realm(), &vault.clock).await.unwrap();
    let close = other.close_boot(boot);
    tokio::pin!(close);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut close).await;
    assert!(early.is_err(), "closed while a batch of it is under way");
    batch.commit().await.unwrap();
    close.await.unwrap();
    let mut batch = writer.begin().await.unwrap();
    let refused = batch.load(&of_demo(&vault), vault.keys.realm(), &vault.clock).await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
}

async fn settings_that_lose_commits_are_refused(vault: Vault) {
    let open = || Store::open(&vault.settings, vault.keys.clone(), vault.clock.clone());
    let database = vault.text("SELECT current_database()").await;
    for weak in ["off", "local", "remote_write"] {
        vault.tamper(&format!("ALTER DATABASE {database} SET synchronous_commit = {weak}")).await;
        assert!(matches!(open().await.err(), Some(Error::Setting(_))), "{weak}");
    }
    vault.tamper(&format!("ALTER DATABASE {database} SET synchronous_commit = on")).await;
    assert!(open().await.is_ok());
}

/// The server answers its COMMIT with ROLLBACK, and sqlx takes that for done.
async fn a_transaction_of_which_a_part_failed_is_never_acknowledged(vault: Vault) {
    let vault = vault.with_tenant().await;
    let row = vault.value(RetentionClass::Session, None);
    let again = row.clone();
    vault.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
    let mut writer = vault.store.writer().await;
    let mut batch = writer.begin().await.unwrap();
    batch.load(&of_demo(&vault), vault.keys.realm(), &vault.clock).await.unwrap();
    let place = (demo(), again.metadata.value_id);
    let set = WriteSet { new_values: [(place, again.into())].into(), ..WriteSet::default() };
    assert!(batch.write(&set).await.is_err(), "its number is taken");
    assert!(batch.commit().await.is_err());
}

/// The demo tenant's generation is held by a node that stands still; both operations are of one batch.
async fn a_change_that_waits_for_another_node_holds_up_no_other_tenant(vault: Vault) {
    let vault = vault.with_tenant().await;
    let other: crate::domain::TenantName = "other".parse().unwrap();
    vault.make_tenant(&other).await;
    let (store, _second) = vault.second_node().await;
    let mut held = store.writer().await;
    let mut frozen = held.begin().await.unwrap();
    frozen.load(&of_demo(&vault), vault.keys.realm(), &vault.clock).await.unwrap();
    // What comes while the node's own connection is taken is one batch.
    let own = vault.store.writer().await;
    let change = vault.committer.submit(vault.decreed(tenant_row(&demo(), 2, true)));
    let mut work = vault.ask(Reads::default(), move |_, _| {
        let said = crate::access_log::Entry { tenant: "other".parse().unwrap(), ..entry(&demo(), Action::LogRead) };
        Decision::Write(Changes { entries: vec![said.into()], ..Changes::default() }, ())
    });
    work.tenant = other;
    let work = vault.committer.submit(work);
    tokio::pin!(change, work);
    let waits = futures_util::future::join(&mut change, &mut work);
    assert!(tokio::time::timeout(Duration::from_millis(50), waits).await.is_err());
    drop(own);
    tokio::select! {
        done = &mut work => drop(done.unwrap()),
        done = &mut change => panic!("the change came first: {done:?}"),
    }
    frozen.rollback().await.unwrap();
    change.await.unwrap();
}

/// Each would hold it together with the other and want it alone: PostgreSQL finds that after a second.
async fn two_nodes_that_move_one_generation_on_do_not_wait_for_each_other(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (store, second) = vault.second_node().await;
    let move_on = |name: String| {
        let row = tenant_row(&name.parse().unwrap(), 1, false);
        vault.decreed(row)
    };
    for round in 0..ROUNDS {
        let (one, two) = (move_on(format!("one-{round}")), move_on(format!("two-{round}")));
        let (one, two) = futures_util::future::join(vault.committer.submit(one), second.submit(two)).await;
        assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    }
    let again = vault.store.meter().committer.retried.get() + store.meter().committer.retried.get();
    assert_eq!(again, 0, "a deadlock is made anew");
}

/// `ALTER SYSTEM` and a reload reach sessions that are there.
#[tokio::test]
async fn durability_that_is_weakened_while_a_node_runs_stops_its_writing() {
    let cluster = Cluster::start();
    let vault = Vault::of(&cluster).await.with_tenant().await;
    let write =
        || vault.write(|| Changes { entries: vec![entry(&demo(), Action::LogRead).into()], ..Changes::default() });
    write().await.unwrap();
    // A session keeps the strength of its own commits.
    vault.tamper("ALTER SYSTEM SET synchronous_commit = off").await;
    vault.tamper("SELECT pg_reload_conf()").await;
    assert_eq!(settled(&vault, "SELECT current_setting('synchronous_commit')", "off").await, "off");
    write().await.unwrap();
    for (weaken, ask) in [
        ("ALTER SYSTEM SET fsync = off", "SELECT current_setting('fsync')"),
        ("ALTER SYSTEM SET full_page_writes = off", "SELECT current_setting('full_page_writes')"),
    ] {
        vault.tamper(weaken).await;
        vault.tamper("SELECT pg_reload_conf()").await;
        settled(&vault, ask, "off").await;
        let refused = async { while write().await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(60), refused).await.expect("the running session sees it");
        assert!(matches!(write().await, Err(Error::Unavailable)), "{weaken}");
        vault.tamper("ALTER SYSTEM RESET ALL").await;
        vault.tamper("SELECT pg_reload_conf()").await;
        settled(&vault, ask, "on").await;
        let healed = async { while write().await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(60), healed).await.expect("it goes on by itself");
    }
}

/// Waits until a new session has this setting.
async fn settled(vault: &Vault, ask: &'static str, expected: &str) -> String {
    let seen = async {
        loop {
            let seen = vault.text(ask).await;
            if seen == expected {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.expect("the setting is taken")
}

/// As a pooler does that is told to ignore startup parameters.
#[tokio::test]
async fn a_connection_that_our_time_limits_did_not_reach_is_refused() {
    let vault = Vault::postgres().await;
    let DatabaseSettings::Postgres { address, .. } = &vault.settings else { panic!("PostgreSQL is meant") };
    let mut connection = super::postgres::connect(address).await;
    let judged = crate::store::postgres::judge(&mut connection).await.unwrap();
    assert!(judged.unwrap_err().contains("idle_in_transaction_session_timeout"));
}

#[tokio::test]
async fn a_server_that_was_killed_heals_without_a_restart_of_the_node() {
    let cluster = Cluster::start();
    let vault = Vault::of(&cluster).await.with_tenant().await;
    let write =
        || vault.write(|| Changes { entries: vec![entry(&demo(), Action::LogRead).into()], ..Changes::default() });
    let before = write().await.unwrap().receipts()[0];
    cluster.kill();
    for _ in 0..3 {
        let refused = write().await;
        assert!(matches!(refused, Err(Error::Unavailable)), "{refused:?}");
    }
    assert!(vault.store.entry_at(&demo(), &before.position).await.is_err());
    cluster.start_again();
    let healed = async {
        while write().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), healed).await.expect("the node goes on by itself");
    // No connection of the pool is of the server that was killed.
    let read = vault.store.entry_at(&demo(), &before.position).await;
    assert_eq!(crate::access_log::leaf_hash(&read.unwrap().unwrap().leaf), before.leaf_hash);
}

/// It takes connections and answers nothing, as behind a broken network.
#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let vault = Vault::postgres().await.with_tenant().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let address = format!("postgres://siv@127.0.0.1:{port}/siv");
    let address = crate::store::settings::PostgresAddress::parse(&address).unwrap();
    let settings = DatabaseSettings::Postgres { address, migration_lock: true };
    let opened = Store::open(&settings, vault.keys.clone(), vault.clock.clone());
    let opened = tokio::time::timeout(Duration::from_secs(60), opened).await.expect("it is not waited for");
    assert!(matches!(opened.err(), Some(Error::Database(_))));
}
