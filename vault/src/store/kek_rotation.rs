//! Rotation of a tenant's KEK, and the rewrap of its data keys under the new version: both online, both repeatable.
//!
//! The new secret lies in the key store before any row speaks of it. Values and states are not touched.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::administration::{Administrator, Record, in_both_logs};
use super::committer::operation::{Changes, Decision, Generation, Operation, Reads, Rows};
use super::key_commit::KeyCommit;
use super::records::Body;
use super::rows::{DataKeyRow, Table};
use super::tenants::Ground;
use super::{Error, Store};
use crate::access_log::{Action, Entry, Outcome};
use crate::crypto::DataKey;
use crate::domain::tenant::KeyProviderKind;
use crate::domain::{DataKeyId, Tenant, TenantName, Timestamp};
use crate::keys::{self, HsmWish, KekRecord, KekState, KeyRecords};

/// How many data keys one commit rewraps: few enough that no other request waits for it.
const SLICE: u32 = 64;
/// How long one such commit may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a rewrap did, or (dry) would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewrapped {
    /// Data keys now under the active version.
    pub moved: u64,
    /// Data keys that were there already.
    pub kept: u64,
    /// Data keys whose erasure key is gone; their rows are removed.
    pub erased: u64,
    /// Data keys that still name another version: those that do not open. None is the proof that nothing refers to it.
    pub left: u64,
}

/// Where the next version is made.
#[derive(Debug)]
pub enum Target {
    /// Where the present one is.
    Same,
    /// In the built-in KMS.
    Local,
    /// In this token.
    Hsm(HsmWish),
}

impl Target {
    /// Whether it may be another place than the present one's.
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        !matches!(self, Self::Same)
    }
}

/// Makes the next version of the tenant's KEK active; the old one is deactivated and still unwraps. In another place than
/// the old one it moves the tenant: what is sealed stays as it is, and a rewrap takes its data keys along.
///
/// # Errors
/// [`Error::Keys`] without an active KEK or a place for the next one; [`Error::Conflict`] if another rotation came first;
/// those of the committer.
pub async fn rotate(
    by: &Administrator,
    target: Target,
    now: Timestamp,
    ground: Ground<'_>,
) -> Result<KekRecord, Error> {
    let Ground { store, keys, .. } = ground;
    let old = active(&by.tenant, store).await?;
    let read = |table, key: String| async move { store.row(table, &by.tenant, &key).await?.ok_or(Error::Conflict) };
    let stored = read(Table::Keks, old.row_key()).await?;
    let made = match target {
        Target::Hsm(wish) => keys.move_to_hsm(store, &by.tenant, &old, wish, now).await?,
        Target::Same if old.hsm.is_some() => keys.rotate_in_hsm(store, &by.tenant, &old, now).await?,
        Target::Same | Target::Local => keys.move_to_local(&by.tenant, &old, now).await?,
    };
    let new = made.record.clone();
    let moves = new.hsm.is_some() != old.hsm.is_some();
    let retired = KekRecord { state: KekState::Deactivated, ..old };
    // Making a key in a token takes its time: the commit has its own.
    let by = Administrator { deadline: store.clock().now().plus(PATIENCE), ..by.clone() };
    let version = stored.version + 1;
    let written = async {
        let commit = KeyCommit::new(by.clone(), new.kek_id)
            .write((&retired.row_key(), version), &retired, Action::Key("kek.deactivated"), Vec::new())?
            .made(&made, "kek.rotated")?;
        if !moves {
            return Ok(commit);
        }
        let row = read(Table::Tenants, by.tenant.to_string()).await?;
        let key_provider = if new.hsm.is_some() { KeyProviderKind::Hsm } else { KeyProviderKind::Local };
        let tenant = Tenant { key_provider, ..Tenant::from_row(&row)? };
        commit.write((by.tenant.as_str(), row.version + 1), &tenant, Action::Admin("tenant.moved"), Vec::new())
    };
    match written.await {
        Ok(commit) => commit.submit(made, ground).await.map(|()| new),
        Err(error) => {
            keys.give_up(made).await;
            Err(error)
        }
    }
}

/// Wraps the tenant's data keys under its active KEK version, slice by slice. Stopped anywhere, it can be run again.
/// `dry` only counts. `progress` hears the counts after each slice.
///
/// # Errors
/// [`Error::Keys`] if a key cannot be unwrapped or wrapped; those of the committer.
pub async fn rewrap(
    by: &Administrator,
    dry: bool,
    progress: impl FnMut(Rewrapped) + Send,
    ground: Ground<'_>,
) -> Result<Rewrapped, Error> {
    rewrap_paced(by, (dry, None), progress, ground).await
}

/// The same, not faster than so many data keys a second: a customer's token serves its readers meanwhile.
///
/// # Errors
/// As [`rewrap`].
pub async fn rewrap_paced(
    by: &Administrator,
    (dry, per_second): (bool, Option<NonZeroU32>),
    mut progress: impl FnMut(Rewrapped) + Send,
    ground: Ground<'_>,
) -> Result<Rewrapped, Error> {
    let Ground { store, committer, keys } = ground;
    let kek = active(&by.tenant, store).await?;
    let in_time = || Administrator { deadline: store.clock().now().plus(PATIENCE), ..by.clone() };
    let (mut done, mut after) = (Rewrapped::default(), None::<DataKeyId>);
    loop {
        let rows = store.data_keys_after(&by.tenant, after, SLICE).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.data_key_id);
        let (mut renewed, mut removed) = (Vec::new(), Vec::new());
        for row in rows {
            if (row.kek_id, row.kek_version) == (kek.kek_id, kek.version) {
                done.kept += 1;
                continue;
            }
            match keys.rewrap(store, &row).await {
                Ok(Some(row)) => renewed.push(row),
                Ok(None) => removed.push(row.data_key_id),
                // It opens for nobody: it stays as it is, is counted, and keeps no other.
                Err(error @ (keys::Error::Altered | keys::Error::KekUnusable | keys::Error::Erased)) => {
                    tracing::error!(tenant = %by.tenant, data_key_id = %row.data_key_id, %error, "a data key does not open");
                    done.left += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
        done.moved += renewed.len() as u64;
        done.erased += removed.len() as u64;
        let found = !renewed.is_empty() || !removed.is_empty();
        if found && !dry {
            let slice = Slice { by: in_time(), renewed, removed, kek: kek.clone() };
            if !committer.submit(slice).await?.output {
                return Err(Error::Conflict);
            }
        }
        progress(done);
        if let Some(rate) = per_second.filter(|_| !dry && found) {
            tokio::time::sleep(Duration::from_secs(1) * SLICE / rate.get()).await;
        }
    }
    if !dry {
        done.left = store.data_keys_elsewhere(&by.tenant, &kek).await?;
        let by = in_time();
        let mut ended = Entry { count: Some(done.left), ..entry(&by, &kek, "rewrap.ended", store.clock().now()) };
        ended.facts.push(("references", references(&by.tenant, store).await?));
        committer.submit(Record::new(by.tenant, in_both_logs(ended), by.deadline)).await?;
    }
    Ok(done)
}

async fn active(tenant: &TenantName, store: &Store) -> Result<KekRecord, Error> {
    let found = store.active_kek(tenant).await.map_err(keys::Error::from)?;
    Ok(found.ok_or(keys::Error::NoKek)?)
}

/// How many data keys refer to each version, as `id.version=count`: a version that is not named has none.
async fn references(tenant: &TenantName, store: &Store) -> Result<String, Error> {
    let counts = store.data_keys_by_kek(tenant).await?;
    let line = |(kek_id, version, count): &(_, u32, u64)| format!("{}={count}", KekRecord::key_of(*kek_id, *version));
    Ok(counts.iter().map(line).collect::<Vec<_>>().join(" "))
}

/// An entry of one of the acts.
fn entry(by: &Administrator, kek: &KekRecord, act: &'static str, now: Timestamp) -> Entry {
    let mut entry = Entry::new(by.tenant.clone(), now, Action::Key(act), Outcome::Allowed, &by.context);
    entry.kek_id = Some(kek.kek_id);
    entry
}

/// The commit of some rewrapped data keys, and of some that are erased.
struct Slice {
    by: Administrator,
    renewed: Vec<DataKeyRow>,
    removed: Vec<DataKeyId>,
    kek: KekRecord,
}

impl Operation for Slice {
    type Output = bool;

    fn tenant(&self) -> &TenantName {
        &self.by.tenant
    }

    fn generation(&self) -> Option<Generation> {
        None
    }

    fn deadline(&self) -> Timestamp {
        self.by.deadline
    }

    fn reads(&self) -> Reads {
        // The version it moves to must still be the active one when the slice is written.
        Reads { rows: vec![(Table::Keks, self.kek.row_key())], ..Reads::default() }
    }

    fn hold(&mut self, _: Arc<DataKey>) {}

    fn decide(&mut self, rows: &dyn Rows) -> Decision<bool> {
        let now_active = rows
            .row(Table::Keks, &self.kek.row_key())
            .and_then(|row| KekRecord::from_row(row).ok())
            .is_some_and(|kek| kek.state.may_wrap());
        if !now_active {
            return Decision::Answer(false);
        }
        let count = Some(self.renewed.len() as u64);
        let mut entry = Entry { count, ..entry(&self.by, &self.kek, "data-keys.rewrapped", rows.now()) };
        if !self.removed.is_empty() {
            entry.facts.push(("erased", self.removed.len().to_string()));
        }
        let changes = Changes {
            entries: in_both_logs(entry),
            data_keys: self.renewed.clone(),
            removed_data_keys: self.removed.clone(),
            ..Changes::default()
        };
        Decision::Write(changes, true)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::access_log::Leaf;
    use crate::domain::{Actor, Clock, DataKeyClass, Origin, Realm, RequestContext, RequestId};
    use crate::keys::{Keys, RootKeySource};
    use crate::store::{Committer, DatabaseSettings, EntryFilter, NodeIdentity, tenants};

    const CLASSES: [DataKeyClass; 3] = [DataKeyClass::Session, DataKeyClass::Stored, DataKeyClass::Configuration];

    struct House {
        keys: Keys,
        store: Store,
        committer: Committer,
        by: Administrator,
    }

    impl House {
        async fn new(dir: &Path) -> Self {
            let (clock, realm): (Clock, Realm) = (Clock::System, "eu-1".parse().unwrap());
            let root = RootKeySource::File(dir.join("root-key"));
            let keys = Keys::create_or_open(&dir.join("keys"), root, realm.clone(), clock.clone(), true).await.unwrap();
            let settings = DatabaseSettings::Sqlite { path: dir.join("siv.db") };
            let store = Store::open(&settings, keys.clone(), clock.clone()).await.unwrap();
            let identity = NodeIdentity::generate(realm.clone(), "node-1", "test", clock.now()).unwrap();
            let committer = Committer::start(store.clone(), keys.clone(), clock.clone(), identity).await.unwrap();
            let now = clock.now();
            let context = RequestContext {
                request_id: RequestId::generate(now),
                actor: Actor::anonymous(),
                on_behalf_of: None,
                origin: Origin::default(),
                reference: None,
            };
            let deadline = now.plus(Duration::from_secs(60));
            let tenant: TenantName = "demo".parse().unwrap();
            let by = Administrator { tenant, generation: None, context, realm, deadline };
            let house = Self { keys, store, committer, by };
            let system = Administrator { tenant: TenantName::system(), ..house.by.clone() };
            tenants::create(house.tenant(now), &system, house.ground()).await.unwrap();
            house
        }

        fn tenant(&self, now: Timestamp) -> Tenant {
            Tenant {
                name: self.by.tenant.clone(),
                reveal: false,
                sealed: false,
                key_provider: KeyProviderKind::Local,
                cache_seconds: 0,
                created_at: now,
            }
        }

        fn ground(&self) -> Ground<'_> {
            Ground { store: &self.store, committer: &self.committer, keys: &self.keys }
        }

        async fn seal_keys(&self) -> Vec<(DataKeyId, [u8; 32])> {
            let mut made = Vec::new();
            for class in CLASSES {
                let at = self.store.clock().now();
                let key = self.keys.data_key_to_seal(&self.store, &self.by.tenant, class, at).await.unwrap();
                made.push((key.id(), *key.bytes()));
            }
            made
        }
    }

    #[tokio::test]
    async fn after_rotation_and_rewrap_the_old_version_is_needed_by_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::new(dir.path()).await;
        let (tenant, ground) = (&house.by.tenant, house.ground());
        let made = house.seal_keys().await;
        let old = active(tenant, ground.store).await.unwrap();
        let new = rotate(&house.by, Target::Same, Timestamp::from_millis(1), ground).await.unwrap();
        assert_eq!(active(tenant, ground.store).await.unwrap(), new);
        let dry = rewrap(&house.by, true, |_| (), ground).await.unwrap();
        assert!(dry.moved >= CLASSES.len() as u64 && dry.erased == 0);
        assert_eq!(rewrap(&house.by, true, |_| (), ground).await.unwrap(), dry, "a dry run changes nothing");
        let mut steps = 0;
        let done = rewrap(&house.by, false, |_| steps += 1, ground).await.unwrap();
        assert!(done.moved >= dry.moved && steps > 0);
        let again = rewrap(&house.by, false, |_| (), ground).await.unwrap();
        assert_eq!((again.moved, again.left), (0, 0), "nothing refers to the old version");
        // A key that was about to be made under the old version when it was retired is refused in its own commit.
        let late = house.store.data_keys_after(tenant, None, 1).await.unwrap().remove(0);
        let late = DataKeyRow { kek_version: old.version, data_key_id: DataKeyId::generate(old.created_at), ..late };
        let late = house.store.insert_data_key(late).await;
        assert!(matches!(late, Err(keys::RecordsError::Retired)), "{late:?}");
        // The proof: the old version's secret goes, and every data key still opens.
        let destroying = KekRecord { state: KekState::Destroying, ..old };
        assert!(house.keys.destroy_kek(&house.store, tenant, &destroying).await.unwrap());
        for (id, bytes) in made {
            assert_eq!(*house.keys.data_key(&house.store, tenant, id).await.unwrap().bytes(), bytes);
        }
        let page = house.store.entries(tenant, &EntryFilter::default(), None, 100).await.unwrap();
        let acts: Vec<_> = page.entries.iter().map(|entry| Leaf::parse(&entry.leaf).unwrap().action).collect();
        for act in ["key.kek.rotated", "key.kek.deactivated", "key.data-keys.rewrapped", "key.rewrap.ended"] {
            assert!(acts.iter().any(|written| written == act), "{act} is in the log: {acts:?}");
        }
        // The installation's log, which alone is anchored outside, says the same and of whom.
        let page = house.store.entries(&TenantName::system(), &EntryFilter::default(), None, 100).await.unwrap();
        let copies: Vec<_> = page.entries.iter().map(|entry| Leaf::parse(&entry.leaf).unwrap()).collect();
        for act in ["admin.tenant.created", "key.kek.rotated", "key.rewrap.ended"] {
            let mut copy = copies.iter().filter(|entry| entry.action == act && entry.object.is_none());
            assert!(copy.any(|entry| entry.fact("tenant") == Some("demo")), "{act}");
        }
    }

    #[tokio::test]
    async fn a_data_key_that_does_not_open_keeps_no_other_from_being_wrapped_anew() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::new(dir.path()).await;
        let made = house.seal_keys().await;
        rotate(&house.by, Target::Same, Timestamp::from_millis(1), house.ground()).await.unwrap();
        let broken: String = made[0].0.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let sql = format!("UPDATE data_keys SET sealed = X'00' WHERE data_key_id = X'{broken}'").leak();
        crate::store::meddling::meddle(&dir.path().join("siv.db"), sql).await;
        let done = rewrap(&house.by, false, |_| (), house.ground()).await.unwrap();
        assert_eq!(done.left, 1, "there is no proof while one refers to the old version");
        for (id, bytes) in &made[1..] {
            assert_eq!(house.keys.data_key(&house.store, &house.by.tenant, *id).await.unwrap().bytes(), bytes);
        }
        // Its erasure key is away before its time (a key store restored in part): the row waits for it, it does not go.
        std::fs::remove_dir_all(dir.path().join("keys/erasure")).unwrap();
        let done = rewrap(&house.by, false, |_| (), house.ground()).await.unwrap();
        assert_eq!((done.erased, done.left), (0, 1));
    }

    #[tokio::test]
    async fn of_two_rotations_at_once_one_is_a_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::new(dir.path()).await;
        let now = Timestamp::from_millis(1);
        let (one, two) = tokio::join!(
            rotate(&house.by, Target::Same, now, house.ground()),
            rotate(&house.by, Target::Same, now, house.ground())
        );
        let won = [&one, &two].into_iter().filter(|rotated| rotated.is_ok()).count();
        assert!(won >= 1);
        let active = active(&house.by.tenant, &house.store).await.unwrap();
        assert_eq!(active.version, 1 + won as u32);
        assert!(
            [one, two].into_iter().all(|rotated| !matches!(rotated, Err(error) if !matches!(error, Error::Conflict)))
        );
    }
}
