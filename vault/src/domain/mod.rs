//! The words of the house: ids, names, values, times, rules a lawyer could read aloud.
//!
//! Nothing here does I/O, seals, or knows a status code.

pub mod actor;
pub mod app;
mod causes;
pub mod clock;
pub mod credential;
pub mod document;
mod error;
pub mod field;
mod growing;
pub mod ids;
pub mod lp;
pub mod luhn;
pub mod metadata;
pub mod meter;
pub mod names;
pub mod plaintext;
pub mod retention;
pub mod secure_value_key;
pub mod tenant;
pub mod text;

pub use actor::{Actor, ActorKind, Origin, RequestContext};
pub use app::{AppDocument, SessionMode};
pub use causes::chain;
pub use clock::{Clock, Timestamp};
pub use credential::{Credential, CredentialKind};
pub use error::Error;
pub use field::{FieldSpec, FieldType, Invalid};
pub use growing::Growing;
pub use ids::{
    ApprovalId, BootId, CaptureSessionId, CredentialId, DataKeyId, InstallationId, KekId, KeyProviderId, KeyStoreId,
    RequestId, RunId, SecretId, ValueId,
};
pub use lp::{lp, lp_length};
pub use metadata::{Binding, Metadata};
pub use names::{AppName, DestinationName, FieldName, FlowName, PurposeName, Realm, TenantName};
pub use plaintext::Plaintext;
pub use retention::{DataKeyClass, Epoch, RetentionClass};
pub use secure_value_key::SecureValueKey;
pub use tenant::Tenant;
