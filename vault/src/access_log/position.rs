//! Where an entry stands before it has an index: a lane of one boot, and a number of its tenant in it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::BootId;

/// One place in the log of one tenant. Numbers of a tenant in a lane are contiguous from 0, so that a gap shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The boot of the node that wrote it.
    pub boot: BootId,
    /// The writer within that boot.
    pub lane: u32,
    /// The tenant's number in that lane.
    pub number: u64,
}

/// Length of a position's bytes.
pub const POSITION_BYTES: usize = 28;

impl Position {
    /// boot (16 bytes) ‖ lane (4) ‖ number (8).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; POSITION_BYTES] {
        let mut bytes = [0; POSITION_BYTES];
        bytes[..16].copy_from_slice(self.boot.as_bytes());
        bytes[16..20].copy_from_slice(&self.lane.to_be_bytes());
        bytes[20..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// Reads what [`Position::to_bytes`] writes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; POSITION_BYTES]) -> Self {
        let (mut boot, mut lane, mut number) = ([0; 16], [0; 4], [0; 8]);
        boot.copy_from_slice(&bytes[..16]);
        lane.copy_from_slice(&bytes[16..20]);
        number.copy_from_slice(&bytes[20..]);
        Self { boot: BootId::from_bytes(boot), lane: u32::from_be_bytes(lane), number: u64::from_be_bytes(number) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.boot, self.lane, self.number)
    }
}
