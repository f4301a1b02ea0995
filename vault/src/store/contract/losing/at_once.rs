//! What goes on while a lost version ends, and what comes back after it.

use super::*;
use crate::store::contract::on_postgres;
use crate::store::tenants::Ground;
use crate::store::{DatabaseSettings, Store};

on_sqlite!(
    of_two_custodians_who_approve_at_once_one_ends_the_version,
    nothing_comes_to_rest_on_what_is_about_to_end,
    many_short_lived_values_hide_no_stored_one,
    a_database_from_before_the_end_of_a_version_brings_back_what_can_be_ended_again,
);
on_postgres!(
    of_two_custodians_who_approve_at_once_one_ends_the_version,
    nothing_comes_to_rest_on_what_is_about_to_end,
    many_short_lived_values_hide_no_stored_one,
);

async fn of_two_custodians_who_approve_at_once_one_ends_the_version(vault: Vault) {
    let scene = Scene::of(vault).await;
    let vault = &scene.vault;
    let third = vault.custodian().await;
    let asked = scene.ask(scene.losing().await.act().unwrap()).await;
    let (store, committer) = vault.second_node().await;
    let other = Ground { store: &store, committer: &committer, keys: &vault.keys };
    vault.keys.forget_attempts();
    let by = vault.by();
    let (one, two) = tokio::join!(
        heard(|| approvals::approve(&by, scene.custodians[1], (asked.approval_id, None), vault.ground())),
        heard(|| approvals::approve(&by, third, (asked.approval_id, None), other)),
    );
    let told = [one.unwrap(), two.unwrap()];
    let done = told.iter().filter(|told| matches!(told, Approved::Done { receipt: Some(_), .. })).count();
    let over = told.iter().filter(|told| matches!(told, Approved::Over(Over::Changed | Over::Used))).count();
    assert_eq!((done, over), (1, 1), "{told:?}");
    assert_eq!(vault.state(2).await, KekState::Lost);
    assert_eq!((vault.said("key.kek.lost").await, vault.said("key.approval.given").await), (1, 2), "one of each act");
    assert_eq!(vault.number("SELECT count(*) FROM lost_data_keys").await, 2);
}

async fn nothing_comes_to_rest_on_what_is_about_to_end(vault: Vault) {
    let scene = Scene::of(vault).await;
    let vault = &scene.vault;
    let TwoPersonAct::LoseVersion { kek, row, key, serial, losses, seen } = scene.losing().await.act().unwrap() else {
        panic!("not the act")
    };
    // Both were told of fewer than there are by now.
    let act = TwoPersonAct::LoseVersion { kek, row, key, serial, losses: losses[1..].to_vec(), seen };
    assert_eq!(scene.why_not(act).await, Over::Changed);
    for id in scene.under.iter().chain([&scene.beside]) {
        let may = vault.seal(ValueRow { data_key_id: *id, ..vault.value(RetentionClass::Stored, None) }, || ()).await;
        assert_eq!(may, *id == scene.beside, "what is counted next is what there is");
    }
    let next = vault.row(vault.captured(None).await).await.data_key_id;
    assert!(!scene.under.contains(&next), "another one is begun");
}

async fn many_short_lived_values_hide_no_stored_one(vault: Vault) {
    let scene = Scene::of(vault).await;
    let vault = &scene.vault;
    vault.clock.advance(Duration::from_secs(2 * 24 * 60 * 60));
    let (_, token) =
        versions(&demo(), &vault.store).await.unwrap().into_iter().find(|(_, kek)| kek.version == 2).unwrap();
    let now = vault.clock.now();
    let id = vault.keys.data_key_to_seal(&vault.store, &demo(), DataKeyClass::Session, now).await.unwrap().id();
    let row = vault.keys.bound_to(scene.there(id).await.unwrap(), &token).await;
    vault.write(move || Changes { data_keys: vec![row.clone()], ..Changes::default() }).await.unwrap();
    for _ in 0..3 {
        let value = || ValueRow { data_key_id: id, ..vault.value(RetentionClass::Session, None) };
        let rows: Vec<Arc<ValueRow>> = (0..250).map(|_| value().into()).collect();
        vault.write(move || Changes { new_values: rows.clone(), ..Changes::default() }).await.unwrap();
    }
    let losses = scene.losing().await.losses;
    let told: Vec<_> =
        losses.iter().map(|loss| (&*loss.class, loss.data_keys, loss.values, loss.values_at_least)).collect();
    assert_eq!(told[1], ("stored", 1, Some(1), false));
    assert_eq!((told[0].0, told[0].1, told[0].3), ("session", 2, true));
    assert!(told[0].2 >= Some(500), "{told:?}");
}

async fn a_database_from_before_the_end_of_a_version_brings_back_what_can_be_ended_again(vault: Vault) {
    let mut scene = Scene::of(vault).await;
    let asked = scene.ask(scene.losing().await.act().unwrap()).await;
    let backup = scene.vault.folder.path().join("backup.db");
    scene.vault.tamper(&format!("VACUUM INTO '{}'", backup.display())).await;
    assert!(matches!(scene.approve(&asked).await, Approved::Done { .. }));
    // Upkeep does so within a minute: from then on nobody can ask the token.
    assert_eq!(scene.vault.keys.destroy_unused_pins(&scene.vault.store, &demo()).await.unwrap(), 1);
    scene.vault.settings = DatabaseSettings::Sqlite { path: backup };
    scene.vault = scene.vault.killed_and_started().await;
    scene.vault.keys.forget_tenant(&demo());
    assert_eq!(scene.vault.state(2).await, KekState::Deactivated);
    for id in &scene.under {
        assert!(scene.there(*id).await.is_some(), "it is there again");
        let opened = scene.opened(*id).await;
        assert!(matches!(&opened, Err(error) if !matches!(error, keys::Error::Lost)), "and opens nowhere: {opened:?}");
    }
    scene.opened(scene.beside).await.unwrap();
    // The approval was not given in that database: it, or a new one, ends the version once more.
    assert!(matches!(scene.approve(&asked).await, Approved::Done { receipt: Some(_), .. }));
    assert!(matches!(scene.opened(scene.under[0]).await, Err(keys::Error::Lost)));
    let open = Store::open(&scene.vault.settings, scene.vault.keys.clone(), scene.vault.clock.clone()).await;
    assert!(open.is_ok());
}
