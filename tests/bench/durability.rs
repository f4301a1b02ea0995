//! The vault and its database are killed in the middle of the load: what was acknowledged must be there, or all is void.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use vault::domain::SecureValueKey;

use super::database::Rows;
use super::flags::Flags;
use super::load;
use super::measure;
use super::slice::Slice;
use super::stage::Stage;

/// What came out.
pub struct Durability {
    /// Keys that were acknowledged in the slice that was killed.
    pub in_the_end: usize,
    /// Keys that were opened: those, and a sample of all before.
    pub opened: usize,
    /// Seconds until the database was there again, and then until siv was.
    pub again: [f64; 2],
    /// What the verification of the log said.
    pub log: String,
}

/// Kills both in mid load, starts them again, and looks for everything that was acknowledged.
pub async fn run(stage: &mut Stage, flags: &Flags) -> Durability {
    let mut target = stage.vault.capture();
    target.keep_one_of = 1;
    let length = flags.length * 2;
    let load = tokio::spawn(async move { load::closed(&target, 64, length).await });
    tokio::time::sleep(flags.length).await;
    stage.vault.kill();
    let begun = Instant::now();
    stage.databases.kill_and_start().await;
    let database = begun.elapsed();
    let slice = load.await.unwrap();
    let in_the_end = slice.kept.len();
    stage.acknowledged += slice.items;
    let mut keys = std::mem::take(&mut stage.kept);
    keys.extend(slice.kept);
    eprintln!("  killed in mid load; {in_the_end} values had been acknowledged, {} keys are tried", keys.len());
    let begun = Instant::now();
    if let Err(why) = stage.vault.start_again() {
        stage.void.push(format!("it does not start again: {why}"));
        return Durability { in_the_end, opened: 0, again: [0.0; 2], log: String::new() };
    }
    let again = [database.as_secs_f64(), begun.elapsed().as_secs_f64()];
    eprintln!("  ready again: the database after {:.1} s, siv {:.1} s later", again[0], again[1]);
    let opened = open(&keys, stage).await;
    let entries = entries(&keys, &stage.vault.rows).await;
    if entries < keys.len() {
        stage.void.push(format!("{} acknowledged captures have no entry", keys.len() - entries));
    }
    let values = stage.vault.rows.look().await.number("SELECT count(*) FROM secure_values").await;
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
    let acknowledged = stage.acknowledged as f64;
    if values < acknowledged {
        stage.void.push(format!("{acknowledged} values were acknowledged, {values} are there"));
    }
    measure::drain_whole(&stage.vault).await;
    let log = match stage.vault.verify_log() {
        Ok(said) => said.lines().next().unwrap_or_default().to_owned(),
        Err(why) => {
            stage.void.push(format!("the log does not verify: {why}"));
            String::new()
        }
    };
    eprintln!("  opened and verified: {opened} values");
    Durability { in_the_end, opened, again, log }
}

/// Opens every key through the flow: how many of them did.
async fn open(keys: &[String], stage: &mut Stage) -> usize {
    let mut opened = 0;
    for part in keys.chunks(5_000) {
        let mut slice = open_part(part, stage).await;
        // Right after a start a node may be busy, and say so.
        for _ in 0..5 {
            if slice.refused + slice.broken > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                slice = open_part(part, stage).await;
            }
        }
        opened += usize::try_from(slice.done).unwrap();
        if slice.refused + slice.broken > 0 {
            let lost = slice.refused + slice.broken;
            stage.void.push(format!("{lost} acknowledged values do not open: {:?}", slice.complaint));
        }
    }
    if opened < keys.len() {
        stage.void.push(format!("{} acknowledged values were not opened", keys.len() - opened));
    }
    opened
}

/// One slice that is over when every key of the part was tried.
async fn open_part(part: &[String], stage: &Stage) -> Slice {
    load::closed(&stage.vault.open_each(part), 64, Duration::from_secs(300)).await
}

/// For how many of these keys an entry of their capture stands in the log.
async fn entries(keys: &[String], rows: &Rows) -> usize {
    let mut look = rows.look().await;
    let mut found = 0.0;
    for part in keys.chunks(500) {
        let mut ids = String::new();
        for key in part {
            let key: SecureValueKey = key.parse().unwrap();
            let hex = key.value_id().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let id = match rows {
                Rows::Sqlite(_) => format!("X'{hex}'"),
                Rows::Postgres(_) => format!("'\\x{hex}'"),
            };
            let _ = write!(ids, "{}{id}", if ids.is_empty() { "" } else { "," });
        }
        found += look
            .number(&format!(
                "SELECT count(DISTINCT value_id) FROM access_log WHERE tenant = 'bench' AND action = 'value.captured' \
                 AND value_id IN ({ids})"
            ))
            .await;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let found = found as usize;
    found
}
