//! A tenant's keys in the hands of its custodians: states, two persons' approval, the end of all values.

use std::time::Duration;

use super::on_every_engine;
use super::vault::{NOW, Vault, demo};
use crate::access_log::Leaf;
use crate::domain::credential::CredentialRecord;
use crate::domain::{Actor, CredentialId, CredentialKind, DataKeyClass, DataKeyId, Origin, RequestContext, RequestId};
use crate::keys::{self, KekState};
use crate::store::administration::Administrator;
use crate::store::approvals::{self, ApprovalRecord, Approved, Over, TwoPersonAct};
use crate::store::decree::Decree;
use crate::store::kek_rotation::{self, Target};
use crate::store::kek_states::{self, Changed, Need, Successor, Wish, versions};
use crate::store::key_upkeep::KeyUpkeep;
use crate::store::records::{Body, StoredCredential};
use crate::store::rows::Table;
use crate::store::shredding::{self, Extent};
use crate::store::tenants::Ground;
use crate::store::{Catalog, EntryFilter, Error};

on_every_engine!(
    a_tenant_that_two_custodians_shred_opens_nothing_any_more,
    a_destruction_that_is_cut_short_anywhere_is_finished_by_the_next_look,
    a_database_put_back_beside_its_key_store_opens_nothing_of_a_shredded_tenant,
    an_approval_takes_a_second_credential,
    an_approval_is_over_after_a_day_after_use_and_when_the_keys_are_others,
    a_request_of_a_custodian_who_was_sent_away_is_over,
    an_approval_that_was_altered_is_refused,
    strict_mode_is_left_by_two_persons,
    a_version_is_destroyed_when_nothing_refers_to_it_and_not_before,
    a_compromised_active_version_has_a_successor,
    a_key_that_reaches_its_age_gets_one_successor,
);

impl Vault {
    pub(super) fn by(&self) -> Administrator {
        let now = self.clock.now();
        let context = RequestContext {
            request_id: RequestId::generate(now),
            actor: Actor::anonymous(),
            on_behalf_of: None,
            origin: Origin::default(),
            reference: None,
        };
        let deadline = now.plus(Duration::from_secs(60));
        Administrator { tenant: demo(), generation: None, context, realm: self.keys.realm().clone(), deadline }
    }

    pub(super) fn ground(&self) -> Ground<'_> {
        Ground { store: &self.store, committer: &self.committer, keys: &self.keys }
    }

    pub(super) async fn custodian(&self) -> CredentialId {
        let id = CredentialId::generate(NOW);
        self.decree(stored(id, false).to_row(&demo(), &id.to_string(), 1).unwrap()).await.unwrap();
        id
    }

    /// A data key of each class that matters, opened once.
    pub(super) async fn data_keys(&self) -> Vec<DataKeyId> {
        let mut made = Vec::new();
        for class in [DataKeyClass::Session, DataKeyClass::Stored, DataKeyClass::Configuration] {
            let key = self.keys.data_key_to_seal(&self.store, &demo(), class, self.clock.now()).await.unwrap();
            made.push(key.id());
        }
        made
    }

    async fn open(&self, ids: &[DataKeyId]) -> usize {
        let mut opened = 0;
        for id in ids {
            opened += usize::from(self.keys.data_key(&self.store, &demo(), *id).await.is_ok());
        }
        opened
    }

    pub(super) async fn ask_to_shred(&self, custodian: CredentialId) -> ApprovalRecord {
        let act = Extent::of(&demo(), &self.store).await.unwrap().act(keys::Statement::None);
        approvals::request(&self.by(), custodian, act, self.ground()).await.unwrap()
    }

    pub(super) async fn approve(&self, custodian: CredentialId, asked: &ApprovalRecord) -> Approved {
        approvals::approve(&self.by(), custodian, (asked.approval_id, None), self.ground()).await.unwrap()
    }

    pub(super) async fn state(&self, version: u32) -> KekState {
        let found = versions(&demo(), &self.store).await.unwrap();
        found.into_iter().find(|(_, kek)| kek.version == version).unwrap().1.state
    }

    pub(super) async fn wish(&self, version: u32, state: KekState) -> Changed {
        let wish = Wish { kek_id: None, version, state, successor: Successor::First };
        kek_states::change(&self.by(), wish, false, self.ground()).await.unwrap()
    }

    pub(super) async fn said(&self, action: &str) -> usize {
        let filter = EntryFilter { action: Some(action.to_owned()), ..EntryFilter::default() };
        self.store.entries(&demo(), &filter, None, 100).await.unwrap().entries.len()
    }

    pub(super) fn upkeep(&self, oldest: Option<Duration>) -> KeyUpkeep {
        let catalog = Catalog::start(self.store.clone());
        KeyUpkeep::new((self.store.clone(), catalog), self.committer.clone(), self.keys.clone(), oldest)
    }
}

pub(super) fn stored(id: CredentialId, revoked: bool) -> StoredCredential {
    let record = CredentialRecord {
        credential_id: id,
        kind: CredentialKind::Custodian,
        name: "custodian".to_owned(),
        app: None,
        flow: None,
        created_at: NOW,
        expires_at: None,
        revoked_at: revoked.then_some(NOW),
        suspended: false,
    };
    StoredCredential { record, hash: [5; 32] }
}

async fn a_tenant_that_two_custodians_shred_opens_nothing_any_more(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let made = vault.data_keys().await;
    kek_rotation::rotate(&vault.by(), Target::Same, vault.clock.now(), vault.ground()).await.unwrap();
    // Another node has its keys in memory.
    let (other, _committer) = vault.second_node().await;
    let catalog = Catalog::start(other);
    assert!(!catalog.tenant(&demo()).await.unwrap().unwrap().tenant.sealed);
    assert_eq!(vault.open(&made).await, made.len());

    let asked = vault.ask_to_shred(one).await;
    assert_eq!(vault.open(&made).await, made.len(), "asking destroys nothing");
    let Approved::Done { record, receipt, .. } = vault.approve(two, &asked).await else { panic!("it is not done") };
    assert!(record.completed_at.is_some() && record.approved_by == Some(two));
    assert_eq!(vault.open(&made).await, 0);
    for version in [1, 2] {
        assert_eq!(vault.state(version).await, KekState::Destroyed);
    }
    let sealing = vault.keys.data_key_to_seal(&vault.store, &demo(), DataKeyClass::Stored, vault.clock.now()).await;
    assert!(matches!(sealing, Err(keys::Error::KekUnusable | keys::Error::NoKek)), "{sealing:?}");
    tokio::time::timeout(Duration::from_secs(60), async {
        while !catalog.tenant(&demo()).await.unwrap().unwrap().tenant.sealed {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the other node hears of it by the tenant's generation");
    // What a certificate is made from stands in the log, and its receipt is of that very entry.
    let entry = vault.store.entry_at(&demo(), &receipt.unwrap().position).await.unwrap().unwrap();
    let leaf = Leaf::parse(&entry.leaf).unwrap();
    assert_eq!((&*leaf.action, leaf.fact("requestedBy")), ("key.tenant.shredded", Some(&*one.to_string())));
    assert_eq!(leaf.fact("keks").unwrap().split(' ').count(), 2);
    for act in ["key.approval.requested", "key.approval.given", "admin.tenant.sealed", "key.tenant.shredded"] {
        assert_eq!(vault.said(act).await, 1, "{act}");
    }
    assert_eq!((vault.said("key.kek.destroying").await, vault.said("key.kek.destroyed").await), (2, 2));
}

async fn a_destruction_that_is_cut_short_anywhere_is_finished_by_the_next_look(mut vault: Vault) {
    vault = vault.with_tenant().await;
    for stop in 0..3 {
        let tenant: crate::domain::TenantName = format!("acme{stop}").parse().unwrap();
        vault.make_tenant(&tenant).await;
        let by = Administrator { tenant: tenant.clone(), ..vault.by() };
        let act = Extent::of(&tenant, &vault.store).await.unwrap().act(keys::Statement::None);
        let TwoPersonAct::ShredTenant { keks, .. } = act.clone() else { panic!("not the act") };
        let (one, two) = (CredentialId::generate(NOW), CredentialId::generate(NOW));
        let asked = approvals::request(&by, one, act, vault.ground()).await.unwrap();
        // What the approval commits, and then no more.
        let mut decree = Decree::new(by.clone());
        assert!(shredding::begin(&mut decree, &keks, vault.ground()).await.unwrap());
        let given = ApprovalRecord { approved_by: Some(two), approved_at: Some(NOW), ..asked };
        let entry = decree.entry(crate::access_log::Action::Key("approval.given"));
        let key = given.approval_id.to_string();
        decree.push(given.to_row(&tenant, &key, 2).unwrap(), entry);
        assert!(decree.submit(&vault.committer).await.unwrap().is_some());
        let (at, kek) = versions(&tenant, &vault.store).await.unwrap().remove(0);
        assert_eq!(kek.state, KekState::Destroying);
        if stop > 0 {
            vault.keys.destroy_kek(&vault.store, &tenant, &kek, keys::Statement::None).await.unwrap();
        }
        if stop > 1 {
            let mut decree = Decree::new(by.clone());
            kek_states::push(&mut decree, (at, &kek), KekState::Destroyed).unwrap();
            decree.submit(&vault.committer).await.unwrap().unwrap();
        }
        vault = vault.killed_and_started().await;
        for _ in 0..2 {
            vault.upkeep(None).pass().await.unwrap();
        }
        let kek = versions(&tenant, &vault.store).await.unwrap().remove(0).1;
        assert_eq!(kek.state, KekState::Destroyed, "stopped at {stop}");
        assert!(vault.keys.known_end(&tenant, &kek).await.unwrap().is_some());
        let row = vault.store.row(Table::Approvals, &tenant, &key).await.unwrap().unwrap();
        assert!(ApprovalRecord::from_row(&row).unwrap().completed_at.is_some(), "stopped at {stop}");
        let filter = EntryFilter { action: Some("key.tenant.shredded".to_owned()), ..EntryFilter::default() };
        assert_eq!(vault.store.entries(&tenant, &filter, None, 9).await.unwrap().entries.len(), 1, "it is said once");
    }
    assert_eq!(vault.state(1).await, KekState::Active, "another tenant's keys are as they were");
}

async fn a_database_put_back_beside_its_key_store_opens_nothing_of_a_shredded_tenant(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let made = vault.data_keys().await;
    for table in ["keks", "tenants", "approvals", "access_log"] {
        vault.tamper(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
    }
    let asked = vault.ask_to_shred(one).await;
    assert!(matches!(vault.approve(two, &asked).await, Approved::Done { .. }));
    // Everything that speaks of the end is taken away, as in an older copy of the database.
    for table in ["keks", "tenants", "approvals", "access_log"] {
        vault.tamper(&format!("DELETE FROM {table}")).await;
        vault.tamper(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
    }
    vault.keys.forget_tenant(&demo());
    assert_eq!(vault.state(1).await, KekState::Active, "the copy knows nothing of it");
    assert_eq!(vault.open(&made).await, 0, "and opens nothing all the same");
}

async fn an_approval_takes_a_second_credential(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let asked = vault.ask_to_shred(one).await;
    assert!(matches!(vault.approve(one, &asked).await, Approved::Own));
    let unknown = crate::domain::ApprovalId::generate(NOW);
    let absent = approvals::approve(&vault.by(), two, (unknown, None), vault.ground()).await.unwrap();
    assert!(matches!(absent, Approved::Absent));
    assert_eq!(vault.state(1).await, KekState::Active);
    let digest = asked.digest(&demo(), vault.keys.realm());
    let other = digest.replace(|c: char| c.is_ascii_digit(), "a");
    let wrong = (asked.approval_id, Some(other.as_str()));
    assert!(matches!(approvals::approve(&vault.by(), two, wrong, vault.ground()).await.unwrap(), Approved::Over(_)));
    assert_eq!(vault.state(1).await, KekState::Active);
    let right = (asked.approval_id, Some(digest.as_str()));
    let done = approvals::approve(&vault.by(), two, right, vault.ground()).await.unwrap();
    assert!(matches!(done, Approved::Done { .. }));
}

async fn an_approval_is_over_after_a_day_after_use_and_when_the_keys_are_others(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two, three) = (vault.custodian().await, vault.custodian().await, vault.custodian().await);
    let late = vault.ask_to_shred(one).await;
    vault.clock.advance(Duration::from_secs(24 * 60 * 60));
    assert!(matches!(vault.approve(two, &late).await, Approved::Over(_)));
    let other_keys = vault.ask_to_shred(one).await;
    kek_rotation::rotate(&vault.by(), Target::Same, vault.clock.now(), vault.ground()).await.unwrap();
    assert!(matches!(vault.approve(two, &other_keys).await, Approved::Over(_)));
    assert_eq!(vault.state(2).await, KekState::Active);
    let lost = Extent::of(&demo(), &vault.store).await.unwrap().act(keys::Statement::TokenLost);
    let (asked, again) = (vault.ask_to_shred(one).await, vault.asked(one, lost).await);
    assert!(matches!(vault.approve(two, &asked).await, Approved::Done { .. }));
    assert!(matches!(vault.approve(three, &asked).await, Approved::Over(_)), "it is used once");
    assert!(
        matches!(vault.approve(two, &again).await, Approved::Over(_)),
        "there is nothing left of what was asked for"
    );
    // Who approved may ask what became of it.
    let Approved::Done { record, receipt, .. } = vault.approve(two, &asked).await else { panic!("it is done") };
    assert!(record.completed_at.is_some() && receipt.is_none());
}

async fn a_request_of_a_custodian_who_was_sent_away_is_over(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let asked = vault.ask_to_shred(one).await;
    vault.decree(stored(one, true).to_row(&demo(), &one.to_string(), 2).unwrap()).await.unwrap();
    assert!(matches!(vault.approve(two, &asked).await, Approved::Over(_)));
    assert_eq!(vault.state(1).await, KekState::Active);
}

async fn an_approval_that_was_altered_is_refused(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let asked = vault.ask_to_shred(one).await;
    let body = vault.replaced("body", &one.to_string(), &CredentialId::generate(NOW).to_string());
    vault.tamper(&format!("UPDATE approvals SET body = {body}")).await;
    // Who asked would like to be taken for somebody else.
    let approved = approvals::approve(&vault.by(), one, (asked.approval_id, None), vault.ground()).await;
    assert!(matches!(approved, Err(Error::Tampered("approvals"))), "{approved:?}");
    let approved = approvals::approve(&vault.by(), two, (asked.approval_id, None), vault.ground()).await;
    assert!(matches!(approved, Err(Error::Tampered("approvals"))), "{approved:?}");
    assert_eq!(vault.state(1).await, KekState::Active);
}

async fn strict_mode_is_left_by_two_persons(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let catalog = Catalog::start(vault.store.clone());
    let tenant = async || {
        catalog.refresh(&demo());
        let catalog = catalog.tenant(&demo()).await.unwrap().unwrap();
        (catalog.tenant_version, catalog.tenant.clone())
    };
    approvals::set_cache(&vault.by(), tenant().await, 0, vault.ground()).await.unwrap();
    assert_eq!(tenant().await.1.cache_seconds, 0);
    let act = TwoPersonAct::LeaveStrict { cache_seconds: 120, settings: tenant().await.0 };
    let asked = approvals::request(&vault.by(), one, act, vault.ground()).await.unwrap();
    let longer = TwoPersonAct::LeaveStrict { cache_seconds: 121, settings: tenant().await.0 };
    let beside = approvals::request(&vault.by(), one, longer, vault.ground()).await.unwrap();
    assert!(matches!(vault.approve(one, &asked).await, Approved::Own));
    assert_eq!(tenant().await.1.cache_seconds, 0);
    assert!(matches!(vault.approve(two, &asked).await, Approved::Done { .. }));
    assert_eq!(tenant().await.1.cache_seconds, 120);
    assert!(matches!(vault.approve(two, &beside).await, Approved::Over(_)), "it is not strict any more");
    approvals::set_cache(&vault.by(), tenant().await, 0, vault.ground()).await.unwrap();
    let late = vault.approve(two, &beside).await;
    assert!(matches!(late, Approved::Over(Over::Changed)), "nobody asked for it since it is strict again: {late:?}");
    assert_eq!(tenant().await.1.cache_seconds, 0);
}

async fn a_version_is_destroyed_when_nothing_refers_to_it_and_not_before(vault: Vault) {
    let vault = vault.with_tenant().await;
    let made = vault.data_keys().await;
    assert_eq!(vault.wish(1, KekState::Destroyed).await, Changed::InUse(Need::Active), "it wraps");
    assert_eq!(vault.wish(1, KekState::Deactivated).await, Changed::InUse(Need::Active), "nothing else does");
    assert_eq!(vault.wish(3, KekState::Deactivated).await, Changed::Absent);
    kek_rotation::rotate(&vault.by(), Target::Same, vault.clock.now(), vault.ground()).await.unwrap();
    assert_eq!(vault.wish(1, KekState::Destroyed).await, Changed::InUse(Need::Referred), "data keys refer to it");
    assert_eq!(vault.wish(1, KekState::Active).await, Changed::NotAllowed);
    kek_rotation::rewrap(&vault.by(), kek_rotation::Stretch::default(), vault.ground()).await.unwrap();
    assert!(matches!(vault.wish(1, KekState::Destroyed).await, Changed::Done(_)));
    assert_eq!((vault.state(1).await, vault.state(2).await), (KekState::Destroyed, KekState::Active));
    vault.keys.forget_tenant(&demo());
    assert_eq!(vault.open(&made).await, made.len(), "no value needed it");
    assert_eq!((vault.said("key.kek.destroying").await, vault.said("key.kek.destroyed").await), (1, 1));
    assert_eq!(vault.wish(1, KekState::Deactivated).await, Changed::NotAllowed);
}

async fn a_compromised_active_version_has_a_successor(vault: Vault) {
    let vault = vault.with_tenant().await;
    let made = vault.data_keys().await;
    assert!(matches!(vault.wish(1, KekState::Compromised).await, Changed::Done(_)));
    assert_eq!((vault.state(1).await, vault.state(2).await), (KekState::Compromised, KekState::Active));
    assert_eq!(vault.open(&made).await, made.len(), "what it protects can be moved to another");
    let done = kek_rotation::rewrap(&vault.by(), kek_rotation::Stretch::default(), vault.ground()).await.unwrap();
    assert_eq!(done.left, 0);
    assert!(matches!(vault.wish(1, KekState::Destroyed).await, Changed::Done(_)));
    assert_eq!((vault.said("key.kek.compromised").await, vault.said("key.kek.rotated").await), (1, 1));
}

async fn a_key_that_reaches_its_age_gets_one_successor(vault: Vault) {
    let vault = vault.with_tenant().await;
    let year = Duration::from_secs(365 * 86_400);
    vault.upkeep(Some(year)).pass().await.unwrap();
    assert_eq!(versions(&demo(), &vault.store).await.unwrap().len(), 1, "it is young");
    vault.clock.advance(year);
    vault.upkeep(None).pass().await.unwrap();
    assert_eq!(versions(&demo(), &vault.store).await.unwrap().len(), 1, "nobody asked for it");
    // Two nodes that look at once make one successor between them.
    let (store, committer) = vault.second_node().await;
    let catalog = Catalog::start(store.clone());
    let other = KeyUpkeep::new((store, catalog), committer, vault.keys.clone(), Some(year));
    let (one, two) = (vault.upkeep(Some(year)), other);
    let (one, two) = tokio::join!(one.pass(), two.pass());
    one.and(two).unwrap();
    vault.upkeep(Some(year)).pass().await.unwrap();
    // Its number is 3 where the other node had 2 in its hands.
    let states: Vec<_> = versions(&demo(), &vault.store).await.unwrap().iter().map(|(_, kek)| kek.state).collect();
    assert_eq!(states, [KekState::Deactivated, KekState::Active]);
    assert_eq!(vault.said("key.kek.rotated").await, 1, "an entry, as by command");
}
