//! Rows that decide: what an attacker with the database makes of them is refused.

use super::on_every_engine;
use super::vault::{NOW, Vault, demo, entry, tenant_row};
use crate::access_log::Action;
use crate::domain::credential::CredentialRecord;
use crate::domain::{AppDocument, CaptureSessionId, CredentialId, CredentialKind, TenantName};
use crate::keys::{KekRecord, KekState};
use crate::store::committer::operation::Changes;
use crate::store::kek_states::versions;
use crate::store::records::{Body, StoredCredential};
use crate::store::rows::{DecidingRow, Table};
use crate::store::{Catalog, Error};

on_every_engine!(
    a_changed_row_is_refused,
    a_row_moved_to_another_tenant_or_key_is_refused,
    a_row_put_back_is_refused,
    a_row_that_vanished_is_refused,
    a_session_put_back_is_refused,
    a_session_moves_on_only_with_an_entry_that_says_so,
    an_entry_that_only_looks_newest_refuses_the_row,
    an_app_name_belongs_to_one_tenant,
    the_catalog_follows_the_generation,
    opened_data_keys_are_forgotten_where_a_kek_changed_and_kept_where_anything_else_did,
    rows_come_in_parts_that_join_without_gap_and_are_checked,
    a_row_without_its_entry_is_not_written,
);

fn credential(revoked: bool, id: CredentialId) -> StoredCredential {
    StoredCredential {
        record: CredentialRecord {
            credential_id: id,
            kind: CredentialKind::Flow,
            name: "shop".to_owned(),
            app: None,
            flow: Some("charge-card".parse().unwrap()),
            created_at: NOW,
            expires_at: None,
            revoked_at: revoked.then_some(NOW),
            suspended: false,
        },
        hash: [4; 32],
    }
}

fn row(revoked: bool, id: CredentialId, version: u64) -> DecidingRow {
    credential(revoked, id).to_row(&demo(), &id.to_string(), version).unwrap()
}

async fn with_credential(vault: Vault) -> (Vault, CredentialId) {
    let vault = vault.with_tenant().await;
    let id = CredentialId::generate(NOW);
    vault.decree(row(false, id, 1)).await.unwrap();
    (vault, id)
}

fn refused<T: std::fmt::Debug>(read: Result<T, Error>) {
    assert!(matches!(read, Err(Error::Tampered("credentials"))), "{read:?}");
}

async fn a_changed_row_is_refused(vault: Vault) {
    let (vault, id) = with_credential(vault).await;
    let key = id.to_string();
    assert_eq!(vault.store.row(Table::Credentials, &demo(), &key).await.unwrap(), Some(row(false, id, 1)));
    vault.tamper(&format!("UPDATE credentials SET body = {}", vault.replaced("body", "shop", "mine"))).await;
    refused(vault.store.row(Table::Credentials, &demo(), &key).await);
    vault.tamper(&format!("UPDATE credentials SET body = {}", vault.replaced("body", "mine", "shop"))).await;
    assert!(vault.store.row(Table::Credentials, &demo(), &key).await.is_ok());
    vault.tamper("UPDATE credentials SET version = 2").await;
    refused(vault.store.row(Table::Credentials, &demo(), &key).await);
}

async fn rows_come_in_parts_that_join_without_gap_and_are_checked(vault: Vault) {
    let vault = vault.with_tenant().await;
    for _ in 0..5 {
        vault.decree(row(false, CredentialId::generate(NOW), 1)).await.unwrap();
    }
    let all = vault.store.rows(Table::Credentials, &demo()).await.unwrap();
    let (mut joined, mut after) = (Vec::new(), String::new());
    loop {
        let part = vault.store.rows_after(Table::Credentials, (&after, 2), &demo()).await.unwrap();
        assert!(part.len() <= 2);
        let Some(last) = part.last() else { break };
        after.clone_from(&last.key);
        joined.extend(part);
    }
    assert_eq!((joined.len(), &joined), (5, &all));
    vault.tamper(&format!("UPDATE credentials SET body = {}", vault.replaced("body", "shop", "mine"))).await;
    refused(vault.store.rows_after(Table::Credentials, ("", 2), &demo()).await);
}

async fn a_row_moved_to_another_tenant_or_key_is_refused(vault: Vault) {
    let (vault, id) = with_credential(vault).await;
    let other: TenantName = "other".parse().unwrap();
    vault.make_tenant(&other).await;
    vault
        .tamper(
            "INSERT INTO credentials (tenant, key, version, body, mac, mac_key_id) \
             SELECT 'other', key, version, body, mac, mac_key_id FROM credentials",
        )
        .await;
    refused(vault.store.row(Table::Credentials, &other, &id.to_string()).await);
    refused(vault.store.rows(Table::Credentials, &other).await);
    let catalog = Catalog::start(vault.store.clone());
    refused(catalog.tenant(&other).await.map(|_| ()));
    // The tenant's own is served still.
    let (tenant, record, hash) = catalog.credential(&id).await.unwrap().unwrap();
    assert_eq!((tenant, record, hash), (demo(), credential(false, id).record, [4; 32]));
    vault
        .tamper(
            "INSERT INTO credentials (tenant, key, version, body, mac, mac_key_id) \
             SELECT tenant, 'second', version, body, mac, mac_key_id FROM credentials WHERE tenant = 'demo'",
        )
        .await;
    refused(vault.store.row(Table::Credentials, &demo(), "second").await);
    vault
        .tamper(
            "INSERT INTO flows (tenant, key, version, body, mac, mac_key_id) \
             SELECT tenant, key, version, body, mac, mac_key_id FROM credentials WHERE key <> 'second'",
        )
        .await;
    let moved = vault.store.row(Table::Flows, &demo(), &id.to_string()).await;
    assert!(matches!(moved, Err(Error::Tampered("flows"))));
}

async fn a_row_put_back_is_refused(vault: Vault) {
    let (vault, id) = with_credential(vault).await;
    vault.tamper("CREATE TABLE kept AS SELECT * FROM credentials").await;
    vault.decree(row(true, id, 2)).await.unwrap();
    assert_eq!(vault.store.row(Table::Credentials, &demo(), &id.to_string()).await.unwrap(), Some(row(true, id, 2)));
    vault.tamper("UPDATE credentials SET (version, body, mac) = (SELECT version, body, mac FROM kept)").await;
    refused(vault.store.row(Table::Credentials, &demo(), &id.to_string()).await);
    refused(Catalog::start(vault.store.clone()).credential(&id).await);
    // An operation that asks for the row fails; another one does not.
    let reads =
        crate::store::Reads { rows: vec![(Table::Credentials, id.to_string())], ..crate::store::Reads::default() };
    let asked = vault.committer.submit(vault.ask(reads, |_, _| crate::store::Decision::Answer(())));
    let (asked, other) = futures_util::future::join(asked, vault.write(Changes::default)).await;
    refused(asked.map(|_| ()));
    other.unwrap();
}

async fn a_row_that_vanished_is_refused(vault: Vault) {
    let (vault, id) = with_credential(vault).await;
    vault.tamper("DELETE FROM credentials").await;
    refused(vault.store.row(Table::Credentials, &demo(), &id.to_string()).await);
}

async fn a_session_put_back_is_refused(vault: Vault) {
    let vault = vault.with_tenant().await;
    let session = CaptureSessionId::generate(NOW);
    let version = move |version| {
        let (table, key, body) = (Table::CaptureSessions, session.to_string(), b"{}".to_vec());
        DecidingRow { table, tenant: demo(), key, version, body }
    };
    for number in 1..=3 {
        if number == 3 {
            vault.tamper("CREATE TABLE kept AS SELECT * FROM capture_sessions").await;
        }
        let mut captured = entry(&demo(), Action::ValueCaptured);
        captured.object = (number > 1).then(|| version(number).object(vault.keys.realm()));
        let write = move || Changes {
            rows: vec![version(number)],
            entries: vec![captured.clone().into()],
            ..Changes::default()
        };
        vault.write(write).await.unwrap();
        assert_eq!(vault.store.session(session).await.unwrap(), Some(version(number)));
    }
    vault.tamper("UPDATE capture_sessions SET (version, mac) = (SELECT version, mac FROM kept)").await;
    // Nothing in memory is needed to see it.
    let vault = vault.killed_and_started().await;
    let read = vault.store.session(session).await;
    assert!(matches!(read, Err(Error::Tampered("capture_sessions"))), "{read:?}");
    let reads = || crate::store::Reads { sessions: vec![session], ..crate::store::Reads::default() };
    let asked = vault.committer.submit(vault.ask(reads(), |_, _| crate::store::Decision::Answer(()))).await;
    assert!(matches!(asked, Err(Error::Tampered("capture_sessions"))), "{:?}", asked.map(|_| ()));
}

async fn a_session_moves_on_only_with_an_entry_that_says_so(vault: Vault) {
    let vault = vault.with_tenant().await;
    let session = CaptureSessionId::generate(NOW);
    let write = |version| {
        let (table, key, body) = (Table::CaptureSessions, session.to_string(), b"{}".to_vec());
        let row = DecidingRow { table, tenant: demo(), key, version, body };
        vault.write(move || Changes { rows: vec![row.clone()], ..Changes::default() })
    };
    write(1).await.unwrap();
    let silent = write(2).await;
    assert!(matches!(silent, Err(Error::Rule(_))), "{silent:?}");
}

async fn an_entry_that_only_looks_newest_refuses_the_row(vault: Vault) {
    let (vault, id) = with_credential(vault).await;
    vault.tamper("CREATE TABLE kept AS SELECT * FROM credentials").await;
    vault.decree(row(true, id, 2)).await.unwrap();
    vault.tamper("UPDATE credentials SET (version, body, mac) = (SELECT version, body, mac FROM kept)").await;
    let first = "object LIKE 'credentials/%' AND object_version = 1";
    vault.tamper(&format!("UPDATE access_log SET object_version = 999 WHERE {first}")).await;
    refused(vault.store.row(Table::Credentials, &demo(), &id.to_string()).await);
    refused(Catalog::start(vault.store.clone()).credential(&id).await);
    vault.tamper("UPDATE access_log SET object_version = 1 WHERE object_version = 999").await;
    let forge = "INSERT INTO access_log (tenant, boot, lane, number, time, action, outcome, actor_id, object, \
                 object_version, leaf) SELECT tenant, boot, lane, number + 1000, time, action, outcome, actor_id, object, \
                 999, leaf FROM access_log WHERE";
    vault.tamper(&format!("{forge} {first}")).await;
    refused(vault.store.row(Table::Credentials, &demo(), &id.to_string()).await);
}

async fn an_app_name_belongs_to_one_tenant(vault: Vault) {
    let vault = vault.with_tenant().await;
    let other: TenantName = "other".parse().unwrap();
    vault.make_tenant(&other).await;
    let text = "name = \"shop\"\n[fields.note]\ntype = \"text\"\npurposes = [\"x\"]\nflows = [\"y\"]\n";
    let app = AppDocument::from_toml(text).unwrap();
    vault.decree(app.to_row(&demo(), "shop", 1).unwrap()).await.unwrap();
    let taken = vault.decree(app.to_row(&other, "shop", 1).unwrap()).await;
    assert!(matches!(taken, Err(Error::Conflict)), "{taken:?}");
    let catalog = Catalog::start(vault.store.clone());
    assert_eq!(catalog.tenant_of_app(&"shop".parse().unwrap()).await.unwrap(), Some(demo()));
    assert_eq!(catalog.tenant_of_app(&"none".parse().unwrap()).await.unwrap(), None);
    // Another route leads to a tenant that has no such app.
    vault.tamper("UPDATE app_names SET owner = 'other'").await;
    let fresh = Catalog::start(vault.store.clone());
    assert_eq!(fresh.tenant_of_app(&"shop".parse().unwrap()).await.unwrap(), None);
}

async fn the_catalog_follows_the_generation(vault: Vault) {
    let vault = vault.with_tenant().await;
    let catalog = Catalog::start(vault.store.clone());
    let before = catalog.tenant(&demo()).await.unwrap().unwrap();
    assert!(!before.tenant.sealed && before.keks.len() == 1);
    vault.decree(tenant_row(&demo(), 2, true)).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !catalog.tenant(&demo()).await.unwrap().unwrap().tenant.sealed {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert!(catalog.tenant(&"none".parse().unwrap()).await.unwrap().is_none());
    assert!(catalog.tenant(&TenantName::system()).await.unwrap().is_some());
    vault.store.close().await;
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while catalog.tenant(&demo()).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("who cannot read the generation serves nothing");
}

async fn opened_data_keys_are_forgotten_where_a_kek_changed_and_kept_where_anything_else_did(vault: Vault) {
    let vault = vault.with_tenant().await;
    let catalog = Catalog::start(vault.store.clone());
    let read = async || catalog.tenant(&demo()).await.unwrap().unwrap();
    let mut generation = read().await.generation;
    let (version, kek) = versions(&demo(), &vault.store).await.unwrap().remove(0);
    let id = vault.data_keys().await[0];
    let is_opened = || vault.keys.cached(&demo(), id).is_some();
    // Other settings, heard of from the generation or asked for anew. Written as another node does: nobody tells this one.
    vault.decree(tenant_row(&demo(), 2, false)).await.unwrap();
    let heard = async {
        while read().await.generation == generation {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), heard).await.unwrap();
    generation = read().await.generation;
    catalog.refresh(&demo());
    assert!(read().await.generation == generation && is_opened());
    // A KEK's new state, heard of without a request.
    let becomes = |state, version| KekRecord { state, ..kek.clone() }.to_row(&demo(), &kek.row_key(), version).unwrap();
    vault.decree(becomes(KekState::Deactivated, version + 1)).await.unwrap();
    let forgotten = async {
        while is_opened() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_secs(60), forgotten).await.is_ok(), "it is still opened");
    // The same where somebody asks for the settings anew before they are heard of.
    vault.keys.data_key(&vault.store, &demo(), id).await.unwrap();
    assert!(is_opened());
    vault.decree(becomes(KekState::Active, version + 2)).await.unwrap();
    catalog.refresh(&demo());
    read().await;
    assert!(!is_opened());
}

async fn a_row_without_its_entry_is_not_written(vault: Vault) {
    let vault = vault.with_tenant().await;
    let id = CredentialId::generate(NOW);
    let silent = vault.write(move || Changes { rows: vec![row(false, id, 1)], ..Changes::default() }).await;
    assert!(matches!(silent, Err(Error::Rule(_))), "{silent:?}");
}
