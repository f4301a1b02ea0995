//! A thousand values in one request, beside PostgreSQL's own way of taking many rows.

use super::copying::Copying;
use super::figures::Spread;
use super::flags::Flags;
use super::measure;
use super::stage::Stage;

/// Clients that send batches.
pub const CLIENTS: usize = 4;

/// What was measured.
pub struct Bulk {
    /// Values a second.
    pub siv: Spread,
    /// Rows a second of COPY, where there is one.
    pub copy: Option<Spread>,
    /// The one over the other, round by round.
    pub ratio: Option<Spread>,
    /// CPU microseconds of siv and PostgreSQL for each value.
    pub cpu: f64,
    /// Bytes of the write-ahead log for each value with its entry.
    pub wal: Option<f64>,
}

/// Measures both in turn.
pub async fn run(stage: &mut Stage, flags: &Flags) -> Bulk {
    let copying = Copying::like(&stage.vault.rows, stage.reference.as_ref()).await;
    let (mut pairs, mut cpu, mut wal) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=flags.rounds {
        let copied = match &copying {
            Some(copying) => copying.run(flags.length).await,
            None => 0.0,
        };
        let (target, vault) = (stage.vault.bulk(), &stage.vault);
        let shape = (CLIENTS, flags.length);
        let mut sample = measure::closed(&target, shape, (Some(vault), Some(&vault.rows)), &stage.databases).await;
        let slice = &mut sample.slice;
        stage.judge("bulk", slice);
        stage.vault.acknowledged.take(slice);
        #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
        let values = slice.items.max(1) as f64;
        let rate = slice.item_rate();
        #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
        cpu.push((sample.server_cpu + sample.database_cpu) * slice.done as f64 / values);
        wal.extend(sample.wal.map(|wal| wal.requests / values));
        eprintln!(
            "  bulk, round {round} of {}: {rate:.0} values/s, COPY {copied:.0} rows/s, {:.1} s until integrated",
            flags.rounds,
            sample.drain.as_secs_f64()
        );
        pairs.push((rate, copied));
    }
    let copies = copying.is_some();
    Bulk {
        siv: Spread::of(pairs.iter().map(|pair| pair.0)),
        copy: copies.then(|| Spread::of(pairs.iter().map(|pair| pair.1))),
        ratio: copies.then(|| Spread::of(pairs.iter().map(|(siv, copy)| siv / copy))),
        cpu: Spread::of(cpu.into_iter()).median,
        wal: (!wal.is_empty()).then(|| Spread::of(wal.into_iter()).median),
    }
}
