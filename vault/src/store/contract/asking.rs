//! What is asked for twice or too often, and what is gone when an answer comes.

use super::custody::stored;
use super::on_every_engine;
use super::vault::{NOW, Vault, demo, tenant_row};
use crate::domain::{DataKeyClass, Tenant, TenantName, Timestamp};
use crate::keys::{HsmPin, HsmWish, KekRecord, KeyRecords as _, Rewrap};
use crate::store::administration::{Act, Administrator};
use crate::store::approvals::{self, ApprovalRecord, Approved, Over, Permit, Place, TwoPersonAct, Withdrawn};
use crate::store::committer::operation::Changes;
use crate::store::kek_rotation::{self, Target};
use crate::store::kek_states::versions;
use crate::store::records::Body as _;
use crate::store::rows::Table;
use crate::store::{Error, tenants};

on_every_engine!(
    of_two_creations_of_a_tenant_one_gives_it_its_key,
    a_tenant_that_was_begun_with_a_local_key_is_made_with_it,
    a_data_key_that_is_gone_stays_gone_though_it_was_wrapped_anew_meanwhile,
    a_move_rests_on_the_credential_that_asked_for_it,
    the_same_act_asked_for_again_is_answered_with_the_request_that_waits,
    one_credential_asks_for_sixteen_acts_and_for_no_more_until_some_are_over,
    what_was_withdrawn_is_neither_approved_nor_carried_out_nor_counted,
);

async fn of_two_creations_of_a_tenant_one_gives_it_its_key(vault: Vault) {
    let name: TenantName = "twice".parse().unwrap();
    let tenant = || Tenant { name: name.clone(), ..Tenant::from_row(&tenant_row(&demo(), 1, false)).unwrap() };
    let by = Administrator { tenant: TenantName::system(), ..vault.by() };
    let make = || tenants::create(tenant(), &by, vault.ground());
    let (one, two, three) = tokio::join!(make(), make(), make());
    let made = [&one, &two, &three].into_iter().filter(|made| made.is_ok()).count();
    assert_eq!(made, 1, "{one:?} {two:?} {three:?}");
    let keks = versions(&name, &vault.store).await.unwrap();
    assert_eq!(keks.len(), 1, "{keks:?}");
    let held = vault.keys.known_end(&name, &keks[0].1).await.unwrap().is_none();
    assert!(held, "its secret is not the one that was taken away");
    let key = vault.keys.data_key_to_seal(&vault.store, &name, DataKeyClass::Configuration, vault.clock.now()).await;
    assert!(key.is_ok(), "{key:?}");
}

/// A node that was killed between a tenant's first key and the tenant.
async fn a_tenant_that_was_begun_with_a_local_key_is_made_with_it(vault: Vault) {
    let name: TenantName = "begun".parse().unwrap();
    let tenant = || Tenant { name: name.clone(), ..Tenant::from_row(&tenant_row(&demo(), 1, false)).unwrap() };
    let by = Administrator { tenant: TenantName::system(), ..vault.by() };
    let kek = vault.keys.create_kek(&name, vault.clock.now()).await.unwrap();
    let of_tenant = Administrator { tenant: name.clone(), generation: None, ..by.clone() };
    vault.committer.submit(Act::create_first_kek(of_tenant, &kek).unwrap()).await.unwrap();
    let wish = HsmWish {
        module: "/nowhere/module.so".into(),
        token: None,
        serial: None,
        pin: HsmPin::new(b"1234").unwrap(),
        kek: None,
        waive: false,
    };
    let refused = tenants::create_in_hsm(tenant(), wish, &by, vault.ground()).await;
    assert!(matches!(refused, Err(Error::BegunLocally)), "{refused:?}");
    tenants::create(tenant(), &by, vault.ground()).await.unwrap();
    assert_eq!(versions(&name, &vault.store).await.unwrap()[0].1.kek_id, kek.kek_id);
}

async fn a_data_key_that_is_gone_stays_gone_though_it_was_wrapped_anew_meanwhile(vault: Vault) {
    let vault = vault.with_tenant().await;
    let made = vault.data_keys().await;
    let tenant = demo();
    let row = |at: usize| vault.store.load_data_key(&tenant, made[at]);
    kek_rotation::rotate(&vault.by(), Target::Same, NOW, vault.ground()).await.unwrap();
    let (gone, there) = (row(0).await.unwrap().unwrap(), row(1).await.unwrap().unwrap());
    let renewed = async |row| match vault.keys.rewrap(&vault.store, row).await.unwrap() {
        Rewrap::Renewed(row) => row,
        other => panic!("{other:?}"),
    };
    let both = [renewed(&gone).await, renewed(&there).await];
    let id = gone.data_key_id;
    vault.write(move || Changes { removed_data_keys: vec![id], ..Changes::default() }).await.unwrap();
    let written = both.clone();
    vault.write(move || Changes { data_keys: written.to_vec(), ..Changes::default() }).await.unwrap();
    assert!(row(0).await.unwrap().is_none(), "the log says that it was retired");
    assert_eq!(row(1).await.unwrap().unwrap().kek_version, 2);
}

async fn a_move_rests_on_the_credential_that_asked_for_it(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let kek: KekRecord = vault.move_into_token().await;
    let act = TwoPersonAct::LeaveToken { kek: kek.row_key(), place: Place::Local };
    let asked = approvals::request(&vault.by_custodian(one), one, act, vault.ground()).await.unwrap();
    let by = vault.by_custodian(two);
    let moves = async |version: u64, asked: ApprovalRecord| {
        let record = ApprovalRecord { approved_by: Some(two), completed_at: Some(NOW), ..asked };
        let asked_by = Some((one.to_string(), version));
        let permit = Permit { record, version: 1, act: "approval.given", asked_by };
        kek_rotation::rotate_permitted(&by, Target::Local, permit, NOW, vault.ground()).await
    };
    // It was judged while it held, and is revoked while the next key is made.
    let mut revoked = stored(one, false);
    revoked.record.revoked_at = Some(NOW);
    vault.decree(revoked.to_row(&demo(), &one.to_string(), 2).unwrap()).await.unwrap();
    let moved = moves(1, asked.clone()).await;
    assert!(matches!(moved, Err(Error::Conflict)), "{moved:?}");
    let over = approvals::approve(&by, two, (asked.approval_id, None), vault.ground()).await.unwrap();
    assert!(matches!(over, Approved::Over(Over::Withdrawn)), "{over:?}");
    // Its day ends meanwhile.
    let late = ApprovalRecord { expires_at: Timestamp::from_millis(1), ..asked.clone() };
    assert!(matches!(moves(2, late).await, Err(Error::Conflict)));
    assert!(versions(&demo(), &vault.store).await.unwrap().iter().all(|(_, kek)| kek.version <= 2));
    assert!(moves(2, asked).await.is_ok(), "it is these two that held it up");
}

async fn what_was_withdrawn_is_neither_approved_nor_carried_out_nor_counted(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let kek = vault.move_into_token().await.row_key();
    let place = Place::Hsm { module: "/m.so".to_owned(), token: None, serial: None, kek: None, waive: false };
    let act = TwoPersonAct::LeaveToken { kek: kek.clone(), place };
    let withdraw = async |by, asked: &ApprovalRecord| {
        approvals::withdraw(&vault.by_custodian(by), by, asked.approval_id, vault.ground()).await.unwrap()
    };
    let asked = vault.asked(one, act.clone()).await;
    assert!(matches!(withdraw(two, &asked).await, Withdrawn::Done(_)));
    assert!(matches!(vault.approve(two, &asked).await, Approved::Over(Over::TakenBack)));
    assert!(matches!(withdraw(one, &asked).await, Withdrawn::Over(Over::TakenBack)));
    // An approval that waits for who asked is taken back with its request.
    let asked = vault.asked(one, act.clone()).await;
    assert!(matches!(vault.approve(two, &asked).await, Approved::Done { .. }));
    let given = async || approvals::given(&vault.by_custodian(one), &act, &vault.store).await.unwrap().is_some();
    assert!(given().await);
    assert!(matches!(withdraw(one, &asked).await, Withdrawn::Done(_)));
    assert!(!given().await, "it cannot be carried out");
    assert_eq!(vault.said("key.approval.withdrawn").await, 2);
    // What is done cannot be taken back; what was takes no room.
    let asked = vault.asked(one, TwoPersonAct::LeaveToken { kek, place: Place::Local }).await;
    assert!(matches!(vault.approve(two, &asked).await, Approved::Done { .. }));
    assert!(matches!(withdraw(one, &asked).await, Withdrawn::Over(Over::Used)));
    for cache_seconds in 1..=17 {
        let asked = vault.asked(one, TwoPersonAct::LeaveStrict { cache_seconds, settings: 1 }).await;
        assert!(matches!(withdraw(one, &asked).await, Withdrawn::Done(_)));
    }
}

async fn the_same_act_asked_for_again_is_answered_with_the_request_that_waits(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let act = |cache_seconds| TwoPersonAct::LeaveStrict { cache_seconds, settings: 1 };
    let first = vault.asked(one, act(60)).await;
    let other = vault.asked(one, act(61)).await;
    assert_ne!(other.approval_id, first.approval_id, "it is another act");
    for seconds in 62..76 {
        vault.asked(one, act(seconds)).await;
    }
    // Whoever asks, and though this one may ask for no more.
    for again in [one, two] {
        assert_eq!(vault.asked(again, act(60)).await, first);
    }
    assert_eq!(vault.said("key.approval.requested").await, 16);
    // Of one that nobody can approve any more another is made: it was taken back, or who asked was sent away.
    approvals::withdraw(&vault.by_custodian(two), two, first.approval_id, vault.ground()).await.unwrap();
    let anew = vault.asked(two, act(60)).await;
    assert!(anew.approval_id != first.approval_id && anew.requested_by == two);
    vault.decree(stored(one, true).to_row(&demo(), &one.to_string(), 2).unwrap()).await.unwrap();
    assert_eq!(vault.asked(two, act(61)).await.requested_by, two);
    assert_eq!(vault.said("key.approval.requested").await, 18);
}

async fn one_credential_asks_for_sixteen_acts_and_for_no_more_until_some_are_over(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (one, two) = (vault.custodian().await, vault.custodian().await);
    let ask = async |custodian, cache_seconds| {
        let act = TwoPersonAct::LeaveStrict { cache_seconds, settings: 1 };
        approvals::request(&vault.by_custodian(custodian), custodian, act, vault.ground()).await
    };
    for seconds in 1..=16 {
        ask(one, seconds).await.unwrap();
    }
    let more = ask(one, 18).await;
    assert!(matches!(more, Err(Error::TooManyOpen)), "{more:?}");
    assert!(ask(two, 17).await.is_ok(), "another one is not kept from asking");
    assert_eq!(vault.store.rows(Table::Approvals, &demo()).await.unwrap().len(), 17);
    vault.clock.advance(approvals::LASTS);
    assert!(ask(one, 18).await.is_ok());
}
