//! The counts of the inner rooms, with their names.

use std::time::Duration;

use super::text::{Kind, MICROSECONDS, ONES, Text};
use crate::crypto::LockedKey;
use crate::domain::{RetentionClass, Timestamp};
use crate::http::state::State;
use crate::sequencer::Pass;
use crate::store::waiting::Waiting;

/// Whole seconds since 1970; 0 is "not since the start".
fn seconds(at: Option<Timestamp>) -> u64 {
    at.map_or(0, |at| at.as_millis() / 1000)
}

/// Batches, their sizes and times, and what came back from them.
pub(super) fn write_committer(state: &State, text: &mut Text) {
    let meter = &state.rooms().store.meter().committer;
    let name = "siv_committer_batch_operations";
    let mut family = text.family(name, Kind::Histogram, "Operations of each batch that was committed.");
    family.histogram(&[], &meter.operations, ONES);
    let help = "A batch's transaction: reading, deciding, signing, writing, committing.";
    text.times("siv_committer_transaction_duration_seconds", help, &meter.transactions);
    let help = "The commit of a batch alone: what the disk takes.";
    text.times("siv_committer_commit_duration_seconds", help, &meter.commits);
    let (queued, most) = state.rooms().committer.queued();
    text.gauge(
        "siv_committer_queue_operations",
        "Places taken by operations that wait or are under way.",
        queued as u64,
    );
    text.gauge(
        "siv_committer_queue_capacity",
        "How many places there are: an operation takes one for every four entries.",
        most as u64,
    );
    for (name, help, count) in [
        ("siv_committer_refused_total", "Operations refused because the queue was full.", &meter.refused),
        ("siv_committer_dropped_total", "Operations that were too late for their batch.", &meter.dropped),
        ("siv_committer_retries_total", "Transactions made anew because another one came between.", &meter.retried),
        ("siv_committer_split_total", "Operations committed alone after a neighbour's row failed.", &meter.split),
        ("siv_committer_unknown_total", "Commits of which nobody knows the result.", &meter.unknown),
        ("siv_committer_lanes_opened_total", "Lanes opened after the first one of this start.", &meter.lanes),
        ("siv_values_stored_total", "Values that were captured and are durable.", &meter.values),
    ] {
        text.counter(name, help, count.get());
    }
    let help = "Entries of the access log that are durable, by action and outcome.";
    let mut family = text.family("siv_log_entries_total", Kind::Counter, help);
    for (action, outcome, count) in meter.entries() {
        if count > 0 {
            family.sample(&[("action", action), ("outcome", outcome)], count);
        }
    }
}

/// The database and the purge.
pub(super) fn write_store(state: &State, answers: bool, text: &mut Text) {
    let meter = state.rooms().store.meter();
    let help = "By how much the machine's clock is behind the one that counts (below 0: ahead).";
    let behind = Duration::from_millis(state.rooms().clock.machine_is_behind().unsigned_abs()).as_secs_f64();
    let behind = if state.rooms().clock.machine_is_behind() < 0 { -behind } else { behind };
    text.family("siv_clock_behind_seconds", Kind::Gauge, help).float(&[], behind);
    text.gauge("siv_store_up", "Whether the database answered this scrape.", u64::from(answers));
    text.counter("siv_store_calls_total", "Calls to the database beside the batches.", meter.calls.get());
    let (is_fresh, reads) = state.rooms().store.replica();
    let help = "Whether the read replica is at most a second behind, so that lists of the log are read from it.";
    text.gauge("siv_read_replica_fresh", help, u64::from(is_fresh));
    text.counter("siv_read_replica_reads_total", "Lists of the log that were read from the replica.", reads);
    let help = "Values that were removed because their time was over, by class.";
    let mut family = text.family("siv_purge_values_total", Kind::Counter, help);
    for class in [RetentionClass::SensitiveAuthentication, RetentionClass::Session, RetentionClass::Stored] {
        family.sample(&[("retention", class.as_str())], meter.purge.values(class).get());
    }
    let help = "Rows of requests that were removed: idempotency records, runs, sessions, keys.";
    text.counter("siv_purge_request_rows_total", help, meter.purge.requests.get());
    let help = "When the purge last came to its end, in seconds since 1970 (0: not yet).";
    text.gauge("siv_purge_last_pass_timestamp_seconds", help, seconds(meter.purge.passed.get()));
}

/// Opened data keys and calls to the key provider.
pub(super) fn write_keys(state: &State, text: &mut Text) {
    let meter = state.rooms().keys.meter();
    for (name, help, count) in [
        ("siv_data_key_cache_hits_total", "A data key was wanted and was opened already.", &meter.hits),
        ("siv_data_key_cache_misses_total", "A data key had to be opened or made.", &meter.misses),
        ("siv_data_key_cache_wiped_total", "Opened data keys that were wiped.", &meter.wiped),
    ] {
        text.counter(name, help, count.get());
    }
    let calls = [("wrap", &meter.wraps), ("unwrap", &meter.unwraps)];
    let help = "Calls to the key provider, the failed ones too.";
    let mut family = text.family("siv_kms_call_duration_seconds", Kind::Histogram, help);
    for (operation, calls) in calls {
        family.histogram(&[("operation", operation)], &calls.times, MICROSECONDS);
    }
    let help = "Calls to the key provider that failed.";
    let mut family = text.family("siv_kms_failures_total", Kind::Counter, help);
    for (operation, calls) in calls {
        family.sample(&[("operation", operation)], calls.failures.get());
    }
    let help = "Bytes of the root key, of key-encryption keys and of opened data keys with what is derived from them, by kind of memory.";
    let mut family = text.family("siv_key_memory_bytes", Kind::Gauge, help);
    for (place, keys) in LockedKey::counted() {
        family.sample(&[("place", place.as_str())], keys * 32);
    }
    write_hsms(state, text);
}

/// Customers' HSMs, as far as this node asked them.
fn write_hsms(state: &State, text: &mut Text) {
    let keys = &state.rooms().keys;
    let help = "Whether a tenant's HSM answers and its keys are the ones they were.";
    let mut family = text.family("siv_hsm_up", Kind::Gauge, help);
    for (tenant, of) in keys.hsm_states() {
        family.sample(&[("tenant", tenant.as_str())], u64::from(of.is_well));
    }
    let meter = keys.meter();
    for (name, help, count) in [
        ("siv_hsm_outages_total", "HSMs that did not answer for more than a moment.", &meter.hsm_outages),
        ("siv_hsm_quarantines_total", "PINs that were refused; none is tried again.", &meter.hsm_quarantines),
        ("siv_hsm_alarms_total", "Keys or wrapped keys that are not what they were.", &meter.hsm_alarms),
    ] {
        text.counter(name, help, count.get());
    }
}

/// Whether the logs can be relied on, when they were last found whole, what this node integrated.
pub(super) fn write_log(state: &State, text: &mut Text) {
    let store = &state.rooms().store;
    let (health, meter) = (store.log_health(), store.meter());
    let check = health.self_check();
    let help = "Whether the logs can be relied on: at 0 nothing is served.";
    text.gauge("siv_log_serving", help, u64::from(health.is_serving()));
    text.gauge("siv_log_alarms", "What was found altered since the start, up to 100.", check.alarms.len() as u64);
    text.counter("siv_log_integrated_entries_total", "Entries that this node integrated.", meter.integrated.get());
    let help = "When this node last signed a checkpoint, in seconds since 1970 (0: not yet).";
    text.gauge("siv_log_last_checkpoint_timestamp_seconds", help, seconds(meter.checkpoint.get()));
    let passes = [("recent", check.recent, Pass::Recent), ("all", check.all, Pass::All)];
    let help = "When a pass of the self-check last came to its end, in seconds since 1970 (0: not yet).";
    let mut family = text.family("siv_log_self_check_timestamp_seconds", Kind::Gauge, help);
    passes.iter().for_each(|(pass, at, _)| family.sample(&[("pass", pass)], seconds(*at)));
    let help = "How often a pass is due.";
    let mut family = text.family("siv_log_self_check_period_seconds", Kind::Gauge, help);
    passes.iter().for_each(|(name, _, pass)| family.sample(&[("pass", name)], pass.period().as_secs()));
    let (compared, times) = check.compared;
    let help = "Comparisons of the logs' heads with those outside the database.";
    text.counter("siv_log_head_checks_total", help, times);
    let help = "When the last one came to its end, in seconds since 1970 (0: not yet).";
    text.gauge("siv_log_last_head_check_timestamp_seconds", help, seconds(compared));
}

/// How far integration is behind, for the logs that are: no sample is no lag.
pub(super) fn write_lag(state: &State, waiting: &[Waiting], text: &mut Text) {
    let now = state.now();
    let help = "Entries of a log that are durable and not yet integrated, of all nodes.";
    let mut family = text.family("siv_log_lag_entries", Kind::Gauge, help);
    waiting.iter().for_each(|of| family.sample(&[("log", of.log.as_str())], of.entries));
    let mut family = text.family("siv_log_lag_seconds", Kind::Gauge, "How old the oldest of them is.");
    waiting.iter().for_each(|of| family.float(&[("log", of.log.as_str())], now.since(of.since).as_secs_f64()));
}

/// Requests to destinations.
pub(super) fn write_relay(state: &State, text: &mut Text) {
    let meter = state.rooms().runner.relay().meter();
    let mut family = text.family("siv_relay_requests_total", Kind::Counter, "Requests to destinations, by outcome.");
    meter.outcomes().iter().for_each(|(outcome, count)| family.sample(&[("outcome", outcome)], *count));
    text.times("siv_relay_duration_seconds", "How long a destination took, however it ended.", &meter.times);
}

/// Room on the disks of the database and the key store, where they are folders of this machine.
pub(super) fn write_disks(state: &State, text: &mut Text) {
    let mut family = text.family("siv_disk_free_bytes", Kind::Gauge, "Room left for the vault's user.");
    let mut sizes = Vec::new();
    for (what, folder) in &state.settings().disks {
        if let Ok(of) = rustix::fs::statvfs(folder) {
            family.sample(&[("of", what)], of.f_bavail.saturating_mul(of.f_frsize));
            sizes.push((*what, of.f_blocks.saturating_mul(of.f_frsize)));
        }
    }
    let mut family = text.family("siv_disk_size_bytes", Kind::Gauge, "The size of that file system.");
    sizes.iter().for_each(|(what, size)| family.sample(&[("of", what)], *size));
}
