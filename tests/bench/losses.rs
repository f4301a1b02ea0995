//! The judgement after the kill: from what was acknowledged and what is there, why the figures are void. It looks at nothing itself.

use super::standing::Standing;

/// What is known when siv is up again.
pub struct Found {
    /// Values acknowledged before the slice that was killed, and how many more may have been stored.
    pub acknowledged: [u64; 2],
    /// What stood there before that slice.
    pub before: Standing,
    /// What of that stands there still.
    pub still: Standing,
    /// Values acknowledged in that slice, and how many more may have been in flight.
    pub killed: [u64; 2],
    /// All values that are there now.
    pub values: u64,
    /// Values whose capture has no entry.
    pub captures_without: Vec<String>,
    /// Runs that have no entry.
    pub uses_without: Vec<String>,
}

impl Found {
    /// Values that stood there and had not been acknowledged, before the slice that was killed and after it.
    pub const fn more(&self) -> [u64; 2] {
        let new = self.values.saturating_sub(self.still.values);
        [self.before.values.saturating_sub(self.acknowledged[0]), new.saturating_sub(self.killed[0])]
    }

    /// Every reason; none is no loss.
    pub fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        let (before, still) = (self.before, self.still);
        let new = self.values.saturating_sub(still.values);
        compare("before the slice that was killed", before.values, self.acknowledged, &mut losses);
        compare("in the slice that was killed", new, self.killed, &mut losses);
        for (what, before, still) in
            [("values", before.values, still.values), ("entries", before.entries, still.entries)]
        {
            if still != before {
                losses.push(format!(
                    "{before} {what} stood there before the slice that was killed, {still} of them do now"
                ));
            }
        }
        for (what, missing) in [("captures", &self.captures_without), ("uses", &self.uses_without)] {
            if let Some(first) = missing.first() {
                losses.push(format!("{} acknowledged {what} have no entry, {first} among them", missing.len()));
            }
        }
        losses
    }
}

/// Fewer than acknowledged is a loss. More than could be is one as well: what nobody counted would hide what is missing.
fn compare(when: &str, values: u64, [acknowledged, more]: [u64; 2], losses: &mut Vec<String>) {
    if values < acknowledged || values > acknowledged + more {
        losses.push(format!(
            "{acknowledged} values were acknowledged {when}, at most {more} more stored; {values} are there"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Found {
        let before = Standing { until: 0.0, values: 1_003, entries: 2_000 };
        Found {
            acknowledged: [1_000, 3],
            before,
            still: before,
            killed: [500, 64],
            values: 1_503,
            captures_without: Vec::new(),
            uses_without: Vec::new(),
        }
    }

    #[test]
    fn nothing_is_void_where_all_is_there_and_what_was_in_flight_may_be() {
        assert!(whole().losses().is_empty());
        let with_all_in_flight = Found { values: 1_567, ..whole() };
        assert!(with_all_in_flight.losses().is_empty());
        assert_eq!(with_all_in_flight.more(), [3, 64]);
    }

    #[test]
    fn one_value_that_is_missing_voids_the_figures_whenever_it_was_stored() {
        let of_the_killed = Found { values: 1_502, ..whole() };
        assert_eq!(of_the_killed.losses().len(), 1, "{:?}", of_the_killed.losses());
        // The slice that was killed has room for it among what was in flight: the count of what stood before has none.
        let still = Standing { values: 1_002, ..whole().before };
        let of_before = Found { still, values: 1_540, ..whole() };
        assert_eq!(
            of_before.losses(),
            ["1003 values stood there before the slice that was killed, 1002 of them do now"]
        );
        let never_stored = Standing { values: 999, ..whole().before };
        let of_before = Found { before: never_stored, still: never_stored, values: 1_499, ..whole() };
        assert!(of_before.losses()[0].starts_with("1000 values were acknowledged before"));
    }

    #[test]
    fn one_entry_that_is_missing_voids_the_figures() {
        let still = Standing { entries: 1_999, ..whole().before };
        assert!(Found { still, ..whole() }.losses()[0].starts_with("2000 entries stood there"));
        let capture = Found { captures_without: vec!["v1".to_owned()], ..whole() };
        assert_eq!(capture.losses(), ["1 acknowledged captures have no entry, v1 among them"]);
        let used = Found { uses_without: vec!["r1".to_owned()], ..whole() };
        assert_eq!(used.losses(), ["1 acknowledged uses have no entry, r1 among them"]);
    }

    #[test]
    fn values_that_nobody_counted_void_the_figures() {
        assert_eq!(Found { values: 1_568, ..whole() }.losses().len(), 1);
        assert_eq!(Found { acknowledged: [990, 3], ..whole() }.losses().len(), 1);
    }
}
