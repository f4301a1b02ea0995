//! Which acknowledged captures and uses have no entry in the log.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt as _;
use vault::domain::SecureValueKey;

use super::database::{Look, Rows};
use super::slice::{RUN, texts};

const CAPTURES: &str =
    "SELECT value_id FROM access_log WHERE tenant = 'bench' AND action = 'value.captured' AND outcome = 'allowed'";
const USES: &str = "SELECT leaf FROM access_log WHERE tenant = 'bench' AND outcome = 'allowed' \
    AND action IN ('value.dereferenced', 'value.revealed')";

/// The values of these keys, by their ids, whose capture has none.
pub async fn captures_without(keys: &[String], rows: &Rows) -> Vec<String> {
    let ids = keys.iter().map(|key| key.parse::<SecureValueKey>().unwrap().value_id());
    let mut left: HashMap<Vec<u8>, String> = ids.map(|id| (id.as_bytes().to_vec(), id.to_string())).collect();
    each(CAPTURES, rows, |id| drop(left.remove(id))).await;
    left.into_values().collect()
}

/// The runs among these that have none.
pub async fn uses_without(runs: &[String], rows: &Rows) -> Vec<String> {
    let mut left: HashSet<&str> = runs.iter().map(String::as_str).collect();
    each(USES, rows, |leaf| {
        for run in texts(leaf, RUN) {
            left.remove(run.as_str());
        }
    })
    .await;
    left.into_iter().map(str::to_owned).collect()
}

/// Shows the one column of each row.
async fn each(query: &'static str, rows: &Rows, mut show: impl FnMut(&[u8])) {
    match rows.look().await {
        Look::Sqlite(mut connection) => {
            let mut found = sqlx::query_scalar::<_, Vec<u8>>(query).fetch(&mut connection);
            while let Some(bytes) = found.try_next().await.unwrap() {
                show(&bytes);
            }
        }
        Look::Postgres(mut connection) => {
            let mut found = sqlx::query_scalar::<_, Vec<u8>>(query).fetch(&mut connection);
            while let Some(bytes) = found.try_next().await.unwrap() {
                show(&bytes);
            }
        }
    }
}
