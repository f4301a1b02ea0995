//! A new value: its key, its two seals, its row, its entry. Nothing is stored here.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::entries::about;
use super::error::Error;
use crate::access_log::{Action, Entry, Outcome};
use crate::crypto::{self, DataKey};
use crate::domain::{
    AppName, Binding, CaptureSessionId, FieldName, FieldSpec, KekId, Metadata, Plaintext, RequestContext, RunId,
    SecureValueKey, TenantName, Timestamp, ValueId,
};
use crate::keys::Keys;
use crate::store::rows::ValueRow;

/// What is known of a value before there is a key.
#[derive(Debug, Clone)]
pub struct Mould {
    /// Whose.
    pub tenant: TenantName,
    /// For which app.
    pub app: AppName,
    /// Of which field.
    pub field: FieldName,
    /// The field as its app describes it.
    pub spec: FieldSpec,
    /// What it is bound to.
    pub binding: Binding,
    /// When it is captured.
    pub created: Timestamp,
    /// When it expires.
    pub expires: Option<Timestamp>,
    /// How often it may be used.
    pub uses: Option<u32>,
    /// The capture session, if it came through one.
    pub session: Option<CaptureSessionId>,
    /// Commitment to whose it is.
    pub subject: Option<[u8; 32]>,
}

/// A value that is sealed and not yet stored.
pub struct NewValue {
    /// Its row.
    pub row: Arc<ValueRow>,
    /// The KEK above its data key, for the entry.
    pub kek_id: Option<KekId>,
    /// The text of its key, to be given out once.
    pub key_text: Zeroizing<String>,
}

impl Mould {
    /// A value of a field, as the field says and nothing narrows.
    #[must_use]
    pub fn of_field(tenant: TenantName, app: AppName, field: FieldName, spec: &FieldSpec, created: Timestamp) -> Self {
        Self {
            tenant,
            app,
            field,
            binding: Binding { flows: spec.flows.clone(), purposes: spec.purposes.clone() },
            created,
            expires: spec.expires(created),
            uses: spec.uses(),
            spec: spec.clone(),
            session: None,
            subject: None,
        }
    }

    /// Makes a key and seals the text twice.
    ///
    /// # Errors
    /// [`Error::Random`], [`Error::Crypto`].
    pub fn seal(self, plaintext: &Plaintext, data_key: &Arc<DataKey>, keys: &Keys) -> Result<NewValue, Error> {
        let key = SecureValueKey::generate(self.created)?;
        let pepper = keys.pepper();
        let verifier = crypto::verifier(&pepper, keys.realm(), &self.tenant, &key);
        let metadata = Metadata {
            realm: keys.realm().clone(),
            tenant: self.tenant,
            app: self.app,
            value_id: key.value_id(),
            field: self.field,
            kind: self.spec.kind,
            retention: self.spec.retention(),
            created: self.created,
            expires: self.expires,
            uses: self.uses,
            session: self.session,
            subject: self.subject,
            binding: self.binding,
        };
        let sealed = crypto::seal_value(plaintext, &key, &metadata, data_key)?;
        let row = ValueRow { metadata, verifier, pepper_id: pepper.id(), data_key_id: data_key.id(), sealed };
        Ok(NewValue { row: Arc::new(row), kek_id: data_key.kek_id(), key_text: key.reveal_text() })
    }
}

impl NewValue {
    /// Its public id.
    #[must_use]
    pub fn value_id(&self) -> ValueId {
        self.row.metadata.value_id
    }

    /// The entry of its capture; the batch sets the time.
    #[must_use]
    pub fn entry(&self, context: &RequestContext, run_id: Option<RunId>) -> Entry {
        let metadata = &self.row.metadata;
        let entry =
            Entry::new(metadata.tenant.clone(), metadata.created, Action::ValueCaptured, Outcome::Allowed, context);
        Entry {
            expires_at: metadata.expires,
            uses: metadata.uses,
            session: metadata.session,
            run_id,
            kek_id: self.kek_id,
            ..about(metadata, self.row.data_key_id, entry)
        }
    }
}
