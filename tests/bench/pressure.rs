//! Requests that come at a fixed rate, whatever the answers do: at six tenths of the most, and at multiples of the most.

use super::cost;
use super::figures::{Spread, Table};
use super::flags::Flags;
use super::load;
use super::measure;
use super::slice::{Slice, millis};
use super::stage::Stage;
use super::vault::Vault;

/// Connections of the run at six tenths.
const CONNECTIONS: usize = 256;
/// Connections under overload: twice as many as a node takes requests at once.
pub const CROWD: usize = 2_048;
/// The same where only the way is tried: just more than a node takes.
const FEWER: usize = 1_100;

/// At six tenths of the most.
pub struct Steady {
    /// Requests a second that were meant.
    pub offered: f64,
    /// Answers a second.
    pub answered: f64,
    /// Milliseconds from the intended start: median, 99 of 100, 999 of 1,000.
    pub millis: [f64; 3],
}

/// At a multiple of the most.
pub struct Overload {
    /// How many times the most was offered.
    pub factor: u32,
    /// Good answers over those of the closed loop just before, round by round.
    pub goodput: Spread,
    /// Milliseconds until a refusal: median and 99 of 100.
    pub refusal: [f64; 2],
    /// Refusals, broken connections, and requests for which no connection was free, of a hundred offered.
    pub shares: [f64; 3],
    /// CPU of siv and of the load generator, of a hundred that the machine has.
    pub cpu: [f64; 2],
    /// The first refusal's words.
    pub words: String,
}

/// The most captures a second that closed loops did; measured now where the table has none.
async fn most(table: &Table, stage: &mut Stage, flags: &Flags) -> f64 {
    let rows = table.rows.iter().filter(|row| row.name == stage.vault.capture().name);
    match rows.map(super::figures::Row::rate).max_by(f64::total_cmp) {
        Some(rate) => rate,
        None => {
            let mut slice = load::closed(&stage.vault.capture(), 256, flags.length).await;
            stage.vault.acknowledged.take(&mut slice);
            slice.rate()
        }
    }
}

/// One run at six tenths.
pub async fn steady(table: &Table, stage: &mut Stage, flags: &Flags) -> Steady {
    let offered = (most(table, stage, flags).await * 0.6).max(1.0);
    let mut slice =
        load::open(&stage.vault.capture(), offered, CONNECTIONS, flags.length * if flags.quick { 1 } else { 5 }).await;
    stage.vault.acknowledged.take(&mut slice);
    stage.judge("open loop", &slice);
    measure::drain(&stage.vault).await;
    eprintln!("  open loop at {offered:.0}/s: {:.0}/s answered", slice.rate());
    let millis = [0.5, 0.99, 0.999].map(|quantile| millis(&slice.latencies, quantile));
    Steady { offered, answered: slice.rate(), millis }
}

/// Rounds of a closed loop and an overload.
#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
pub async fn overload(factor: u32, stage: &mut Stage, flags: &Flags) -> Overload {
    let (mut goodput, mut all, mut offered, mut cpu) = (Vec::new(), Slice::of(flags.length), 0.0, [0.0; 2]);
    let spent = |vault: &Vault| [vault.pid(), std::process::id()].map(cost::cpu);
    for round in 1..=flags.rounds {
        let mut closed = load::closed(&stage.vault.capture(), 256, flags.length).await;
        let rate = (closed.rate() * f64::from(factor)).max(10.0);
        let crowd = if flags.quick { FEWER } else { CROWD };
        let before = spent(&stage.vault);
        let mut slice = load::open(&stage.vault.capture(), rate, crowd, flags.length).await;
        let machine = slice.whole.as_secs_f64() * std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        for (at, after) in spent(&stage.vault).into_iter().enumerate() {
            cpu[at] += (after - before[at]) / machine / flags.rounds as f64 * 100.0;
        }
        eprintln!(
            "  {factor} × overload, round {round} of {}: {:.0}/s in the closed loop, {rate:.0}/s offered, {:.0}/s good, {} refused",
            flags.rounds,
            closed.rate(),
            slice.rate(),
            slice.refused
        );
        goodput.push(slice.rate() / closed.rate().max(1e-9));
        stage.vault.acknowledged.take(&mut closed);
        stage.vault.acknowledged.take(&mut slice);
        offered += rate * flags.length.as_secs_f64();
        all.add(slice);
        measure::drain(&stage.vault).await;
    }
    let unsent = offered - (all.done + all.refused + all.broken) as f64;
    Overload {
        factor,
        goodput: Spread::of(goodput.into_iter()),
        refusal: [0.5, 0.99].map(|quantile| millis(&all.refusals, quantile)),
        shares: [all.refused as f64, all.broken as f64, unsent].map(|count| count / offered * 100.0),
        cpu,
        words: all.complaint.unwrap_or_default(),
    }
}
