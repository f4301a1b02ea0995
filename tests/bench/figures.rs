//! Medians and ratios of measured slices. A ratio is made of two slices of one round, never of two medians.

use hdrhistogram::Histogram;

use super::flags::Engine;
use super::measure::Sample;
use super::slice;

/// A median with what is around it.
#[derive(Clone, Copy, Default)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of some figures; all 0 of none.
    pub fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = figures.collect();
        all.sort_by(f64::total_cmp);
        let at = |place: usize| all.get(place).copied().unwrap_or(0.0);
        Self { median: at(all.len() / 2), min: at(0), max: at(all.len().saturating_sub(1)) }
    }
}

/// The slices of one path at one number of clients.
pub struct Row {
    /// How many clients.
    pub clients: usize,
    /// The path.
    pub name: &'static str,
    /// One for each round.
    pub samples: Vec<Sample>,
}

impl Row {
    fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.samples.iter().map(figure))
    }

    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        self.spread(|sample| sample.slice.rate()).median
    }

    /// Its rate over another's, round by round.
    pub fn over(&self, other: &Self) -> Spread {
        let pairs = self.samples.iter().zip(&other.samples);
        Spread::of(pairs.map(|(own, other)| own.slice.rate() / other.slice.rate().max(1e-9)))
    }

    /// CPU microseconds of the server and of PostgreSQL.
    pub fn cpu(&self) -> (f64, f64) {
        (self.spread(|sample| sample.server_cpu).median, self.spread(|sample| sample.database_cpu).median)
    }

    /// CPU microseconds of both while the load ran.
    pub fn cpu_in_slice(&self) -> f64 {
        self.spread(|sample| sample.cpu_in_slice).median
    }

    /// CPU microseconds of both, in all.
    pub fn cpu_whole(&self) -> f64 {
        self.spread(|sample| sample.server_cpu + sample.database_cpu).median
    }

    /// Commits of a request: those in the write-ahead log, else the batches.
    pub fn commits(&self) -> f64 {
        self.spread(|sample| sample.wal.map_or(sample.batches, |wal| wal.commits) / done(sample)).median
    }

    /// Bytes of the write-ahead log of a request, those of the sequencer beside it, and whole pages among the first.
    pub fn wal(&self) -> Option<(f64, f64, f64)> {
        self.samples.iter().any(|sample| sample.wal.is_some()).then(|| {
            let each = |share: fn(&super::wal::Written) -> f64| {
                self.spread(|sample| sample.wal.as_ref().map_or(0.0, share) / done(sample)).median
            };
            (each(|wal| wal.requests), each(|wal| wal.sequencer), each(|wal| wal.images))
        })
    }

    /// Bytes that the server itself wrote for a request.
    pub fn disk(&self) -> f64 {
        self.spread(|sample| sample.disk / done(sample)).median
    }

    /// Memory of the server, in MB: the most of any slice.
    pub fn memory(&self) -> f64 {
        self.spread(|sample| sample.memory).max
    }

    /// Seconds that the integration went on after a slice.
    pub fn drain(&self) -> f64 {
        self.spread(|sample| sample.drain.as_secs_f64()).median
    }

    /// A latency in milliseconds over all slices.
    pub fn millis(&self, quantile: f64) -> f64 {
        let mut all: Option<Histogram<u64>> = None;
        for sample in &self.samples {
            match &mut all {
                Some(all) => all.add(&sample.slice.latencies).unwrap(),
                None => all = Some(sample.slice.latencies.clone()),
            }
        }
        all.map_or(0.0, |all| slice::millis(&all, quantile))
    }

    /// Requests that got no good answer.
    pub fn lost(&self) -> u64 {
        self.samples.iter().map(|sample| sample.slice.refused + sample.slice.broken).sum()
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn done(sample: &Sample) -> f64 {
    sample.slice.done.max(1) as f64
}

/// The rows of one engine.
pub struct Table {
    /// The engine.
    pub engine: Engine,
    /// In the order they were measured.
    pub rows: Vec<Row>,
}

impl Table {
    /// A path at a number of clients.
    pub fn row(&self, name: &str, clients: usize) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name && row.clients == clients)
    }

    /// One path over another at a number of clients.
    pub fn ratio(&self, name: &str, other: &str, clients: usize) -> Option<Spread> {
        Some(self.row(name, clients)?.over(self.row(other, clients)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_the_middle_and_the_ends_whatever_the_order() {
        let spread = Spread::of([3.0, 9.0, 1.0].into_iter());
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 9.0));
        assert_eq!(Spread::of(std::iter::empty()).median, 0.0);
    }
}
