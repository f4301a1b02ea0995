//! A PIN that somebody brought and that a token refused, or did not answer: nothing of the attempt remains but its entry, and the token
//! has counted it, or may have.

use std::time::Duration;

use super::Error;
use super::administration::{Administrator, Record, in_both_logs};
use super::tenants::Ground;
use crate::access_log::{Action, Entry, Outcome};
use crate::domain::TenantName;
use crate::keys::{self, HsmWish};

/// How long the entry's commit may take: the login has used up what the request had.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which token somebody wanted to log in to, for whom.
pub(in crate::store) struct Attempt {
    tenant: TenantName,
    facts: Vec<(&'static str, String)>,
}

impl Attempt {
    /// What a wish names.
    pub(in crate::store) fn of(wish: &HsmWish, tenant: &TenantName) -> Self {
        let mut facts = vec![("module", wish.module.display().to_string())];
        facts.extend(wish.token.clone().map(|label| ("tokenLabel", label)));
        facts.extend(wish.serial.clone().map(|serial| ("tokenSerial", serial)));
        Self { tenant: tenant.clone(), facts }
    }

    /// How it ended; if the PIN was refused or not answered, after the entry that says whose it was.
    pub(in crate::store) async fn ended<T>(
        self,
        ended: Result<T, keys::Error>,
        by: &Administrator,
        ground: Ground<'_>,
    ) -> Result<T, Error> {
        let error = match ended {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        if let keys::Error::HsmRefused(refusal) = &error {
            if refusal.member == "pin" {
                self.record(("provider.quarantined", Outcome::Failed), &refusal.why, by, ground).await;
            } else if refusal.has_tried {
                self.record(("provider.login-unanswered", Outcome::Unknown), &refusal.why, by, ground).await;
            }
        }
        Err(error.into())
    }

    async fn record(
        self,
        (action, outcome): (&'static str, Outcome),
        why: &str,
        by: &Administrator,
        ground: Ground<'_>,
    ) {
        let now = ground.store.clock().now();
        let mut entry = Entry::new(by.tenant.clone(), now, Action::Key(action), outcome, &by.context);
        entry.facts = self.facts;
        entry.facts.push(("why", why.to_owned()));
        // The tenant that would be made has no log yet.
        if by.tenant != self.tenant {
            entry.facts.push(("tenant", self.tenant.to_string()));
        }
        let record = Record::new(by.tenant.clone(), in_both_logs(entry), now.plus(PATIENCE));
        // Who asked hears of the PIN in any case.
        if let Err(error) = ground.committer.submit(record).await {
            tracing::error!(tenant = %self.tenant, %error, "the entry of a PIN that was tried could not be written");
        }
    }
}
