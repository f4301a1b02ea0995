//! `siv recover`: a database that was put back on purpose is taken on, and everybody can see that it was.
//!
//! What was signed and is lost stays lost: the logs go on under new origins and name what they lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};

use super::closing::is_any_alive;
use super::integrate::Integrator;
use super::record::PATIENCE;
use super::{Error, checkpoints, heads};
use crate::access_log::{Action, Checkpoint, Entry, Outcome};
use crate::crypto::DataKey;
use crate::domain::{Actor, BootId, Tenant, TenantName, Timestamp, ValueId};
use crate::keys::{Head, KekEnd, KekRecord, KekState, Keys};
use crate::store::integration::LogHead;
use crate::store::records::{Body, StoredCredential};
use crate::store::rows::{DecidingRow, Table};
use crate::store::{Changes, Committer, Decision, FirstWords, Generation, Operation, Reads, Rows, Store};

/// So many values or rows go in one commit.
pub(super) const AT_ONCE: usize = 200;

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

/// A recovery whose ground was checked. Nothing is changed before [`Recovery::begin`].
pub struct Recovery {
    pub(super) store: Store,
    keys: Keys,
    /// What was signed, by the file outside.
    lost: Vec<Head>,
    /// Each log with how many entries were signed and how many the database has.
    logs: Vec<(TenantName, u64, u64)>,
}

/// Refuses while a node serves this installation.
///
/// # Errors
/// [`Error::NodeAlive`], and the store's.
pub async fn stopped(store: &Store, keys: &Keys) -> Result<(), Error> {
    // A folder is locked by the node that runs; of a key store that is shared only signs of life tell.
    if keys.is_shared() && is_any_alive(store).await? { Err(Error::NodeAlive) } else { Ok(()) }
}

impl Recovery {
    /// Checks that `note` is a checkpoint of one of this installation's logs and that the database holds what it speaks
    /// of, and that every log it holds was signed: a database somebody wrote themselves is not taken on. The node must be
    /// stopped.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if the note is not one of this installation, or the database is not the one of that
    /// checkpoint; [`Error::History`] for a log that was not signed; [`Error::NodeAlive`].
    pub async fn check(note: &str, store: Store, keys: Keys) -> Result<Self, Error> {
        stopped(&store, &keys).await?;
        let lost = keys.read_heads_for_recovery().await?;
        let mut holds = false;
        for (log, head) in store.heads().await? {
            if let Ok(checkpoint) = Checkpoint::open(note, &keys.log_verifiers(&log).await?) {
                let old = LogHead { size: checkpoint.size, root: checkpoint.root };
                holds = heads::continues(&log, old, Some(head), &store).await?;
            }
            if !checkpoints::is_signed(&log, head, &store, &keys).await? {
                return Err(Error::History(log));
            }
        }
        if holds { Ok(Self { store, keys, lost, logs: Vec::new() }) } else { Err(Error::Checkpoint) }
    }

    /// Whether anything of what was signed is missing. Where nothing is, a recovery would cost every credential and every
    /// auditor's key for no gain.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_needed(&self) -> Result<bool, Error> {
        let current: BTreeMap<TenantName, LogHead> = self.store.heads().await?.into_iter().collect();
        for head in &self.lost {
            let old = LogHead { size: head.size, root: head.root };
            if !heads::continues(&head.log, old, current.get(&head.log).copied(), &self.store).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What a recovery would do, changing nothing.
    ///
    /// # Errors
    /// The store's and the key store's.
    pub async fn forecast(&self) -> Result<Recovered, Error> {
        let signed = self.lost.iter().map(|head| (head.log.clone(), (head.size, 0)));
        let mut logs: BTreeMap<TenantName, (u64, u64)> = signed.collect();
        for (log, head) in self.store.heads().await? {
            logs.entry(log).or_default().1 = head.size;
        }
        let logs = logs.into_iter().map(|(log, (signed, kept))| (log, signed, kept)).collect();
        let voided = self.count_counted_values().await?;
        let mut done = Recovered { logs, voided, ..Recovered::default() };
        for tenant in self.owners().await? {
            for row in self.store.rows(Table::Credentials, &tenant).await? {
                done.suspended += u64::from(is_in_force(&StoredCredential::from_row(&row)?));
            }
            for row in self.store.rows(Table::Keks, &tenant).await? {
                done.destroyed += u64::from(self.end_of(&tenant, &KekRecord::from_row(&row)?).await?.is_some());
            }
        }
        Ok(done)
    }

    /// How a key ended whose record says that it is there.
    async fn end_of(&self, tenant: &TenantName, kek: &KekRecord) -> Result<Option<KekEnd>, Error> {
        if kek.state.is_over() {
            return Ok(None);
        }
        // A version that was stated to be lost is stated so anew: what only it opens goes with it, and two have to say so.
        Ok(self.keys.known_end(tenant, kek).await?.filter(|end| !end.is_stated_of_a_version()))
    }

    /// Gives every log a new origin and says what the boot that recovers must write first of all: in each log an entry that
    /// names what was lost, and in the system log all of them. From here on the node does not serve until it is done.
    ///
    /// # Errors
    /// The store's and the key store's.
    pub async fn begin(&mut self, boot: BootId) -> Result<FirstWords, Error> {
        let current: BTreeMap<TenantName, u64> =
            self.store.heads().await?.into_iter().map(|(log, head)| (log, head.size)).collect();
        let mut logs: BTreeSet<TenantName> = current.keys().cloned().collect();
        logs.extend(self.lost.iter().map(|head| head.log.clone()));
        let owners = self.owners().await?;
        let mut words = FirstWords::new();
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
            // A log of which the database knows nothing has no home but the system log. One whose tenant is there may wait for its
            // first tree all the same.
            let homes = homes.into_iter().filter(|home| owners.contains(home) || current.contains_key(home));
            let say = |home: TenantName| Entry {
                facts: facts.clone(),
                ..Entry::by(home, self.store.clock().now(), Action::RECOVERED, Outcome::Allowed, Actor::node(boot))
            };
            words.insert(log.clone(), homes.map(say).collect());
            self.logs.push((log, size, kept));
        }
        Ok(words)
    }

    /// Takes the database on, after [`Recovery::begin`] and with a committer that wrote its words. If it breaks off, all of
    /// it can be run again.
    ///
    /// # Errors
    /// The store's and the key store's.
    pub async fn run(self, committer: &Committer) -> Result<Recovered, Error> {
        let done = Recovered {
            voided: self.void_counted_values(committer).await?,
            suspended: self.suspend_credentials(committer).await?,
            destroyed: self.destroy_again(committer).await?,
            logs: self.logs.clone(),
        };
        // From here on the file outside says what the database has; what it said before stands in the logs.
        let heads = self.store.heads().await?;
        let heads = heads.iter().map(|(log, head)| heads::to_file((log, head))).collect();
        self.keys.replace_heads_after_recovery(heads).await?;
        self.integrate(committer.identity().boot()).await?;
        Ok(done)
    }

    /// Integrates and signs what is there, under the new origins: this boot's words first, then what waited in the copy.
    async fn integrate(&self, boot: BootId) -> Result<(), Error> {
        let health = self.store.log_health().clone();
        let mut integrator = Integrator::new(self.store.clone(), self.keys.clone(), health);
        integrator.run_boot(boot).await?;
        integrator.run(Duration::MAX).await
    }

    /// A credential that was revoked after the copy was made would be good again.
    async fn suspend_credentials(&self, committer: &Committer) -> Result<u64, Error> {
        let mut suspended = 0;
        for tenant in self.owners().await? {
            let mut own = Own::default();
            for row in self.store.rows(Table::Credentials, &tenant).await? {
                let mut credential = StoredCredential::from_row(&row)?;
                if is_in_force(&credential) {
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

    /// What the key store destroyed stays destroyed: the records that came back say so again. A tenant that has no key left
    /// is sealed, as it was when it was shredded.
    async fn destroy_again(&self, committer: &Committer) -> Result<u64, Error> {
        let mut destroyed = 0;
        for tenant in self.owners().await? {
            let (mut own, mut left) = (Own::default(), false);
            for row in self.store.rows(Table::Keks, &tenant).await? {
                let mut record = KekRecord::from_row(&row)?;
                if let Some(end) = self.end_of(&tenant, &record).await? {
                    (record.state, record.ended) = (KekState::Destroyed, Some(end));
                    let mut entry = self.entry(&tenant, Action::Key("kek.destroyed"), committer);
                    entry.kek_id = Some(record.kek_id);
                    entry.facts = vec![("version", record.version.to_string())];
                    entry.facts.extend(record.ended.iter().flat_map(KekEnd::facts));
                    own.push(record.to_row(&tenant, &row.key, row.version + 1)?, entry, &self.keys);
                    destroyed += 1;
                }
                left |= !record.state.is_over();
            }
            if !own.rows.is_empty() && !left {
                self.seal(&tenant, &mut own, committer).await?;
            }
            self.submit(tenant, own, committer).await?;
        }
        Ok(destroyed)
    }

    async fn seal(&self, tenant: &TenantName, own: &mut Own, committer: &Committer) -> Result<(), Error> {
        if let Some(row) = self.store.row(Table::Tenants, tenant, tenant.as_str()).await? {
            let sealed = Tenant { sealed: true, ..Tenant::from_row(&row)? };
            let row = sealed.to_row(tenant, &row.key, row.version + 1)?;
            own.push(row, self.entry(tenant, Action::Admin("tenant.sealed"), committer), &self.keys);
        }
        Ok(())
    }

    /// Whoever has rows: every tenant and the installation.
    async fn owners(&self) -> Result<BTreeSet<TenantName>, Error> {
        let mut owners: BTreeSet<TenantName> = self.store.tenants().await?.into_iter().collect();
        owners.insert(TenantName::system());
        Ok(owners)
    }

    pub(super) fn entry(&self, log: &TenantName, action: Action, committer: &Committer) -> Entry {
        let actor = Actor::node(committer.identity().boot());
        Entry::by(log.clone(), self.store.clock().now(), action, Outcome::Allowed, actor)
    }

    pub(super) async fn submit(&self, tenant: TenantName, own: Own, committer: &Committer) -> Result<(), Error> {
        let deadline = self.store.clock().now().plus(PATIENCE);
        for chunk in own.chunks() {
            committer.submit(Work { tenant: tenant.clone(), own: chunk, deadline }).await?;
        }
        Ok(())
    }
}

/// Whether a recovery suspends it.
const fn is_in_force(credential: &StoredCredential) -> bool {
    !credential.record.suspended && credential.record.revoked_at.is_none()
}

/// Changes that rest on nothing that could move: the node is stopped.
#[derive(Clone, Default)]
pub(super) struct Own {
    rows: Vec<DecidingRow>,
    pub(super) entries: Vec<Entry>,
    pub(super) removed: Vec<ValueId>,
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

    fn moves(&self) -> bool {
        !self.own.rows.is_empty()
    }

    fn reads(&self) -> Reads {
        Reads { rows: self.own.rows.iter().map(|row| (row.table, row.key.clone())).collect(), ..Reads::default() }
    }

    fn hold(&mut self, _data_key: Arc<DataKey>) {}

    fn decide(&mut self, _rows: &dyn Rows) -> Decision<()> {
        let Own { rows, entries, removed } = self.own.clone();
        let bump_generation = !rows.is_empty();
        let entries = entries.into_iter().map(Arc::new).collect();
        Decision::Write(Changes { rows, entries, removed, bump_generation, ..Changes::default() }, ())
    }
}
