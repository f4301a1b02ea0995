//! One line of the access log, as the rooms hand it in: a typed allow-list, never a value, its hash or its length.

use std::borrow::Cow;
use std::fmt;

use crate::domain::{
    Actor, AppName, CaptureSessionId, DataKeyId, FieldName, FieldType, FlowName, KekId, PurposeName, RequestContext,
    RequestId, RetentionClass, RunId, TenantName, Timestamp, ValueId,
};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// A value was captured.
    ValueCaptured,
    /// A value was opened inside a flow.
    ValueDereferenced,
    /// A plaintext was given to a flow's caller.
    ValueRevealed,
    /// A value was deleted by its app.
    ValueDeleted,
    /// A value's lifetime was extended.
    ValueExtended,
    /// Values of one class were purged after their expiry; the entry has a count.
    ValueExpired,
    /// A value is about to be used in an outbound step.
    RelayIntent,
    /// What became of it.
    RelayOutcome,
    /// Somebody was refused.
    AccessDenied,
    /// Somebody read the log.
    LogRead,
    /// An administrative act: the part after `admin.`, such as `flow.applied`.
    Admin(&'static str),
    /// A key operation: the part after `key.`, such as `kek.created`.
    Key(&'static str),
    /// A node began to serve.
    NodeStarted,
    /// A node ended in order.
    NodeStopped,
}

impl Action {
    /// A log goes on after a wanted restore: in that log it comes before everything else, the boot's announcement too.
    pub const RECOVERED: Self = Self::Admin("log.recovered");

    /// The name in entries.
    #[must_use]
    pub fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::ValueCaptured => "value.captured",
            Self::ValueDereferenced => "value.dereferenced",
            Self::ValueRevealed => "value.revealed",
            Self::ValueDeleted => "value.deleted",
            Self::ValueExtended => "value.extended",
            Self::ValueExpired => "value.expired",
            Self::RelayIntent => "relay.intent",
            Self::RelayOutcome => "relay.outcome",
            Self::AccessDenied => "access.denied",
            Self::LogRead => "log.read",
            Self::Admin(act) => return Cow::Owned(format!("admin.{act}")),
            Self::Key(act) => return Cow::Owned(format!("key.{act}")),
            Self::NodeStarted => "node.started",
            Self::NodeStopped => "node.stopped",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Allowed,
    /// It was refused.
    Denied,
    /// It went wrong.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// The names of all outcomes, in the order of the type. Words and no calls: a call in a constant that is a field's length
/// sends an optimised build round in a circle (E0391).
pub const OUTCOMES: [&str; 4] = ["allowed", "denied", "failed", "unknown"];

impl Outcome {
    /// The name in entries.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        OUTCOMES[self as usize]
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version of a row that decides which an `admin.*` or `key.*` entry made (docs/formats.md section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The table.
    pub table: &'static str,
    /// The row's key within its tenant.
    pub key: String,
    /// Its version from this entry on.
    pub version: u64,
    /// SHA-256 of its authenticated bytes.
    pub digest: [u8; 32],
}

/// An entry before it has a place in a lane. Members are those of design.md section 8 and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose log it belongs to.
    pub tenant: TenantName,
    /// When.
    pub time: Timestamp,
    /// What.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was refused or failed: a code of design.md section 9 or of ours, never foreign text.
    pub reason: Option<&'static str>,
    /// Who.
    pub actor: Actor,
    /// For whom, in the caller's words (personal).
    pub on_behalf_of: Option<String>,
    /// Peer address (personal).
    pub address: Option<String>,
    /// The app.
    pub app: Option<AppName>,
    /// The flow and its version.
    pub flow: Option<(FlowName, u64)>,
    /// SHA-256 of the flow's document.
    pub flow_digest: Option<[u8; 32]>,
    /// The policy rule that decided.
    pub rule: Option<&'static str>,
    /// The purpose.
    pub purpose: Option<PurposeName>,
    /// The value.
    pub value_id: Option<ValueId>,
    /// The value's field.
    pub field: Option<FieldName>,
    /// Its type.
    pub kind: Option<FieldType>,
    /// Its class.
    pub retention: Option<RetentionClass>,
    /// The run.
    pub run_id: Option<RunId>,
    /// The caller's reference (personal).
    pub reference: Option<String>,
    /// The host a relay goes to.
    pub destination: Option<String>,
    /// The KEK that wraps the data key.
    pub kek_id: Option<KekId>,
    /// The data key.
    pub data_key_id: Option<DataKeyId>,
    /// The state version from this entry on.
    pub state_version: Option<u64>,
    /// The expiry, where it is set or changes.
    pub expires_at: Option<Timestamp>,
    /// Uses left, where they are set or change.
    pub uses: Option<u32>,
    /// How many values or records the entry speaks of (purge, aggregated reads and refusals).
    pub count: Option<u64>,
    /// The capture session.
    pub session: Option<CaptureSessionId>,
    /// The row that decides which this entry made.
    pub object: Option<ObjectVersion>,
    /// Facts of a `node.*` or `key.*` entry as name and ASCII value (boot id, public key, build, last number).
    pub facts: Vec<(&'static str, String)>,
    /// The request.
    pub request_id: Option<RequestId>,
}

impl Entry {
    /// An entry of `action` with everything the request's context says and nothing else.
    #[must_use]
    pub fn new(
        tenant: TenantName,
        time: Timestamp,
        action: Action,
        outcome: Outcome,
        context: &RequestContext,
    ) -> Self {
        Self {
            on_behalf_of: context.on_behalf_of.clone(),
            address: context.origin.address.clone(),
            app: context.origin.app.clone(),
            reference: context.reference.clone(),
            request_id: Some(context.request_id),
            ..Self::by(tenant, time, action, outcome, context.actor.clone())
        }
    }

    /// An entry of the vault's own doing.
    #[must_use]
    pub fn by(tenant: TenantName, time: Timestamp, action: Action, outcome: Outcome, actor: Actor) -> Self {
        Self {
            tenant,
            time,
            action,
            outcome,
            reason: None,
            actor,
            on_behalf_of: None,
            address: None,
            app: None,
            flow: None,
            flow_digest: None,
            rule: None,
            purpose: None,
            value_id: None,
            field: None,
            kind: None,
            retention: None,
            run_id: None,
            reference: None,
            destination: None,
            kek_id: None,
            data_key_id: None,
            state_version: None,
            expires_at: None,
            uses: None,
            count: None,
            session: None,
            object: None,
            facts: Vec::new(),
            request_id: None,
        }
    }
}
