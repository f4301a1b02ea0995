//! The names of everything that is recorded: what a filter may ask for. Of a word that no entry can have, an empty list would look
//! like nothing having happened.

/// All of them. An entry of another is refused where it is made, in a build that has checks.
pub const ACTIONS: [&str; 60] = [
    "value.captured",
    "value.dereferenced",
    "value.revealed",
    "value.deleted",
    "value.extended",
    "value.expired",
    "relay.intent",
    "relay.outcome",
    "access.denied",
    "log.read",
    "node.started",
    "node.stopped",
    "admin.app.applied",
    "admin.flow.applied",
    "admin.destination.set",
    "admin.credential.created",
    "admin.credential.revoked",
    "admin.credential.suspended",
    "admin.credential.confirmed",
    "admin.tenant.created",
    "admin.tenant.sealed",
    "admin.tenant.unsealed",
    "admin.tenant.cache",
    "admin.tenant.moved",
    "admin.bootstrap.closed",
    "admin.bootstrap.refused",
    "admin.node.unsealed",
    "admin.node.unseal.refused",
    "admin.clock.skewed",
    "admin.log.checkpoint",
    "admin.log.alarm",
    "admin.log.recovered",
    "key.kek.created",
    "key.kek.rotated",
    "key.kek.pre-active",
    "key.kek.activated",
    "key.kek.deactivated",
    "key.kek.compromised",
    "key.kek.destroying",
    "key.kek.destroyed",
    "key.kek.lost",
    "key.data-keys.rewrapped",
    "key.rewrap.ended",
    "key.data-key.retired",
    "key.value.resealed",
    "key.values.resealed",
    "key.approval.requested",
    "key.approval.given",
    "key.approval.used",
    "key.approval.withdrawn",
    "key.provider.created",
    "key.provider.changed",
    "key.provider.available",
    "key.provider.unavailable",
    "key.provider.quarantined",
    "key.provider.login-unanswered",
    "key.provider.alarm",
    "key.provider.pins-forgotten",
    "key.tenant.shredded",
    "key.root.rotated",
];

/// So many of them, the first, are no acts of administration and none on keys: metrics count each on its own.
pub const COUNTED_ALONE: usize = 12;

/// Whether an entry can have it.
#[must_use]
pub fn is_action(name: &str) -> bool {
    ACTIONS.contains(&name) || (cfg!(test) && name == "admin.test.decreed")
}

/// Those that begin with the same word; without any, the words that there are. It repeats nothing of what was asked.
#[must_use]
pub fn actions_near(name: &str) -> String {
    let word = |name: &'static str| name.split('.').next().unwrap_or(name);
    let first = name.split('.').next().unwrap_or_default();
    let near: Vec<_> = ACTIONS.into_iter().filter(|action| word(action) == first).collect();
    if !near.is_empty() {
        return near.join(", ");
    }
    let mut words: Vec<_> = ACTIONS.into_iter().map(word).collect();
    words.dedup();
    format!("known begin with {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_interface_lists_every_action() {
        let page = include_str!("../../../docs/api.md");
        let missing: Vec<_> = ACTIONS.into_iter().filter(|action| !page.contains(&format!("`{action}`"))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn what_is_counted_alone_is_all_but_administration_and_keys() {
        let together = |action: &&str| action.starts_with("admin.") || action.starts_with("key.");
        assert!(!ACTIONS[..COUNTED_ALONE].iter().any(together));
        assert!(ACTIONS[COUNTED_ALONE..].iter().all(together));
    }

    #[test]
    fn what_is_near_a_word_is_told_without_repeating_it() {
        assert_eq!(actions_near("relay.sent"), "relay.intent, relay.outcome");
        assert_eq!(actions_near("<b>"), "known begin with value, relay, access, log, node, admin, key");
        assert!(!is_action("key.") && !is_action("value.opened") && is_action("key.kek.lost"));
    }
}
