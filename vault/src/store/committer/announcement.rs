//! The entries by which a boot comes into a log and leaves it.

use crate::access_log::{Action, Entry, NodeIdentity, Outcome};
use crate::domain::text::hex;
use crate::domain::{Actor, TenantName, Timestamp};

/// `node.started`: with the public key that signs the boot's batches.
pub(super) fn started(identity: &NodeIdentity, tenant: &TenantName, now: Timestamp) -> Entry {
    let mut entry = by_node(identity, tenant, Action::NodeStarted, now);
    entry.facts.push(("publicKey", hex::encode(&identity.public())));
    entry.facts.push(("build", identity.build().to_owned()));
    entry
}

/// `node.stopped`: with where the boot's lane ends.
pub(super) fn stopped(identity: &NodeIdentity, tenant: &TenantName, lane: u32, next: u64, now: Timestamp) -> Entry {
    let mut entry = by_node(identity, tenant, Action::NodeStopped, now);
    entry.facts.push(("lane", lane.to_string()));
    entry.facts.push(("next", next.to_string()));
    entry
}

/// An entry of the node's own doing.
pub(super) fn by_node(identity: &NodeIdentity, tenant: &TenantName, action: Action, now: Timestamp) -> Entry {
    let mut entry = Entry::by(tenant.clone(), now, action, Outcome::Allowed, Actor::node(identity.boot()));
    entry.facts = vec![("boot", identity.boot().to_string()), ("node", identity.node().to_owned())];
    entry
}
