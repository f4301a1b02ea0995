//! After a key was compromised: no value rests on a data key that stood beside it, whatever goes on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::on_every_engine;
use super::vault::{Vault, demo, entry};
use crate::access_log::{Action, Leaf};
use crate::crypto::{self, ValueState};
use crate::domain::{DataKeyClass, DataKeyId, Plaintext, RetentionClass, SecureValueKey, ValueId};
use crate::keys::{self, KekState, KeyRecords as _};
use crate::store::committer::operation::{Changes, Decision, ReadValue, Reads, current_state};
use crate::store::kek_rotation::{self, Target};
use crate::store::kek_states::Changed;
use crate::store::resealing::{self, Passed};
use crate::store::rows::{StateRow, ValueRow};
use crate::store::{Committer, EntryFilter, Error};

on_every_engine!(
    after_a_compromise_every_value_rests_on_a_data_key_made_later,
    what_was_rewrapped_before_the_compromise_is_sealed_anew_too,
    what_is_counted_stays_counted,
    a_value_that_is_not_what_was_written_keeps_no_other,
    a_row_that_does_not_read_keeps_no_other_from_being_sealed_anew,
    a_data_key_that_does_not_read_is_not_said_to_be_gone,
    a_row_that_does_not_read_keeps_every_data_key_that_it_may_need,
    a_data_key_whose_era_was_moved_seals_nothing,
    a_value_that_is_used_and_sealed_anew_at_once_is_both,
    whatever_is_sealed_after_a_compromise_is_under_another_data_key,
    a_data_key_that_does_not_open_keeps_no_other_from_being_emptied,
    days_of_many_values_are_walked_in_parts,
    a_data_key_that_sealed_much_has_another_beside_it_in_the_same_epoch,
);

/// Rounds of two nodes at the same value.
const ROUNDS: usize = 20;

impl Vault {
    /// A value as a capture writes it.
    pub(super) async fn captured(&self, uses: Option<u32>) -> ValueId {
        let (class, now) = (DataKeyClass::Stored, self.clock.now());
        let data_key = self.keys.data_key_to_seal(&self.store, &demo(), class, now).await.unwrap();
        let mut row = self.value(RetentionClass::Stored, None);
        let key = SecureValueKey::generate(now).unwrap();
        row.metadata.value_id = key.value_id();
        row.metadata.uses = uses;
        let text = Plaintext::new("4111111111111111".to_owned().into());
        row.sealed = crypto::seal_value(&text, &key, &row.metadata, &data_key).unwrap();
        row.data_key_id = data_key.id();
        self.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
        key.value_id()
    }

    async fn read(&self, value_id: ValueId) -> ReadValue {
        self.store.value(&demo(), value_id).await.unwrap().unwrap()
    }

    pub(super) async fn row(&self, value_id: ValueId) -> Arc<ValueRow> {
        self.read(value_id).await.row
    }

    /// Whether row and state are authentic under the data key that they name.
    pub(super) async fn is_genuine(&self, value_id: ValueId) -> bool {
        let value = self.read(value_id).await;
        let data_key = self.keys.data_key(&self.store, &demo(), value.row.data_key_id).await.unwrap();
        let state = value.state.as_ref().is_none_or(|stored| {
            stored.data_key_id == data_key.id()
                && stored.state.version == value.newest_state_version
                && stored.state.verify_mac(&data_key, self.keys.realm(), &demo(), value_id, &stored.mac)
        });
        state && crypto::authenticate(&value.row.sealed, &value.row.metadata, &data_key).is_ok()
    }

    /// Takes one use, or counts a failure, as a run does.
    async fn spend(&self, value_id: ValueId, committer: &Committer) -> Result<bool, Error> {
        let realm = self.keys.realm().clone();
        let reads = Reads { values: vec![value_id], ..Reads::default() };
        let ask = self.ask(reads, move |rows, held| {
            let Some(value) = rows.value(value_id) else { return Decision::Answer(false) };
            let data_key_id = value.row.data_key_id;
            let Some(data_key) = held.get(&demo(), data_key_id) else {
                return Decision::NeedDataKeys(vec![data_key_id]);
            };
            let before = current_state(value);
            // Of a value whose uses are not counted, a failure is.
            let (left, failed) = match before.uses_left {
                Some(0) => return Decision::Answer(false),
                Some(uses) => (Some(uses - 1), 0),
                None => (None, 1),
            };
            let genuine = value.state.as_ref().is_none_or(|stored| {
                stored.data_key_id == data_key_id
                    && before.verify_mac(&data_key, &realm, &demo(), value_id, &stored.mac)
            });
            assert!(genuine && before.version == value.newest_state_version, "nobody reads half of a change");
            let failures = before.failures + failed;
            let state = ValueState { version: before.version + 1, uses_left: left, failures, ..before };
            let mac = state.mac(&data_key, &realm, &demo(), value_id);
            let mut used = entry(&demo(), Action::ValueDereferenced);
            (used.value_id, used.state_version) = (Some(value_id), Some(state.version));
            let states = vec![StateRow { value_id, data_key_id, state, mac }];
            Decision::Write(Changes { entries: vec![used.into()], states, ..Changes::default() }, true)
        });
        committer.submit(ask).await.map(|done| done.output)
    }

    pub(super) async fn compromise(&self, version: u32) {
        self.clock.advance(Duration::from_secs(1));
        assert!(matches!(self.wish(version, KekState::Compromised).await, Changed::Done(_)));
    }

    /// What is left of the compromise of each version that is compromised, in their order.
    async fn left(&self) -> Vec<u64> {
        resealing::left(&demo(), &self.store).await.unwrap().into_values().collect()
    }

    pub(super) async fn pass(&self, remove: bool) -> Passed {
        resealing::pass(&self.by(), remove, &Semaphore::new(1), self.ground()).await.unwrap()
    }

    async fn data_key(&self, id: DataKeyId) -> Result<(), keys::Error> {
        self.keys.data_key(&self.store, &demo(), id).await.map(drop)
    }
}

async fn after_a_compromise_every_value_rests_on_a_data_key_made_later(vault: Vault) {
    let vault = vault.with_tenant().await;
    let mut values = Vec::new();
    for _ in 0..150 {
        values.push(vault.captured(None).await);
    }
    let old = vault.row(values[0]).await.data_key_id;
    assert_eq!(vault.pass(true).await, Passed::default(), "there is nothing to do");
    assert!(vault.left().await.is_empty());
    vault.compromise(1).await;
    assert_eq!(vault.left().await, [1]);
    // Whoever still opens the old one seals nothing under it.
    vault.data_key(old).await.unwrap();
    let after = vault.captured(None).await;
    let new = vault.row(after).await.data_key_id;
    assert_ne!(new, old);
    assert_eq!(vault.pass(false).await, Passed { moved: 150, left: 1, ..Passed::default() });
    for value_id in values.iter().chain([&after]) {
        assert_eq!(vault.row(*value_id).await.data_key_id, new);
        assert!(vault.is_genuine(*value_id).await);
    }
    // By itself, and only after a while: a request may hold the old data key.
    vault.upkeep(None).pass().await.unwrap();
    vault.data_key(old).await.unwrap();
    vault.upkeep(None).without_grace().pass().await.unwrap();
    vault.keys.forget_tenant(&demo());
    assert!(matches!(vault.data_key(old).await, Err(keys::Error::NoDataKey)));
    assert_eq!(vault.pass(true).await, Passed::default());
    assert_eq!(vault.left().await, [0], "its compromise is over");
    // What else it wraps moves with a rewrap.
    kek_rotation::rewrap(&vault.by(), kek_rotation::Stretch::default(), vault.ground()).await.unwrap();
    assert!(matches!(vault.wish(1, KekState::Destroyed).await, Changed::Done(_)), "nothing refers to it");
    // One for each part of the day.
    assert_eq!((vault.said("key.values.resealed").await, vault.said("key.data-key.retired").await), (3, 1));
    assert!(vault.is_genuine(values[0]).await);
    let next = vault.captured(None).await;
    assert_eq!(vault.row(next).await.data_key_id, new, "it goes on under the same one");
}

async fn what_was_rewrapped_before_the_compromise_is_sealed_anew_too(vault: Vault) {
    let vault = vault.with_tenant().await;
    let value_id = vault.captured(None).await;
    let old = vault.row(value_id).await.data_key_id;
    kek_rotation::rotate(&vault.by(), Target::Same, vault.clock.now(), vault.ground()).await.unwrap();
    let done = kek_rotation::rewrap(&vault.by(), kek_rotation::Stretch::default(), vault.ground()).await.unwrap();
    assert_eq!(done.left, 0, "no row names the first version any more, but whoever had it has the data key");
    vault.compromise(1).await;
    assert_eq!(vault.pass(true).await, Passed { moved: 1, left: 1, ..Passed::default() });
    assert_ne!(vault.row(value_id).await.data_key_id, old);
    assert!(vault.is_genuine(value_id).await);
    // A second one: what the first pass made is of before by now.
    let second = vault.row(value_id).await.data_key_id;
    vault.compromise(2).await;
    assert_eq!(vault.left().await, [1, 2], "what was made between them is of before the second alone");
    vault.pass(true).await;
    assert_ne!(vault.row(value_id).await.data_key_id, second);
    assert_eq!(
        vault.pass(true).await,
        Passed { idle: 1, ..Passed::default() },
        "the first one went in the pass before"
    );
    assert!(vault.is_genuine(value_id).await);
}

async fn what_is_counted_stays_counted(vault: Vault) {
    let vault = vault.with_tenant().await;
    let value_id = vault.captured(Some(3)).await;
    let untouched = vault.captured(Some(3)).await;
    assert!(vault.spend(value_id, &vault.committer).await.unwrap());
    vault.compromise(1).await;
    assert_eq!(vault.pass(false).await.moved, 2);
    assert!(vault.is_genuine(value_id).await && vault.is_genuine(untouched).await);
    let value = vault.read(value_id).await;
    let state = current_state(&value);
    assert_eq!((state.uses_left, state.version, value.newest_state_version), (Some(2), 2, 2));
    assert_eq!(current_state(&vault.read(untouched).await).uses_left, Some(3));
    let filter = EntryFilter { value_id: Some(value_id), ..EntryFilter::default() };
    let page = vault.store.entries(&demo(), &filter, None, 10).await.unwrap();
    let said = Leaf::parse(&page.entries.last().unwrap().leaf).unwrap();
    assert_eq!((&*said.action, said.state_version), ("key.value.resealed", Some(2)));
    let mut used = 0;
    while vault.spend(value_id, &vault.committer).await.unwrap() {
        used += 1;
    }
    assert_eq!(used, 2, "no use came back");
}

async fn a_value_that_is_not_what_was_written_keeps_no_other(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (good, bad) = (vault.captured(None).await, vault.captured(None).await);
    let old = vault.row(bad).await.data_key_id;
    let (place, bytes) = (vault.literal(bad.as_bytes()), vault.literal(&[1; 90]));
    vault.tamper(&format!("UPDATE secure_values SET sealed = {bytes} WHERE value_id = {place}")).await;
    // Of another one an older entry is made to look like the newest: it cannot even be judged beside others.
    let forged = vault.captured(Some(3)).await;
    assert!(vault.spend(forged, &vault.committer).await.unwrap());
    vault.tamper("UPDATE access_log SET state_version = 999 WHERE state_version = 1").await;
    vault.compromise(1).await;
    assert_eq!(vault.pass(true).await, Passed { moved: 1, refused: 2, left: 1, ..Passed::default() });
    assert!(vault.is_genuine(good).await);
    // It is found again each time, and its data key stays: taking it away would hide what happened.
    assert_eq!(vault.pass(true).await, Passed { refused: 2, left: 1, ..Passed::default() });
    assert_eq!(vault.row(bad).await.data_key_id, old);
    vault.data_key(old).await.unwrap();
}

async fn a_row_that_does_not_read_keeps_no_other_from_being_sealed_anew(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, other, good) = (vault.captured(None).await, vault.captured(Some(3)).await, vault.captured(None).await);
    assert!(vault.spend(other, &vault.committer).await.unwrap());
    let (old, nothing) = (vault.row(good).await.data_key_id, vault.literal(&[0]));
    for (table, id) in [("secure_values", one), ("value_states", other)] {
        let place = vault.literal(id.as_bytes());
        vault.tamper(&format!("UPDATE {table} SET data_key_id = {nothing} WHERE value_id = {place}")).await;
    }
    vault.compromise(1).await;
    assert_eq!(vault.pass(true).await, Passed { moved: 1, refused: 2, left: 1, ..Passed::default() });
    assert!(vault.is_genuine(good).await && vault.row(good).await.data_key_id != old);
    // Nobody knows which data key they need: none is taken away.
    assert_eq!(vault.pass(true).await, Passed { refused: 2, left: 1, ..Passed::default() });
    vault.keys.forget_tenant(&demo());
    vault.data_key(old).await.unwrap();
}

async fn a_data_key_that_does_not_read_is_not_said_to_be_gone(vault: Vault) {
    let vault = vault.with_tenant().await;
    let old = vault.literal(vault.row(vault.captured(None).await).await.data_key_id.as_bytes());
    vault.compromise(1).await;
    vault.tamper(&format!("UPDATE data_keys SET class = 'none' WHERE data_key_id = {old}")).await;
    assert_eq!(vault.left().await, [1]);
}

async fn a_row_that_does_not_read_keeps_every_data_key_that_it_may_need(vault: Vault) {
    let vault = vault.with_tenant().await;
    let first = vault.captured(None).await;
    let old = vault.row(first).await.data_key_id;
    vault.clock.advance(Duration::from_secs(2 * 86_400));
    let other = vault.captured(None).await;
    // Of another day: what is asked is what it rests on, not when it was made. It says so, or does not say.
    let place = vault.literal(other.as_bytes());
    vault.compromise(1).await;
    vault.pass(false).await;
    for rests_on in [vault.literal(old.as_bytes()), vault.literal(&[0])] {
        vault.tamper(&format!("UPDATE secure_values SET data_key_id = {rests_on} WHERE value_id = {place}")).await;
        assert!(vault.pass(true).await.idle > 0, "nothing of its own day rests on it");
        vault.keys.forget_tenant(&demo());
        vault.data_key(old).await.unwrap();
    }
}

async fn a_data_key_whose_era_was_moved_seals_nothing(vault: Vault) {
    let vault = vault.with_tenant().await;
    vault.captured(None).await;
    vault.compromise(1).await;
    vault.tamper("UPDATE data_keys SET era = 1").await;
    let made = vault.keys.data_key_to_seal(&vault.store, &demo(), DataKeyClass::Stored, vault.clock.now()).await;
    assert!(matches!(made, Err(keys::Error::Altered)), "{made:?}");
}

async fn a_value_that_is_used_and_sealed_anew_at_once_is_both(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (_store, second) = vault.second_node().await;
    for round in 0..ROUNDS {
        // Every second one is not counted yet: its row is not locked when it is read, and compared when it is written.
        let counted = round % 2 == 0;
        let value_id = vault.captured(counted.then_some(1)).await;
        vault.compromise(u32::try_from(round).unwrap() + 1).await;
        let (passed, spent) = tokio::join!(vault.pass(false), vault.spend(value_id, &second));
        assert!(spent.unwrap() && passed.moved >= 1, "{passed:?}");
        assert!(vault.is_genuine(value_id).await);
        let state = current_state(&vault.read(value_id).await);
        assert_eq!((state.uses_left, state.failures), if counted { (Some(0), 0) } else { (None, 1) });
    }
}

async fn whatever_is_sealed_after_a_compromise_is_under_another_data_key(vault: Vault) {
    let vault = vault.with_tenant().await;
    for class in DataKeyClass::ALL {
        let seals =
            async || vault.keys.data_key_to_seal(&vault.store, &demo(), class, vault.clock.now()).await.unwrap().id();
        let old = seals().await;
        assert_eq!(seals().await, old);
        let active = vault.store.keks(&demo()).await.unwrap().into_iter().map(|kek| kek.version).max().unwrap();
        vault.compromise(active).await;
        assert_ne!(seals().await, old, "{class:?}: whoever had the key may have this one");
        vault.data_key(old).await.unwrap();
    }
}

async fn a_data_key_that_does_not_open_keeps_no_other_from_being_emptied(vault: Vault) {
    let vault = vault.with_tenant().await;
    let bad = vault.captured(None).await;
    let altered = vault.row(bad).await.data_key_id;
    vault.clock.advance(Duration::from_secs(86_400));
    let good = vault.captured(None).await;
    let old = vault.row(good).await.data_key_id;
    assert!(altered < old, "the one that does not open comes first");
    // Who had the KEK and writes to the database keeps his leak good by this.
    let place = vault.literal(altered.as_bytes());
    vault.tamper(&format!("UPDATE data_keys SET mechanism = 'x' WHERE data_key_id = {place}")).await;
    vault.keys.forget_tenant(&demo());
    vault.compromise(1).await;
    assert_eq!(vault.pass(true).await, Passed { moved: 1, left: 2, ..Passed::default() });
    assert_ne!(vault.row(good).await.data_key_id, old);
    assert_eq!(vault.row(bad).await.data_key_id, altered);
    assert_eq!(vault.pass(true).await, Passed { idle: 1, left: 1, ..Passed::default() });
    vault.keys.forget_tenant(&demo());
    assert!(matches!(vault.data_key(old).await, Err(keys::Error::NoDataKey)), "and it goes when it is empty");
}

async fn days_of_many_values_are_walked_in_parts(vault: Vault) {
    let vault = vault.with_tenant().await;
    let mut values = Vec::new();
    for _ in 0..5 {
        values.push(vault.captured(None).await);
    }
    values.sort();
    let data_key = vault.row(values[0]).await.data_key_id;
    let (mut after, mut seen) = (Vec::new(), Vec::new());
    loop {
        let part = vault.store.seals((&after, &[0xff; 16]), 2, &demo()).await.unwrap();
        let Some(last) = part.last() else { break };
        let seals: Vec<_> = part.iter().map(|row| row.seals.unwrap()).collect();
        assert!(part.len() <= 2 && seals.iter().all(|seals| seals.rest_on(data_key) && seals.state.is_none()));
        after = last.key.clone();
        seen.extend(seals.iter().map(|seals| seals.value_id));
    }
    assert_eq!(seen, values);
}

async fn a_data_key_that_sealed_much_has_another_beside_it_in_the_same_epoch(vault: Vault) {
    let vault = vault.with_tenant().await;
    vault.keys.seal_at_most(2);
    let mut values = Vec::new();
    for _ in 0..5 {
        values.push(vault.captured(None).await);
    }
    let mut under = Vec::new();
    for value_id in &values {
        assert!(vault.is_genuine(*value_id).await);
        under.push(vault.row(*value_id).await.data_key_id);
    }
    assert!(under[0] == under[1] && under[2] == under[3] && under[1] != under[2] && under[3] != under[4], "{under:?}");
    let rows = vault.store.data_keys_after(&demo(), None, 10).await.unwrap();
    let mut parts: Vec<_> = rows.iter().filter(|row| under.contains(&row.data_key_id)).map(|row| row.part).collect();
    parts.sort_unstable();
    assert_eq!(parts, [0, 1, 2]);
    // All of them are taken along by a rewrap, and sealed anew after a compromise.
    kek_rotation::rotate(&vault.by(), Target::Same, vault.clock.now(), vault.ground()).await.unwrap();
    assert_eq!(
        kek_rotation::rewrap(&vault.by(), kek_rotation::Stretch::default(), vault.ground()).await.unwrap().left,
        0
    );
    vault.compromise(2).await;
    assert_eq!(vault.pass(false).await.moved, 5);
    for value_id in values {
        assert!(vault.is_genuine(value_id).await);
        assert!(!under.contains(&vault.row(value_id).await.data_key_id));
    }
}
