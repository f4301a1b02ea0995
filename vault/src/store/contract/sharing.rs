//! Upkeep of many tenants on one node: who has many values, and whose rows do not read, holds up no other.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::on_every_engine;
use super::vault::{Vault, demo};
use crate::crypto;
use crate::domain::{DataKeyClass, DataKeyId, Plaintext, RetentionClass, SecureValueKey, TenantName, ValueId};
use crate::keys::KekState;
use crate::store::administration::Administrator;
use crate::store::committer::operation::{Changes, Decision, Reads};
use crate::store::kek_states::{self, Changed, Successor, Wish};
use crate::store::resealing;

on_every_engine!(
    a_tenant_of_many_values_keeps_no_other_from_being_sealed_anew,
    upkeep_seals_all_tenants_anew_though_the_rows_of_one_do_not_read,
);

/// As many tenants are looked after at once, and a few more.
const TENANTS: usize = 10;
/// A long wait, for what never takes a second.
const LONG: Duration = Duration::from_secs(60);

impl Vault {
    /// So many values of a tenant, as captures write them.
    async fn put(&self, tenant: &TenantName, count: usize) -> Vec<ValueId> {
        let (class, now) = (DataKeyClass::Stored, self.clock.now());
        let data_key = self.keys.data_key_to_seal(&self.store, tenant, class, now).await.unwrap();
        let text = Plaintext::new("4111111111111111".to_owned().into());
        let rows = (0..count).map(|_| {
            let mut row = self.value(RetentionClass::Stored, None);
            let key = SecureValueKey::generate(now).unwrap();
            (row.metadata.value_id, row.metadata.tenant, row.metadata.uses) = (key.value_id(), tenant.clone(), None);
            row.sealed = crypto::seal_value(&text, &key, &row.metadata, &data_key).unwrap();
            row.data_key_id = data_key.id();
            std::sync::Arc::new(row)
        });
        let rows: Vec<_> = rows.collect();
        let ids = rows.iter().map(|row| row.metadata.value_id).collect();
        let mut ask = self.ask(Reads::default(), move |_, _| {
            Decision::Write(Changes { new_values: rows.clone(), ..Changes::default() }, ())
        });
        ask.tenant = tenant.clone();
        self.committer.submit(ask).await.unwrap();
        ids
    }

    fn node_for(&self, tenant: &TenantName) -> Administrator {
        Administrator { tenant: tenant.clone(), ..self.by() }
    }

    /// Says that the tenant's key leaked.
    async fn leaked(&self, tenant: &TenantName) {
        self.clock.advance(Duration::from_secs(1));
        let wish = Wish { kek_id: None, version: 1, state: KekState::Compromised, successor: Successor::First };
        let changed = kek_states::change(&self.node_for(tenant), wish, false, self.ground()).await.unwrap();
        assert!(matches!(changed, Changed::Done(_)), "{changed:?}");
    }

    async fn rests_on(&self, tenant: &TenantName, value_id: ValueId) -> DataKeyId {
        self.store.value(tenant, value_id).await.unwrap().unwrap().row.data_key_id
    }
}

async fn a_tenant_of_many_values_keeps_no_other_from_being_sealed_anew(vault: Vault) {
    let (vault, small) = (vault.with_tenant().await, "small".parse().unwrap());
    vault.make_tenant(&small).await;
    vault.put(&demo(), 1500).await;
    vault.put(&small, 1).await;
    for tenant in [demo(), small.clone()] {
        vault.leaked(&tenant).await;
    }
    // One turn for both, and the large one is the first to ask for it.
    let (turns, ended) = (Semaphore::new(1), Mutex::new(Vec::new()));
    let pass = async |tenant: TenantName| {
        let passed = resealing::pass(&vault.node_for(&tenant), false, &turns, vault.ground()).await.unwrap();
        ended.lock().unwrap().push(tenant);
        passed.moved
    };
    let moved = futures_util::future::join(pass(demo()), pass(small.clone())).await;
    assert_eq!((moved, ended.into_inner().unwrap()), ((1500, 1), vec![small, demo()]));
}

async fn upkeep_seals_all_tenants_anew_though_the_rows_of_one_do_not_read(vault: Vault) {
    let vault = vault.with_tenant().await;
    let tenants: Vec<TenantName> = (0..TENANTS).map(|at| format!("acme-{at}").parse().unwrap()).collect();
    let mut values = Vec::new();
    for tenant in &tenants {
        vault.make_tenant(tenant).await;
        let value_id = vault.put(tenant, 1).await[0];
        values.push((tenant, value_id, vault.rests_on(tenant, value_id).await));
        vault.leaked(tenant).await;
    }
    // Of the first one no key reads, of the second one a value does not say what it rests on.
    let nothing = vault.literal(&[0]);
    vault.tamper("UPDATE keks SET mac = mac_key_id WHERE tenant = 'acme-0'").await;
    vault.tamper(&format!("UPDATE secure_values SET data_key_id = {nothing} WHERE tenant = 'acme-1'")).await;
    let stop = CancellationToken::new();
    let ending = stop.clone().drop_guard();
    let upkeep = vault.upkeep(None).run(stop);
    let others = async {
        for (tenant, value_id, before) in &values[2..] {
            while vault.rests_on(tenant, *value_id).await == *before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        drop(ending);
    };
    let both = tokio::time::timeout(LONG, futures_util::future::join(upkeep, others)).await;
    both.expect("some tenant's values are not sealed anew");
}
