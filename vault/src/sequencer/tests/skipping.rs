//! Nothing is left out between two batches, whatever the lanes' rows say.

use std::time::Duration;

use super::{Vault, record, tenant};
use crate::access_log::{Action, Distrust, Entry, Outcome};
use crate::domain::{Actor, BootId, TenantName};
use crate::sequencer::integrate::Integrator;
use crate::sequencer::watch::Watch;
use crate::store::integration::PendingBatch;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn run(integrator: &mut Integrator) {
    integrator.run(Duration::MAX).await.unwrap();
}

impl Vault {
    /// One entry of the system log.
    async fn note(&self) {
        let now = self.clock.now();
        let actor = Actor::node(self.committer.identity().boot());
        let entry = Entry::by(TenantName::system(), now, Action::LogRead, Outcome::Allowed, actor);
        record(vec![entry], &self.committer, now).await.unwrap();
    }

    fn lane(&self) -> String {
        format!("boot = x'{}' AND lane = 0", hex(self.committer.identity().boot().as_bytes()))
    }

    async fn waiting(&self) -> Vec<PendingBatch> {
        let boot = self.committer.identity().boot();
        let lane = self.store.lane(boot, 0).await.unwrap().unwrap();
        self.store.pending(boot, 0, lane.next, 1000).await.unwrap().0
    }

    /// Sets the lane's row to just behind a batch, as if that were integrated.
    async fn move_row_past(&self, batch: &PendingBatch) {
        let end = batch.batch.end();
        let (next, previous) = (end.next, hex(&end.previous));
        self.meddle(format!("UPDATE log_lanes SET next = {next}, previous = x'{previous}' WHERE {}", self.lane()))
            .await;
    }

    /// A batch of the tenant waits, one of the system log behind it; the first goes without a trace in the lane's row.
    async fn skip_one(&self) {
        self.write(1).await;
        self.note().await;
        let [skipped, behind] = self.waiting().await.try_into().unwrap();
        assert!(skipped.groups[0].tenant == tenant() && behind.groups[0].tenant.is_system());
        let (lane, first, number) = (self.lane(), skipped.batch.first, skipped.entries[0].1.number);
        self.meddle(format!("DELETE FROM access_log WHERE {lane} AND tenant = 'demo' AND number = {number}")).await;
        self.meddle(format!("DELETE FROM log_groups WHERE {lane} AND batch = {first}")).await;
        self.meddle(format!("DELETE FROM log_batches WHERE {lane} AND first = {first}")).await;
        self.move_row_past(&skipped).await;
    }

    /// A boot that integrated a little and ended with `meddled` done to it, and the next one.
    async fn after(meddled: impl AsyncFnOnce(&Self)) -> (Self, BootId) {
        let dead = Self::start().await;
        dead.write(2).await;
        dead.integrate().await;
        meddled(&dead).await;
        let boot = dead.committer.identity().boot();
        (Self::start_in(dead.crash().await).await, boot)
    }

    async fn size(&self, log: &TenantName) -> u64 {
        self.store.head(log).await.unwrap().unwrap().size
    }
}

const SAID: &str = "do not lead to where its row says";

#[tokio::test]
async fn a_batch_that_is_skipped_while_the_node_runs_is_missed_by_the_integrator() {
    let vault = Vault::start().await;
    vault.write(2).await;
    let mut integrator = vault.integrator();
    run(&mut integrator).await;
    let size = vault.size(&TenantName::system()).await;
    vault.skip_one().await;
    run(&mut integrator).await;
    assert_eq!(vault.store.log_health().distrust(), Some(Distrust::Pending));
    assert!(vault.alarms().contains(SAID), "{}", vault.alarms());
    assert_eq!(vault.size(&TenantName::system()).await, size, "what stands behind it is not taken for the next one");
}

#[tokio::test]
async fn a_batch_that_is_skipped_while_the_node_runs_is_missed_by_the_watch() {
    let vault = Vault::start().await;
    vault.write(2).await;
    vault.integrate().await;
    let mut watch = Watch::new(vault.store.clone(), vault.keys.clone(), vault.committer.clone());
    watch.compare().await.unwrap();
    vault.write(3).await;
    vault.note().await;
    watch.compare().await.unwrap();
    assert!(vault.store.log_health().is_serving(), "{}", vault.alarms());
    vault.integrate().await;
    vault.skip_one().await;
    watch.compare().await.unwrap();
    assert_eq!(vault.store.log_health().distrust(), Some(Distrust::Pending));
    assert!(vault.alarms().contains("acknowledged entries are gone"), "{}", vault.alarms());
}

#[tokio::test]
async fn a_batch_that_was_skipped_after_a_crash_is_missed_by_the_next_boot() {
    let (vault, boot) = Vault::after(async |dead| dead.skip_one().await).await;
    assert_eq!(vault.integrate().await, [(boot, 0)]);
    assert!(vault.alarms().contains(SAID), "{}", vault.alarms());
    assert!(vault.store.log_health().is_serving(), "a lane of another boot stops no other");
}

#[tokio::test]
async fn a_row_that_was_moved_past_what_waits_is_not_believed_while_the_node_runs() {
    let vault = Vault::start().await;
    let mut integrator = vault.integrator();
    run(&mut integrator).await;
    vault.write(2).await;
    let last = vault.waiting().await.pop().unwrap();
    vault.move_row_past(&last).await;
    run(&mut integrator).await;
    assert_eq!(vault.store.log_health().distrust(), Some(Distrust::Pending));
    assert!(vault.alarms().contains(SAID), "{}", vault.alarms());
}

#[tokio::test]
async fn a_row_that_was_moved_past_what_waits_is_not_believed_after_a_crash_not_even_with_an_index() {
    for with_index in [false, true] {
        let (vault, boot) = Vault::after(async |dead| {
            dead.write(1).await;
            let [only] = dead.waiting().await.try_into().unwrap();
            dead.move_row_past(&only).await;
            if with_index {
                let (size, number) = (dead.size(&tenant()).await, only.entries[0].1.number);
                let boot = hex(boot_of(dead).as_bytes());
                dead.meddle(format!("INSERT INTO log_index (tenant, leaf_index, count, boot, lane, number) VALUES ('demo', {size}, 1, x'{boot}', 0, {number})")).await;
            }
        })
        .await;
        assert_eq!(vault.integrate().await, [(boot, 0)], "{with_index}");
        assert!(vault.alarms().contains(SAID), "{}", vault.alarms());
    }
}

fn boot_of(vault: &Vault) -> BootId {
    vault.committer.identity().boot()
}

#[tokio::test]
async fn a_lane_whose_row_or_batches_are_gone_is_missed() {
    let (vault, boot) = Vault::after(async |dead| {
        dead.write(1).await;
        dead.meddle(format!("DELETE FROM log_lanes WHERE {}", dead.lane())).await;
    })
    .await;
    assert_eq!(vault.integrate().await, [(boot, 0)]);
    assert!(vault.alarms().contains("its row is gone"), "{}", vault.alarms());
    let (vault, boot) = Vault::after(async |dead| {
        dead.meddle(format!("DELETE FROM log_batches WHERE {}", dead.lane())).await;
        dead.meddle(format!("UPDATE log_lanes SET next = 0, previous = zeroblob(32) WHERE {}", dead.lane())).await;
    })
    .await;
    assert_eq!(vault.integrate().await, [(boot, 0)]);
    assert!(vault.alarms().contains(SAID), "{}", vault.alarms());
    let mut integrator = vault.integrator();
    run(&mut integrator).await;
    vault.meddle(format!("DELETE FROM log_lanes WHERE {}", vault.lane())).await;
    run(&mut integrator).await;
    assert_eq!(vault.store.log_health().distrust(), Some(Distrust::Pending));
}

#[tokio::test]
async fn another_sequencer_that_came_first_is_believed_because_its_trees_are_signed() {
    let vault = Vault::start().await;
    let (mut one, mut other) = (vault.integrator(), vault.integrator());
    for round in 0..3 {
        run(&mut one).await;
        vault.write(3).await;
        vault.note().await;
        run(&mut other).await;
        vault.write(1).await;
        run(&mut one).await;
        // The head it remembers is not the one that is there: the next run reads it again.
        run(&mut one).await;
        assert!(vault.waiting().await.is_empty(), "{round}");
    }
    assert_eq!(vault.alarms(), "");
    assert!(vault.store.log_health().is_serving());
}
