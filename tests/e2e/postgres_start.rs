//! What a node asks of a PostgreSQL before it starts on it: that the server keeps what it acknowledges, and the lock under
//! which a schema is made.

use std::thread::JoinHandle;
use std::time::Duration;

use sqlx::migrate::Migrate as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::Postgres;

use super::command_line::{Installation, Serving, text};

/// An installation on files, whose settings name this one in place of its database or of its key store.
fn moved(from: &str, to: &str) -> Installation {
    let installation = Installation::described();
    installation.init();
    installation.change(from, to);
    installation
}

/// The end of a command that says which place it is and, in one line, what is wrong there.
fn says(said: &str, place: &str, why: &str) {
    let error = said.find("error: ").map_or("", |at| &said[at..]);
    let reasons = error.lines().filter(|line| line.trim_start().starts_with("why ")).collect::<Vec<_>>();
    assert!(error.lines().next().is_some_and(|line| line.contains(place)), "{place}: {said}");
    assert!(reasons.len() == 1 && reasons[0].contains(why) && error.lines().count() <= 3, "{why}: {said}");
}

/// Neither of the two durable places may be such a database, and `siv init` makes nothing there.
fn is_refused(address: &str, why: &str) {
    for (own, place) in [("sqlite:rows/siv.db", "the database"), ("dir:key-store", "the key store's database")] {
        let installation = moved(own, address);
        let served = Serving::begin(&installation, &[]);
        assert!(served.is_err(), "it serves although {why}");
        says(&installation.log_text(), place, why);
    }
    let new = Installation::described();
    new.rewrite("sqlite:rows/siv.db", address);
    let refused = new.run(&["init"]);
    assert_eq!(refused.status.code(), Some(1), "{why}");
    says(&text(&refused.stderr), "the database", why);
    assert!(!new.folder.path().join("key-store").exists(), "{why}: something was made");
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap_or_else(|why| panic!("{sql}: {why}"));
}

#[test]
fn a_server_that_loses_or_damages_what_it_wrote_is_refused_at_start() {
    for (setting, why) in [
        ("fsync=off", "fsync is off"),
        ("full_page_writes=off", "full_page_writes is off"),
        ("data_sync_retry=on", "data_sync_retry is on"),
        ("synchronous_commit=remote_write", "synchronous_commit is weaker than on"),
    ] {
        let postgres = Postgres::start_with(&[setting]);
        is_refused(&postgres.address(), why);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_another_encoding_and_a_role_that_is_weakened_are_refused_at_start() {
    let postgres = Postgres::start();
    let mut connection = PgConnection::connect(&postgres.address()).await.unwrap();
    let ascii = "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    run(&mut connection, ascii).await;
    is_refused(&postgres.address_of("ascii"), "encoding is not UTF8");
    // As somebody makes one server fast who does not know what stands on it: for whoever logs in so, or for one database.
    for (weaken, mend) in [
        ("ALTER ROLE postgres SET synchronous_commit = off", "ALTER ROLE postgres RESET synchronous_commit"),
        ("ALTER DATABASE postgres SET synchronous_commit = local", "ALTER DATABASE postgres RESET synchronous_commit"),
    ] {
        run(&mut connection, weaken).await;
        is_refused(&postgres.address(), "synchronous_commit is weaker than on");
        run(&mut connection, mend).await;
    }
    let standby = Postgres::standby_of(&postgres);
    is_refused(&standby.address(), "is a standby");
}

/// Another session that holds the lock of migrations of this database.
async fn locked(address: &str) -> PgConnection {
    let mut holder = PgConnection::connect(address).await.unwrap();
    holder.lock().await.unwrap();
    holder
}

/// Waits until somebody waits for that lock.
async fn somebody_waits(holder: &mut PgConnection) {
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    let seen = async {
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut *holder).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), seen).await.expect("it asks for the lock of migrations");
}

/// Makes the installation if it is not made yet, and a node of it, while the test looks on.
fn starting(installation: Installation) -> JoinHandle<(Installation, Serving)> {
    std::thread::spawn(move || {
        if !installation.folder.path().join("root").exists() {
            installation.init();
        }
        let serving = Serving::start(&installation);
        (installation, serving)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_waits_for_its_lock_and_takes_none_where_the_settings_say_so() {
    let postgres = Postgres::start();
    let (rows, keys) = (postgres.create_database("rows"), postgres.create_database("keys"));
    let installation = Installation::of_node("one", &rows, &keys);
    installation.change("realm ", "migration_lock = false\nrealm ");
    // Made and served while both locks are held.
    let holders = (locked(&rows).await, locked(&keys).await);
    let started = starting(installation);
    let done = async {
        while !started.is_finished() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(60), done).await;
    drop(holders);
    assert!(done.is_ok(), "it waits for a lock that it was told not to take");
    let (mut installation, serving) = started.join().unwrap();
    serving.stop();
    installation.change("migration_lock = false\n", "");
    for place in [&rows, &keys] {
        let mut holder = locked(place).await;
        let started = starting(installation);
        somebody_waits(&mut holder).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!started.is_finished(), "it did not wait for the lock");
        holder.unlock().await.unwrap();
        let (served, serving) = started.join().unwrap();
        serving.stop();
        installation = served;
    }
}
