//! What an app's server may do with a value it has the key of: look it up, delete it, move its expiry. Never open it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::entries::about;
use super::error::Error;
use super::presence::{Absence, Finder, Found, Place, Presence};
use super::request::ValueDescription;
use super::{ATTEMPTS, Capture, PATIENCE};
use crate::access_log::{Action, Entry, Outcome};
use crate::crypto::{DataKey, ValueState};
use crate::domain::{RetentionClass, SecureValueKey, TenantName, Timestamp};
use crate::store::rows::StateRow;
use crate::store::{self, Caller, Changes, Decision, Generation, Operation, ReadValue, Reads, Rows};

/// What is wanted of a value.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Describe,
    Delete,
    Extend(Timestamp),
}

/// What became of it.
#[derive(Debug)]
enum Fulfilled {
    Described(ValueDescription),
    Deleted,
    NotFound,
    Denied,
    OutOfRange,
}

impl Capture {
    /// What is known of a value, for who has its key.
    ///
    /// # Errors
    /// [`Error::ValueNotFound`].
    pub async fn lookup(&self, caller: &Caller, key: SecureValueKey) -> Result<ValueDescription, Error> {
        described(self.fulfil(caller, key, Wish::Describe).await?)
    }

    /// Deletes a value.
    ///
    /// # Errors
    /// [`Error::ValueNotFound`].
    pub async fn delete(&self, caller: &Caller, key: SecureValueKey) -> Result<(), Error> {
        match self.fulfil(caller, key, Wish::Delete).await? {
            Fulfilled::Deleted => Ok(()),
            other => described(other).map(|_| ()),
        }
    }

    /// Moves a value's expiry, within the longest lifetime of its class (or of its field, where the class has none).
    ///
    /// # Errors
    /// [`Error::ValueNotFound`], [`Error::PolicyDenied`] for sensitive authentication data, [`Error::Validation`].
    pub async fn extend(
        &self,
        caller: &Caller,
        key: SecureValueKey,
        expires_at: Timestamp,
    ) -> Result<ValueDescription, Error> {
        described(self.fulfil(caller, key, Wish::Extend(expires_at)).await?)
    }

    async fn fulfil(&self, caller: &Caller, key: SecureValueKey, wish: Wish) -> Result<Fulfilled, Error> {
        let (inner, key) = (&self.inner, Arc::new(key));
        let mut caller = caller.clone();
        let mut finder = Finder::new(&inner.keys);
        let mut unreadable = BTreeMap::new();
        let deadline = inner.clock.now().plus(PATIENCE);
        for _ in 0..ATTEMPTS {
            if caller.tenant.tenant.sealed {
                return Err(Error::TenantSealed);
            }
            let app = caller.credential.app.clone().ok_or(Error::PolicyDenied)?;
            let place = Place { tenant: caller.tenant_name().clone(), app, unreadable: unreadable.clone() };
            let operation =
                Owning { deadline, wish, caller: caller.clone(), key: Arc::clone(&key), place, finder: finder.clone() };
            match inner.committer.submit(operation).await {
                Ok(committed) => return Ok(committed.output),
                Err(store::Error::Stale) => {
                    let renewed = caller.renewed(&inner.catalog, inner.clock.now()).await?;
                    caller = renewed.ok_or(Error::AuthInvalid)?;
                }
                Err(error) if unreadable.is_empty() => {
                    unreadable = finder.diagnose(&error, &[key.value_id()], caller.tenant_name(), &inner.store).await?;
                    if unreadable.is_empty() {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(store::Error::Stale.into())
    }
}

fn described(fulfilled: Fulfilled) -> Result<ValueDescription, Error> {
    match fulfilled {
        Fulfilled::Described(description) => Ok(description),
        Fulfilled::Denied => Err(Error::PolicyDenied),
        Fulfilled::OutOfRange => Err(Error::invalid("expiresAt", "range")),
        Fulfilled::NotFound | Fulfilled::Deleted => Err(Error::ValueNotFound),
    }
}

struct Owning {
    deadline: Timestamp,
    wish: Wish,
    caller: Caller,
    key: Arc<SecureValueKey>,
    place: Place,
    finder: Finder,
}

impl Operation for Owning {
    type Output = Fulfilled;

    fn tenant(&self) -> &TenantName {
        self.caller.tenant_name()
    }

    fn generation(&self) -> Option<Generation> {
        Some(self.caller.tenant.generation)
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn reads(&self) -> Reads {
        Reads { values: self.place.readable([self.key.value_id()]), ..Reads::default() }
    }

    fn hold(&mut self, data_key: Arc<DataKey>) {
        self.finder.held.hold(data_key);
    }

    fn decide(&mut self, rows: &dyn Rows) -> Decision<Fulfilled> {
        match self.finder.find(&self.key, &self.place, rows) {
            Presence::NeedDataKey(id) => Decision::NeedDataKeys(vec![id]),
            Presence::Gone(absence, value) => self.refused(absence, value, rows.now()),
            Presence::Here(found) => match self.wish {
                Wish::Describe => Decision::Answer(Fulfilled::Described(describe(found.value, &found.state))),
                Wish::Delete => self.delete(&found, rows.now()),
                Wish::Extend(end) => self.extend(&found, end, rows.now()),
            },
        }
    }
}

impl Owning {
    fn entry(&self, action: Action, outcome: Outcome, now: Timestamp) -> Entry {
        Entry::new(self.caller.tenant_name().clone(), now, action, outcome, &self.caller.context)
    }

    /// Every refusal is recorded; what it was about only where the secret is right.
    fn refused(&self, absence: Absence, value: Option<&ReadValue>, now: Timestamp) -> Decision<Fulfilled> {
        let entry = Entry {
            reason: Some(absence.reason()),
            rule: Some(absence.rule()),
            app: Some(self.place.app.clone()),
            value_id: Some(self.key.value_id()),
            ..self.entry(Action::AccessDenied, Outcome::Denied, now)
        };
        let entry = match value {
            Some(value) => about(&value.row.metadata, value.row.data_key_id, entry),
            None => entry,
        };
        Decision::Write(Changes { entries: vec![entry.into()], ..Changes::default() }, Fulfilled::NotFound)
    }

    fn delete(&self, found: &Found<'_>, now: Timestamp) -> Decision<Fulfilled> {
        // The version that no row ever has: a row that is put back is older than this entry.
        let entry = Entry {
            state_version: Some(found.state.version + 1),
            ..self.entry(Action::ValueDeleted, Outcome::Allowed, now)
        };
        let row = &found.value.row;
        let changes = Changes {
            entries: vec![about(&row.metadata, row.data_key_id, entry).into()],
            removed: vec![row.metadata.value_id],
            ..Changes::default()
        };
        Decision::Write(changes, Fulfilled::Deleted)
    }

    fn extend(&self, found: &Found<'_>, end: Timestamp, now: Timestamp) -> Decision<Fulfilled> {
        let row = &found.value.row;
        let metadata = &row.metadata;
        if metadata.retention == RetentionClass::SensitiveAuthentication {
            let entry = Entry {
                reason: Some("policy.denied"),
                rule: Some("retention.never-extended"),
                ..self.entry(Action::AccessDenied, Outcome::Denied, now)
            };
            let entries = vec![about(metadata, row.data_key_id, entry).into()];
            return Decision::Write(Changes { entries, ..Changes::default() }, Fulfilled::Denied);
        }
        let latest = metadata.retention.longest_lifetime().or_else(|| self.limit_of_field(found));
        let too_late = latest.is_some_and(|longest| end > metadata.created.plus(longest));
        if end <= now || too_late || end > now.plus(LONGEST) {
            return Decision::Answer(Fulfilled::OutOfRange);
        }
        let state = ValueState { version: found.state.version + 1, expires: Some(end), ..found.state };
        let realm = self.finder.keys.realm();
        let stored = StateRow {
            value_id: metadata.value_id,
            data_key_id: found.data_key.id(),
            state,
            mac: state.mac(&found.data_key, realm, self.caller.tenant_name(), metadata.value_id),
        };
        let entry = Entry {
            state_version: Some(state.version),
            expires_at: Some(end),
            ..self.entry(Action::ValueExtended, Outcome::Allowed, now)
        };
        let changes = Changes {
            entries: vec![about(metadata, row.data_key_id, entry).into()],
            states: vec![stored],
            ..Changes::default()
        };
        Decision::Write(changes, Fulfilled::Described(describe(found.value, &state)))
    }

    /// What the field itself allows, as its app describes it now.
    fn limit_of_field(&self, found: &Found<'_>) -> Option<Duration> {
        let metadata = &found.value.row.metadata;
        let (_, app) = self.caller.tenant.apps.get(&metadata.app)?;
        app.fields.get(&metadata.field)?.ttl_seconds.map(Duration::from_secs)
    }
}

/// A hundred years: beyond it times would no longer fit RFC 3339.
const LONGEST: Duration = Duration::from_secs(3_153_600_000);

fn describe(value: &ReadValue, state: &ValueState) -> ValueDescription {
    let metadata = &value.row.metadata;
    ValueDescription {
        value_id: metadata.value_id,
        app: metadata.app.clone(),
        field: metadata.field.clone(),
        kind: metadata.kind,
        retention: metadata.retention,
        created_at: metadata.created,
        expires_at: state.expires,
        uses_left: state.uses_left,
        state: "active",
    }
}
