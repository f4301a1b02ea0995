//! Guesses of PINs, which tokens count, are counted for all nodes; an operator takes the count back.

use std::time::Duration;

use super::on_every_engine;
use super::vault::{Vault, demo};
use crate::domain::TenantName;
use crate::keys::Guess;
use crate::store::tenants::Ground;
use crate::store::{Store, pin_guesses};

on_every_engine!(
    guesses_of_pins_are_counted_for_all_nodes_and_over_a_restart,
    an_operator_takes_a_count_of_pins_back_and_the_log_says_so,
    of_two_operators_who_take_one_count_back_at_once_one_is_told_of_it,
);

async fn guesses_of_pins_are_counted_for_all_nodes_and_over_a_restart(vault: Vault) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    async fn may(store: &Store, by: &TenantName, token: &str) -> bool {
        matches!(store.guess(by, token).await.unwrap(), Guess::Counted(_))
    }
    let (guest, owner): (TenantName, TenantName) = ("guest".parse().unwrap(), "owner".parse().unwrap());
    let (other, _committer) = vault.second_node().await;
    assert!(may(&vault.store, &guest, "17").await);
    vault.clock.advance(Duration::from_secs(60));
    let last = vault.clock.now();
    assert!(may(&other, &guest, "17").await);
    vault.clock.advance(Duration::from_secs(60));
    for store in [&vault.store, &other] {
        let told = store.guess(&guest, "17").await.unwrap();
        assert_eq!(told, Guess::NotBefore(last.plus(DAY)), "two in all");
    }
    assert!(may(&other, &guest, "18").await && may(&other, &owner, "17").await, "each by itself");
    let vault = vault.killed_and_started().await;
    let store = &vault.store;
    assert!(!may(store, &guest, "17").await, "a restart forgets none");
    // One that nobody tried is taken back; one that was accepted ends them.
    store.guess_back(&guest, "17").await.unwrap();
    assert!(may(store, &guest, "17").await && !may(store, &guest, "17").await);
    store.guesses_over(&guest, "17").await.unwrap();
    assert!(may(store, &guest, "17").await && may(store, &guest, "17").await);
    // Those of many at once are not more.
    let many = futures_util::future::join_all((0..8).map(|_| may(store, &guest, "19"))).await;
    assert_eq!(many.into_iter().filter(|may| *may).count(), 2);
    assert_eq!(store.purge_guesses().await.unwrap(), 0);
    vault.clock.advance(DAY);
    assert!(may(store, &guest, "17").await, "after a day");
    assert_eq!(store.purge_guesses().await.unwrap(), 3);
    assert_eq!(vault.number("SELECT count(*) FROM pin_guesses").await, 1);
}

async fn an_operator_takes_a_count_of_pins_back_and_the_log_says_so(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (store, by) = (&vault.store, vault.by());
    assert_eq!(pin_guesses::forget(by.clone(), "17".to_owned(), vault.ground()).await.unwrap(), None, "there is none");
    for who in [&demo(), &TenantName::system()] {
        for token in ["17", "18"] {
            for left in [1, 0] {
                assert_eq!(store.guess(who, token).await.unwrap(), Guess::Counted(left));
            }
        }
    }
    assert_eq!(pin_guesses::forget(by, "17".to_owned(), vault.ground()).await.unwrap(), Some(2));
    assert_eq!(store.guess(&demo(), "17").await.unwrap(), Guess::Counted(1));
    for (who, token) in [(&demo(), "18"), (&TenantName::system(), "17"), (&TenantName::system(), "18")] {
        assert!(matches!(store.guess(who, token).await.unwrap(), Guess::NotBefore(_)), "no other's");
    }
    assert_eq!(vault.said("key.provider.pins-forgotten").await, 1);
}

async fn of_two_operators_who_take_one_count_back_at_once_one_is_told_of_it(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (store, committer) = vault.second_node().await;
    let other = Ground { store: &store, committer: &committer, keys: &vault.keys };
    // Of one node they may be in one batch.
    for (round, other) in [vault.ground(), other, other, other].into_iter().enumerate() {
        for left in [1, 0].into_iter().take(1 + round % 2) {
            assert_eq!(vault.store.guess(&demo(), "17").await.unwrap(), Guess::Counted(left));
        }
        let forget = |ground| pin_guesses::forget(vault.by(), "17".to_owned(), ground);
        let (one, two) = tokio::join!(forget(vault.ground()), forget(other));
        let mut told = [one.unwrap(), two.unwrap()];
        told.sort_unstable();
        assert_eq!(told, [None, Some(1 + round as u64 % 2)]);
        assert_eq!(vault.said("key.provider.pins-forgotten").await, round + 1, "an entry for each that was taken back");
    }
}
