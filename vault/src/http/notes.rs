//! Entries that are counted first: refused strangers, reads of the log, frame reports. Written once per period.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::state::State;
use super::tally::Tally;
use crate::access_log::{Action, Entry, Outcome};
use crate::domain::{Actor, AppName, Origin, RequestContext, RequestId, TenantName, Timestamp};
use crate::store::administration::Record;

/// A refusal of somebody who is nobody: counted per source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stranger {
    address: Option<IpAddr>,
    reason: &'static str,
}

/// A read of a log: counted per credential, part of the log and minute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Reader {
    tenant: TenantName,
    actor: Option<(String, String)>,
    what: &'static str,
}

/// A violation that a browser reports of an app's frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Report {
    tenant: TenantName,
    app: Option<AppName>,
    reason: &'static str,
}

/// The counts of one node.
#[derive(Debug)]
pub(crate) struct Notes {
    strangers: Tally<Stranger>,
    readers: Tally<Reader>,
    reports: Tally<Report>,
}

impl Notes {
    pub(crate) fn new() -> Self {
        let system = TenantName::system();
        let others = Report { tenant: system.clone(), app: None, reason: "frame.reported" };
        Self {
            strangers: Tally::new(Duration::from_secs(10), Stranger { address: None, reason: "auth.invalid" }),
            readers: Tally::new(Duration::from_secs(60), Reader { tenant: system, actor: None, what: "log.list" }),
            reports: Tally::new(Duration::from_secs(10), others),
        }
    }

    /// Somebody without a valid credential was refused.
    pub(crate) fn stranger(&self, address: IpAddr, reason: &'static str, now: Timestamp) {
        self.strangers.add(Stranger { address: Some(address), reason }, now);
    }

    /// Somebody read a list, a tile or a checkpoint of a tenant's log.
    pub(crate) fn read(&self, tenant: &TenantName, context: &RequestContext, what: &'static str, now: Timestamp) {
        let name = context.actor.name.clone().unwrap_or_default();
        let actor = Some((context.actor.id.clone(), name));
        self.readers.add(Reader { tenant: tenant.clone(), actor, what }, now);
    }

    /// A browser reported a violation of an app's frame.
    pub(crate) fn report(&self, tenant: &TenantName, app: &AppName, reason: &'static str, now: Timestamp) {
        self.reports.add(Report { tenant: tenant.clone(), app: Some(app.clone()), reason }, now);
    }

    /// The entries that are due, each with its count, so that it can be put back.
    fn due(&self, now: Timestamp, ending: bool) -> Vec<(Entry, Counted)> {
        let strangers = self.strangers.due(now, ending).into_iter().map(|(of, count)| Counted::Stranger(of, count));
        let reports = self.reports.due(now, ending).into_iter().map(|(of, count)| Counted::Report(of, count));
        let readers = self.readers.due(now, ending).into_iter().map(|(of, count)| Counted::Reader(of, count));
        strangers.chain(reports).chain(readers).map(|counted| (counted.entry(now), counted)).collect()
    }

    /// What could not be recorded is counted on.
    fn put_back(&self, counted: Counted, now: Timestamp) {
        match counted {
            Counted::Stranger(of, count) => self.strangers.put_back(of, count, now),
            Counted::Report(of, count) => self.reports.put_back(of, count, now),
            Counted::Reader(of, count) => self.readers.put_back(of, count, now),
        }
    }
}

/// A count that is due.
#[derive(Debug, Clone)]
enum Counted {
    Stranger(Stranger, u64),
    Report(Report, u64),
    Reader(Reader, u64),
}

impl Counted {
    fn entry(&self, now: Timestamp) -> Entry {
        let denied = |tenant, reason, count| Entry {
            reason: Some(reason),
            count: Some(count),
            ..Entry::by(tenant, now, Action::AccessDenied, Outcome::Denied, Actor::anonymous())
        };
        match self {
            Self::Stranger(of, count) => Entry {
                address: of.address.map(|address| address.to_string()),
                ..denied(TenantName::system(), of.reason, *count)
            },
            Self::Report(of, count) => Entry { app: of.app.clone(), ..denied(of.tenant.clone(), of.reason, *count) },
            Self::Reader(of, count) => {
                Entry { count: Some(*count), ..read_entry(of.tenant.clone(), of.actor.clone(), of.what, now) }
            }
        }
    }
}

fn read_entry(tenant: TenantName, actor: Option<(String, String)>, what: &'static str, now: Timestamp) -> Entry {
    let auditor = crate::domain::ActorKind::Credential(crate::domain::CredentialKind::Auditor);
    let actor = actor.map_or_else(Actor::anonymous, |(id, name)| Actor { id, kind: auditor, name: Some(name) });
    let mut entry = Entry::by(tenant, now, Action::LogRead, Outcome::Allowed, actor);
    entry.rule = Some(what);
    entry
}

impl State {
    /// Writes what is due. What cannot be written is counted on and due again later; a commit of which nobody knows
    /// whether it happened may count twice, never not at all.
    pub(crate) async fn write_notes(&self, ending: bool) {
        let mut by_tenant: BTreeMap<TenantName, Vec<(Entry, Counted)>> = BTreeMap::new();
        for (entry, counted) in self.notes().due(self.now(), ending) {
            by_tenant.entry(entry.tenant.clone()).or_default().push((entry, counted));
        }
        for (tenant, due) in by_tenant {
            let (entries, counted): (Vec<_>, Vec<_>) = due.into_iter().unzip();
            let record = Record::new(tenant, entries, self.deadline());
            if self.rooms().committer.submit(record).await.is_err() {
                tracing::warn!("counted refusals and reads could not be recorded yet");
                let now = self.now();
                counted.into_iter().for_each(|counted| self.notes().put_back(counted, now));
            }
        }
    }

    /// Records one entry now; the request waits for it.
    pub(crate) async fn record(&self, entry: Entry) -> Result<(), super::problem::Problem> {
        let record = Record::new(entry.tenant.clone(), vec![entry], self.deadline());
        self.rooms().committer.submit(record).await?;
        Ok(())
    }
}

/// The context of a request whose caller is not known.
pub(crate) fn anonymous_context(request_id: RequestId, address: IpAddr) -> RequestContext {
    RequestContext {
        request_id,
        actor: Actor::anonymous(),
        on_behalf_of: None,
        origin: Origin { address: Some(address.to_string()), app: None },
        reference: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_could_not_be_recorded_are_counted_on() {
        let (notes, now) = (Notes::new(), Timestamp::from_millis(1_795_489_236_007));
        let context = anonymous_context(RequestId::generate(now), IpAddr::from([192, 0, 2, 7]));
        let demo: TenantName = "demo".parse().unwrap();
        (0..3).for_each(|_| notes.read(&demo, &context, "log.list", now));
        notes.stranger(IpAddr::from([192, 0, 2, 7]), "auth.invalid", now);
        let later = now.plus(Duration::from_secs(60));
        let due = notes.due(later, false);
        assert_eq!(due.len(), 2);
        due.into_iter().for_each(|(_, counted)| notes.put_back(counted, later));
        notes.read(&demo, &context, "log.list", later);
        let mut counts: Vec<_> = notes.due(later, true).iter().map(|(entry, _)| entry.count).collect();
        counts.sort();
        assert_eq!(counts, [Some(1), Some(4)]);
    }
}
