//! Entries that are counted first: refused strangers, reads of the log, frame reports. Written once per period.

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

    /// The entries that are due, by tenant.
    fn due(&self, now: Timestamp, ending: bool) -> Vec<Entry> {
        let mut entries = Vec::new();
        let denied = |tenant, actor| Entry::by(tenant, now, Action::AccessDenied, Outcome::Denied, actor);
        for (stranger, count) in self.strangers.due(now, ending) {
            let mut entry = denied(TenantName::system(), Actor::anonymous());
            entry.address = stranger.address.map(|address| address.to_string());
            entry.reason = Some(stranger.reason);
            entry.count = Some(count);
            entries.push(entry);
        }
        for (report, count) in self.reports.due(now, ending) {
            let mut entry = denied(report.tenant, Actor::anonymous());
            entry.app = report.app;
            entry.reason = Some(report.reason);
            entry.count = Some(count);
            entries.push(entry);
        }
        for (reader, count) in self.readers.due(now, ending) {
            let mut entry = read_entry(reader.tenant, reader.actor, reader.what, now);
            entry.count = Some(count);
            entries.push(entry);
        }
        entries
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
    /// Writes what is due. What cannot be written is lost with a line in the service's own log: these are counts only.
    pub(crate) async fn write_notes(&self, ending: bool) {
        let entries = self.notes().due(self.now(), ending);
        let mut tenants: Vec<TenantName> = entries.iter().map(|entry| entry.tenant.clone()).collect();
        tenants.sort();
        tenants.dedup();
        for tenant in tenants {
            let of_tenant = entries.iter().filter(|entry| entry.tenant == tenant).cloned().collect();
            let record = Record::new(tenant, of_tenant, self.deadline());
            if self.rooms().committer.submit(record).await.is_err() {
                tracing::warn!("counted refusals and reads could not be recorded");
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
