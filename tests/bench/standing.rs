//! How many values and entries of the measured tenant stand in a database, up to a moment.

use super::database::Rows;

/// Rows that are not from after a moment.
#[derive(Clone, Copy)]
pub struct Standing {
    /// The moment, in milliseconds.
    pub until: f64,
    /// Values.
    pub values: u64,
    /// Entries.
    pub entries: u64,
}

impl Standing {
    /// All that stands there now.
    pub async fn now(rows: &Rows) -> Self {
        let mut look = rows.look().await;
        let entry = look.number("SELECT max(time) FROM access_log WHERE tenant = 'bench'").await;
        let value = look.number("SELECT max(created) FROM secure_values WHERE tenant = 'bench'").await;
        Self::at(entry.max(value), rows).await
    }

    /// What stands there and is not from after that moment.
    pub async fn at(until: f64, rows: &Rows) -> Self {
        let mut look = rows.look().await;
        let mut count = async |table, time| {
            let query = format!("SELECT count(*) FROM {table} WHERE tenant = 'bench' AND {time} <= {until}");
            let count = look.number(&query).await;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            let count = count as u64;
            count
        };
        Self { until, values: count("secure_values", "created").await, entries: count("access_log", "time").await }
    }
}
