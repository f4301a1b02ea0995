//! Whether writing slows as values gather: a vault with a thousand values beside one with many, slice by slice.

use super::figures::Spread;
use super::flags::Flags;
use super::measure;
use super::stage::{FEW, Stage};
use super::vault::Vault;

/// Clients of the captures.
const CLIENTS: usize = 64;

/// The larger vault's rate over the smaller one's.
pub struct Growth {
    /// Values in the larger one before the slices.
    pub many: u64,
    /// Of captures by 64 clients.
    pub captures: Spread,
    /// Of bulk.
    pub bulk: Spread,
    /// Captures a second: with few and with many.
    pub rates: [f64; 2],
}

/// Fills the larger vault, then measures both in turn.
pub async fn run(stage: &mut Stage, flags: &Flags) -> Growth {
    eprintln!("  filling a vault with {} values", flags.preload);
    let mut large = Vault::start("many", flags.preload, &stage.databases, &stage.cards).await;
    measure::drain_whole(&large).await;
    let (mut captures, mut bulk) = (Vec::new(), Vec::new());
    for round in 1..=flags.rounds {
        let (mut rates, mut judged) = ([[0.0; 2]; 2], Vec::new());
        let mut pair = [(0, &stage.vault), (1, &large)];
        // Each is the first in every other round.
        pair.rotate_left(round % 2);
        for (at, vault) in pair {
            for (kind, (target, clients)) in
                [(vault.capture(), CLIENTS), (vault.bulk(), super::bulk::CLIENTS)].into_iter().enumerate()
            {
                let whole = (Some(vault), Some(&vault.rows));
                let sample = measure::closed(&target, (clients, flags.length), whole, &stage.databases).await;
                rates[kind][at] = if kind == 0 { sample.slice.rate() } else { sample.slice.item_rate() };
                judged.push((at == 0, target.name, sample.slice));
            }
        }
        for (small, name, mut slice) in judged {
            stage.judge(&format!("growth, {name}"), &slice);
            if small {
                stage.vault.acknowledged.take(&mut slice);
            }
        }
        let [captured, bulked] = rates;
        eprintln!(
            "  growth, round {round} of {}: {:.0}/s with {FEW} values, {:.0}/s with {}",
            flags.rounds, captured[0], captured[1], flags.preload
        );
        captures.push(captured);
        bulk.push(bulked);
    }
    if let Err(why) = large.verify_log() {
        stage.void.push(format!("the log of the larger vault does not verify: {why}"));
    }
    large.stop();
    let over = |pairs: &[[f64; 2]]| Spread::of(pairs.iter().map(|[few, many]| many / few.max(1e-9)));
    let rates = [0, 1].map(|at| Spread::of(captures.iter().map(|pair| pair[at])).median);
    Growth { many: flags.preload, captures: over(&captures), bulk: over(&bulk), rates }
}
