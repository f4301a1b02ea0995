//! Where a list of the log goes on: an index, and what was shown already of what waits for one.

use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::access_log::Position;
use crate::domain::text::hex;

/// So many lanes stand in a cursor. Of more, the oldest are left out: what they showed may come twice, and nothing is left out.
const MOST_LANES: usize = 32;

/// Where a list goes on: the next index, and of each lane of which entries were shown that waited, the last one. Lanes are told
/// apart: the entries of several nodes wait beside each other, and a place in one says nothing of another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Cursor {
    pub(in crate::store) index: u64,
    shown: Vec<Position>,
}

impl Cursor {
    /// The cursor after these entries, shown while they wait.
    pub(in crate::store) fn showing(mut self, index: u64, waiting: impl Iterator<Item = Position>) -> Self {
        self.index = index;
        for position in waiting {
            match self.shown.iter_mut().find(|shown| is_of_one_lane(shown, &position)) {
                Some(shown) => *shown = position.max(*shown),
                None => self.shown.push(position),
            }
        }
        self.shown.sort_unstable();
        let surplus = self.shown.len().saturating_sub(MOST_LANES);
        self.shown.drain(..surplus);
        self
    }

    /// Whether an entry was shown while it waited. Those of a lane have their numbers in the order of their commits, so whoever saw
    /// one saw those before it.
    pub(in crate::store) fn has_shown(&self, position: &Position) -> bool {
        self.shown.iter().any(|shown| is_of_one_lane(shown, position) && position.number <= shown.number)
    }
}

fn is_of_one_lane(one: &Position, other: &Position) -> bool {
    (one.boot, one.lane) == (other.boot, other.lane)
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.index)?;
        self.shown.iter().try_for_each(|position| write!(f, ".{}", hex::encode(&position.to_bytes())))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split('.');
        let index = parts.next().and_then(|index| index.parse().ok()).ok_or(Error::Cursor)?;
        let read = |part: &str| -> Option<Position> {
            Some(Position::from_bytes(hex::decode(part)?.as_slice().try_into().ok()?))
        };
        let shown: Vec<Position> = parts.map(read).collect::<Option<_>>().ok_or(Error::Cursor)?;
        if shown.len() > MOST_LANES { Err(Error::Cursor) } else { Ok(Self { index, shown }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::BootId;

    fn place(boot: u8, number: u64) -> Position {
        Position { boot: BootId::from_bytes([boot; 16]), lane: 0, number }
    }

    #[test]
    fn what_was_shown_of_one_lane_says_nothing_of_another() {
        let cursor =
            Cursor::default().showing(7, [place(1, 4), place(2, 9)].into_iter()).showing(7, [place(2, 11)].into_iter());
        assert!(cursor.has_shown(&place(1, 4)) && cursor.has_shown(&place(2, 10)) && cursor.has_shown(&place(2, 11)));
        assert!(!cursor.has_shown(&place(1, 5)) && !cursor.has_shown(&place(2, 12)) && !cursor.has_shown(&place(0, 0)));
    }

    #[test]
    fn a_cursor_reads_as_it_was_written_and_is_bounded() {
        let cursor = Cursor::default().showing(12, (0..40).map(|boot| place(boot, 3)));
        let read: Cursor = cursor.to_string().parse().unwrap();
        assert_eq!(read, cursor);
        assert!(!read.has_shown(&place(7, 3)) && read.has_shown(&place(8, 3)), "the oldest lanes are left out");
        for none in ["", "x", "1.", "1.00", &format!("{}.{}", cursor, hex::encode(&place(9, 1).to_bytes()))] {
            assert!(matches!(none.parse::<Cursor>(), Err(Error::Cursor)), "{none}");
        }
    }
}
