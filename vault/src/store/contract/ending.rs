//! Keys that are to be ended while the token of one of them is away: the others are, and nothing else waits.

use std::time::Duration;

use super::on_every_engine;
use super::vault::{NOW, Vault, demo};
use crate::keys::{KekRecord, KekState};
use crate::store::kek_states::versions;
use crate::store::records::Body as _;
use crate::store::shredding;

on_every_engine!(
    a_key_whose_token_is_away_keeps_no_other_from_being_ended,
    a_key_whose_token_is_away_keeps_no_other_from_reaching_its_age,
);

impl Vault {
    /// A tenant that has been in a token and left it: of its three versions the second lies in a token that no node reaches.
    async fn with_a_token_that_was_left(self) -> Self {
        let vault = self.with_tenant().await;
        let left = vault.move_into_token().await;
        let made = vault.keys.move_to_local(&demo(), &left, NOW).await.unwrap();
        vault.put_state(2, KekState::Deactivated).await;
        vault.decree(made.record.to_row(&demo(), &made.record.row_key(), 1).unwrap()).await.unwrap();
        vault
    }

    async fn put_state(&self, version: u32, state: KekState) {
        let found = versions(&demo(), &self.store).await.unwrap();
        let (row, kek) = found.into_iter().find(|(_, kek)| kek.version == version).unwrap();
        let kek = KekRecord { state, ..kek };
        self.decree(kek.to_row(&demo(), &kek.row_key(), row + 1).unwrap()).await.unwrap();
    }
}

async fn a_key_whose_token_is_away_keeps_no_other_from_being_ended(vault: Vault) {
    let vault = vault.with_a_token_that_was_left().await;
    for version in 1..=3 {
        vault.put_state(version, KekState::Destroying).await;
    }
    let told = shredding::finish(&vault.by(), vault.ground()).await;
    assert!(told.is_err(), "it is not done yet: {told:?}");
    let states = [vault.state(1).await, vault.state(2).await, vault.state(3).await];
    assert_eq!(states, [KekState::Destroyed, KekState::Destroying, KekState::Destroyed]);
    let found = versions(&demo(), &vault.store).await.unwrap();
    for (_, kek) in found.iter().filter(|(_, kek)| kek.hsm.is_none()) {
        assert!(vault.keys.known_end(&demo(), kek).await.unwrap().is_some());
    }
}

async fn a_key_whose_token_is_away_keeps_no_other_from_reaching_its_age(vault: Vault) {
    let vault = vault.with_a_token_that_was_left().await;
    vault.put_state(2, KekState::Destroying).await;
    let year = Duration::from_secs(365 * 86_400);
    vault.clock.advance(year);
    vault.upkeep(Some(year)).pass().await.unwrap();
    assert_eq!((vault.state(2).await, vault.state(3).await), (KekState::Destroying, KekState::Deactivated));
    assert_eq!(vault.state(4).await, KekState::Active);
}
