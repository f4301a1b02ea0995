//! The purge: what expired goes within the minute, what was extended stays, the log says how many.

use std::sync::Arc;
use std::time::Duration;

use super::on_every_engine;
use super::vault::{NOW, Vault, demo, entry};
use crate::access_log::{Action, Leaf};
use crate::crypto::{StateCode, ValueState};
use crate::domain::{CaptureSessionId, DataKeyClass, RetentionClass};
use crate::store::EntryFilter;
use crate::store::committer::operation::{Changes, Decision, Reads};
use crate::store::rows::{DecidingRow, StateRow, Table};

on_every_engine!(
    expired_values_go_and_extended_ones_stay,
    a_value_extended_before_the_purge_s_commit_stays,
    a_value_stays_until_its_entry_says_that_it_is_over_and_another_end_is_an_alarm,
    a_row_that_cannot_be_read_keeps_no_other_from_the_purge,
    what_is_over_by_one_clock_alone_stays,
    an_erasure_key_outlives_a_machine_whose_clock_is_ahead,
    requests_leave_nothing_behind,
    more_than_one_step_takes_goes_in_one_pass,
    values_that_are_counted_are_found_on_a_walk_through_all,
    a_store_that_hangs_keeps_no_idle_key_in_memory,
);

async fn expired_values_go_and_extended_ones_stay(vault: Vault) {
    let vault = vault.with_tenant().await;
    let minute = Some(Duration::from_secs(60));
    let short: Vec<_> = (0..3).map(|_| vault.value(RetentionClass::Session, minute)).collect();
    let kept = vault.value(RetentionClass::Stored, None);
    let (extended, kept_id) = (short[0].metadata.value_id, kept.metadata.value_id);
    let values: Vec<_> = short.iter().cloned().chain([kept]).collect();
    vault
        .write(move || Changes { new_values: values.iter().cloned().map(Into::into).collect(), ..Changes::default() })
        .await
        .unwrap();
    let state = ValueState {
        version: 1,
        code: StateCode::Active,
        uses_left: None,
        expires: Some(NOW.plus(Duration::from_secs(3600))),
        failures: 0,
    };
    let row = StateRow { value_id: extended, data_key_id: short[0].data_key_id, state, mac: [0; 32] };
    let reads = Reads { values: vec![extended], ..Reads::default() };
    let extend = vault.ask(reads, move |_, _| {
        let mut said = entry(&demo(), Action::ValueExtended);
        (said.value_id, said.state_version, said.expires_at) = (Some(extended), Some(1), row.state.expires);
        Decision::Write(Changes { states: vec![row.clone()], entries: vec![said.into()], ..Changes::default() }, ())
    });
    vault.committer.submit(extend).await.unwrap();
    assert_eq!(vault.committer.purge().await.unwrap(), 0);
    vault.clock.advance(Duration::from_secs(61));
    assert_eq!(vault.committer.purge().await.unwrap(), 2);
    assert!(vault.store.value(&demo(), extended).await.unwrap().is_some());
    assert!(vault.store.value(&demo(), short[1].metadata.value_id).await.unwrap().is_none());
    let filter = EntryFilter { action: Some("value.expired".to_owned()), ..EntryFilter::default() };
    let page = vault.store.entries(&demo(), &filter, None, 10).await.unwrap();
    let said: Vec<_> = page.entries.iter().map(|entry| Leaf::parse(&entry.leaf).unwrap()).collect();
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].retention, said[0].count), (Some(RetentionClass::Session), Some(2)));
    vault.clock.advance(Duration::from_secs(3600));
    assert_eq!(vault.committer.purge().await.unwrap(), 1);
    assert_eq!(vault.number("SELECT count(*) FROM value_states").await, 0);
    assert!(vault.store.value(&demo(), kept_id).await.unwrap().is_some());
}

/// The column the purge looks by says "over"; the row that decides says otherwise, as after an extension that came between.
async fn a_value_extended_before_the_purge_s_commit_stays(vault: Vault) {
    let vault = vault.with_tenant().await;
    let minute = Some(Duration::from_secs(60));
    let values = [vault.value(RetentionClass::Session, minute), vault.value(RetentionClass::Session, minute)];
    let [kept, gone] = [&values[0], &values[1]].map(|row| row.metadata.value_id);
    vault
        .write(move || Changes { new_values: values.iter().cloned().map(Into::into).collect(), ..Changes::default() })
        .await
        .unwrap();
    vault.tamper("UPDATE secure_values SET purge_after = 1").await;
    assert_eq!(vault.committer.purge().await.unwrap(), 0, "whoever writes the column alone takes nothing away");
    let id = vault.literal(gone.as_bytes());
    vault.tamper(&format!("UPDATE secure_values SET expires = 1 WHERE value_id = {id}")).await;
    assert_eq!(vault.committer.purge().await.unwrap(), 1);
    assert!(vault.store.value(&demo(), kept).await.unwrap().is_some());
}

/// Somebody wrote a time into the database by which the vault itself would destroy a value, and say that it was time.
async fn a_value_stays_until_its_entry_says_that_it_is_over_and_another_end_is_an_alarm(vault: Vault) {
    let vault = vault.with_tenant().await;
    let minute = Some(Duration::from_secs(60));
    let kept = vault.value(RetentionClass::Stored, None);
    let values = [kept, vault.value(RetentionClass::Session, minute), vault.value(RetentionClass::Session, minute)];
    let [never, later, honest] = [&values[0], &values[1], &values[2]].map(|row| row.metadata.value_id);
    let captures = values.iter().map(|row| {
        let mut said = entry(&demo(), Action::ValueCaptured);
        (said.value_id, said.expires_at) = (Some(row.metadata.value_id), row.metadata.expires);
        Arc::new(said)
    });
    let captures: Vec<_> = captures.collect();
    let rows: Vec<_> = values.into_iter().map(Arc::new).collect();
    vault
        .write(move || Changes { new_values: rows.clone(), entries: captures.clone(), ..Changes::default() })
        .await
        .unwrap();
    let [never_id, later_id] = [never, later].map(|id| vault.literal(id.as_bytes()));
    let over = NOW.as_millis() - 1;
    vault
        .tamper(&format!(
            "UPDATE secure_values SET expires = {over}, purge_after = {over} WHERE value_id IN ({never_id}, {later_id})"
        ))
        .await;
    // Used so often that its capture is none of the entries that are looked at: that holds nothing up.
    vault
        .write(move || {
            let used = |_| {
                let mut said = entry(&demo(), Action::ValueDereferenced);
                said.value_id = Some(honest);
                Arc::new(said)
            };
            Changes { entries: (0..200).map(used).collect(), ..Changes::default() }
        })
        .await
        .unwrap();
    assert_eq!(vault.committer.purge().await.unwrap(), 0);
    for id in [never, later] {
        assert!(vault.store.value(&demo(), id).await.unwrap().is_some());
        let alarms = vault.store.log_health().self_check().alarms;
        assert_eq!(alarms.iter().filter(|alarm| alarm.contains(&id.to_string())).count(), 1, "{alarms:?}");
    }
    vault.clock.advance(Duration::from_secs(61));
    assert_eq!(vault.committer.purge().await.unwrap(), 2, "what is over by its entry too goes, altered or not");
    assert!(vault.store.value(&demo(), honest).await.unwrap().is_none());
    assert!(vault.store.value(&demo(), later).await.unwrap().is_none());
    assert!(vault.store.value(&demo(), never).await.unwrap().is_some());
}

async fn a_row_that_cannot_be_read_keeps_no_other_from_the_purge(vault: Vault) {
    let vault = vault.with_tenant().await;
    let other: crate::domain::TenantName = "other".parse().unwrap();
    vault.make_tenant(&other).await;
    let minute = Some(Duration::from_secs(60));
    let values: Vec<_> = (0..5).map(|_| vault.value(RetentionClass::Session, minute)).collect();
    let broken = values[..2].iter().map(|row| vault.literal(row.metadata.value_id.as_bytes()));
    let broken: Vec<String> = broken.collect();
    let session = CaptureSessionId::generate(NOW);
    let until = NOW.plus(Duration::from_secs(60));
    vault
        .write(move || Changes {
            new_values: values.iter().cloned().map(Into::into).collect(),
            encs: vec![(session, [1; 32], until)],
            ..Changes::default()
        })
        .await
        .unwrap();
    vault.tamper(&format!("UPDATE secure_values SET retention = 'none' WHERE value_id = {}", broken[0])).await;
    vault.tamper(&format!("UPDATE secure_values SET tenant = 'No Tenant' WHERE value_id = {}", broken[1])).await;
    vault.clock.advance(Duration::from_secs(61));
    assert_eq!(vault.committer.purge().await.unwrap(), 3 + 1, "three values and an enc");
    assert_eq!(vault.number("SELECT count(*) FROM secure_values").await, 2);
    assert_eq!(vault.committer.purge().await.unwrap(), 0, "and it ends");
}

/// Longer than the first heartbeat, which waits for the store.
async fn a_store_that_hangs_keeps_no_idle_key_in_memory(vault: Vault) {
    let vault = vault.with_tenant().await;
    let key = vault.keys.data_key_to_seal(&vault.store, &demo(), DataKeyClass::Session, NOW).await.unwrap();
    let writer = vault.store.writer().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    vault.clock.advance(Duration::from_secs(61));
    let wiped = async {
        while Arc::strong_count(&key) > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wiped).await.expect("an idle key is wiped whatever the store does");
    drop(writer);
}

/// The database's clock jumped ahead, or this machine's is behind.
async fn what_is_over_by_one_clock_alone_stays(vault: Vault) {
    let vault = vault.with_tenant().await;
    let row = vault.value(RetentionClass::Session, Some(Duration::from_secs(60)));
    let value_id = row.metadata.value_id;
    vault.write(move || Changes { new_values: vec![row.clone().into()], ..Changes::default() }).await.unwrap();
    vault.clock.advance(Duration::from_secs(61));
    vault.clock.set_machine_ahead(-30_000);
    assert_eq!(vault.committer.purge().await.unwrap(), 0);
    assert!(vault.store.value(&demo(), value_id).await.unwrap().is_some());
    vault.clock.set_machine_ahead(3_600_000);
    assert_eq!(vault.committer.purge().await.unwrap(), 1);
}

/// All nodes live on them: one machine whose clock is ahead ends none.
async fn an_erasure_key_outlives_a_machine_whose_clock_is_ahead(vault: Vault) {
    const DAYS: i64 = 40 * 86_400_000;
    let vault = vault.with_tenant().await;
    let class = DataKeyClass::SensitiveAuthentication;
    vault.keys.data_key_to_seal(&vault.store, &demo(), class, NOW).await.unwrap();
    vault.clock.set_machine_ahead(DAYS);
    assert_eq!(vault.committer.end_erasure_keys().await.unwrap(), 0);
    vault.clock.advance(Duration::from_secs(40 * 86_400));
    vault.clock.set_machine_ahead(-DAYS);
    assert_eq!(vault.committer.end_erasure_keys().await.unwrap(), 0, "nor does the database's alone");
    vault.clock.set_machine_ahead(0);
    assert!(vault.committer.end_erasure_keys().await.unwrap() > 0);
}

async fn requests_leave_nothing_behind(vault: Vault) {
    let vault = vault.with_tenant().await;
    let session = CaptureSessionId::generate(NOW);
    let until = NOW.plus(Duration::from_secs(60));
    let row = DecidingRow {
        table: Table::CaptureSessions,
        tenant: demo(),
        key: session.to_string(),
        version: 1,
        body: b"{}".to_vec(),
    };
    vault
        .write(move || Changes { rows: vec![row.clone()], encs: vec![(session, [1; 32], until)], ..Changes::default() })
        .await
        .unwrap();
    for class in [DataKeyClass::SensitiveAuthentication, DataKeyClass::Stored] {
        vault.keys.data_key_to_seal(&vault.store, &demo(), class, NOW).await.unwrap();
    }
    let keys = vault.number("SELECT count(*) FROM data_keys").await;
    vault.clock.advance(Duration::from_secs(3 * 3600));
    assert_eq!(vault.committer.purge().await.unwrap(), 3);
    assert_eq!(vault.number("SELECT count(*) FROM data_keys").await, keys - 1);
    assert_eq!(vault.number("SELECT count(*) FROM capture_sessions").await, 0);
    assert_eq!(vault.number("SELECT count(*) FROM capture_encs").await, 0);
}

async fn more_than_one_step_takes_goes_in_one_pass(vault: Vault) {
    let vault = vault.with_tenant().await;
    let [session, lookup] = ["01", "02"].map(|byte| vault.literal(&[byte.parse().unwrap(); 16]));
    vault
        .tamper(&format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) \
             INSERT INTO capture_encs SELECT 'demo', {session}, {}, 1 FROM n",
            vault.blob_of("i")
        ))
        .await;
    vault
        .tamper(&format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) \
             INSERT INTO idempotency (tenant, lookup, body_mac, data_key_id, deadline, expires) \
             SELECT 'demo', {}, {lookup}, {lookup}, 1, 1 FROM n",
            vault.blob_of("i")
        ))
        .await;
    assert_eq!(vault.committer.purge().await.unwrap(), 4000);
    assert_eq!(
        vault.number("SELECT (SELECT count(*) FROM capture_encs) + (SELECT count(*) FROM idempotency)").await,
        0
    );
}

async fn values_that_are_counted_are_found_on_a_walk_through_all(vault: Vault) {
    let vault = vault.with_tenant().await;
    let mut values: Vec<_> = (0..7).map(|_| vault.value(RetentionClass::Session, None)).collect();
    for uncounted in [0, 3, 4, 5] {
        values[uncounted].metadata.uses = None;
    }
    let mut expected: Vec<_> = [1, 2, 6].map(|counted| values[counted].metadata.value_id).into();
    expected.sort();
    vault
        .write(move || Changes { new_values: values.iter().cloned().map(Into::into).collect(), ..Changes::default() })
        .await
        .unwrap();
    for step in [1, 2, 7, 100] {
        let (mut found, mut last) = (Vec::new(), None);
        loop {
            let walked = vault.store.counted_values(last.as_ref(), step).await.unwrap();
            assert!(walked.found.len() <= step);
            found.extend(walked.found.into_iter().map(|(_, value_id)| value_id));
            last = walked.last;
            if last.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "in steps of {step}");
    }
}
