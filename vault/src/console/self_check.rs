//! What a list says of the self-check: how often its passes are due, when they last ended, what was found in this log.

use std::time::Duration;

use crate::access_log::SelfCheck;
use crate::domain::{TenantName, Timestamp};
use crate::sequencer::Pass;

/// The self-check as this node knows it.
pub(super) struct Checked {
    pub(super) passes: [Passed; 2],
    /// What was found altered in this log.
    pub(super) found: Vec<String>,
    /// Whether anything else was. What it is names other tenants: it stands in the installation's log.
    pub(super) is_found_elsewhere: bool,
}

/// One of its passes.
pub(super) struct Passed {
    pub(super) what: &'static str,
    pub(super) every: String,
    /// Nothing before the first one since the node's start.
    pub(super) ended: Option<String>,
}

impl Checked {
    /// What the auditor of a log may see of it: of the installation's log, all.
    pub(super) fn of(log: &TenantName, check: &SelfCheck) -> Self {
        let own = format!("log {log}: ");
        let is_own = |alarm: &&String| log.is_system() || alarm.starts_with(&own);
        let found: Vec<_> = check.alarms.iter().filter(is_own).cloned().collect();
        let passed = |what, pass: Pass, at: Option<_>| Passed {
            what,
            every: every(pass.period()),
            ended: at.map(|at: Timestamp| at.to_string()),
        };
        Self {
            passes: [
                passed("entries of the last 8 days", Pass::Recent, check.recent),
                passed("all entries", Pass::All, check.all),
            ],
            is_found_elsewhere: found.len() < check.alarms.len(),
            found,
        }
    }

    /// Whether every pass has ended since the start.
    pub(super) fn is_complete(&self) -> bool {
        self.passes.iter().all(|pass| pass.ended.is_some())
    }
}

fn every(period: Duration) -> String {
    match period.as_secs() / 3600 {
        1 => "every hour".to_owned(),
        24 => "every day".to_owned(),
        hours => format!("every {hours} hours"),
    }
}

#[cfg(test)]
mod tests {
    use askama::Template as _;

    use super::*;
    use crate::access_log::LogHealth;
    use crate::console::view::{FormFilter, LogPage, Who};

    fn page(log: &TenantName, health: &LogHealth) -> String {
        let who = Who { tenant: log.to_string(), name: "Ada".into(), csrf: "c".into(), page: "log" };
        let page = LogPage {
            who,
            heading: "Access log".into(),
            history_of: None,
            filter: FormFilter::default(),
            chips: Vec::new(),
            refused: None,
            rows: Vec::new(),
            next: None,
            check: Checked::of(log, &health.self_check()),
        };
        page.render().unwrap()
    }

    #[test]
    fn the_log_says_how_often_it_is_checked_and_when_that_last_ended() {
        let (log, health): (TenantName, _) = ("demo".parse().unwrap(), LogHealth::default());
        let before = page(&log, &health);
        assert!(before.contains("entries of the last 8 days every hour, not yet ended"), "{before}");
        assert!(!before.contains("Nothing was found altered"), "{before}");
        health.passed(false, Timestamp::from_millis(1_795_489_236_007));
        health.passed(true, Timestamp::from_millis(1_795_489_237_007));
        let after = page(&log, &health);
        let at = |second: u32| format!("<time datetime=\"2026-11-24T03:00:{second}.007Z\"");
        assert!(after.contains(&at(37)) && after.contains("all entries every day"), "{after}");
        assert!(after.contains("Nothing was found altered"), "{after}");
    }

    #[test]
    fn what_was_found_is_told_to_the_auditor_of_that_log_and_of_others_only_that_there_is_something() {
        let (demo, other): (TenantName, TenantName) = ("demo".parse().unwrap(), "other".parse().unwrap());
        let health = LogHealth::default();
        health.alarm("log demo: entry 7 is missing");
        let told = page(&demo, &health);
        assert!(told.contains("log demo: entry 7 is missing") && told.contains("role=\"alert\""), "{told}");
        assert!(!told.contains("elsewhere") && !told.contains("Nothing was found"), "{told}");
        let elsewhere = page(&other, &health);
        assert!(elsewhere.contains("elsewhere") && !elsewhere.contains("demo"), "{elsewhere}");
        assert!(!elsewhere.contains("Nothing was found"), "{elsewhere}");
        let all = page(&TenantName::system(), &health);
        assert!(all.contains("log demo: entry 7 is missing") && !all.contains("elsewhere"), "{all}");
    }
}
