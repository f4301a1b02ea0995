//! Custodians in the middle of long acts: what they asked for ends with their credential, and no act takes another's work for
//! its own.

use super::claiming::version;
use super::custody::stored;
use super::on_every_engine;
use super::vault::{NOW, Vault, demo};
use crate::access_log::{Destroyed, DestructionCertificate, Leaf};
use crate::domain::{Actor, ActorKind, CredentialId, CredentialKind, DataKeyClass, KekId, TenantName};
use crate::keys::{self, HsmKek, KekRecord, KekState, Statement};
use crate::store::administration::Administrator;
use crate::store::approvals::{self, ApprovalRecord, Approved, Over, Place, TwoPersonAct};
use crate::store::kek_rotation::{self, Target};
use crate::store::kek_states::{self, Changed, Need, Successor, Wish, versions};
use crate::store::records::{Body, StoredCredential};
use crate::store::rows::Table;
use crate::store::shredding::Extent;
use crate::store::{EntryFilter, Error, key_commit};

on_every_engine!(
    what_a_custodian_asked_for_is_not_committed_once_their_credential_is_not_in_force,
    the_row_of_another_request_is_not_taken_for_ones_own,
    a_customers_token_is_left_by_two_persons_and_entered_by_one,
    a_key_that_cannot_be_ended_keeps_no_value_from_being_sealed_anew,
    an_act_that_needs_a_pin_is_carried_out_once_by_who_asked_for_it,
    a_key_whose_token_is_away_ends_by_the_word_of_two_and_the_certificate_says_no_more,
    an_active_key_that_cannot_be_succeeded_is_compromised_all_the_same,
    an_approval_says_why_it_cannot_be_given,
    approvals_go_a_month_after_their_end_and_one_that_is_under_way_stays,
    of_two_tenants_that_take_one_key_of_a_token_in_the_same_moment_one_has_it,
);

impl Vault {
    /// A custodian at work, with no generation in their hands: as long acts go on.
    pub(super) fn by_custodian(&self, custodian: CredentialId) -> Administrator {
        let by = self.by();
        let (id, kind) = (custodian.to_string(), ActorKind::Credential(CredentialKind::Custodian));
        let actor = Actor { id, kind, name: None };
        Administrator { context: crate::domain::RequestContext { actor, ..by.context.clone() }, ..by }
    }
}

async fn what_a_custodian_asked_for_is_not_committed_once_their_credential_is_not_in_force(vault: Vault) {
    let vault = vault.with_tenant().await;
    vault.data_keys().await;
    let ended: [fn(&mut StoredCredential); 4] = [
        |stored| stored.record.revoked_at = Some(NOW),
        |stored| stored.record.suspended = true,
        |stored| stored.record.expires_at = Some(NOW),
        |stored| stored.record.kind = CredentialKind::Auditor,
    ];
    kek_rotation::rotate(&vault.by(), Target::Same, NOW, vault.ground()).await.unwrap();
    for end in ended {
        let custodian = vault.custodian().await;
        let by = vault.by_custodian(custodian);
        let mut changed = stored(custodian, false);
        end(&mut changed);
        vault.decree(changed.to_row(&demo(), &custodian.to_string(), 2).unwrap()).await.unwrap();
        let rotated = kek_rotation::rotate(&by, Target::Same, NOW, vault.ground()).await;
        assert!(matches!(rotated, Err(Error::CredentialEnded)), "{rotated:?}");
        let wish = Wish { kek_id: None, version: 1, state: KekState::Compromised, successor: Successor::First };
        let changed = kek_states::change(&by, wish, false, vault.ground()).await;
        assert!(matches!(changed, Err(Error::CredentialEnded)), "{changed:?}");
        let rewrapped = kek_rotation::rewrap(&by, kek_rotation::Stretch::default(), vault.ground()).await;
        assert!(matches!(rewrapped, Err(Error::CredentialEnded)), "{rewrapped:?}");
    }
    let unknown = vault.by_custodian(CredentialId::generate(NOW));
    let rotated = kek_rotation::rotate(&unknown, Target::Same, NOW, vault.ground()).await;
    assert!(matches!(rotated, Err(Error::CredentialEnded)), "{rotated:?}");
    assert_eq!((vault.state(1).await, vault.state(2).await), (KekState::Deactivated, KekState::Active));
    // One in force does it, and so does the vault itself.
    let by = vault.by_custodian(vault.custodian().await);
    kek_rotation::rotate(&by, Target::Same, NOW, vault.ground()).await.unwrap();
    assert!(kek_rotation::rewrap(&by, kek_rotation::Stretch::default(), vault.ground()).await.unwrap().moved > 0);
    kek_rotation::rotate(&vault.by(), Target::Same, NOW, vault.ground()).await.unwrap();
    assert_eq!(vault.state(4).await, KekState::Active);
}

async fn the_row_of_another_request_is_not_taken_for_ones_own(vault: Vault) {
    let vault = vault.with_tenant().await;
    let made = KekRecord { version: 2, ..vault.keys.create_kek(&demo(), NOW).await.unwrap() };
    let written = async |record: &KekRecord| key_commit::was_written(record, &demo(), &vault.store).await;
    assert_eq!(written(&made).await, None, "it may come yet");
    vault.decree(made.to_row(&demo(), &made.row_key(), 1).unwrap()).await.unwrap();
    assert_eq!(written(&made).await, Some(true));
    let later = KekRecord { created_at: NOW.plus(std::time::Duration::from_millis(1)), ..made.clone() };
    assert_eq!(written(&later).await, Some(false), "another request made the version of this number");
    let elsewhere = KekRecord { kek_id: KekId::generate(NOW), ..made.clone() };
    assert_eq!(written(&elsewhere).await, None);
    // It was retired since, by whoever came next: its key is in use all the same.
    let retired = KekRecord { state: KekState::Deactivated, ..made.clone() };
    vault.decree(retired.to_row(&demo(), &made.row_key(), 2).unwrap()).await.unwrap();
    assert_eq!(written(&made).await, Some(true));
}

impl Vault {
    /// A version in a token that no node reaches, active beside those before it, which are deactivated.
    pub(super) async fn move_into_token(&self) -> KekRecord {
        let newest = versions(&demo(), &self.store).await.unwrap().pop().unwrap();
        let provider = self.keys.silent_token(&demo(), NOW).await;
        let token = HsmKek::in_no_token(provider.provider_id);
        self.decree(provider.to_row(&demo(), &provider.provider_id.to_string(), 1).unwrap()).await.unwrap();
        let made = KekRecord {
            version: newest.1.version + 1,
            mechanism: token.canary.kek.profile.to_string(),
            state: KekState::Active,
            hsm: Some(Box::new(token)),
            ..newest.1.clone()
        };
        let retired = KekRecord { state: KekState::Deactivated, ..newest.1.clone() };
        self.decree(retired.to_row(&demo(), &retired.row_key(), newest.0 + 1).unwrap()).await.unwrap();
        self.decree(made.to_row(&demo(), &made.row_key(), 1).unwrap()).await.unwrap();
        made
    }

    pub(super) async fn asked(&self, custodian: CredentialId, act: TwoPersonAct) -> ApprovalRecord {
        approvals::request(&self.by_custodian(custodian), custodian, act, self.ground()).await.unwrap()
    }
}

/// A key whose end waits for its token holds up neither what a compromise asks for nor a rotation.
async fn a_key_that_cannot_be_ended_keeps_no_value_from_being_sealed_anew(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    vault.move_into_token().await;
    let Err(Error::TakesTwo(act)) =
        kek_rotation::rotate(&vault.by_custodian(one), Target::Local, NOW, vault.ground()).await
    else {
        panic!("leaving a token takes two")
    };
    let asked = vault.asked(one, *act).await;
    assert!(matches!(vault.approve(two, &asked).await, Approved::Done { .. }));
    let newest = versions(&demo(), &vault.store).await.unwrap();
    let (row, away) = newest.iter().find(|(_, kek)| kek.version == 2).unwrap();
    let ending = KekRecord { state: KekState::Destroying, ..away.clone() };
    vault.decree(ending.to_row(&demo(), &ending.row_key(), row + 1).unwrap()).await.unwrap();
    let value = vault.captured(None).await;
    let before = vault.store.value(&demo(), value).await.unwrap().unwrap().row.data_key_id;
    vault.compromise(3).await;
    vault.upkeep(None).pass().await.unwrap();
    assert_eq!(vault.state(2).await, KekState::Destroying, "its token does not answer");
    assert_ne!(vault.store.value(&demo(), value).await.unwrap().unwrap().row.data_key_id, before);
}

async fn a_customers_token_is_left_by_two_persons_and_entered_by_one(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let kek = vault.move_into_token().await.row_key();
    let left = kek_rotation::rotate(&vault.by_custodian(one), Target::Local, NOW, vault.ground()).await;
    let Err(Error::TakesTwo(act)) = left else { panic!("{left:?}") };
    assert_eq!(*act, TwoPersonAct::LeaveToken { kek: kek.clone(), place: Place::Local });
    assert_eq!(vault.state(2).await, KekState::Active);
    let asked = vault.asked(one, *act).await;
    assert!(matches!(vault.approve(one, &asked).await, Approved::Own));
    assert!(matches!(vault.approve(two, &asked).await, Approved::Done { .. }));
    assert_eq!((vault.state(2).await, vault.state(3).await), (KekState::Deactivated, KekState::Active));
    let moved = versions(&demo(), &vault.store).await.unwrap().pop().unwrap().1;
    assert!(moved.hsm.is_none());
    let row = vault.store.row(Table::Approvals, &demo(), &asked.approval_id.to_string()).await.unwrap().unwrap();
    assert!(ApprovalRecord::from_row(&row).unwrap().completed_at.is_some(), "it is used by the commit of the move");
    // What was approved is over: the next move is asked for anew.
    vault.move_into_token().await;
    let again = kek_rotation::rotate(&vault.by_custodian(one), Target::Local, NOW, vault.ground()).await;
    assert!(matches!(again, Err(Error::TakesTwo(_))), "{again:?}");
    let over = TwoPersonAct::LeaveToken { kek, place: Place::Local };
    let asked = vault.asked(one, over).await;
    assert!(matches!(vault.approve(two, &asked).await, Approved::Over(Over::Changed)), "of another version");
    assert_eq!(vault.said("admin.tenant.moved").await, 1);
}

async fn an_act_that_needs_a_pin_is_carried_out_once_by_who_asked_for_it(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let kek = vault.move_into_token().await.row_key();
    let place = |label: &str| Place::Hsm {
        module: "/opt/vendor/lib/pkcs11.so".to_owned(),
        token: Some(label.to_owned()),
        serial: None,
        kek: None,
        waive: false,
    };
    let act = TwoPersonAct::LeaveToken { kek: kek.clone(), place: place("acme") };
    let asked = vault.asked(one, act.clone()).await;
    let given = async |custodian, act: &TwoPersonAct| {
        approvals::given(&vault.by_custodian(custodian), act, &vault.store).await.unwrap().is_some()
    };
    assert!(!given(one, &act).await, "nobody approved it");
    assert!(matches!(vault.approve(two, &asked).await, Approved::Done { .. }));
    assert_eq!(vault.state(2).await, KekState::Active, "it waits for the PIN");
    assert!(given(one, &act).await);
    assert!(!given(two, &act).await, "not by who approved");
    let another = TwoPersonAct::LeaveToken { kek: kek.clone(), place: place("other") };
    let local = TwoPersonAct::LeaveToken { kek, place: Place::Local };
    assert!(!given(one, &another).await && !given(one, &local).await, "not another place");
    vault.clock.advance(std::time::Duration::from_secs(24 * 60 * 60));
    assert!(!given(one, &act).await, "not after a day");
}

async fn a_key_whose_token_is_away_ends_by_the_word_of_two_and_the_certificate_says_no_more(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    vault.data_keys().await;
    let lost = vault.move_into_token().await.row_key();
    let patient = vault.ask_to_shred(one).await;
    let waits = approvals::approve(&vault.by(), two, (patient.approval_id, None), vault.ground()).await;
    let Ok(Approved::Done { record, receipt: None, waiting: Some(_) }) = waits else { panic!("{waits:?}") };
    assert!(record.completed_at.is_none(), "it is approved and begun; the token is waited for");
    assert_eq!((vault.state(1).await, vault.state(2).await), (KekState::Destroyed, KekState::Destroying));
    assert_eq!(vault.said("key.tenant.shredded").await, 0);
    // Two persons say that it never comes back: another act, with another digest.
    let act = Extent::of(&demo(), &vault.store).await.unwrap().act(Statement::TokenLost);
    let asked = vault.asked(one, act).await;
    let TwoPersonAct::ShredTenant { keks, .. } = asked.act.clone() else { panic!("not the act") };
    let silent = ApprovalRecord { act: TwoPersonAct::ShredTenant { keks, token_lost: false }, ..asked.clone() };
    let realm = vault.keys.realm();
    assert_ne!(silent.digest(&demo(), realm), asked.digest(&demo(), realm));
    vault.keys.forget_attempts();
    assert!(matches!(vault.approve(two, &asked).await, Approved::Done { .. }));
    assert_eq!(vault.state(2).await, KekState::Destroyed);
    assert!(vault.store.data_keys_after(&demo(), None, 10).await.unwrap().is_empty(), "what they wrapped is erased");
    let filter = EntryFilter { action: Some("key.tenant.shredded".to_owned()), ..EntryFilter::default() };
    let entries = vault.store.entries(&demo(), &filter, None, 10).await.unwrap().entries;
    let said: Vec<_> = entries.iter().map(|entry| Leaf::parse(&entry.leaf).unwrap()).collect();
    let certificate = DestructionCertificate::of(said.last().unwrap(), &[0; 32]).unwrap();
    let Destroyed::Tenant { ends, data_keys, .. } = certificate.destroyed else { panic!("{certificate:?}") };
    assert!(data_keys > 0);
    let end = ends.iter().find(|end| end.kek == lost).unwrap();
    assert_eq!(end.how, "by statement of the custodians, not verified by the vault");
    assert_eq!(vault.said("key.kek.destroyed").await, 2);
}

async fn an_active_key_that_cannot_be_succeeded_is_compromised_all_the_same(vault: Vault) {
    let vault = vault.with_tenant().await;
    let made = vault.data_keys().await;
    let wish = Wish { kek_id: None, version: 1, state: KekState::Compromised, successor: Successor::None };
    let changed = kek_states::change(&vault.by(), wish, false, vault.ground()).await.unwrap();
    assert!(matches!(changed, Changed::Done(_)));
    assert_eq!(versions(&demo(), &vault.store).await.unwrap().len(), 1, "no successor was made");
    assert_eq!(
        vault.wish(1, KekState::Destroyed).await,
        Changed::InUse(Need::Active),
        "the number is taken on by the next"
    );
    let at = vault.clock.now().plus(std::time::Duration::from_secs(86_400));
    let taken = vault.keys.data_key_to_seal(&vault.store, &demo(), DataKeyClass::Session, at).await;
    assert!(matches!(taken, Err(keys::Error::NoKek)), "nothing new is taken in: {taken:?}");
    vault.keys.data_key(&vault.store, &demo(), made[0]).await.unwrap();
    let next = kek_rotation::rotate(&vault.by(), Target::Same, NOW, vault.ground()).await.unwrap();
    assert_eq!((next.version, vault.state(1).await), (2, KekState::Compromised));
    assert_eq!(
        kek_rotation::rewrap(&vault.by(), kek_rotation::Stretch::default(), vault.ground()).await.unwrap().left,
        0
    );
    assert!(matches!(vault.wish(1, KekState::Destroyed).await, Changed::Done(_)));
}

async fn an_approval_says_why_it_cannot_be_given(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two, three) = (vault.custodian().await, vault.custodian().await, vault.custodian().await);
    let why = async |asked: &ApprovalRecord, digest| {
        let id = asked.approval_id;
        match approvals::approve(&vault.by(), three, (id, digest), vault.ground()).await.unwrap() {
            Approved::Over(why) => why,
            other => panic!("{other:?}"),
        }
    };
    let asked = vault.ask_to_shred(one).await;
    assert_eq!(why(&asked, Some("00")).await, Over::Digest);
    kek_rotation::rotate(&vault.by(), Target::Same, NOW, vault.ground()).await.unwrap();
    assert_eq!(why(&asked, None).await, Over::Changed);
    let withdrawn = vault.ask_to_shred(one).await;
    vault.decree(stored(one, true).to_row(&demo(), &one.to_string(), 2).unwrap()).await.unwrap();
    assert_eq!(why(&withdrawn, None).await, Over::Withdrawn);
    let late = vault.ask_to_shred(two).await;
    vault.clock.advance(std::time::Duration::from_secs(24 * 60 * 60));
    assert_eq!(why(&late, None).await, Over::Expired);
    let used = vault.ask_to_shred(two).await;
    let four = vault.custodian().await;
    assert!(matches!(vault.approve(four, &used).await, Approved::Done { .. }));
    assert_eq!(why(&used, None).await, Over::Used);
}

async fn approvals_go_a_month_after_their_end_and_one_that_is_under_way_stays(vault: Vault) {
    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let expired = vault.ask_to_shred(one).await;
    let kek = vault.move_into_token().await.row_key();
    let completed = vault.asked(one, TwoPersonAct::LeaveToken { kek, place: Place::Local }).await;
    assert!(matches!(vault.approve(two, &completed).await, Approved::Done { .. }));
    vault.move_into_token().await;
    let waits = vault.ask_to_shred(one).await;
    let approved = approvals::approve(&vault.by(), two, (waits.approval_id, None), vault.ground()).await;
    let Ok(Approved::Done { record, .. }) = approved else { panic!("{approved:?}") };
    assert!(record.completed_at.is_none(), "its token is waited for");
    let row = async |asked: &ApprovalRecord| {
        let found = vault.store.row(Table::Approvals, &demo(), &asked.approval_id.to_string()).await;
        found.map(|row| row.is_some())
    };
    vault.clock.advance(30 * DAY);
    assert_eq!(vault.store.purge_approvals().await.unwrap(), 0);
    let why = approvals::approve(&vault.by(), two, (expired.approval_id, None), vault.ground()).await.unwrap();
    assert!(matches!(why, Approved::Over(Over::Expired)), "as long as it is there it says why: {why:?}");
    vault.clock.advance(DAY + DAY);
    assert_eq!(vault.store.purge_approvals().await.unwrap(), 2);
    for gone in [&expired, &completed] {
        assert!(!row(gone).await.unwrap(), "absent, and nobody is accused of it");
        let absent = approvals::approve(&vault.by(), two, (gone.approval_id, None), vault.ground()).await.unwrap();
        assert!(matches!(absent, Approved::Absent), "{absent:?}");
    }
    assert!(row(&waits).await.unwrap());
    // One that is to be carried out never goes by the clock: it was taken away.
    vault.tamper(&format!("DELETE FROM approvals WHERE key = '{}'", waits.approval_id)).await;
    assert!(matches!(row(&waits).await, Err(Error::Tampered(_))));
    // Nor does it help to make an older entry look like the newest one.
    let place = format!("approvals/{}", waits.approval_id);
    vault
        .tamper(&format!("UPDATE access_log SET object_version = 9 WHERE object = '{place}' AND object_version = 1"))
        .await;
    assert!(matches!(row(&waits).await, Err(Error::Tampered(_))));
    // One that is too young to have gone was taken away.
    let young = vault.asked(one, TwoPersonAct::LeaveStrict { cache_seconds: 5, settings: 1 }).await;
    vault.tamper(&format!("DELETE FROM approvals WHERE key = '{}'", young.approval_id)).await;
    assert!(matches!(row(&young).await, Err(Error::Tampered(_))));
    assert_eq!(vault.store.purge_approvals().await.unwrap(), 0);
}

async fn of_two_tenants_that_take_one_key_of_a_token_in_the_same_moment_one_has_it(vault: Vault) {
    let vault = vault.with_tenant().await;
    let other: TenantName = "other".parse().unwrap();
    vault.make_tenant(&other).await;
    // By its place in the token, and by its check value in a token that calls itself otherwise.
    for (theirs, ours) in [
        (HsmKek::found("own", "17", "a1"), HsmKek::found("own", "17", "b2")),
        (HsmKek::found("mine", "18", "c3"), HsmKek::found("yours", "19", "c3")),
    ] {
        let (theirs, ours) = (version(theirs), version(ours));
        let written = async |kek: &KekRecord, tenant: &TenantName, at| {
            vault.decree(kek.to_row(tenant, &kek.row_key(), at).unwrap()).await
        };
        let demo = demo();
        let (one, two) = tokio::join!(written(&theirs, &demo, 1), written(&ours, &other, 1));
        assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
        let ((has, of), (waits, its)) = match one {
            Ok(_) => ((theirs, demo), (ours, other.clone())),
            Err(_) => ((ours, other.clone()), (theirs, demo)),
        };
        let refused = written(&waits, &its, 1).await;
        assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
        // With the end of the key it is free.
        for (at, state) in [(2, KekState::Deactivated), (3, KekState::Destroying)] {
            written(&KekRecord { state, ..has.clone() }, &of, at).await.unwrap();
            assert!(written(&waits, &its, 1).await.is_err(), "{state:?}");
        }
        written(&KekRecord { state: KekState::Destroyed, ..has.clone() }, &of, 4).await.unwrap();
        written(&waits, &its, 1).await.unwrap();
    }
}
