//! What happens at customers' HSMs, written where it stays: a refused PIN into the row that decides, and all of it into the
//! logs. The tenant's own log may have to do without openings, since its key is what is away.

use super::own_work::OwnWork;
use super::{Committer, OWN_WORK, announcement};
use crate::access_log::{Action, Entry, Outcome};
use crate::keys::{HsmNews, KekRecord, KekState, KeyRecords as _, News, ProviderRecord};
use crate::store::Error;
use crate::store::administration::in_both_logs;
use crate::store::committer::operation::Changes;
use crate::store::records::Body;
use crate::store::rows::{DecidingRow, Table};

impl Committer {
    /// Writes what is new, the oldest first. What cannot be written is tried again: a PIN that was refused is forgotten by
    /// no restart that comes after its row.
    pub(super) async fn watch_providers(&self) -> Result<(), Error> {
        while let Some(news) = self.inner.keys.hsm_news() {
            match self.tell(&news).await {
                // Somebody changed the configuration meanwhile: it is about the one before.
                Ok(()) | Err(Error::Conflict) => self.inner.keys.hsm_news_told(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn tell(&self, news: &HsmNews) -> Result<(), Error> {
        let HsmNews { tenant, provider, what, .. } = news;
        let now = self.inner.clock.now();
        let (act, outcome, facts) = match what {
            News::Quarantined(why) => ("provider.quarantined", Outcome::Failed, vec![("why", why.clone())]),
            News::Away(why) => ("provider.unavailable", Outcome::Failed, vec![("why", why.clone())]),
            News::Back => ("provider.available", Outcome::Allowed, Vec::new()),
            News::Alarm { kek, what } => {
                let label = kek.iter().map(|label| ("kekLabel", label.clone()));
                ("provider.alarm", Outcome::Failed, label.chain([("why", what.clone())]).collect())
            }
        };
        if outcome == Outcome::Failed {
            let said = |name: &str| facts.iter().find(|(fact, _)| *fact == name).map(|(_, text)| text.as_str());
            tracing::error!(%tenant, %provider, act, kek = said("kekLabel"), why = said("why"), "a tenant's HSM");
        } else {
            tracing::info!(%tenant, %provider, act, "a tenant's HSM");
        }
        let mut entry = announcement::by_node(&self.inner.identity, tenant, Action::Key(act), now);
        entry.outcome = outcome;
        entry.facts.push(("provider", provider.to_string()));
        entry.facts.extend(self.whereabouts(news).await);
        entry.facts.extend(facts);
        let mut rows = Vec::new();
        if let News::Quarantined(_) = what {
            let row = self.quarantined(news).await?;
            entry.object = Some(row.object(self.inner.keys.realm()));
            rows.push(row);
        }
        self.write_news(entry, rows).await
    }

    /// Which token it is, and which version the key. Words for who reads the entry: it is written without those that rows do not tell.
    async fn whereabouts(&self, news: &HsmNews) -> Vec<(&'static str, String)> {
        let (store, mut facts) = (&self.inner.store, Vec::new());
        if let Ok(Some((_, record))) = store.key_provider(&news.tenant, news.provider).await {
            facts.extend(record.token.label.map(|label| ("tokenLabel", label)));
            facts.extend(record.token.serial.map(|serial| ("tokenSerial", serial)));
        }
        if let News::Alarm { kek: Some(label), .. } = &news.what {
            let is_it = |kek: &KekRecord| {
                kek.hsm.as_ref().is_some_and(|hsm| hsm.provider == news.provider && hsm.label() == label)
            };
            let keks = store.keks(&news.tenant).await.unwrap_or_default();
            let mut of_label = keks.iter().filter(|kek| is_it(kek) && kek.state != KekState::Destroyed);
            // Two of one label in a token are told apart by nothing that is known here.
            if let (Some(kek), None) = (of_label.next(), of_label.next()) {
                facts.push(("kek", kek.row_key()));
            }
        }
        facts
    }

    /// The row that says that the PIN was refused; a conflict if it says so, or another configuration stands there.
    async fn quarantined(&self, news: &HsmNews) -> Result<DecidingRow, Error> {
        let key = news.provider.to_string();
        let row = self.inner.store.row(Table::KeyProviders, &news.tenant, &key).await?.ok_or(Error::Conflict)?;
        let record = ProviderRecord::from_row(&row)?;
        if row.version != news.version || record.quarantined {
            return Err(Error::Conflict);
        }
        ProviderRecord { quarantined: true, ..record }.to_row(&news.tenant, &key, row.version + 1)
    }

    async fn write_news(&self, entry: Entry, rows: Vec<DecidingRow>) -> Result<(), Error> {
        let (tenant, now) = (entry.tenant.clone(), self.inner.clock.now());
        let entries = in_both_logs(entry);
        let work = OwnWork::new(tenant, now.plus(OWN_WORK), move || Changes {
            entries: entries.clone(),
            bump_generation: !rows.is_empty(),
            rows: rows.clone(),
            ..Changes::default()
        });
        self.submit(work).await.map(|_| ())
    }
}
