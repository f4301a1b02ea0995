//! What a tenant's compromised KEK versions spoil: whoever had one may have every data key that stood beside it, whichever
//! version wraps that data key now. So whatever is sealed from then on is sealed under data keys made later, and older values
//! are sealed anew.

use super::{DataKeyRow, KekRecord};
use crate::domain::Timestamp;

/// The compromised versions of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compromise {
    /// How many there are: it only grows, and each data key is made in one of these eras.
    era: u32,
    /// When the last one was said to be compromised.
    last: Option<Timestamp>,
}

impl Compromise {
    /// That of all versions of a tenant.
    #[must_use]
    pub fn of<'k>(keks: impl IntoIterator<Item = &'k KekRecord, IntoIter: Clone>) -> Self {
        let said = keks.into_iter().filter_map(|kek| kek.compromised_at);
        Self { era: u32::try_from(said.clone().count()).unwrap_or(u32::MAX), last: said.max() }
    }

    /// What a version spoiled that was said to be compromised then; nothing if it was not. `keks` are all of its tenant.
    #[must_use]
    pub fn by(kek: &KekRecord, keks: &[KekRecord]) -> Option<Self> {
        let said = kek.compromised_at?;
        let upto = keks.iter().filter(|other| other.compromised_at.is_some_and(|at| at <= said));
        Some(Self::of(upto))
    }

    /// Whether a version was ever compromised.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.era > 0
    }

    /// The era of what is made now.
    #[must_use]
    pub const fn era(&self) -> u32 {
        self.era
    }

    /// The time for the id of a data key that is made now: later than the compromise by every clock.
    pub(super) fn after(&self, at: Timestamp) -> Timestamp {
        self.last.map_or(at, |last| at.max(last.plus(std::time::Duration::from_millis(1))))
    }

    /// Whether a data key was made before, so that nothing new may rest on it. The time stands in its id,
    /// which its MAC covers; the era of the row is not covered (one that has not begun is refused), but tells apart what clocks
    /// do not.
    #[must_use]
    pub fn spoils(&self, row: &DataKeyRow) -> bool {
        let early = self.last.is_some_and(|last| row.data_key_id.time() <= last);
        early || row.era < self.era
    }
}
