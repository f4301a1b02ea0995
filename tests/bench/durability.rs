//! The vault and its database are killed in the middle of the load: what was acknowledged must be there, or all is void.

use std::time::{Duration, Instant};

use super::entries;
use super::flags::Flags;
use super::load;
use super::losses::Found;
use super::measure;
use super::slice::Slice;
use super::stage::Stage;
use super::standing::Standing;

/// Clients of the slice that is killed.
const CLIENTS: usize = 64;

/// What came out.
pub struct Durability {
    /// Values and uses that were acknowledged in the slice that was killed.
    pub in_the_end: [u64; 2],
    /// Keys that were opened, and runs whose entries were looked for: those, and a sample of all before.
    pub tried: [usize; 2],
    /// Values and entries that stood there before that slice.
    pub before: [u64; 2],
    /// Values nobody had been told of: of those before, and of the slice.
    pub more: [u64; 2],
    /// Seconds until the database was there again, and then until siv was.
    pub again: [f64; 2],
    /// What the verification of the log said.
    pub log: String,
}

/// Kills both in mid load, starts them again, and looks for everything that was acknowledged. Nothing if siv does not start.
pub async fn run(stage: &mut Stage, flags: &Flags) -> Option<Durability> {
    measure::drain(&stage.vault).await;
    let before = Standing::now(&stage.vault.rows).await;
    let (mut slice, database) = killed(stage, flags).await;
    let acknowledged = [stage.vault.acknowledged.values, stage.vault.acknowledged.unsure];
    let in_the_end = [slice.values, slice.runs.len() as u64];
    // After the kill attempt after attempt breaks; under way each client had one.
    let in_flight = slice.unsure.min(CLIENTS as u64 + slice.refused);
    stage.vault.acknowledged.take(&mut slice);
    let [keys, runs] = [&mut stage.vault.acknowledged.keys, &mut stage.vault.acknowledged.runs].map(std::mem::take);
    let tried = [keys.len(), runs.len()];
    eprintln!("  killed in mid load; {in_the_end:?} values and uses had been acknowledged, {tried:?} are looked for");
    let begun = Instant::now();
    if let Err(why) = stage.vault.start_again() {
        stage.void.push(format!("it does not start again: {why}"));
        return None;
    }
    let again = [database.as_secs_f64(), begun.elapsed().as_secs_f64()];
    eprintln!("  ready again: the database after {:.1} s, siv {:.1} s later", again[0], again[1]);
    let found = Found {
        acknowledged,
        before,
        still: Standing::at(before.until, &stage.vault.rows).await,
        killed: [in_the_end[0], in_flight],
        values: Standing::now(&stage.vault.rows).await.values,
        captures_without: entries::captures_without(&keys, &stage.vault.rows).await,
        uses_without: entries::uses_without(&runs, &stage.vault.rows).await,
    };
    stage.void.extend(found.losses());
    open(&keys, stage).await;
    let log = log(stage).await;
    let more = found.more();
    eprintln!("  all was looked for; {more:?} values were there that nobody had been told of");
    Some(Durability { in_the_end, tried, before: [before.values, before.entries], more, again, log })
}

/// The slice of captures and uses, and how long the database took until it was there again.
async fn killed(stage: &mut Stage, flags: &Flags) -> (Slice, Duration) {
    let mut target = stage.vault.mixed();
    target.keep_one_of = 1;
    let length = flags.length * 2;
    let load = tokio::spawn(async move { load::closed(&target, CLIENTS, length).await });
    tokio::time::sleep(flags.length).await;
    stage.vault.kill();
    let begun = Instant::now();
    stage.databases.kill_and_start().await;
    let database = begun.elapsed();
    (load.await.unwrap(), database)
}

/// What the verification of the log says when all of it stands in its tree.
async fn log(stage: &mut Stage) -> String {
    measure::drain_whole(&stage.vault).await;
    match stage.vault.verify_log() {
        Ok(said) => said.lines().next().unwrap_or_default().to_owned(),
        Err(why) => {
            stage.void.push(format!("the log does not verify: {why}"));
            String::new()
        }
    }
}

/// Opens every key through the flow.
async fn open(keys: &[String], stage: &mut Stage) {
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
}

/// One slice that is over when every key of the part was tried.
async fn open_part(part: &[String], stage: &Stage) -> Slice {
    load::closed(&stage.vault.open_each(part), 64, Duration::from_secs(300)).await
}
