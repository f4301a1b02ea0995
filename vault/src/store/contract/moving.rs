//! Changes of settings among nodes that are busy, and what is too slow to be tried for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::vault::{Vault, demo, entry, tenant_row};
use super::{on_every_engine, on_postgres};
use crate::access_log::{Action, Entry};
use crate::domain::{DataKeyId, TenantName};
use crate::store::administration::Act;
use crate::store::batch::Wanted;
use crate::store::committer::operation::{Changes, Decision, Operation as _, Reads};
use crate::store::records::Body as _;
use crate::store::rows::IdempotencyRow;
use crate::store::{Error, Store};

mod with_others {
    use super::*;

    on_postgres!(
        a_change_of_settings_comes_through_however_many_nodes_are_busy,
        what_is_too_slow_fails_alone_and_is_not_tried_for_ever,
        a_generation_that_was_asked_for_by_a_wrong_clock_is_held_up_by_nobody,
    );
}

on_every_engine!(a_change_of_settings_that_says_so_is_made_at_once);

/// So many nodes share the tenant's generation, each nearly all of the time.
const BUSY: usize = 6;
/// So many changes are made at most until one had to ask.
const MOST: u64 = 60;

/// A node's batches about the demo tenant, one after the other until it is told to stop.
async fn busy(store: Store, wanted: Wanted, vault: &Vault, stop: &AtomicBool, left: &AtomicUsize) -> usize {
    let mut shared = 0;
    while !stop.load(Ordering::SeqCst) {
        let mut writer = store.writer().await;
        let mut batch = writer.begin().await.unwrap();
        match batch.load(&wanted, vault.keys.realm(), &vault.clock).await {
            Ok(loaded) if loaded.awaited.is_empty() => {
                shared += 1;
                tokio::time::sleep(Duration::from_millis(40)).await;
                batch.commit().await.unwrap();
            }
            loaded => {
                left.fetch_add(usize::from(loaded.is_ok()), Ordering::SeqCst);
                batch.rollback().await.unwrap();
                drop(writer);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    shared
}

/// PostgreSQL gives a shared lock to whoever comes while it is shared, though somebody waits for it alone.
async fn a_change_of_settings_comes_through_however_many_nodes_are_busy(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (stop, left) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut nodes = Vec::new();
    for _ in 0..BUSY {
        let (store, committer) = vault.second_node().await;
        let wanted = Wanted { tenants: [demo()].into(), ..Wanted::by(committer.identity().boot()) };
        nodes.push((store, committer, wanted));
    }
    let sharing = nodes.iter().map(|(store, _, wanted)| {
        let wanted = Wanted { tenants: wanted.tenants.clone(), ..Wanted::by(wanted.boot) };
        busy(store.clone(), wanted, &vault, &stop, &left)
    });
    let change = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut changes = Vec::new();
        // Now and then all of them pause at once, and a change comes through without asking: then there is another one.
        for version in 2..MOST {
            changes.push(vault.decree(tenant_row(&demo(), version, version % 2 == 0)).await);
            if left.load(Ordering::SeqCst) > 0 {
                break;
            }
        }
        stop.store(true, Ordering::SeqCst);
        changes
    };
    let (shared, changes) = futures_util::future::join(futures_util::future::join_all(sharing), change).await;
    assert!(changes.iter().all(Result::is_ok), "{changes:?}");
    assert!(shared.iter().all(|shared| *shared > 0) && left.load(Ordering::SeqCst) > 0, "{shared:?} {left:?}");
    assert_eq!(vault.number("SELECT count(*) FROM awaited_generations").await, 0, "nobody waits any more");
}

/// An operation of another tenant that writes an entry.
fn neighbour(vault: &Vault) -> super::vault::Ask<()> {
    let other: TenantName = "other".parse().unwrap();
    let said = Entry { tenant: other.clone(), ..entry(&demo(), Action::LogRead) };
    let mut work = vault.ask(Reads::default(), move |_, _| {
        Decision::Write(Changes { entries: vec![said.clone().into()], ..Changes::default() }, ())
    });
    work.tenant = other;
    work
}

async fn what_is_too_slow_fails_alone_and_is_not_tried_for_ever(vault: Vault) {
    let vault = vault.with_tenant().await;
    vault.make_tenant(&"other".parse().unwrap()).await;
    vault
        .tamper(
            "CREATE SEQUENCE tries; CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             PERFORM nextval('tries'); PERFORM pg_sleep(30); RETURN NEW; END $$; \
             CREATE TRIGGER slow BEFORE INSERT ON idempotency FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await;
    let now = vault.clock.now();
    let row = IdempotencyRow {
        tenant: demo(),
        lookup: [1; 32],
        body_mac: [1; 32],
        data_key_id: DataKeyId::generate(now),
        run_id: None,
        deadline: now,
        expires: now.plus(Duration::from_secs(60)),
        answer: None,
    };
    // The first that comes while the node's own connection is taken waits for it alone; what comes then is one batch.
    let own = vault.store.writer().await;
    let plug = vault.committer.submit(neighbour(&vault));
    tokio::pin!(plug);
    while vault.committer.queued().0 < 1 {
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut plug).await.is_err());
    }
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut plug).await.is_err());
    let reads = Reads { idempotency: vec![row.lookup], ..Reads::default() };
    let slow =
        vault.committer.submit(vault.ask(reads, move |_, _| {
            Decision::Write(Changes { idempotency: vec![row.clone()], ..Changes::default() }, ())
        }));
    let work = vault.committer.submit(neighbour(&vault));
    let both = futures_util::future::join(slow, work);
    tokio::pin!(both);
    while vault.committer.queued().0 < 3 {
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut both).await.is_err());
    }
    drop(own);
    let (plug, (slow, work)) = futures_util::future::join(plug, both).await;
    plug.and(work).unwrap();
    assert!(matches!(slow, Err(Error::Unavailable)), "{slow:?}");
    assert_eq!(vault.number("SELECT last_value FROM tries").await, 2, "with its neighbour, and alone");
}

async fn a_generation_that_was_asked_for_by_a_wrong_clock_is_held_up_by_nobody(vault: Vault) {
    let vault = vault.with_tenant().await;
    vault.tamper("INSERT INTO awaited_generations VALUES ('demo', 9000000000000)").await;
    vault.write(Changes::default).await.unwrap();
    vault.tamper("UPDATE awaited_generations SET until = 1").await;
    vault.write(Changes::default).await.unwrap();
}

async fn a_change_of_settings_that_says_so_is_made_at_once(vault: Vault) {
    let vault = vault.with_tenant().await;
    let is_postgres = vault.store.has_others();
    for (moves, expected) in [(true, 1), (false, if is_postgres { 2 } else { 1 })] {
        let (decided, count) = (Arc::new(AtomicUsize::new(0)), 2 + u64::from(!moves));
        let (times, row) = (Arc::clone(&decided), tenant_row(&demo(), count, false));
        let mut said = entry(&demo(), Action::Admin("test.decreed"));
        said.object = Some(row.object(vault.keys.realm()));
        let mut ask = vault.ask(Reads::default(), move |_, _| {
            times.fetch_add(1, Ordering::SeqCst);
            let (rows, entries) = (vec![row.clone()], vec![said.clone().into()]);
            Decision::Write(Changes { rows, entries, bump_generation: true, ..Changes::default() }, ())
        });
        ask.moves = moves;
        vault.committer.submit(ask).await.unwrap();
        assert_eq!(decided.load(Ordering::SeqCst), expected, "{moves}");
    }
    let tenant = crate::domain::Tenant::from_row(&tenant_row(&demo(), 4, true)).unwrap();
    assert!(Act::create_tenant(vault.by(), &tenant).unwrap().moves());
}
