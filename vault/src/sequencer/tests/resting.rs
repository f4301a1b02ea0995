//! What is closed and integrated rests: nobody reads it several times a second.

use std::time::Duration;

use super::Vault;
use crate::access_log::Distrust;
use crate::sequencer::integrate::Integrator;

/// A round as a node does them while it runs.
async fn round(integrator: &mut Integrator) {
    integrator.run(Duration::from_secs(1)).await.unwrap();
}

async fn nothing_waits(vault: &Vault) -> bool {
    vault.store.all_lanes().await.unwrap().iter().all(|(_, waits)| !waits)
}

/// Boots that ended in order and are integrated, and the next one.
async fn after_boots(many: usize) -> Vault {
    let mut vault = Vault::start().await;
    for _ in 0..many {
        vault.write(1).await;
        vault.committer.stop().await.unwrap();
        vault.integrate().await;
        vault = Vault::start_in(vault.end().await).await;
    }
    vault
}

#[tokio::test]
async fn a_lane_at_rest_is_read_once_a_minute_and_not_with_those_in_which_something_may_come() {
    let vault = after_boots(1).await;
    let mut integrator = vault.integrator();
    round(&mut integrator).await;
    assert!(nothing_waits(&vault).await);
    vault.meddle("UPDATE log_lanes SET previous = x'00' WHERE boot NOT IN (SELECT boot FROM open_boots)").await;
    vault.write(1).await;
    round(&mut integrator).await;
    assert!(vault.alarms().is_empty(), "{}", vault.alarms());
    integrator.lanes.age();
    round(&mut integrator).await;
    assert!(vault.alarms().contains("log_lanes is not readable"), "{}", vault.alarms());
    assert_eq!(vault.store.log_health().distrust(), Some(Distrust::Pending), "a lane that is known is gone");
}

#[tokio::test]
async fn what_a_boot_left_waiting_when_it_ended_is_integrated_before_it_rests() {
    let vault = Vault::start().await;
    let mut integrator = vault.integrator();
    round(&mut integrator).await;
    round(&mut integrator).await;
    vault.write(2).await;
    vault.committer.stop().await.unwrap();
    assert!(vault.store.open_boots().await.unwrap().is_empty() && !nothing_waits(&vault).await);
    round(&mut integrator).await;
    assert!(nothing_waits(&vault).await);
    assert!(vault.alarms().is_empty(), "{}", vault.alarms());
}

#[tokio::test]
async fn a_living_lane_whose_row_is_gone_is_missed_at_once() {
    let vault = Vault::start().await;
    let mut integrator = vault.integrator();
    round(&mut integrator).await;
    vault.meddle("DELETE FROM log_lanes").await;
    round(&mut integrator).await;
    assert_eq!(vault.store.log_health().distrust(), Some(Distrust::Pending));
}

#[tokio::test]
async fn lanes_at_rest_are_proven_after_a_start_however_short_the_rounds_are() {
    let vault = after_boots(3).await;
    vault.integrate().await;
    let mut integrator = vault.integrator();
    for _ in 0..6 {
        integrator.run(Duration::ZERO).await.unwrap();
    }
    assert_eq!(integrator.lanes.known.len(), 4);
    assert!(vault.alarms().is_empty(), "{}", vault.alarms());
}

#[tokio::test]
async fn a_lane_at_rest_that_does_not_lead_to_what_was_signed_is_refused_after_a_start() {
    let vault = after_boots(2).await;
    // Ids of boots that began in the same millisecond are in no order.
    vault
        .meddle(
            "UPDATE log_lanes SET next = next - 1 WHERE boot = (SELECT min(boot) FROM log_lanes \
             WHERE boot NOT IN (SELECT boot FROM open_boots))",
        )
        .await;
    let mut integrator = vault.integrator();
    for _ in 0..5 {
        integrator.run(Duration::ZERO).await.unwrap();
    }
    assert_eq!(integrator.refused().len(), 1);
}
