//! The states of a key-encryption key after NIST SP 800-57 part 1 section 7, and the one table that says what each allows.
//!
//! It decides nothing about who asks, and writes nothing: the store's `kek_states` does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// States of a KEK after NIST SP 800-57 part 1 section 7, with `destroying` between the two durable places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KekState {
    /// Made, not yet used.
    PreActive,
    /// Wraps and unwraps.
    Active,
    /// Unwraps only.
    Deactivated,
    /// Unwraps only, so that what it protects can be moved to another.
    Compromised,
    /// Refused everywhere; its secret is being destroyed.
    Destroying,
    /// Gone.
    Destroyed,
    /// Stated to be lost with its token, while data keys were wrapped under it: nobody saw its end.
    Lost,
}

use KekState::{Active, Compromised, Deactivated, Destroyed, Destroying, Lost, PreActive};

/// What a state allows.
struct Line {
    name: &'static str,
    wraps: bool,
    unwraps: bool,
    next: &'static [KekState],
}

/// The one table. Its order is that of the enum, which a test holds.
///
/// Deactivated never becomes active again (section 7.3: what was deactivated protects nothing anew); compromised only ends;
/// what is being destroyed can only be destroyed, whatever anybody wishes meanwhile. What is stated to be lost never wrapped anew
/// since (an active key gets a successor first), and stays so, though the token be found.
const TABLE: [Line; 7] = [
    Line { name: "pre-active", wraps: false, unwraps: false, next: &[Active, Compromised, Destroying] },
    Line { name: "active", wraps: true, unwraps: true, next: &[Deactivated, Compromised, Destroying] },
    Line { name: "deactivated", wraps: false, unwraps: true, next: &[Compromised, Destroying, Lost] },
    Line { name: "compromised", wraps: false, unwraps: true, next: &[Destroying, Lost] },
    Line { name: "destroying", wraps: false, unwraps: false, next: &[Destroyed] },
    Line { name: "destroyed", wraps: false, unwraps: false, next: &[] },
    Line { name: "lost", wraps: false, unwraps: false, next: &[] },
];

impl KekState {
    /// Every state, in the order of a key's life.
    pub const ALL: [Self; 7] = [PreActive, Active, Deactivated, Compromised, Destroying, Destroyed, Lost];

    const fn line(self) -> &'static Line {
        &TABLE[self as usize]
    }

    /// Whether data keys may be wrapped.
    #[must_use]
    pub const fn may_wrap(self) -> bool {
        self.line().wraps
    }

    /// Whether data keys may be unwrapped.
    #[must_use]
    pub const fn may_unwrap(self) -> bool {
        self.line().unwraps
    }

    /// Whether the state may become `next`.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        self.line().next.contains(&next)
    }

    /// Whether its life is over: nothing comes after it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.line().next.is_empty()
    }

    /// The name in rows, requests and entries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.line().name
    }
}

impl fmt::Display for KekState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KekState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

/// No state has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pre-active, active, deactivated, compromised or destroyed")]
pub struct UnknownState;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_states_and_names_them_as_rows_do() {
        for (line, state) in TABLE.iter().zip(KekState::ALL) {
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", line.name));
            assert_eq!(line.name.parse(), Ok(state));
        }
        assert_eq!("Active".parse::<KekState>(), Err(UnknownState));
    }

    fn states() -> impl Strategy<Value = KekState> {
        prop::sample::select(KekState::ALL.to_vec())
    }

    proptest! {
        /// Whatever is asked of a key in whatever order: a life is one way. Nothing that once stopped wrapping wraps again, nothing that
        /// once stopped unwrapping unwraps again, and what was destroyed stays so.
        #[test]
        fn whatever_is_asked_of_a_key_its_life_goes_one_way(
            first in states(),
            wishes in prop::collection::vec(states(), 0..40),
        ) {
            let mut state = first;
            let (mut wrapped, mut unwrapped) = (state.may_wrap(), state.may_unwrap());
            let (mut wraps_no_more, mut unwraps_no_more) = (false, false);
            let mut steps = 0;
            for wish in wishes {
                if !state.may_become(wish) {
                    continue;
                }
                prop_assert_ne!(state, wish, "a transition changes something");
                prop_assert!(state != Destroyed && (state != Destroying || wish == Destroyed));
                // Nothing is gone from the key store that refused use nowhere before.
                prop_assert!(wish != Destroyed || state == Destroying);
                state = wish;
                steps += 1;
                wraps_no_more |= wrapped && !state.may_wrap();
                unwraps_no_more |= unwrapped && !state.may_unwrap();
                prop_assert!(!(wraps_no_more && state.may_wrap()));
                prop_assert!(!(unwraps_no_more && state.may_unwrap()));
                // What may protect may also be had back: else a value sealed under it would be lost at once.
                prop_assert!(!state.may_wrap() || state.may_unwrap());
                (wrapped, unwrapped) = (state.may_wrap(), state.may_unwrap());
            }
            prop_assert!(steps < KekState::ALL.len(), "a life has an end");
        }
    }

    #[test]
    fn only_an_active_key_wraps_and_every_key_can_be_destroyed() {
        assert!(KekState::ALL.into_iter().filter(|state| state.may_wrap()).eq([Active]));
        assert!(KekState::ALL.into_iter().filter(|state| state.may_unwrap()).eq([Active, Deactivated, Compromised]));
        for state in [PreActive, Active, Deactivated, Compromised] {
            assert!(state.may_become(Destroying) && !state.may_become(Destroyed), "{state}");
        }
        assert!(KekState::ALL.into_iter().filter(|state| state.may_become(Active)).eq([PreActive]));
        // What wraps, or never did, cannot be lost: its data keys would go on, or there are none.
        assert!(KekState::ALL.into_iter().filter(|state| state.may_become(Lost)).eq([Deactivated, Compromised]));
        assert!(KekState::ALL.into_iter().filter(|state| state.is_over()).eq([Destroyed, Lost]));
    }
}
