//! What a value is to somebody who remembers every request and every answer: a model of a few lines, with nothing of the
//! store, of seals or of batches in it.
//!
//! An answer that was lost leaves two worlds, one in which the request was done and one in which it was not. The model keeps
//! every world that no answer has contradicted yet; a vault that answers what no world allows has diverged.

use std::collections::BTreeSet;

/// The kinds of values there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Kept until it is deleted, uses not counted.
    Card,
    /// Half an hour, up to seven days, uses counted.
    Few,
    /// Fifteen minutes, one use, never extended.
    Code,
    /// Failures counted.
    Password,
}

/// So many wrong guesses end a value.
const MOST_FAILURES: u32 = 10;
const SEVEN_DAYS: u64 = 7 * 86_400_000;

/// A value in one world. Times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct World {
    pub(super) kind: Kind,
    pub(super) created: u64,
    pub(super) ends: Option<u64>,
    pub(super) uses: Option<u32>,
    pub(super) failures: u32,
    pub(super) deleted: bool,
    /// Requests with an `Idempotency-Key` that were done.
    pub(super) done: BTreeSet<usize>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A use, by the flow of its kind; with the number of its `Idempotency-Key`.
    Use(Option<usize>),
    Guess {
        right: bool,
    },
    Lookup,
    Delete,
    Extend(u64),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    NotFound,
    Used,
    Verified(bool),
    Described { uses: Option<u32>, ends: Option<u64> },
    Deleted,
    Denied,
    OutOfRange,
}

impl World {
    pub(super) fn new(kind: Kind, created: u64, lifetime: Option<u64>, uses: Option<u32>) -> Self {
        let ends = lifetime.map(|lifetime| created + lifetime);
        Self { kind, created, ends, uses, failures: 0, deleted: false, done: BTreeSet::new() }
    }

    fn is_here(&self, now: u64) -> bool {
        !self.deleted
            && self.ends.is_none_or(|ends| ends > now)
            && self.uses != Some(0)
            && self.failures < MOST_FAILURES
    }

    /// What is answered now, and the world after it.
    pub(super) fn answer(&self, asked: Asked, now: u64) -> (Told, Self) {
        let mut after = self.clone();
        if let Asked::Use(Some(request)) = asked
            && self.done.contains(&request)
        {
            return (Told::Used, after);
        }
        if !self.is_here(now) {
            return (Told::NotFound, after);
        }
        let told = match asked {
            Asked::Use(request) => {
                after.uses = self.uses.map(|uses| uses - 1);
                after.done.extend(request);
                Told::Used
            }
            Asked::Guess { right } => {
                after.failures += u32::from(!right);
                Told::Verified(right)
            }
            Asked::Lookup => Told::Described { uses: self.uses, ends: self.ends },
            Asked::Delete => {
                after.deleted = true;
                Told::Deleted
            }
            Asked::Extend(_) if self.kind == Kind::Code => Told::Denied,
            Asked::Extend(until) if until <= now || self.is_too_late(until) => Told::OutOfRange,
            Asked::Extend(until) => {
                after.ends = Some(until);
                Told::Described { uses: self.uses, ends: Some(until) }
            }
        };
        (told, after)
    }

    fn is_too_late(&self, until: u64) -> bool {
        matches!(self.kind, Kind::Few | Kind::Password) && until > self.created + SEVEN_DAYS
    }
}

/// A value in every world that is still possible.
#[derive(Debug, Clone)]
pub(super) struct Worlds(BTreeSet<World>);

impl Worlds {
    pub(super) fn new(world: World) -> Self {
        Self(BTreeSet::from([world]))
    }

    pub(super) fn kind(&self) -> Kind {
        self.0.iter().next().unwrap().kind
    }

    /// Keeps the worlds in which this is what was answered.
    pub(super) fn heard(&mut self, asked: Asked, told: &Told, now: u64) {
        let before = self.0.clone();
        let answers = self.0.iter().map(|world| world.answer(asked, now));
        self.0 = answers.filter(|(said, _)| said == told).map(|(_, after)| after).collect();
        assert!(!self.0.is_empty(), "{asked:?} was answered {told:?} at {now}, which fits none of {before:#?}");
    }

    /// Nobody heard what was answered, or whether anything was done.
    pub(super) fn unheard(&mut self, asked: Asked, now: u64) {
        let mut after: Vec<World> = self.0.iter().map(|world| world.answer(asked, now).1).collect();
        if let Asked::Guess { right: true } = asked {
            // The failure that is counted beforehand may not have been taken back.
            after.extend(self.0.iter().map(|world| world.answer(Asked::Guess { right: false }, now).1));
        }
        self.0.extend(after);
    }

    /// How often it was used in the worlds that are left, of so many uses at first.
    pub(super) fn used(&self, uses: u32) -> BTreeSet<u32> {
        self.0.iter().map(|world| uses - world.uses.unwrap_or(uses)).collect()
    }
}

#[test]
fn an_answer_that_no_world_allows_is_a_divergence() {
    let worlds = Worlds::new(World::new(Kind::Few, 0, Some(1000), Some(1)));
    let diverges = |told: &Told, mut worlds: Worlds| {
        std::panic::catch_unwind(move || worlds.heard(Asked::Use(None), told, 10)).is_err()
    };
    assert!(!diverges(&Told::Used, worlds.clone()));
    assert!(diverges(&Told::NotFound, worlds.clone()), "a use that is left is refused");
    let mut lost = worlds.clone();
    lost.unheard(Asked::Use(None), 10);
    assert!(!diverges(&Told::Used, lost.clone()) && !diverges(&Told::NotFound, lost.clone()));
    lost.heard(Asked::Use(None), &Told::Used, 10);
    assert!(diverges(&Told::Used, lost), "a second use of one");
    let mut over = worlds;
    over.heard(Asked::Lookup, &Told::Described { uses: Some(1), ends: Some(1000) }, 999);
    let late = std::panic::catch_unwind(move || over.heard(Asked::Use(None), &Told::Used, 1000));
    assert!(late.is_err(), "a use past its end");
}
