//! What happens at the HSMs and somebody must hear of: outages and their end, a refused PIN, a key that is not the one it
//! was. Whoever writes the log asks for it several times a second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hsm::{Anomaly, Finding, Limits, Phase};

use super::HsmProvider;
use super::running::Running;
use crate::domain::{KeyProviderId, TenantName};
use crate::keys::hsm_records::HsmKek;
use crate::keys::{KekRecord, Keys};

/// An HSM that is not ready for so long is away: a worker that is started again is not worth a word.
const AWAY: Duration = Duration::from_secs(1);
/// A key that is missing for so long is missing: a token whose store just came back shows none until it is initialised.
const MISSING: Duration = Duration::from_secs(5);
/// So much is kept for the log while the database does not answer.
const KEPT: usize = 256;

/// Something about one configuration.
#[derive(Debug, Clone)]
pub struct HsmNews {
    /// Whose it is.
    pub tenant: TenantName,
    /// The configuration.
    pub provider: KeyProviderId,
    /// The version of its row that the host runs under.
    pub version: u64,
    /// What.
    pub what: News,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The PIN was refused: to be kept in the row at once.
    Quarantined(String),
    /// It does not answer.
    Away(String),
    /// It answers again.
    Back,
    /// What was stored was altered, or a key is not the one it was.
    Alarm {
        /// Label of the key, where it is known.
        kek: Option<String>,
        /// What is wrong.
        what: String,
    },
}

/// Where one configuration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HsmState {
    /// Calls are answered, and every key is the one it was.
    pub is_well: bool,
    /// It has been otherwise for more than a moment.
    pub is_away: bool,
}

/// What was told of a host.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Since when it has not been ready.
    ill: Option<Instant>,
    away: bool,
    quarantined: bool,
    /// Findings with when they were first seen and whether they were told.
    findings: Vec<(Finding, Instant, bool)>,
}

/// What waits to be written.
#[derive(Default)]
pub(super) struct Newsroom(Mutex<VecDeque<HsmNews>>);

impl Newsroom {
    pub(super) fn push(&self, news: HsmNews) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < KEPT
            && !waiting.iter().any(|other| other.what == news.what && other.provider == news.provider)
        {
            waiting.push_back(news);
        }
    }
}

impl Told {
    /// What is new since the last look.
    fn look(&mut self, status: &hsm::Status) -> Vec<News> {
        let mut news = Vec::new();
        let why = || status.last_error.clone().unwrap_or_else(|| "its worker has not answered yet".to_owned());
        match status.phase {
            // A worker that ended because nobody needed it was well.
            Phase::Ready | Phase::Idle => {
                self.ill = None;
                if std::mem::take(&mut self.away) {
                    news.push(News::Back);
                }
            }
            phase => {
                let since = *self.ill.get_or_insert_with(Instant::now);
                // The first start after a while without a worker is no outage as long as nothing failed.
                let patience = if is_starting(status) { Limits::default().start() } else { AWAY };
                if phase == Phase::Quarantined && !std::mem::replace(&mut self.quarantined, true) {
                    news.push(News::Quarantined(why()));
                } else if since.elapsed() >= patience && !self.quarantined && !std::mem::replace(&mut self.away, true) {
                    news.push(News::Away(why()));
                }
            }
        }
        if let Some(worker) = status.worker.as_ref().filter(|_| is_well(status.phase)) {
            news.extend(self.compare(&worker.findings));
        }
        news
    }

    fn compare(&mut self, findings: &[Finding]) -> Vec<News> {
        self.findings.retain(|(known, _, _)| findings.contains(known));
        for finding in findings {
            if !self.findings.iter().any(|(known, _, _)| known == finding) {
                self.findings.push((finding.clone(), Instant::now(), false));
            }
        }
        let mut news = Vec::new();
        for (finding, since, told) in &mut self.findings {
            if *told || finding.what == Anomaly::Missing && since.elapsed() < MISSING {
                continue;
            }
            *told = true;
            let what = match finding.what {
                Anomaly::Replaced => "another key stands behind its label",
                Anomaly::Missing => "the key is missing",
                Anomaly::Ambiguous => "several keys have its label and id",
                Anomaly::Unfit => "the key changed and must not be used",
            };
            news.push(News::Alarm { kek: finding.kek.selector.label.clone(), what: what.to_owned() });
        }
        news
    }
}

/// Whether a worker is on its way of which nothing bad was heard since it was last well.
pub(super) fn is_starting(status: &hsm::Status) -> bool {
    status.phase == Phase::Connecting && status.failed == 0
}

const fn is_well(phase: Phase) -> bool {
    matches!(phase, Phase::Ready | Phase::Idle)
}

impl Running {
    fn look(&self) -> Vec<HsmNews> {
        let status = self.status();
        let news = self.told.lock().unwrap_or_else(PoisonError::into_inner).look(&status);
        news.into_iter().map(|what| self.news(what)).collect()
    }

    fn state(&self) -> HsmState {
        let status = self.status();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_well = (is_well(status.phase) || is_starting(&status) && !told.away) && told.findings.is_empty();
        HsmState { is_well, is_away: told.away || told.quarantined || told.findings.iter().any(|(_, _, told)| *told) }
    }

    /// Whether its token answers, as far as it was heard: nothing while no worker has it open, and in the first moment of an outage.
    fn answers(&self) -> Option<bool> {
        let phase = self.status().phase;
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.away || told.quarantined { Some(false) } else { (phase == Phase::Ready).then_some(true) }
    }

    /// What was told of one of its keys, while its token answers.
    fn fault_of(&self, kek: &HsmKek) -> Option<&'static str> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(finding, _, is_told): &&(Finding, Instant, bool)| *is_told && finding.kek == *kek.kek();
        told.findings.iter().find(is_it).filter(|_| !told.away).map(|(finding, _, _)| match finding.what {
            Anomaly::Replaced => "replaced",
            Anomaly::Missing => "missing",
            Anomaly::Ambiguous => "ambiguous",
            Anomaly::Unfit => "unfit",
        })
    }
}

impl HsmProvider {
    fn all(&self) -> Vec<std::sync::Arc<Running>> {
        self.hosts().values().cloned().collect()
    }
}

impl Keys {
    /// The oldest of what is to be written about the HSMs.
    #[must_use]
    pub fn hsm_news(&self) -> Option<HsmNews> {
        let hsm = &self.inner.provider.hsm;
        for news in hsm.all().iter().flat_map(|running| running.look()) {
            let meter = &self.inner.meter;
            match &news.what {
                News::Quarantined(_) => meter.hsm_quarantines.inc(),
                News::Away(_) => meter.hsm_outages.inc(),
                News::Alarm { .. } => meter.hsm_alarms.inc(),
                News::Back => {}
            }
            hsm.news.push(news);
        }
        hsm.news.0.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }

    /// A data key names a version of a token and was not wrapped under it.
    pub fn tell_of_altered(&self, tenant: &TenantName, record: &KekRecord) {
        let Some(kek) = record.hsm.as_deref() else { return };
        self.inner.meter.hsm_alarms.inc();
        let what = "data keys name this key and were not wrapped under it: somebody wrote to the database".to_owned();
        let what = News::Alarm { kek: Some(kek.label().to_owned()), what };
        self.inner.provider.hsm.news.push(HsmNews { tenant: tenant.clone(), provider: kek.provider, version: 0, what });
    }

    /// It was written.
    pub fn hsm_news_told(&self) {
        self.inner.provider.hsm.news.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }

    /// Whether the token of a configuration answers now, as far as this node knows without asking it: nothing where it has not asked
    /// since it started, or no worker of it has the token open.
    #[must_use]
    pub fn hsm_answers(&self, tenant: &TenantName, provider: KeyProviderId) -> Option<bool> {
        let running = self.inner.provider.hsm.hosts().get(&(tenant.clone(), provider)).cloned();
        running.and_then(|running| running.answers())
    }

    /// What is wrong with a key in a token that answers, in a word, once that is told.
    #[must_use]
    pub fn hsm_key_fault(&self, tenant: &TenantName, kek: &KekRecord) -> Option<&'static str> {
        let kek = kek.hsm.as_deref()?;
        let running = self.inner.provider.hsm.hosts().get(&(tenant.clone(), kek.provider)).cloned()?;
        running.fault_of(kek)
    }

    /// Where tenants' HSMs stand, as far as this node asked one, or knows that none may be asked.
    #[must_use]
    pub fn hsm_states(&self) -> BTreeMap<TenantName, HsmState> {
        let refused = self.inner.provider.hsm.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let of_refused = HsmState { is_well: false, is_away: true };
        let mut states: BTreeMap<_, _> = refused.into_iter().map(|tenant| (tenant, of_refused)).collect();
        for running in self.inner.provider.hsm.all() {
            let state = running.state();
            let of = states.entry(running.place().0.clone()).or_insert(HsmState { is_well: true, is_away: false });
            of.is_well &= state.is_well;
            of.is_away |= state.is_away;
        }
        states
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn status(phase: Phase) -> hsm::Status {
        hsm::Status {
            phase,
            since: SystemTime::now(),
            changes: 0,
            last_error: Some("why".to_owned()),
            failure: None,
            worker_pid: None,
            worker: None,
            starts: 0,
            downs: 0,
            failed: u32::from(phase == Phase::Down),
            calls: 0,
            failures: 0,
            in_flight: 0,
            canaries_at: None,
        }
    }

    #[test]
    fn a_refused_pin_is_told_once_and_at_once_and_a_restart_of_a_worker_not_at_all() {
        let mut told = Told::default();
        assert_eq!(told.look(&status(Phase::Connecting)), []);
        assert_eq!(told.look(&status(Phase::Ready)), []);
        assert_eq!(told.look(&status(Phase::Quarantined)), [News::Quarantined("why".to_owned())]);
        assert_eq!(told.look(&status(Phase::Quarantined)), []);
    }

    #[test]
    fn a_start_that_takes_long_is_no_outage_before_it_has_failed_and_is_told_with_a_reason() {
        let mut told = Told { ill: Instant::now().checked_sub(AWAY * 2), ..Told::default() };
        let starting = hsm::Status { last_error: None, ..status(Phase::Connecting) };
        assert_eq!(told.look(&starting), []);
        let again = hsm::Status { failed: 1, ..starting.clone() };
        assert!(matches!(&told.look(&again)[..], [News::Away(why)] if !why.is_empty()));
        // Nor is it waited for without an end.
        told = Told { ill: Instant::now().checked_sub(Limits::default().start()), ..Told::default() };
        assert!(matches!(&told.look(&starting)[..], [News::Away(why)] if !why.is_empty()));
    }

    #[test]
    fn an_outage_is_told_with_its_end() {
        let mut told = Told { ill: Instant::now().checked_sub(AWAY), ..Told::default() };
        assert_eq!(told.look(&status(Phase::Down)), [News::Away("why".to_owned())]);
        assert_eq!(told.look(&hsm::Status { failed: 1, ..status(Phase::Connecting) }), []);
        assert_eq!(told.look(&status(Phase::Ready)), [News::Back]);
        assert_eq!(told.look(&status(Phase::Ready)), []);
    }

    #[test]
    fn a_worker_that_ended_because_nobody_needed_it_is_no_outage_and_ends_one() {
        let mut told = Told::default();
        assert_eq!(told.look(&status(Phase::Idle)), []);
        told.ill = Instant::now().checked_sub(AWAY);
        assert_eq!(told.look(&status(Phase::Idle)), []);
        assert_eq!((told.ill, told.away), (None, false));
        told.away = true;
        assert_eq!(told.look(&status(Phase::Idle)), [News::Back], "it was ready between two looks");
    }

    #[test]
    fn a_key_that_was_replaced_is_an_alarm_at_once_and_one_that_is_missing_after_a_while() {
        let finding = |what| {
            let selector = hsm::KekSelector { label: Some("kek".to_owned()), id: None };
            Finding { kek: hsm::KekRef { selector, profile: hsm::Profile::AesKwp }, what }
        };
        let mut told = Told::default();
        let both = [finding(Anomaly::Missing), finding(Anomaly::Replaced)];
        assert!(matches!(&told.compare(&both)[..], [News::Alarm { what, .. }] if what.contains("another key")));
        for (_, since, _) in &mut told.findings {
            *since = since.checked_sub(MISSING).unwrap();
        }
        assert!(matches!(&told.compare(&both)[..], [News::Alarm { what, .. }] if what.contains("missing")));
        assert_eq!(told.compare(&both), []);
    }
}
