//! What a value is, beside its text: the fields that every layer of its seal is bound to.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{
    AppName, CaptureSessionId, FieldName, FieldType, FlowName, PurposeName, Realm, RetentionClass, TenantName,
    Timestamp, ValueId, lp,
};

/// The version byte of a sealed record's metadata.
pub const METADATA_VERSION: u8 = 1;

/// The flows and purposes a value may be used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Flows that may use it.
    pub flows: BTreeSet<FlowName>,
    /// Purposes it may be used for.
    pub purposes: BTreeSet<PurposeName>,
}

impl Binding {
    /// SHA-256 over the sorted names, as the metadata holds it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let flows: Vec<&[u8]> = self.flows.iter().map(FlowName::as_bytes).collect();
        let purposes: Vec<&[u8]> = self.purposes.iter().map(PurposeName::as_bytes).collect();
        Sha256::new().chain_update(lp(&flows)).chain_update(lp(&purposes)).finalize().into()
    }
}

/// Everything about a value that was fixed when it was captured (docs/formats.md section 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Where the value may be opened.
    pub realm: Realm,
    /// Whose it is.
    pub tenant: TenantName,
    /// The app it was captured for.
    pub app: AppName,
    /// Its public id.
    pub value_id: ValueId,
    /// The field it was entered into.
    pub field: FieldName,
    /// The kind of text.
    pub kind: FieldType,
    /// What may become of it.
    pub retention: RetentionClass,
    /// When it was captured.
    pub created: Timestamp,
    /// When it expires, as captured; `None` is "until deleted".
    pub expires: Option<Timestamp>,
    /// How often it may be used, as captured; `None` is not counted.
    pub uses: Option<u32>,
    /// The capture session; `None` for a capture by the app's server.
    pub session: Option<CaptureSessionId>,
    /// Salted commitment to the subject, if the session named one.
    pub subject: Option<[u8; 32]>,
    /// What it is bound to.
    pub binding: Binding,
}

impl Metadata {
    /// The bytes that stand in the AAD of both seals.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let session = self.session.map_or_else(|| "server".to_owned(), |session| session.to_string());
        lp(&[
            &[METADATA_VERSION],
            self.realm.as_bytes(),
            self.tenant.as_bytes(),
            self.app.as_bytes(),
            self.value_id.as_bytes(),
            self.field.as_bytes(),
            self.kind.as_str().as_bytes(),
            self.retention.as_str().as_bytes(),
            &self.created.to_be_bytes(),
            self.expires.map(Timestamp::to_be_bytes).as_ref().map_or(&[], |bytes| bytes.as_slice()),
            self.uses.map(u32::to_be_bytes).as_ref().map_or(&[], |bytes| bytes.as_slice()),
            session.as_bytes(),
            self.subject.as_ref().map_or(&[], |bytes| bytes.as_slice()),
            &self.binding.digest(),
        ])
    }

    /// True if reads of this value are counted, so that it has a state row from the start.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        self.uses.is_some()
    }
}
