//! Rotation and rewrap on a real store with real keys.

use std::path::Path;
use std::time::Instant;

use super::*;
use crate::access_log::Leaf;
use crate::domain::{Actor, Clock, DataKeyClass, DataKeyId, Origin, Realm, RequestContext, RequestId};
use crate::keys::{Keys, RootKeySource};
use crate::store::rows::DataKeyRow;
use crate::store::{Committer, DatabaseSettings, EntryFilter, NodeIdentity, tenants};

const CLASSES: [DataKeyClass; 3] = [DataKeyClass::Session, DataKeyClass::Stored, DataKeyClass::Configuration];

const DRY: Stretch = Stretch { dry: true, per_second: None, after: None, time: Duration::from_secs(60) };

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
    let worked = |keys: &Keys| (keys.meter().wraps.times.count(), keys.meter().unwraps.times.count());
    let before = worked(&house.keys);
    let dry = rewrap(&house.by, DRY, ground).await.unwrap();
    assert_eq!(worked(&house.keys), before, "a dry run is no work of the key provider");
    assert!(dry.moved >= CLASSES.len() as u64 && dry.erased == 0);
    assert_eq!(rewrap(&house.by, DRY, ground).await.unwrap(), dry, "a dry run changes nothing");
    let done = rewrap(&house.by, Stretch::default(), ground).await.unwrap();
    assert!(done.moved >= dry.moved && done.next.is_none());
    let again = rewrap(&house.by, Stretch::default(), ground).await.unwrap();
    assert_eq!((again.moved, again.left), (0, 0), "nothing refers to the old version");
    // A key that was about to be made under the old version when it was retired is refused in its own commit.
    let late = house.store.data_keys_after(tenant, None, 1).await.unwrap().remove(0);
    let late = DataKeyRow { kek_version: old.version, data_key_id: DataKeyId::generate(old.created_at), ..late };
    let late = house.store.insert_data_key(late).await;
    assert!(matches!(late, Err(keys::RecordsError::Retired)), "{late:?}");
    // The proof: the old version's secret goes, and every data key still opens.
    let destroying = KekRecord { state: KekState::Destroying, ..old };
    house.keys.destroy_kek(&house.store, tenant, &destroying, keys::Statement::None).await.unwrap();
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
    let done = rewrap(&house.by, Stretch::default(), house.ground()).await.unwrap();
    assert_eq!(done.left, 1, "there is no proof while one refers to the old version");
    let why: Vec<_> = done.unopened.iter().map(|(left, count)| (left.version, left.why, *count)).collect();
    assert_eq!(why, [(1, "it is not what was written", 1)]);
    for (id, bytes) in &made[1..] {
        assert_eq!(house.keys.data_key(&house.store, &house.by.tenant, *id).await.unwrap().bytes(), bytes);
    }
    // Its erasure key is away before its time (a key store restored in part): the row waits for it, it does not go.
    std::fs::remove_dir_all(dir.path().join("keys/erasure")).unwrap();
    let done = rewrap(&house.by, Stretch::default(), house.ground()).await.unwrap();
    assert_eq!((done.erased, done.left), (0, 1));
}

#[tokio::test]
async fn a_rewrap_in_many_stretches_leaves_nothing_out_and_ends_once() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new(dir.path()).await;
    let made = house.seal_keys().await;
    rotate(&house.by, Target::Same, Timestamp::from_millis(1), house.ground()).await.unwrap();
    let ended = async || {
        let page = house.store.entries(&house.by.tenant, &EntryFilter::default(), None, 100).await.unwrap();
        let acts = page.entries.iter().map(|entry| Leaf::parse(&entry.leaf).unwrap().action);
        acts.filter(|act| act == "key.rewrap.ended").count()
    };
    let (mut moved, mut left, mut after) = (0, u64::MAX, None);
    loop {
        let stretch = Stretch { time: Duration::ZERO, after, ..Stretch::default() };
        let done = rewrap(&house.by, stretch, house.ground()).await.unwrap();
        assert!(done.moved <= 1 && done.left <= left, "each stretch ends when its time is over: {done:?}");
        (moved, left, after) = (moved + done.moved, done.left, done.next);
        if after.is_none() {
            break;
        }
        assert_eq!(ended().await, 0, "what was not gone through to its end has no proof");
    }
    assert!(moved >= CLASSES.len() as u64);
    assert_eq!((left, ended().await), (0, 1));
    assert!(moved >= made.len() as u64);
}

#[tokio::test]
async fn a_slow_rewrap_waits_for_what_it_did_and_not_for_a_whole_slice() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new(dir.path()).await;
    house.seal_keys().await;
    let slowly = Stretch { per_second: std::num::NonZeroU32::new(2), ..Stretch::default() };
    rotate(&house.by, Target::Same, Timestamp::from_millis(1), house.ground()).await.unwrap();
    let begun = Instant::now();
    let done = rewrap(&house.by, slowly, house.ground()).await.unwrap();
    // Two of them make a second; the last ones are waited for by nobody. A slice of 64 would take half a minute.
    let seconds = done.moved.div_ceil(2) - 1;
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(seconds), "{took:?} for {done:?}");
    assert!(took < Duration::from_secs(seconds + 15) && done.next.is_none(), "{took:?} for {done:?}");
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
    let made = [&one, &two].into_iter().flatten().map(|kek| kek.version).max();
    assert!(active.version > 1 && Some(active.version) == made, "{won} of them won");
    assert!([one, two].into_iter().all(|rotated| !matches!(rotated, Err(error) if !matches!(error, Error::Conflict))));
}

#[tokio::test]
async fn what_a_failed_rotation_left_in_the_key_store_is_never_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new(dir.path()).await;
    let old = active(&house.by.tenant, &house.store).await.unwrap();
    // Stopped before its commit: its secret lies there, and in every copy of the key store from then on.
    let left = house.keys.rotate_kek(&house.by.tenant, &old, old.created_at).await.unwrap();
    let next = rotate(&house.by, Target::Same, Timestamp::from_millis(1), house.ground()).await.unwrap();
    assert_ne!((next.kek_id, next.version), (left.kek_id, left.version));
    // One that is refused takes its own away again.
    let made = house.keys.move_to_local(&house.by.tenant, &next, old.created_at).await.unwrap();
    let refused = made.record.clone();
    house.keys.give_up(made).await;
    assert!(house.keys.known_end(&house.by.tenant, &refused).await.unwrap().is_some());
    assert!(house.keys.known_end(&house.by.tenant, &next).await.unwrap().is_none());
}
