//! Lanes: contiguous numbers, chained signatures, groups that tell nothing of other tenants.

use super::{small_entry, tenant, time};
use crate::access_log::node::LaneEnd;
use crate::access_log::{Batch, Error, Group, Heartbeat, Lane, NodeIdentity, Salts};
use crate::domain::TenantName;

fn identity() -> NodeIdentity {
    NodeIdentity::generate("eu".parse().unwrap(), "node-1", "test", time()).unwrap()
}

fn batch(lane: &Lane, tenants: &[&str], identity: &NodeIdentity) -> (Batch, Vec<Group>, Vec<Vec<u8>>) {
    let mut draft = lane.draft();
    let mut leaves = Vec::new();
    for name in tenants {
        let mut entry = small_entry(1);
        entry.tenant = TenantName::from_store(name).unwrap();
        leaves.push(draft.push(&entry, &Salts::generate().unwrap()).unwrap().1.into_bytes());
    }
    let (batch, groups) = draft.sign(identity, time()).unwrap();
    (batch, groups, leaves)
}

#[test]
fn numbers_are_taken_only_when_the_batch_is_committed() {
    let identity = identity();
    let mut lane = Lane::open(identity.boot(), 0);
    let (lost, ..) = batch(&lane, &["demo", "demo"], &identity);
    let (first, groups, _) = batch(&lane, &["demo", "-system", "demo"], &identity);
    assert_eq!((lost.first, first.first, first.count), (0, 0, 3));
    lane.advance(&first, &groups).unwrap();
    assert_eq!(lane.advance(&lost, &[]), Err(Error::Batch), "a conflict on a number is never ignored");
    let (second, groups, _) = batch(&lane, &["demo"], &identity);
    assert_eq!((second.first, groups[0].first), (3, 2), "a tenant's numbers are its own");
    assert_eq!(second.previous, first.end().previous);
    assert_eq!(lane.draft().sign(&identity, time()).map(|_| ()), Err(Error::Batch), "no empty batch");
}

#[test]
fn a_batch_verifies_only_as_a_whole() {
    let identity = identity();
    let certificate = identity.certificate(time());
    let lane = Lane::open(identity.boot(), 3);
    let (batch, groups, leaves) = batch(&lane, &["demo", "acme", "demo"], &identity);
    batch.verify(&groups, &certificate).unwrap();
    let own = [leaves[0].as_slice(), &leaves[2]];
    assert_eq!(groups.iter().find(|group| group.tenant == tenant()).unwrap().digest, Group::digest_of(own));

    let mut wrong = groups.clone();
    wrong[0].digest[0] ^= 1;
    assert_eq!(batch.verify(&wrong, &certificate), Err(Error::Batch));
    assert_eq!(batch.verify(&groups[1..], &certificate), Err(Error::Batch));
    let swapped: Vec<_> = groups.iter().rev().cloned().collect();
    assert_eq!(batch.verify(&swapped, &certificate), Err(Error::Batch));
    for altered in [
        Batch { first: 1, ..batch.clone() },
        Batch { lane: 4, ..batch.clone() },
        Batch { count: 4, ..batch.clone() },
        Batch { previous: [1; 32], ..batch.clone() },
        Batch { root: [1; 32], ..batch },
    ] {
        assert_eq!(altered.verify(&groups, &certificate), Err(Error::Signature));
    }
    let other = self::identity().certificate(time());
    assert_eq!(batch.verify(&groups, &other), Err(Error::Signature), "another boot's key");
}

#[test]
fn a_heartbeat_is_bound_to_its_lanes() {
    let identity = identity();
    let certificate = identity.certificate(time());
    let end = LaneEnd { lane: 0, next: 7, previous: [1; 32] };
    let heartbeat = identity.heartbeat(time(), vec![end]);
    heartbeat.verify(&certificate).unwrap();
    let less = Heartbeat { lanes: vec![LaneEnd { next: 6, ..end }], ..heartbeat };
    assert!(less.verify(&certificate).is_err());
    assert!(Heartbeat { lanes: vec![], ..heartbeat }.verify(&certificate).is_err());
}
