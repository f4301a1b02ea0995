//! What the committer counts: batches, how large and how long, what came back, which entries became durable.

use crate::access_log::{ACTIONS, COUNTED_ALONE, OUTCOMES};
use crate::domain::meter::{Counter, Histogram};
use crate::store::batch::{EntryRow, WriteSet};

/// What is done in administration, and to keys, is counted together; every other action on its own.
const TOGETHER: [&str; 2] = ["admin", "key"];

/// The counts of a node's one writer.
#[derive(Debug)]
pub struct Meter {
    /// Operations of each batch that was committed.
    pub operations: Histogram,
    /// From the beginning of a batch's transaction until it is durable: reading, deciding, signing, writing, committing.
    pub transactions: Histogram,
    /// The commit alone: what the disk takes.
    pub commits: Histogram,
    /// Operations refused because the queue was full.
    pub refused: Counter,
    /// Operations that nobody waited for any more when their batch was due, or that were too late.
    pub dropped: Counter,
    /// Transactions made once more because another one came between.
    pub retried: Counter,
    /// Operations that were committed alone after a neighbour's row failed.
    pub split: Counter,
    /// Commits of which nobody knows the result.
    pub unknown: Counter,
    /// Lanes opened after the first one.
    pub lanes: Counter,
    entries: [[Counter; OUTCOMES.len()]; COUNTED_ALONE + TOGETHER.len()],
    /// Values stored.
    pub values: Counter,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            operations: Histogram::of_sizes(),
            transactions: Histogram::of_times(),
            commits: Histogram::of_times(),
            refused: Counter::default(),
            dropped: Counter::default(),
            retried: Counter::default(),
            split: Counter::default(),
            unknown: Counter::default(),
            lanes: Counter::default(),
            entries: Default::default(),
            values: Counter::default(),
        }
    }
}

impl Meter {
    /// Counts a batch that is durable.
    pub(super) fn committed(&self, set: &WriteSet, operations: usize) {
        self.operations.observe(operations as u64);
        self.values.add(set.new_values.len() as u64);
        for row in &set.entries {
            self.entry(row).inc();
        }
    }

    /// Each action and outcome with its count.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        ACTIONS[..COUNTED_ALONE].iter().chain(&TOGETHER).zip(&self.entries).flat_map(|(action, counts)| {
            OUTCOMES.iter().zip(counts).map(|(outcome, count)| (*action, *outcome, count.get()))
        })
    }

    fn entry(&self, row: &EntryRow) -> &Counter {
        let group = |action: &str| match action.split_once('.') {
            Some(("admin", _)) => COUNTED_ALONE,
            Some(("key", _)) => COUNTED_ALONE + 1,
            _ => ACTIONS[..COUNTED_ALONE].iter().position(|known| *known == action).unwrap_or(COUNTED_ALONE),
        };
        let named = row.entry.outcome.as_str();
        let outcome = OUTCOMES.iter().position(|known| *known == named).unwrap_or(OUTCOMES.len() - 1);
        &self.entries[group(&row.action)][outcome]
    }
}
