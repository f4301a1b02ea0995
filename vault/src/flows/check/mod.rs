//! The static check of a flow, made when it is saved: where secure values go, and whether everything fits its app.

mod fit;
mod paths;
mod references;

use std::collections::{BTreeMap, BTreeSet};

use super::definition::{Flow, ResponseKind};
use super::error::{Error, SecretFault};
use super::relay::EgressPolicy;
use super::template::{SecretName, Source};
use crate::domain::{AppDocument, AppName, DestinationName, FieldName, Tenant};

/// What a flow is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The flow's app.
    pub app: &'a AppDocument,
    /// Its tenant.
    pub tenant: &'a Tenant,
    /// Hosts of the tenant's destinations.
    pub destinations: &'a BTreeMap<DestinationName, String>,
    /// Where the relay may speak to.
    pub egress: &'a EgressPolicy,
}

/// What the check found out about a flow that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The literal hosts it registers as destinations by being applied.
    pub hosts: BTreeSet<String>,
    /// The fields of its app that it uses.
    pub fields: BTreeSet<(AppName, FieldName)>,
}

impl Flow {
    /// Checks the flow against its surroundings. Its paths were checked when it was read.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the place or the path; [`Error::StepDenied`] for a host that is never spoken to,
    /// [`Error::SecretDenied`] for a secret of another host.
    pub fn check(&self, surroundings: &Surroundings<'_>) -> Result<Checked, Error> {
        self.check_fit(surroundings.app)?;
        self.check_reveal(surroundings.app, surroundings.tenant)?;
        self.check_egress(surroundings.egress)?;
        for (secret, destination) in self.secret_uses() {
            // A destination that is not there yet may be set later; a run without its secret is refused.
            let known = surroundings.destinations.get(&secret.destination);
            if known.is_some_and(|host| !host_serves(host, &destination)) {
                return Err(Error::SecretDenied { secret, fault: SecretFault::OtherHost });
            }
        }
        let hosts = self.http_steps().map(|(_, step)| step.destination()).collect();
        Ok(Checked { hosts, fields: self.used_fields() })
    }

    /// Checks the literal schemes and addresses of its outbound steps; for that nothing of its surroundings is needed.
    ///
    /// # Errors
    /// [`Error::StepDenied`].
    pub fn check_egress(&self, egress: &EgressPolicy) -> Result<(), Error> {
        self.http_steps().try_for_each(|(id, step)| {
            egress.admit(&step.url.base).map_err(|error| match error {
                Error::DestinationDenied(reason) => Error::StepDenied { step: id.clone(), reason },
                other => other,
            })
        })
    }

    /// The secrets that a run would miss today, in words: that of a destination which is not there, as a misspelled one is, or
    /// that is not set. No fault of the flow: it may be set later.
    #[must_use]
    pub fn unset(&self, destinations: &BTreeMap<DestinationName, BTreeSet<&str>>) -> Vec<String> {
        let secrets: BTreeSet<SecretName> = self.secret_uses().into_iter().map(|(secret, _)| secret).collect();
        let missed = secrets.iter().filter_map(|secret| match destinations.get(&secret.destination) {
            None => Some(format!("{secret}: there is no destination {}", secret.destination)),
            Some(set) if !set.contains(secret.secret.as_str()) => Some(format!("{secret}: this secret is not set")),
            Some(_) => None,
        });
        missed.collect()
    }

    /// The fields of the app that the flow uses: an app that drops or retypes one is refused.
    #[must_use]
    pub fn used_fields(&self) -> BTreeSet<(AppName, FieldName)> {
        let inputs = self.secure_inputs().map(|(_, field)| field);
        let captured =
            self.http_steps().flat_map(|(_, step)| &step.response).filter_map(|(_, field)| match &field.kind {
                ResponseKind::Secure(field) => Some(field),
                ResponseKind::Typed(_) => None,
            });
        inputs.chain(captured).map(|field| (self.app.clone(), field.clone())).collect()
    }

    /// Whether the flow can go on when its app changes: the app still has every field that the flow uses, of the same type,
    /// and none of them has become so short that the flow's answers would need a pattern they do not have.
    #[must_use]
    pub fn survives(&self, before: &AppDocument, after: &AppDocument) -> bool {
        let kept = self.used_fields().iter().all(|(_, name)| {
            let (old, new) = (before.fields.get(name), after.fields.get(name));
            new.is_some_and(|new| old.is_none_or(|old| old.kind == new.kind))
        });
        kept && (self.check_short(after).is_ok() || self.check_short(before).is_err())
    }

    /// The secrets the flow uses, each with the destination (host, port) it goes to. A run may give a secret only if
    /// [`host_serves`] says so for the destination's row. A secret that only makes a MAC counts where the MAC goes.
    #[must_use]
    pub fn secret_uses(&self) -> BTreeSet<(SecretName, String)> {
        let mut uses = BTreeSet::new();
        for (_, step) in self.http_steps() {
            for (_, reference) in step.references() {
                for origin in self.origins(&reference.source) {
                    if let Source::Secret(secret) = origin {
                        uses.insert((secret, step.destination()));
                    }
                }
            }
        }
        uses
    }
}

/// Whether a destination's row of `host` is the one spoken to at `destination` (host, with its port where that is not
/// the scheme's). A row without a port serves every port of its host.
#[must_use]
pub fn host_serves(host: &str, destination: &str) -> bool {
    let bare = match destination.rfind([':', ']']) {
        Some(at) if destination.as_bytes().get(at) == Some(&b':') => &destination[..at],
        _ => destination,
    };
    host.eq_ignore_ascii_case(destination) || host.eq_ignore_ascii_case(bare)
}

#[cfg(test)]
mod tests;
