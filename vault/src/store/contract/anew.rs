//! PostgreSQL alone: a transaction that the engine could not order among others is made anew (SQLSTATE 40001, 40P01), and its
//! callers hear nothing of it.

use super::on_postgres;
use super::vault::{NOW, Vault, demo, entry};
use crate::access_log::Action;
use crate::domain::BootId;
use crate::store::Error;
use crate::store::committer::operation::Changes;

on_postgres!(
    a_batch_that_could_not_be_ordered_is_made_anew,
    a_batch_that_can_never_be_ordered_is_refused,
    upkeep_that_could_not_be_ordered_is_made_anew,
    transactions_are_read_committed_whatever_the_database_prefers,
);

/// When the engine says so: at a statement, or at the end.
const WHENEVER: [&str; 2] = ["", "DEFERRABLE INITIALLY DEFERRED"];

/// Text of SQL by which the next so many transactions that add a row to this table fail so. A sequence counts them: it goes
/// on when a transaction is undone.
pub(in crate::store) fn unordered(table: &str, code: &str, when: &str, times: u32) -> String {
    format!(
        "DROP TRIGGER IF EXISTS unordered ON {table}; DROP SEQUENCE IF EXISTS times; CREATE SEQUENCE times; \
         CREATE OR REPLACE FUNCTION unordered() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('times') <= {times} THEN RAISE EXCEPTION 'not in this order' USING ERRCODE = '{code}'; END IF; \
         RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER unordered AFTER INSERT OR UPDATE ON {table} {when} \
         FOR EACH ROW EXECUTE FUNCTION unordered()"
    )
}

fn read_once() -> Changes {
    Changes { entries: vec![entry(&demo(), Action::LogRead).into()], ..Changes::default() }
}

async fn entries(vault: &Vault) -> i64 {
    vault.number("SELECT count(*) FROM access_log WHERE action = 'log.read'").await
}

async fn a_batch_that_could_not_be_ordered_is_made_anew(vault: Vault) {
    let vault = vault.with_tenant().await;
    let retried = || vault.store.meter().committer.retried.get();
    for (round, (code, when)) in
        (1..).zip(["40001", "40P01"].into_iter().flat_map(|code| WHENEVER.map(|when| (code, when))))
    {
        vault.tamper(&unordered("access_log", code, when, 2)).await;
        let before = retried();
        vault.write(read_once).await.unwrap();
        assert_eq!(retried() - before, 2, "{code} {when}");
        assert_eq!(entries(&vault).await, round, "written once: {code} {when}");
    }
    assert_eq!(vault.store.meter().committer.unknown.get(), 0, "it surely did not happen");
    assert_eq!(vault.number("SELECT count(DISTINCT lane) FROM access_log").await, 1, "and cost no lane");
}

async fn a_batch_that_can_never_be_ordered_is_refused(vault: Vault) {
    let vault = vault.with_tenant().await;
    for when in WHENEVER {
        vault.tamper(&unordered("access_log", "40001", when, u32::MAX)).await;
        let refused = vault.write(read_once).await;
        assert!(matches!(refused, Err(Error::Conflict | Error::Unavailable | Error::Database(_))), "{refused:?}");
        assert_eq!(entries(&vault).await, 0);
    }
    vault.tamper("DROP TRIGGER unordered ON access_log").await;
    vault.write(read_once).await.unwrap();
}

async fn upkeep_that_could_not_be_ordered_is_made_anew(vault: Vault) {
    let boot = BootId::generate(NOW);
    for when in WHENEVER {
        vault.tamper("DELETE FROM closing_boots").await;
        vault.tamper(&unordered("closing_boots", "40P01", when, 2)).await;
        vault.store.note_closing(boot).await.unwrap();
        assert_eq!(vault.number("SELECT count(*) FROM closing_boots").await, 1, "{when}");
    }
}

async fn transactions_are_read_committed_whatever_the_database_prefers(vault: Vault) {
    let vault = vault.with_tenant().await;
    vault
        .tamper(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', \
             current_database()); PERFORM pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid(); END $$",
        )
        .await;
    vault
        .tamper(
            "CREATE TABLE levels (level text); CREATE FUNCTION level() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO levels VALUES (current_setting('transaction_isolation')); RETURN NULL; END $$; \
             CREATE TRIGGER level AFTER INSERT ON access_log EXECUTE FUNCTION level()",
        )
        .await;
    assert_eq!(vault.text("SELECT current_setting('transaction_isolation')").await, "serializable");
    let written = async { while vault.write(read_once).await.is_err() {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), written).await.expect("it connects anew");
    assert_eq!(vault.text("SELECT string_agg(DISTINCT level, ' ') FROM levels").await, "read committed");
}
