//! What a vault acknowledged, in all its slices: what must be there in the end.

use super::slice::Slice;

/// Every capture by its number, captures and uses by a sample.
#[derive(Default)]
pub struct Acknowledged {
    /// Values that were acknowledged.
    pub values: u64,
    /// Values that may have been stored besides: their requests broke, or failed after they had begun.
    pub unsure: u64,
    /// Keys.
    pub keys: Vec<String>,
    /// Ids of runs.
    pub runs: Vec<String>,
}

impl Acknowledged {
    /// Adds what a slice was told; its keys and runs are taken out of it.
    pub fn take(&mut self, slice: &mut Slice) {
        self.values += slice.values;
        self.unsure += slice.unsure;
        self.keys.append(&mut slice.keys);
        self.runs.append(&mut slice.runs);
    }
}
