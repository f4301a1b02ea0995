//! The access log: lists, openings, integration.

use std::time::Duration;

use super::vault::{NOW, Vault, demo, entry};
use super::{on_every_engine, on_postgres};
use crate::access_log::{Action, Certificate, Leaf, Personal};
use crate::domain::{DataKeyClass, TenantName, ValueId};
use crate::store::committer::operation::{Changes, Decision, Reads};
use crate::store::integration::{Checkpointed, Integration, LaneAdvance, LogAdvance, LogHead, TileRow};
use crate::store::node_key::NodeKeyRecord;
use crate::store::records::Body;
use crate::store::rows::Table;
use crate::store::{EntryFilter, Error};

on_every_engine!(
    personal_members_open_until_they_are_erased,
    batches_verify_under_the_certified_key,
    integration_is_compared_and_swapped,
    lists_go_on_where_they_stopped,
    no_entry_is_left_out_where_those_of_two_nodes_wait,
    the_newest_come_first_for_persons,
    a_stopped_node_says_farewell,
    a_sign_of_life_names_the_lane,
    columns_that_contradict_their_leaf_are_found,
);

mod of_a_long_log {
    use super::*;

    on_postgres!(what_waits_is_found_by_steps_whatever_the_server_makes_of_the_log);
}

async fn what_waits_is_found_by_steps_whatever_the_server_makes_of_the_log(vault: Vault) {
    let vault = vault.with_tenant().await;
    let boot = "decode(repeat('ab', 16), 'hex')";
    // Batches that are integrated, to the server as many as a long log has: it takes a third of all for such as are not.
    for rows in [
        format!("log_lanes SELECT '-system', {boot}, 0, 0, 40000, '\\x00'"),
        format!(
            "log_groups SELECT 'demo', {boot}, 0, n * 4, 4, n * 4, '\\x00', '\\x00' FROM generate_series(0, 9999) n"
        ),
        format!(
            "access_log (tenant, boot, lane, number, time, action, outcome, actor_id, leaf) \
             SELECT 'demo', {boot}, 0, n, 0, 'value.captured', 'allowed', 'a', '\\x00' FROM generate_series(0, 39999) n"
        ),
    ] {
        vault.tamper(&format!("INSERT INTO {rows}")).await;
    }
    vault.tamper("ANALYZE").await;
    // A plan that is made for any filter, as the server may prefer after a while.
    vault
        .tamper(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET plan_cache_mode = force_generic_plan', current_database()); \
             PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid(); END $$",
        )
        .await;
    let filter = EntryFilter { action: Some("value.captured".to_owned()), ..EntryFilter::default() };
    let page = vault.store.entries(&demo(), &filter, None, 100).await.unwrap();
    assert!(page.entries.is_empty() && page.next.is_none());
}

async fn write(vault: &Vault, value_id: Option<ValueId>) -> crate::access_log::Receipt {
    let changes = move || {
        let mut written = entry(&demo(), Action::ValueDereferenced);
        (written.value_id, written.address) = (value_id, Some("192.0.2.7".to_owned()));
        Changes { entries: vec![written.into()], ..Changes::default() }
    };
    vault.write(changes).await.unwrap().receipts()[0]
}

async fn personal_members_open_until_they_are_erased(vault: Vault) {
    let vault = vault.with_tenant().await;
    let receipt = write(&vault, None).await;
    let read = vault.store.entry_at(&demo(), &receipt.position).await.unwrap().unwrap();
    let parsed = Leaf::parse(&read.leaf).unwrap();
    assert!(!String::from_utf8_lossy(&read.leaf).contains("192.0.2.7"));
    assert_eq!(read.openings.len(), 4);
    let address = read.openings.iter().find(|opening| opening.member == Personal::Address).unwrap();
    assert_eq!(address.value(), Some("192.0.2.7"));
    assert_eq!(address.commitment(), parsed.commitment(Personal::Address));
    vault.store.erase_openings(&demo(), &receipt.position).await.unwrap();
    let read = vault.store.entry_at(&demo(), &receipt.position).await.unwrap().unwrap();
    assert!(read.openings.is_empty() && read.leaf.len() > 100);
    // With the epoch's key they go too.
    let receipt = write(&vault, None).await;
    let class = DataKeyClass::LogOpening;
    let gone = class.erased_at(class.epoch(NOW)).unwrap();
    vault.clock.advance(gone.since(NOW) + Duration::from_secs(1));
    vault.keys.forget_tenant(&demo());
    assert!(vault.store.entry_at(&demo(), &receipt.position).await.unwrap().unwrap().openings.is_empty());
}

async fn certificate(vault: &Vault) -> Certificate {
    let system = TenantName::system();
    let boot = vault.committer.identity().boot().to_string();
    let row = vault.store.row(Table::NodeKeys, &system, &boot).await.unwrap().unwrap();
    let record = NodeKeyRecord::from_row(&row).unwrap();
    let signer = vault.keys.log_signer(&system).await.unwrap();
    Certificate::open(&record.certificate, &[signer.verifier().clone()]).unwrap()
}

async fn batches_verify_under_the_certified_key(vault: Vault) {
    let vault = vault.with_tenant().await;
    let receipt = write(&vault, None).await;
    let certificate = certificate(&vault).await;
    receipt.verify(&demo(), &certificate).unwrap();
    let lane = vault.waiting_lanes().await[0];
    let (pending, _) = vault.store.pending(lane.boot, lane.lane, lane.next, 10_000).await.unwrap();
    let mut previous = [0; 32];
    for batch in &pending {
        batch.batch.verify(&batch.groups, &certificate).unwrap();
        assert_eq!(batch.batch.previous, previous);
        previous = batch.batch.end().previous;
        for group in &batch.groups {
            let own = batch.entries.iter().filter(|(tenant, ..)| *tenant == group.tenant);
            let digest = crate::access_log::Group::digest_of(own.clone().map(|(_, _, leaf)| leaf.as_slice()));
            assert_eq!((own.count() as u64, digest), (group.count, group.digest));
        }
    }
    assert!(pending.len() >= 4);
}

async fn integrate(vault: &Vault) -> Integration {
    let lane = vault.waiting_lanes().await[0];
    let (pending, _) = vault.store.pending(lane.boot, lane.lane, lane.next, 10_000).await.unwrap();
    let own = pending.iter().flat_map(|batch| &batch.entries).filter(|(tenant, ..)| *tenant == demo());
    let positions: Vec<_> = own.map(|(_, position, _)| *position).collect();
    let from = vault.store.head(&demo()).await.unwrap();
    let size = from.map_or(0, |head| head.size) + positions.len() as u64;
    let end = pending.last().unwrap().batch.end();
    Integration {
        lanes: vec![LaneAdvance {
            boot: lane.boot,
            lane: lane.lane,
            from: lane.next,
            next: end.next,
            previous: end.previous,
        }],
        logs: vec![LogAdvance {
            log: demo(),
            from,
            to: LogHead { size, root: [u8::try_from(size).unwrap(); 32] },
            positions,
            tiles: vec![TileRow { level: 0, tile: 0, hashes: vec![1; 32 * usize::try_from(size).unwrap()] }],
            checkpoint: Some(Checkpointed { size, time: NOW, note: format!("note {size}") }),
        }],
    }
}

async fn integration_is_compared_and_swapped(vault: Vault) {
    let vault = vault.with_tenant().await;
    let receipt = write(&vault, None).await;
    let step = integrate(&vault).await;
    vault.store.integrate(&step).await.unwrap();
    assert!(matches!(vault.store.integrate(&step).await, Err(Error::Conflict)));
    let mut other = step.clone();
    other.logs[0].from = Some(LogHead { size: step.logs[0].to.size, root: [0; 32] });
    assert!(matches!(vault.store.integrate(&other).await, Err(Error::Conflict)));
    assert!(vault.waiting_lanes().await.is_empty());
    assert_eq!(vault.store.head(&demo()).await.unwrap(), Some(step.logs[0].to));
    let read = vault.store.entry_at(&demo(), &receipt.position).await.unwrap().unwrap();
    assert_eq!(read.index, Some(step.logs[0].to.size - 1));
    // A second checkpoint of one size is never stored; a narrower tile never replaces a wider one.
    let size = step.logs[0].to.size;
    let second = Checkpointed { size, time: NOW, note: "another".to_owned() };
    assert_eq!(vault.store.insert_checkpoint(&demo(), &second).await.unwrap().note, format!("note {size}"));
    assert_eq!(vault.store.checkpoint(&demo(), None).await.unwrap().unwrap().size, size);
    write(&vault, None).await;
    let mut step = integrate(&vault).await;
    step.logs[0].tiles[0].hashes = vec![2; 32];
    vault.store.integrate(&step).await.unwrap();
    let tile = vault.store.tile(&demo(), 0, 0).await.unwrap().unwrap();
    assert_eq!(tile, vec![1; 32 * usize::try_from(size).unwrap()]);
    let leaves = vault.store.leaves(&demo(), 0..100).await.unwrap();
    assert!(leaves.iter().map(|(index, ..)| *index).eq(0..size + 1));
}

async fn all(vault: &Vault, filter: &EntryFilter, limit: usize) -> Vec<crate::store::StoredEntry> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = vault.store.entries(&demo(), filter, cursor.as_deref(), limit).await.unwrap();
        found.extend(page.entries);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return found,
        }
    }
}

async fn lists_go_on_where_they_stopped(vault: Vault) {
    let vault = vault.with_tenant().await;
    let value_id = ValueId::generate(NOW);
    for at in 0..7 {
        write(&vault, (at % 2 == 0).then_some(value_id)).await;
        if at == 3 {
            vault.store.integrate(&integrate(&vault).await).await.unwrap();
        }
    }
    let everything = all(&vault, &EntryFilter::default(), 1000).await;
    let of_value = EntryFilter { value_id: Some(value_id), ..EntryFilter::default() };
    for limit in 1..4 {
        let pages = all(&vault, &EntryFilter::default(), limit).await;
        assert_eq!(pages, everything);
        assert_eq!(all(&vault, &of_value, limit).await.len(), 4);
    }
    let integrated = everything.iter().filter(|entry| entry.index.is_some()).count();
    assert!(everything[..integrated].iter().map(|entry| entry.index).eq((0..integrated as u64).map(Some)));
    assert!(everything.len() - integrated == 3);
    let denied = EntryFilter { outcome: Some("denied".to_owned()), ..EntryFilter::default() };
    assert!(all(&vault, &denied, 10).await.is_empty());
    // What was shown while it waited is not shown again after its integration.
    let page = vault.store.entries(&demo(), &EntryFilter::default(), None, everything.len() - 1).await.unwrap();
    vault.store.integrate(&integrate(&vault).await).await.unwrap();
    let rest = vault.store.entries(&demo(), &EntryFilter::default(), page.next.as_deref(), 100).await.unwrap();
    assert_eq!(rest.entries.len(), 1);
    assert!(matches!(vault.store.entries(&demo(), &EntryFilter::default(), Some("x"), 1).await, Err(Error::Cursor)));
}

async fn no_entry_is_left_out_where_those_of_two_nodes_wait(vault: Vault) {
    let vault = vault.with_tenant().await;
    let (_store, second) = vault.second_node().await;
    for _ in 0..5 {
        write(&vault, None).await;
    }
    for _ in 0..9 {
        let ask = vault.ask(Reads::default(), |_, _| {
            let entries = vec![entry(&demo(), Action::ValueDereferenced).into()];
            Decision::Write(Changes { entries, ..Changes::default() }, ())
        });
        second.submit(ask).await.unwrap();
    }
    let filter = EntryFilter { action: Some("value.dereferenced".into()), ..EntryFilter::default() };
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = vault.store.entries(&demo(), &filter, cursor.as_deref(), 8).await.unwrap();
        found.extend(page.entries.iter().map(|entry| entry.position));
        if cursor.is_none() {
            // What the first node writes now comes before what the second one has shown, in the order of places.
            for _ in 0..4 {
                write(&vault, None).await;
            }
            while !vault.waiting_lanes().await.is_empty() {
                vault.store.integrate(&integrate(&vault).await).await.unwrap();
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let mut there: Vec<_> = all(&vault, &filter, 1000).await.iter().map(|entry| entry.position).collect();
    assert_eq!(there.len(), 18);
    found.sort_unstable();
    there.sort_unstable();
    assert_eq!(found, there, "each once");
}

async fn the_newest_come_first_for_persons(vault: Vault) {
    let vault = vault.with_tenant().await;
    for at in 0..7 {
        write(&vault, None).await;
        if at == 3 {
            vault.store.integrate(&integrate(&vault).await).await.unwrap();
        }
    }
    let filter = EntryFilter::default();
    let mut oldest_first = all(&vault, &filter, 1000).await;
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let (page, next) = vault.store.newest_entries(&demo(), &filter, before, 3).await.unwrap();
        assert!(page.len() <= 6, "those that wait and a page");
        found.extend(page);
        before = next;
        if next.is_none() {
            break;
        }
    }
    oldest_first.reverse();
    assert_eq!(found, oldest_first);
}

async fn a_stopped_node_says_farewell(vault: Vault) {
    let vault = vault.with_tenant().await;
    write(&vault, None).await;
    vault.committer.stop().await.unwrap();
    for log in [demo(), TenantName::system()] {
        let page = vault.store.entries(&log, &EntryFilter::default(), None, 1000).await.unwrap();
        let last = Leaf::parse(&page.entries.last().unwrap().leaf).unwrap();
        assert_eq!(last.action, "node.stopped");
        assert!(last.fact("next").is_some());
    }
    assert!(matches!(vault.write(Changes::default).await, Err(Error::Unavailable)));
}

async fn a_sign_of_life_names_the_lane(vault: Vault) {
    let vault = vault.with_tenant().await;
    vault.committer.beat().await.unwrap();
    let beats = vault.store.heartbeats().await.unwrap();
    beats[0].verify(&certificate(&vault).await).unwrap();
    let entries = vault.number("SELECT count(*) FROM access_log").await;
    assert_eq!((beats.len(), beats[0].lanes[0].next), (1, u64::try_from(entries).unwrap()));
}

async fn columns_that_contradict_their_leaf_are_found(vault: Vault) {
    let vault = vault.with_tenant().await;
    write(&vault, None).await;
    vault.store.integrate(&integrate(&vault).await).await.unwrap();
    assert!(vault.store.contradictions(&demo(), 0..100).await.unwrap().is_empty());
    vault.tamper("UPDATE access_log SET outcome = 'denied' WHERE action = 'value.dereferenced'").await;
    assert_eq!(vault.store.contradictions(&demo(), 0..100).await.unwrap().len(), 1);
}
