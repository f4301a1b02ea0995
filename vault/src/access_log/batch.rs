//! Batches: what a node numbers, groups by tenant and signs before it commits (docs/formats.md section 8).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::node::{LaneEnd, signature_hash};
use super::{Certificate, Entry, Error, Leaf, NodeIdentity, Opening, Position, Salts, leaf_hash, tree};
use crate::domain::{BootId, Realm, TenantName, Timestamp, lp, lp_length};

/// One tenant's share of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The tenant.
    pub tenant: TenantName,
    /// Its first number in the lane.
    pub first: u64,
    /// How many entries.
    pub count: u64,
    /// Hides from other tenants what the digest is of.
    pub salt: [u8; 16],
    /// SHA-256 over the entries' length-prefixed bytes.
    pub digest: [u8; 32],
}

impl Group {
    /// lp(tenant, first number, count, 16 random bytes, SHA-256 over the entries' lp bytes): a leaf of the batch's tree.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        lp(&[self.tenant.as_bytes(), &self.first.to_be_bytes(), &self.count.to_be_bytes(), &self.salt, &self.digest])
    }

    /// The digest of a group with these leaves.
    #[must_use]
    pub fn digest_of<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let each = |hash: Sha256, leaf: &[u8]| hash.chain_update(lp_length(leaf)).chain_update(leaf);
        leaves.into_iter().fold(Sha256::new(), each).finalize().into()
    }
}

/// A signed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The boot.
    pub boot: BootId,
    /// The lane.
    pub lane: u32,
    /// The lane's first number, over all tenants.
    pub first: u64,
    /// How many entries, over all tenants.
    pub count: u64,
    /// The batch's clock.
    pub time: Timestamp,
    /// SHA-256 of the lane's previous signature; zeros in its first batch.
    pub previous: [u8; 32],
    /// RFC 6962 root over the groups, sorted by tenant.
    pub root: [u8; 32],
    /// The node's signature.
    pub signature: [u8; 64],
}

impl Batch {
    /// What is signed: lp(`siv/v1/batch`, realm, node, boot, lane, first number, count, time, previous, root).
    #[must_use]
    pub fn signed_bytes(&self, realm: &Realm, node: &str) -> Vec<u8> {
        lp(&[
            b"siv/v1/batch",
            realm.as_bytes(),
            node.as_bytes(),
            self.boot.as_bytes(),
            &self.lane.to_be_bytes(),
            &self.first.to_be_bytes(),
            &self.count.to_be_bytes(),
            &self.time.to_be_bytes(),
            &self.previous,
            &self.root,
        ])
    }

    /// Whether the certified boot signed this batch and these groups (sorted by tenant) are all of it.
    ///
    /// # Errors
    /// [`Error::Signature`] or [`Error::Batch`].
    pub fn verify(&self, groups: &[Group], certificate: &Certificate) -> Result<(), Error> {
        if certificate.boot != self.boot {
            return Err(Error::Signature);
        }
        certificate.verify(&self.signed_bytes(&certificate.realm, &certificate.node), &self.signature)?;
        let count = groups.iter().try_fold(0_u64, |sum, group| sum.checked_add(group.count));
        let sorted = groups.windows(2).all(|pair| pair[0].tenant < pair[1].tenant);
        if count == Some(self.count) && sorted && root_of(groups) == self.root { Ok(()) } else { Err(Error::Batch) }
    }

    /// Where the lane stands after this batch.
    #[must_use]
    pub fn end(&self) -> LaneEnd {
        LaneEnd {
            lane: self.lane,
            next: self.first.saturating_add(self.count),
            previous: signature_hash(&self.signature),
        }
    }
}

fn root_of(groups: &[Group]) -> [u8; 32] {
    tree::root_of_hashes(&groups.iter().map(|group| leaf_hash(&group.to_bytes())).collect::<Vec<_>>())
}

/// A writer's lane: numbers are taken only when the commit is known to have happened.
///
/// After a commit with an unknown result the lane is closed by dropping it; a new one has another number.
#[derive(Debug)]
pub struct Lane {
    boot: BootId,
    end: LaneEnd,
    numbers: BTreeMap<TenantName, u64>,
}

impl Lane {
    /// A new lane of this boot.
    #[must_use]
    pub const fn open(boot: BootId, lane: u32) -> Self {
        Self { boot, end: LaneEnd { lane, next: 0, previous: [0; 32] }, numbers: BTreeMap::new() }
    }

    /// Where it stands: what a heartbeat says of it.
    #[must_use]
    pub const fn end(&self) -> LaneEnd {
        self.end
    }

    /// Begins a batch; nothing of the lane changes until [`Lane::advance`].
    #[must_use]
    pub const fn draft(&self) -> Draft<'_> {
        Draft { lane: self, shares: BTreeMap::new(), count: 0 }
    }

    /// Takes the numbers of a batch that is committed.
    ///
    /// # Errors
    /// [`Error::Batch`] if it is not the next one of this lane: a conflict on a number is never ignored.
    pub fn advance(&mut self, batch: &Batch, groups: &[Group]) -> Result<(), Error> {
        let next = (self.boot, self.end.lane, self.end.next, self.end.previous);
        if (batch.boot, batch.lane, batch.first, batch.previous) != next {
            return Err(Error::Batch);
        }
        for group in groups {
            self.numbers.insert(group.tenant.clone(), group.first + group.count);
        }
        self.end = batch.end();
        Ok(())
    }
}

/// A batch that is being put together.
#[derive(Debug)]
pub struct Draft<'a> {
    lane: &'a Lane,
    shares: BTreeMap<TenantName, Share>,
    count: u64,
}

#[derive(Debug)]
struct Share {
    first: u64,
    count: u64,
    digest: Sha256,
}

impl Draft<'_> {
    /// Gives `entry` the tenant's next number and seals its leaf, its personal members under `salts`.
    ///
    /// # Errors
    /// What [`Leaf::seal`] says.
    pub fn push(&mut self, entry: &Entry, salts: &Salts) -> Result<(Position, Leaf, [Opening; 4]), Error> {
        let first = self.lane.numbers.get(&entry.tenant).copied().unwrap_or(0);
        let share =
            self.shares.entry(entry.tenant.clone()).or_insert_with(|| Share { first, count: 0, digest: Sha256::new() });
        let (boot, lane) = (self.lane.boot, self.lane.end.lane);
        let position = Position { boot, lane, number: share.first + share.count };
        let (leaf, openings) = Leaf::seal(entry, &position, salts)?;
        share.digest.update(lp_length(leaf.as_bytes()));
        share.digest.update(leaf.as_bytes());
        share.count += 1;
        self.count += 1;
        Ok((position, leaf, openings))
    }

    /// How many entries it has.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Signs it. The groups come sorted by tenant.
    ///
    /// # Errors
    /// [`Error::Random`] if the operating system's generator fails; [`Error::Batch`] for an empty batch.
    pub fn sign(self, identity: &NodeIdentity, time: Timestamp) -> Result<(Batch, Vec<Group>), Error> {
        if self.count == 0 {
            return Err(Error::Batch);
        }
        let mut groups = Vec::with_capacity(self.shares.len());
        for (tenant, Share { first, count, digest }) in self.shares {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt)?;
            groups.push(Group { tenant, first, count, salt, digest: digest.finalize().into() });
        }
        let LaneEnd { lane, next: first, previous } = self.lane.end;
        let root = root_of(&groups);
        let mut batch =
            Batch { boot: self.lane.boot, lane, first, count: self.count, time, previous, root, signature: [0; 64] };
        batch.signature = identity.sign(&batch.signed_bytes(identity.realm(), identity.node()));
        Ok((batch, groups))
    }
}
