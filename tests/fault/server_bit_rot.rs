//! One byte of PostgreSQL's files of values, of the access log or of their indexes is another. The server itself does not look
//! for that (no checksums): what was damaged is refused or found, everything else is served, and nothing is ever taken for
//! what it is not.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use sqlx::{Connection as _, PgConnection};
use tests::{Postgres, Served};
use vault::domain::SecureValueKey;

use super::bit_rot::{Seen, Values, check, flip, put};
use super::seed;

const PAGE: usize = 8192;
/// A page of a table or an index.
#[derive(Debug, Clone)]
struct Page {
    relation: String,
    /// Its file, in the server's folder.
    file: String,
    number: usize,
}

/// What was there before anything was damaged.
struct Before {
    pages: Vec<Page>,
    /// On which page each value's row is.
    rows: HashMap<Vec<u8>, usize>,
    /// The tenant's entries, as they were hashed.
    leaves: HashSet<Vec<u8>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_that_rotted_in_postgresqls_files_is_noticed_where_it_matters_and_never_served() {
    let mut postgres = Postgres::start();
    let mut template = Served::on_postgres(&postgres);
    let values = put(&template).await;
    assert_eq!(template.terminate(), Some(0));
    let mut connection = PgConnection::connect(&postgres.address()).await.unwrap();
    let before = before(&mut connection, &postgres.data()).await;
    connection.close().await.unwrap();
    // In order: everything is in the files, and the next start has nothing to put right.
    postgres.stop();
    let kept = tempfile::tempdir().unwrap();
    let sound = kept.path().join("data");
    copy(&postgres.data(), &sound);
    let (mut seen, mut found) = (Seen::default(), 0);
    let sample = seed::some(before.pages.len(), 6);
    for at in &sample {
        let page = &before.pages[*at];
        fs::remove_dir_all(postgres.data()).unwrap();
        copy(&sound, &postgres.data());
        let byte = seed::number(*at) % PAGE;
        flip(&postgres.data().join(&page.file), page.number * PAGE + byte);
        postgres.start_again();
        let point = format!("{} page {}, byte {byte}", page.relation, page.number);
        let mut served = Served::copy_of(&template);
        if let Some(kept) = check(&mut served, &values, &point, &mut seen).await {
            others_are_served(&values, &kept, page, &before, &point);
            found += usize::from(damage_is_found(&served, &postgres, &before, &point).await);
        }
        served.kill();
        postgres.kill();
    }
    println!("{} of {} pages: {seen:?}, {found} times the log was not what it was", sample.len(), before.pages.len());
    assert!(seen.some + seen.all > 0, "no node served anything");
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{}", from.display());
}

async fn before(connection: &mut PgConnection, data: &Path) -> Before {
    // Both tables, and every index of theirs.
    let files: Vec<(String, String)> = sqlx::query_as(
        "SELECT relname::text, pg_relation_filepath(oid) FROM pg_class WHERE relname IN ('secure_values', 'access_log') \
         OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid::regclass::text IN ('secure_values', 'access_log')) \
         ORDER BY relname",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    assert!(files.len() >= 7, "{files:?}");
    let rows: Vec<(Vec<u8>, i64)> =
        sqlx::query_as("SELECT value_id, (ctid::text::point)[0]::bigint FROM secure_values")
            .fetch_all(&mut *connection)
            .await
            .unwrap();
    let leaves = leaves(connection).await.unwrap();
    sqlx::query("CHECKPOINT").execute(connection).await.unwrap();
    let pages = files.into_iter().flat_map(|(relation, file)| {
        let size = usize::try_from(fs::metadata(data.join(&file)).unwrap().len()).unwrap();
        (0..size / PAGE).map(move |number| Page { relation: relation.clone(), file: file.clone(), number })
    });
    let rows = rows.into_iter().map(|(id, page)| (id, usize::try_from(page).unwrap())).collect();
    Before { pages: pages.collect(), rows, leaves }
}

/// What the tenant's log holds, read from the table itself. An entry's place beside it is no part of that: it stands in the
/// entry as well, and by it the entry is found in an index.
async fn leaves(connection: &mut PgConnection) -> Result<HashSet<Vec<u8>>, sqlx::Error> {
    sqlx::query("SELECT set_config('enable_indexscan', 'off', false), set_config('enable_bitmapscan', 'off', false)")
        .execute(&mut *connection)
        .await?;
    let asked = sqlx::query_scalar("SELECT leaf FROM access_log WHERE tenant = 'acme'");
    Ok(asked.fetch_all(connection).await?.into_iter().collect())
}

/// What rotted in the page of some values' rows takes no other ones with it.
fn others_are_served(values: &Values, kept: &[bool], page: &Page, before: &Before, point: &str) {
    if page.relation != "secure_values" {
        return;
    }
    for ((key, _), served) in values.iter().zip(kept) {
        let id = key.parse::<SecureValueKey>().unwrap().value_id();
        let own = before.rows[&id.as_bytes()[..]];
        assert!(*served || own == page.number, "{point}: a value of page {own} is refused");
    }
}

/// If an entry of the tenant's log is no longer what it was, the log does not verify; whether one is.
async fn damage_is_found(served: &Served, postgres: &Postgres, before: &Before, point: &str) -> bool {
    let mut connection = PgConnection::connect(&postgres.address()).await.unwrap();
    let now = leaves(&mut connection).await.unwrap_or_default();
    let lost = before.leaves.difference(&now).count();
    if lost > 0 {
        let verified = served.verify_log();
        assert!(verified.is_err(), "{point}: {lost} entries are not what they were, and the log verifies");
    }
    lost > 0
}
