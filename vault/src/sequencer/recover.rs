//! `siv recover`: a database that was put back on purpose is taken on, and everybody can see that it was.
//!
//! What was signed and is lost stays lost: the logs go on under new origins and name what they lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64ct::{Base64, Encoding};

use super::integrate::Integrator;
use super::record::{PATIENCE, record};
use super::{Error, tiles};
use crate::access_log::{Action, Checkpoint, Entry, Outcome};
use crate::crypto::DataKey;
use crate::domain::{Actor, TenantName, Timestamp, ValueId};
use crate::keys::{Head, KekRecord, KekState, Keys};
use crate::store::records::{Body, StoredCredential};
use crate::store::rows::{DecidingRow, Table};
use crate::store::{Changes, Committer, Decision, Generation, Operation, Reads, Rows, Store};

/// So many values or rows go in one commit.
const AT_ONCE: usize = 200;

/// What a recovery did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Each log with how many entries were signed and how many the database has.
    pub logs: Vec<(TenantName, u64, u64)>,
    /// Values with counted uses that are void now.
    pub voided: u64,
    /// Credentials that are suspended now.
    pub suspended: u64,
    /// KEKs whose destruction was done again.
    pub destroyed: u64,
}

/// A recovery whose ground was checked. Nothing is changed before [`Recovery::run`].
pub struct Recovery {
    store: Store,
    keys: Keys,
    lost: Vec<Head>,
}

impl Recovery {
    /// Checks that the database holds what this checkpoint, of any of the installation's logs, speaks of. The node must be
    /// stopped.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the note is not one of this installation, or the database is not the one of that checkpoint.
    pub async fn check(note: &str, store: Store, keys: Keys) -> Result<Self, Error> {
        let lost = keys.read_heads_for_recovery().await?;
        let mut holds = false;
        for (log, head) in store.heads().await? {
            let trusted = keys.log_verifiers(&log).await?;
            let Ok(checkpoint) = Checkpoint::open(note, &trusted) else { continue };
            holds =
                checkpoint.size <= head.size && tiles::root(checkpoint.size, &log, &store).await? == checkpoint.root;
        }
        if holds { Ok(Self { store, keys, lost }) } else { Err(Error::Checkpoint) }
    }

    /// Takes the database on. It can be run again if it broke off.
    ///
    /// # Errors
    /// The store's and the key store's.
    pub async fn run(self, committer: &Committer) -> Result<Recovered, Error> {
        let mut done = Recovered {
            voided: self.void_counted_values(committer).await?,
            suspended: self.suspend_credentials(committer).await?,
            destroyed: self.destroy_again(committer).await?,
            logs: Vec::new(),
        };
        done.logs = self.begin_anew(committer).await?;
        // From here on the file outside says what the database has; what it said before stands in the logs.
        let heads = self.store.heads().await?.into_iter();
        let heads = heads.map(|(log, head)| Head { log, size: head.size, root: head.root }).collect();
        self.keys.replace_heads_after_recovery(heads).await?;
        self.integrate().await?;
        Ok(done)
    }

    /// Integrates and signs what is there, under the new origins.
    async fn integrate(&self) -> Result<(), Error> {
        let health = self.store.log_health().clone();
        Integrator::new(self.store.clone(), self.keys.clone(), health).run().await.map(|_| ())
    }

    /// A use that was spent after the copy was made would be there again.
    async fn void_counted_values(&self, committer: &Committer) -> Result<u64, Error> {
        let mut voided = 0;
        loop {
            let found = self.store.counted_values(AT_ONCE).await?;
            if found.is_empty() {
                return Ok(voided);
            }
            voided += found.len() as u64;
            let mut tenants: BTreeMap<TenantName, Vec<ValueId>> = BTreeMap::new();
            for (tenant, value_id) in found {
                tenants.entry(tenant).or_default().push(value_id);
            }
            for (tenant, removed) in tenants {
                let mut entry = self.entry(&tenant, Action::ValueExpired, committer);
                (entry.reason, entry.count) = (Some("log.recovered"), Some(removed.len() as u64));
                let changes = Own { removed, entries: vec![entry], ..Own::default() };
                self.submit(tenant, changes, committer).await?;
            }
        }
    }

    /// A credential that was revoked after the copy was made would be good again.
    async fn suspend_credentials(&self, committer: &Committer) -> Result<u64, Error> {
        let mut suspended = 0;
        for tenant in self.owners().await? {
            let mut own = Own::default();
            for row in self.store.rows(Table::Credentials, &tenant).await? {
                let mut credential = StoredCredential::from_row(&row)?;
                if !credential.record.suspended && credential.record.revoked_at.is_none() {
                    credential.record.suspended = true;
                    let row = credential.to_row(&tenant, &row.key, row.version + 1)?;
                    own.push(row, self.entry(&tenant, Action::Admin("credential.suspended"), committer), &self.keys);
                    suspended += 1;
                }
            }
            self.submit(tenant, own, committer).await?;
        }
        Ok(suspended)
    }

    /// What the key store destroyed stays destroyed: the records that came back say so again.
    async fn destroy_again(&self, committer: &Committer) -> Result<u64, Error> {
        let mut destroyed = 0;
        for tenant in self.owners().await? {
            let mut own = Own::default();
            for row in self.store.rows(Table::Keks, &tenant).await? {
                let mut record = KekRecord::from_row(&row)?;
                let is_local = record.mechanism.starts_with("local-");
                if record.state != KekState::Destroyed && is_local && !self.keys.has_kek(&tenant, &record).await? {
                    record.state = KekState::Destroyed;
                    let row = record.to_row(&tenant, &row.key, row.version + 1)?;
                    own.push(row, self.entry(&tenant, Action::Key("kek.destroyed"), committer), &self.keys);
                    destroyed += 1;
                }
            }
            self.submit(tenant, own, committer).await?;
        }
        Ok(destroyed)
    }

    /// Every log gets a new origin and an entry that names what was lost; the system log names them all.
    async fn begin_anew(&self, committer: &Committer) -> Result<Vec<(TenantName, u64, u64)>, Error> {
        let now = self.store.clock().now();
        let current: BTreeMap<TenantName, u64> =
            self.store.heads().await?.into_iter().map(|(log, head)| (log, head.size)).collect();
        let mut logs: BTreeSet<TenantName> = current.keys().cloned().collect();
        logs.extend(self.lost.iter().map(|head| head.log.clone()));
        let (mut entries, mut told) = (Vec::new(), Vec::new());
        for log in logs {
            let before = self.keys.log_signer(&log).await?.origin().to_owned();
            let after = self.keys.begin_log_anew(&log).await?.origin().to_owned();
            let lost = self.lost.iter().find(|head| head.log == log);
            let (size, root) = lost.map_or((0, [0; 32]), |head| (head.size, head.root));
            let kept = current.get(&log).copied().unwrap_or(0);
            let facts = vec![
                ("log", log.to_string()),
                ("lostOrigin", before),
                ("lostSize", size.to_string()),
                ("lostRoot", Base64::encode_string(&root)),
                ("keptSize", kept.to_string()),
                ("origin", after),
            ];
            let homes = if log.is_system() { vec![log.clone()] } else { vec![log.clone(), TenantName::system()] };
            // A log of which the database knows nothing has no home but the system log.
            for home in homes.into_iter().filter(|home| home.is_system() || current.contains_key(home)) {
                let mut entry = self.entry(&home, Action::Admin("log.recovered"), committer);
                entry.facts.clone_from(&facts);
                entries.push(entry);
            }
            told.push((log, size, kept));
        }
        for chunk in entries.chunks(AT_ONCE) {
            record(chunk.to_vec(), committer, now).await?;
        }
        Ok(told)
    }

    /// Whoever has rows: every tenant and the installation.
    async fn owners(&self) -> Result<BTreeSet<TenantName>, Error> {
        let mut owners: BTreeSet<TenantName> = self.store.tenants().await?.into_iter().collect();
        owners.insert(TenantName::system());
        Ok(owners)
    }

    fn entry(&self, log: &TenantName, action: Action, committer: &Committer) -> Entry {
        let actor = Actor::node(committer.identity().boot());
        Entry::by(log.clone(), self.store.clock().now(), action, Outcome::Allowed, actor)
    }

    async fn submit(&self, tenant: TenantName, own: Own, committer: &Committer) -> Result<(), Error> {
        let deadline = self.store.clock().now().plus(PATIENCE);
        for chunk in own.chunks() {
            committer.submit(Work { tenant: tenant.clone(), own: chunk, deadline }).await?;
        }
        Ok(())
    }
}

/// Changes that rest on nothing that could move: the node is stopped.
#[derive(Clone, Default)]
struct Own {
    rows: Vec<DecidingRow>,
    entries: Vec<Entry>,
    removed: Vec<ValueId>,
}

impl Own {
    fn push(&mut self, row: DecidingRow, mut entry: Entry, keys: &Keys) {
        entry.object = Some(row.object(keys.realm()));
        self.rows.push(row);
        self.entries.push(entry);
    }

    /// Parts small enough for one commit; each row stays with its entry.
    fn chunks(self) -> Vec<Self> {
        if self.rows.is_empty() {
            return if self.entries.is_empty() { Vec::new() } else { vec![self] };
        }
        let parts = self.rows.chunks(AT_ONCE).zip(self.entries.chunks(AT_ONCE));
        parts
            .map(|(rows, entries)| Self { rows: rows.to_vec(), entries: entries.to_vec(), removed: Vec::new() })
            .collect()
    }
}

struct Work {
    tenant: TenantName,
    own: Own,
    deadline: Timestamp,
}

impl Operation for Work {
    type Output = ();

    fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    fn generation(&self) -> Option<Generation> {
        None
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn reads(&self) -> Reads {
        Reads { rows: self.own.rows.iter().map(|row| (row.table, row.key.clone())).collect(), ..Reads::default() }
    }

    fn hold(&mut self, _data_key: Arc<DataKey>) {}

    fn decide(&mut self, _rows: &dyn Rows) -> Decision<()> {
        let Own { rows, entries, removed } = self.own.clone();
        let bump_generation = !rows.is_empty();
        Decision::Write(Changes { rows, entries, removed, bump_generation, ..Changes::default() }, ())
    }
}
