//! Boots that ended without a word are closed by the next one, which says where they ended.

use std::time::Duration;

use super::{NOW, Vault, tenant};
use crate::access_log::node::LaneEnd;
use crate::domain::{BootId, TenantName};
use crate::sequencer::closing::Closing;
use crate::store::EntryFilter;

/// Long after the crash.
const LATER: Duration = Duration::from_secs(60);

impl Vault {
    pub(super) fn boot(&self) -> BootId {
        self.committer.identity().boot()
    }

    /// A boot that wrote a little, gave a sign of life and is gone; the folder as the next boot finds it.
    async fn after_a_crash() -> (Self, BootId, LaneEnd) {
        let dead = Self::start().await;
        dead.write(3).await;
        dead.committer.beat().await.unwrap();
        let (boot, end) = (dead.boot(), dead.committer.lanes()[0]);
        (Self::start_at(NOW.plus(LATER), dead.crash().await).await, boot, end)
    }

    async fn close_ended(&self) {
        let mut closing = Closing::new(self.store.clone());
        let silent = closing.silent().await.unwrap();
        closing.close_all(silent, &self.committer).await.unwrap();
    }
}

#[tokio::test]
async fn a_boot_that_ended_without_a_word_is_closed_by_an_entry_that_names_its_last_number() {
    let (vault, boot, end) = Vault::after_a_crash().await;
    vault.integrate().await;
    vault.close_ended().await;
    for (log, next) in [(tenant(), None), (TenantName::system(), Some(end.next.to_string()))] {
        let entries = vault.store.entries(&log, &EntryFilter::default(), None, 1000).await.unwrap().entries;
        let own = entries.iter().filter(|entry| entry.position.boot == boot).map(|entry| entry.position.number);
        let last = own.max().unwrap().to_string();
        let closed = vault.entries_of("node.stopped", &log).await;
        assert_eq!(closed.len(), 1, "{log}");
        let fact = |name| closed[0].fact(name).unwrap().to_owned();
        assert_eq!((fact("boot"), fact("lane"), &*fact("last")), (boot.to_string(), "0".to_owned(), &*last), "{log}");
        assert_eq!(closed[0].fact("next"), next.as_deref(), "how much others wrote is not a tenant's to know");
        assert_eq!((fact("closedBy"), &*closed[0].outcome), (vault.boot().to_string(), "unknown"));
    }
    assert_eq!(vault.alarms(), "");
    // Once is enough, whoever asks.
    vault.close_ended().await;
    assert_eq!(vault.entries_of("node.stopped", &tenant()).await.len(), 1);
}

#[tokio::test]
async fn a_boot_whose_closing_broke_off_is_closed_at_the_next_look() {
    let (vault, boot, _) = Vault::after_a_crash().await;
    let mut closing = Closing::new(vault.store.clone());
    assert_eq!(closing.silent().await.unwrap().len(), 1);
    // Another node begins, and dies before it says where the boot ended.
    vault.store.note_closing(boot).await.unwrap();
    vault.store.close_boot(boot).await.unwrap();
    let silent = closing.silent().await.unwrap();
    closing.close_all(silent, &vault.committer).await.unwrap();
    let closed = vault.entries_of("node.stopped", &TenantName::system()).await;
    assert!(closed.len() == 1 && closed[0].fact("boot") == Some(boot.to_string().as_str()));
    assert!(vault.store.closing_boots().await.unwrap().is_empty());
    assert!(closing.silent().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_another_node_noted_of_a_boot_is_not_forgotten_by_that_boot_itself() {
    let (vault, _, _) = Vault::after_a_crash().await;
    let mut closing = Closing::new(vault.store.clone());
    // It closes others, so that it knows who is closed.
    let silent = closing.silent().await.unwrap();
    closing.close_all(silent, &vault.committer).await.unwrap();
    let own = vault.committer.identity().boot();
    vault.store.note_closing(own).await.unwrap();
    let silent = closing.silent().await.unwrap();
    closing.close_all(silent, &vault.committer).await.unwrap();
    assert_eq!(vault.store.closing_boots().await.unwrap(), [own], "it is not over");
    assert!(vault.entries_of("node.stopped", &TenantName::system()).await.len() == 1);
}

#[tokio::test]
async fn a_boot_that_may_still_be_there_or_said_farewell_is_left_alone() {
    let living = Vault::start().await;
    living.write(1).await;
    let vault = Vault::start_at(NOW.plus(Duration::from_secs(29)), living.crash().await).await;
    vault.close_ended().await;
    assert!(vault.entries_of("node.stopped", &TenantName::system()).await.is_empty());
    let stopped = Vault::start().await;
    let vault = Vault::start_at(NOW.plus(LATER), stopped.end().await).await;
    vault.close_ended().await;
    let said = vault.entries_of("node.stopped", &TenantName::system()).await;
    assert!(said.len() == 1 && said[0].fact("closedBy").is_none());
}

#[tokio::test]
async fn integration_that_is_late_is_not_a_loss() {
    let (vault, _, end) = Vault::after_a_crash().await;
    vault.close_ended().await;
    assert_eq!(vault.alarms(), "");
    let closed = vault.entries_of("node.stopped", &TenantName::system()).await;
    assert_eq!(closed[0].fact("next"), Some(end.next.to_string().as_str()));
}

#[tokio::test]
async fn a_tail_that_a_sign_of_life_promised_is_missed_whatever_the_lane_rows_say() {
    let (vault, _, end) = Vault::after_a_crash().await;
    vault.meddle("DELETE FROM log_batches WHERE time < (SELECT max(time) FROM log_batches) AND first = (SELECT max(first) FROM log_batches WHERE time < (SELECT max(time) FROM log_batches))").await;
    let previous: String = end.previous.iter().map(|byte| format!("{byte:02x}")).collect();
    vault.meddle(format!("UPDATE log_lanes SET next = {}, previous = x'{previous}' WHERE opened < (SELECT max(opened) FROM log_lanes)", end.next)).await;
    vault.close_ended().await;
    assert!(vault.alarms().contains("acknowledged entries are gone"), "{}", vault.alarms());
}

#[tokio::test]
async fn a_lane_without_its_row_is_closed_too() {
    let (vault, boot, _) = Vault::after_a_crash().await;
    vault.meddle("DELETE FROM log_lanes WHERE opened < (SELECT max(opened) FROM log_lanes)").await;
    vault.close_ended().await;
    let closed = vault.entries_of("node.stopped", &TenantName::system()).await;
    assert_eq!(closed[0].fact("boot"), Some(boot.to_string().as_str()));
    assert!(vault.alarms().contains("acknowledged entries are gone"), "{}", vault.alarms());
}

#[tokio::test]
async fn an_altered_sign_of_life_or_boot_is_an_alarm_and_the_others_are_closed() {
    for (sql, said) in [
        ("UPDATE heartbeats SET signature = zeroblob(64)", "its last sign of life is not its own"),
        ("INSERT INTO heartbeats VALUES ('-system', x'00', 1, x'00', x'00')", "heartbeats is not readable"),
        (
            "INSERT INTO node_keys SELECT tenant, 'x', version, body, mac, mac_key_id FROM node_keys LIMIT 1",
            "node_keys was tampered with",
        ),
    ] {
        let (vault, ..) = Vault::after_a_crash().await;
        vault.meddle(sql).await;
        vault.close_ended().await;
        assert!(vault.alarms().contains(said), "{sql}: {}", vault.alarms());
        assert_eq!(vault.entries_of("node.stopped", &TenantName::system()).await.len(), 1, "{sql}");
    }
}
