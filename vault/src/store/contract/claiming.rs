//! Keys of tokens that two versions would stand on: who comes second hears why.

use super::on_every_engine;
use super::vault::{NOW, Vault, demo};
use crate::domain::{KekId, TenantName};
use crate::keys::{self, HsmKek, KekRecord, KekState, MadeKek};
use crate::store::Error;
use crate::store::administration::Administrator;
use crate::store::key_commit::KeyCommit;
use crate::store::records::Body as _;

on_every_engine!(who_comes_second_to_a_key_of_a_token_hears_that_it_is_in_use);

/// The second version of some key, in a token.
pub(super) fn version(hsm: HsmKek) -> KekRecord {
    KekRecord {
        kek_id: KekId::generate(NOW),
        version: 2,
        mechanism: hsm.canary.kek.profile.to_string(),
        state: KekState::Active,
        created_at: NOW,
        compromised_at: None,
        ended: None,
        hsm: Some(Box::new(hsm)),
    }
}

/// Both looked before either had it: the claims in the commit keep them apart, and the second look says what it came to.
async fn who_comes_second_to_a_key_of_a_token_hears_that_it_is_in_use(vault: Vault) {
    let vault = vault.with_tenant().await;
    let other: TenantName = "other".parse().unwrap();
    vault.make_tenant(&other).await;
    let first = version(HsmKek::found("own", "17", "a1"));
    vault.decree(first.to_row(&demo(), &first.row_key(), 1).unwrap()).await.unwrap();
    let commit = async |hsm: HsmKek| {
        let made = MadeKek::local(&other, version(hsm));
        let by = Administrator { tenant: other.clone(), ..vault.by() };
        let commit = KeyCommit::new(by, made.record.kek_id).made(&made, "kek.rotated").unwrap();
        commit.submit(made, vault.ground()).await
    };
    for (label, serial, value) in [("own", "17", "b2"), ("other", "18", "a1")] {
        let second = commit(HsmKek::found(label, serial, value)).await;
        let Err(Error::Keys(keys::Error::HsmRefused(why))) = second else { panic!("{second:?}") };
        assert_eq!((why.member, why.code), ("kek", "in_use"));
    }
    commit(HsmKek::found("other", "17", "c3")).await.unwrap();
}
