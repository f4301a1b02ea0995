//! A capture session that several nodes count at once: what it may take is taken once.

use std::time::Duration;

use sqlx::Executor as _;

use super::vault::{NOW, Vault, demo, entry};
use super::{on_every_engine, on_postgres};
use crate::access_log::Action;
use crate::domain::{CaptureSessionId, Realm};
use crate::store::batch::{Wanted, WriteSet};
use crate::store::committer::operation::{Changes, Decision, Reads, Rows};
use crate::store::row_seal::RowSeal;
use crate::store::rows::{DecidingRow, Table};
use crate::store::{DatabaseSettings, Error};

mod among_nodes {
    use super::*;

    on_postgres!(
        captures_of_two_nodes_never_take_more_than_the_session_allows,
        a_batch_that_waited_for_a_row_decides_on_what_the_other_node_wrote,
        a_session_put_back_while_a_node_waits_for_it_makes_no_version_twice,
    );
}

on_every_engine!(a_session_that_was_put_back_takes_nothing);

/// So much a session may take here.
const MOST: u8 = 7;

/// A session as far as the store knows it, with what it has taken.
fn session(id: CaptureSessionId, version: u64, taken: u8) -> DecidingRow {
    DecidingRow { table: Table::CaptureSessions, tenant: demo(), key: id.to_string(), version, body: vec![taken] }
}

/// Takes one more, if the session has it, as a capture does: its entry is of the session's next version.
fn taking(rows: &dyn Rows, id: CaptureSessionId, realm: &Realm) -> Decision<bool> {
    let Some(row) = rows.session(id) else { return Decision::Answer(false) };
    let taken = row.body[0];
    if taken >= MOST {
        return Decision::Answer(false);
    }
    let next = session(id, row.version + 1, taken + 1);
    let mut told = entry(&demo(), Action::ValueCaptured);
    told.object = Some(next.object(realm));
    Decision::Write(Changes { rows: vec![next], entries: vec![told.into()], ..Changes::default() }, true)
}

impl Vault {
    async fn opened_session(&self) -> CaptureSessionId {
        let id = CaptureSessionId::generate(self.clock.now());
        self.write(move || Changes { rows: vec![session(id, 1, 0)], ..Changes::default() }).await.unwrap();
        id
    }

    fn take(&self, id: CaptureSessionId) -> super::vault::Ask<bool> {
        let realm = self.keys.realm().clone();
        let reads = Reads { sessions: vec![id], ..Reads::default() };
        self.ask(reads, move |rows, _| taking(rows, id, &realm))
    }

    async fn taken(&self, id: CaptureSessionId) -> (u64, u8) {
        let row = self.store.session(id).await.unwrap().unwrap();
        (row.version, row.body[0])
    }
}

async fn captures_of_two_nodes_never_take_more_than_the_session_allows(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (_store, second) = vault.second_node().await;
    for _ in 0..10 {
        let id = vault.opened_session().await;
        let here = (0..MOST).map(|_| vault.committer.submit(vault.take(id)));
        let there = (0..MOST).map(|_| second.submit(vault.take(id)));
        let all = (futures_util::future::join_all(here), futures_util::future::join_all(there));
        let (here, there) = futures_util::future::join(all.0, all.1).await;
        let taken = here.into_iter().chain(there).filter(|done| done.as_ref().unwrap().output).count();
        assert_eq!((taken, vault.taken(id).await), (usize::from(MOST), (u64::from(MOST) + 1, MOST)));
    }
}

/// Whoever waited must not decide on what stood there before. A session is locked in the statement that reads it, others before it.
async fn a_batch_that_waited_for_a_row_decides_on_what_the_other_node_wrote(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (store, _committer) = vault.second_node().await;
    for table in [Table::CaptureSessions, Table::Destinations] {
        let row = move |version, taken| DecidingRow {
            table,
            ..session(CaptureSessionId::from_bytes([7; 16]), version, taken)
        };
        let key = row(1, 0).key;
        vault.decree(row(1, 0)).await.unwrap();
        let wanted = || Wanted {
            tenants: [demo()].into(),
            rows: [((table, demo()), [key.clone()].into())].into(),
            ..Wanted::by(vault.committer.identity().boot())
        };
        let (mut writer, mut other) = (vault.store.writer().await, store.writer().await);
        let mut first = writer.begin().await.unwrap();
        first.load(&wanted(), vault.keys.realm(), &vault.clock).await.unwrap();
        let mut second = other.begin().await.unwrap();
        let wanted = wanted();
        let changing = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let sealed = RowSeal::new(vault.keys.clone()).seal(row(2, MOST));
            let rows = [((table, demo(), key.clone()), (1, sealed))].into();
            first.write(&WriteSet { rows, ..WriteSet::default() }).await.unwrap();
            first.commit().await.unwrap();
        };
        let loading = second.load(&wanted, vault.keys.realm(), &vault.clock);
        let (loaded, ()) = futures_util::future::join(loading, changing).await;
        let loaded = loaded.unwrap();
        let read = &loaded.rows[0].sealed.row;
        assert_eq!((read.version, &read.body[..]), (2, &[MOST][..]), "{table:?}");
        // What was decided on the version before it is not written over it, whoever thinks so.
        let sealed = RowSeal::new(vault.keys.clone()).seal(row(2, 0));
        let rows = [((table, demo(), key.clone()), (1, sealed))].into();
        assert!(second.write(&WriteSet { rows, ..WriteSet::default() }).await.is_err(), "{table:?}");
        second.rollback().await.unwrap();
    }
}

async fn a_session_that_was_put_back_takes_nothing(vault: Vault) {
    let vault = vault.with_tenant().await;
    let id = vault.opened_session().await;
    vault.committer.submit(vault.take(id)).await.unwrap();
    vault.tamper("CREATE TABLE kept AS SELECT * FROM capture_sessions").await;
    vault.committer.submit(vault.take(id)).await.unwrap();
    vault.tamper("DELETE FROM capture_sessions; INSERT INTO capture_sessions SELECT * FROM kept").await;
    let taken = vault.committer.submit(vault.take(id)).await;
    assert!(matches!(taken, Err(Error::Tampered("capture_sessions"))), "{taken:?}");
    assert!(vault.store.session(id).await.is_err(), "nor is it read");
}

/// Who waits for a session's row reads its newest entry as it was before the waiting. If another node's capture came between
/// and somebody puts the row back behind it, the version would be made a second time, and one capture more be let in.
async fn a_session_put_back_while_a_node_waits_for_it_makes_no_version_twice(vault: Vault) {
    let vault = vault.with_tenant().await;
    let session = CaptureSessionId::generate(NOW);
    let version = move |version| {
        let (table, key, body) = (Table::CaptureSessions, session.to_string(), b"{}".to_vec());
        DecidingRow { table, tenant: demo(), key, version, body }
    };
    vault.write(move || Changes { rows: vec![version(1)], ..Changes::default() }).await.unwrap();
    let DatabaseSettings::Postgres { address, .. } = &vault.settings else { panic!("PostgreSQL is meant") };
    let mut other = super::postgres::connect(address).await;
    for statement in [
        "BEGIN",
        "SELECT * FROM capture_sessions FOR UPDATE",
        "INSERT INTO access_log (tenant, boot, lane, number, time, action, outcome, actor_id, object, object_version, leaf) \
         SELECT 'demo', boot, lane, number + 1000, time, action, outcome, actor_id, 'capture_sessions/' || key, 2, leaf \
         FROM access_log, (SELECT key FROM capture_sessions) AS s LIMIT 1",
    ] {
        other.execute(statement).await.unwrap();
    }
    let mut captured = entry(&demo(), Action::ValueCaptured);
    captured.object = Some(version(2).object(vault.keys.realm()));
    let reads = Reads { sessions: vec![session], ..Reads::default() };
    let capture = vault.ask(reads, move |rows, _| {
        assert_eq!(rows.session(session).unwrap().version, 1);
        let changes = Changes { rows: vec![version(2)], entries: vec![captured.clone().into()], ..Changes::default() };
        Decision::Write(changes, ())
    });
    let (captured, ()) = tokio::join!(vault.committer.submit(capture), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        other.execute("COMMIT").await.unwrap();
    });
    // It met the other entry when it wrote, or, where it had to wait for too long, when it read once more.
    let refused = captured.map(|_| ());
    assert!(matches!(refused, Err(Error::Conflict | Error::Tampered("capture_sessions"))), "{refused:?}");
}
