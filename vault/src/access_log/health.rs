//! Whether the logs can be relied on: one atom that the sequencer sets and that the listeners and the committer ask.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::{TenantName, Timestamp};

/// Why the node serves nothing until somebody looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    /// The database holds fewer entries of this log than were signed, or others: it was put back or rewritten.
    History(TenantName),
    /// An entry that was acknowledged is gone or altered before it was integrated.
    Pending,
    /// The newest heads cannot be read or written.
    Heads,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::History(log) => write!(f, "the database does not continue what was signed of the log {log}"),
            Self::Pending => f.write_str("an acknowledged entry is gone or altered"),
            Self::Heads => f.write_str("the newest heads of the logs cannot be read or written"),
        }
    }
}

/// What the self-check last said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelfCheck {
    /// When the entries of the last days were last found whole.
    pub recent: Option<Timestamp>,
    /// When all entries were.
    pub all: Option<Timestamp>,
    /// What was found altered, in words for an operator; empty is good.
    pub alarms: Vec<String>,
    /// When the heads were last compared with those outside the database, and how often since the start.
    pub compared: (Option<Timestamp>, u64),
}

/// Shared by clones.
#[derive(Debug, Clone, Default)]
pub struct LogHealth(Arc<RwLock<State>>);

#[derive(Debug, Default)]
struct State {
    distrust: Option<Distrust>,
    check: SelfCheck,
    /// Every alarm there was, so that each is told once.
    known: HashSet<String>,
    /// Those that wait to be recorded.
    unrecorded: VecDeque<String>,
}

/// Alarms kept for the console; the log has every one.
const KEPT: usize = 100;
/// So many are told apart, so that altering everything does not fill the memory.
const KNOWN: usize = 10_000;

impl State {
    fn set(&mut self, distrust: Option<Distrust>) {
        if self.distrust == Some(Distrust::Pending) || self.distrust == distrust {
            return;
        }
        match &distrust {
            Some(why) => tracing::error!(%why, "the access log cannot be relied on: this node serves nothing"),
            None => tracing::info!("the access log is whole: this node serves"),
        }
        self.distrust = distrust;
    }
}

impl LogHealth {
    /// Why nothing may be served; `None` is "serve".
    #[must_use]
    pub fn distrust(&self) -> Option<Distrust> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).distrust.clone()
    }

    /// Whether requests may be served.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).distrust.is_none()
    }

    /// What the self-check last said.
    #[must_use]
    pub fn self_check(&self) -> SelfCheck {
        self.0.read().unwrap_or_else(PoisonError::into_inner).check.clone()
    }

    /// Stops or resumes serving. Lost acknowledged entries are never forgotten: only a restart looks anew.
    pub fn set(&self, distrust: Option<Distrust>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).set(distrust);
    }

    /// The same after a comparison that began when the reason was `before`: it takes back no reason that came meanwhile,
    /// since it proved nothing about it.
    pub fn settle(&self, before: Option<&Distrust>, distrust: Option<Distrust>) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if distrust.is_some() || state.distrust.as_ref() == before {
            state.set(distrust);
        }
    }

    /// Keeps an alarm, once: for the console, and until it is recorded in the system log.
    pub fn alarm(&self, what: &str) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let what = if state.known.len() < KNOWN { what } else { "more alarms than are told apart" };
        if !state.known.insert(what.to_owned()) {
            return;
        }
        tracing::error!(alarm = what, "the access log was tampered with");
        state.unrecorded.push_back(what.to_owned());
        if state.check.alarms.len() < KEPT {
            state.check.alarms.push(what.to_owned());
        }
    }

    /// The oldest alarms that are not yet recorded.
    #[must_use]
    pub fn unrecorded(&self, most: usize) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).unrecorded.iter().take(most).cloned().collect()
    }

    /// So many of them stand in the system log now.
    pub fn recorded(&self, count: usize) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let count = count.min(state.unrecorded.len());
        state.unrecorded.drain(..count);
    }

    /// Notes a comparison of the heads with those outside, whatever it said.
    pub fn compared(&self, at: Timestamp) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.check.compared = (Some(at), state.check.compared.1 + 1);
    }

    /// Notes when a pass of the self-check ended.
    pub fn passed(&self, all: bool, at: Timestamp) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.check.recent = Some(at);
        if all {
            state.check.all = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_takes_back_no_reason_that_came_while_it_ran() {
        let health = LogHealth::default();
        let history = Distrust::History(TenantName::system());
        health.set(Some(history.clone()));
        health.settle(None, None);
        assert_eq!(health.distrust(), Some(history.clone()));
        health.settle(Some(&history), None);
        assert!(health.is_serving(), "a comparison that began with the reason does");
    }

    #[test]
    fn every_alarm_waits_for_its_record_though_the_console_keeps_a_hundred() {
        let health = LogHealth::default();
        for entry in 0..250 {
            health.alarm(&format!("entry {entry} is missing"));
            health.alarm("entry 0 is missing");
        }
        assert_eq!(health.self_check().alarms.len(), KEPT);
        let mut recorded = Vec::new();
        loop {
            let some = health.unrecorded(100);
            if some.is_empty() {
                break;
            }
            health.recorded(some.len());
            recorded.extend(some);
        }
        assert_eq!(recorded.len(), 250);
        assert_eq!(recorded[249], "entry 249 is missing");
        health.alarm("entry 7 is missing");
        assert!(health.unrecorded(100).is_empty(), "told once");
    }

    #[test]
    fn alarms_without_end_do_not_fill_the_memory() {
        let health = LogHealth::default();
        (0..KNOWN + 500).for_each(|entry| health.alarm(&format!("{entry}")));
        assert_eq!(health.unrecorded(usize::MAX).len(), KNOWN + 1);
    }
}
