//! Administrative acts: each writes the row that decides and its `admin.*` entry, in the tenant's log and the
//! installation's, in one commit.
//!
//! It knows no route and judges no caller; who may do what is decided before (http/authentication).

use std::sync::Arc;

use crate::access_log::{Action, Entry, Outcome};
use crate::domain::credential::CredentialRecord;
use crate::domain::{
    ActorKind, AppDocument, AppName, Credential, FlowName, Realm, RequestContext, Tenant, TenantName, Timestamp, lp,
};
use crate::keys::KekRecord;
use crate::store::committer::operation::{Asker, Changes, Decision, Generation, Operation, Reads, Rows};
use crate::store::records::{Body, DestinationRecord, FlowRecord, StoredCredential};
use crate::store::rows::DecidingRow;
use crate::store::{Error, StoredFlow};

/// The name of the credential that `siv init` makes.
pub const FIRST_OPERATOR: &str = "first operator";

/// Who acts on which tenant, as the entry says it.
#[derive(Debug, Clone)]
pub struct Administrator {
    /// The tenant acted on; the installation itself for installation-wide acts.
    pub tenant: TenantName,
    /// The generation the act was decided under.
    pub generation: Option<Generation>,
    /// What the log says of the request.
    pub context: RequestContext,
    /// The realm, part of every digest.
    pub realm: Realm,
    /// Until when the answer is of use.
    pub deadline: Timestamp,
}

impl Administrator {
    /// The credential that asked; none where the vault itself acts.
    #[must_use]
    pub fn asker(&self) -> Option<Asker> {
        match self.context.actor.kind {
            ActorKind::Credential(kind) => Some(Asker { key: self.context.actor.id.clone(), kind }),
            _ => None,
        }
    }
}

/// When a row may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Always; an identical body makes no new version.
    Upsert,
    /// Only if there is none of this key.
    Insert,
    /// Only over this version.
    Replace(u64),
}

/// What an act did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There is a new version.
    Changed {
        /// Its number.
        version: u64,
    },
    /// What was asked for is there already.
    Unchanged {
        /// Its number.
        version: u64,
    },
    /// The key is taken, or another change came first; nothing was written.
    Conflict,
}

impl Applied {
    /// The version in force; none after a conflict.
    #[must_use]
    pub const fn version(self) -> Option<u64> {
        match self {
            Self::Changed { version } | Self::Unchanged { version } => Some(version),
            Self::Conflict => None,
        }
    }
}

/// One act: a row that decides and the entry that makes it.
pub struct Act {
    by: Administrator,
    row: DecidingRow,
    rule: Rule,
    action: Action,
    app: Option<AppName>,
    flow: Option<(FlowName, [u8; 32])>,
    facts: Vec<(&'static str, String)>,
}

impl Act {
    fn new<B: Body>(by: Administrator, key: &str, body: &B, rule: Rule, act: &'static str) -> Result<Self, Error> {
        // The version is set when the row it follows has been read.
        let row = body.to_row(&by.tenant, key, 0)?;
        Ok(Self { by, row, rule, action: Action::Admin(act), app: None, flow: None, facts: Vec::new() })
    }

    /// An act on a credential. Its entry says which one and of which kind, and so does the installation's, which names no row.
    fn on_credential(
        by: Administrator,
        credential: &StoredCredential,
        rule: Rule,
        act: &'static str,
    ) -> Result<Self, Error> {
        let (id, kind) = (credential.record.credential_id.to_string(), credential.record.kind);
        let act = Self::new(by, &id, credential, rule, act)?;
        Ok(Self { facts: vec![("credentialKind", kind.as_str().to_owned()), ("credentialId", id)], ..act })
    }

    /// Applies an app's document.
    ///
    /// # Errors
    /// [`Error::Rule`], which no document of ours gives.
    pub fn apply_app(by: Administrator, document: &AppDocument) -> Result<Self, Error> {
        let act = Self::new(by, document.name.as_str(), document, Rule::Upsert, "app.applied")?;
        Ok(Self { app: Some(document.name.clone()), ..act })
    }

    /// Applies a flow's document over the version that is there. The very same text makes no new version.
    ///
    /// # Errors
    /// As [`Act::apply_app`].
    pub fn apply_flow(by: Administrator, record: FlowRecord, there: Option<&StoredFlow>) -> Result<Self, Error> {
        let record = match there {
            Some(there) if there.record.toml == record.toml => there.record.clone(),
            _ => record,
        };
        let act = Self::new(by, record.name.as_str(), &record, Rule::Upsert, "flow.applied")?;
        Ok(Self { app: Some(record.app.clone()), flow: Some((record.name.clone(), record.digest())), ..act })
    }

    /// Sets a destination's host and secrets, which are sealed already.
    ///
    /// # Errors
    /// As [`Act::apply_app`].
    pub fn put_destination(by: Administrator, record: &DestinationRecord) -> Result<Self, Error> {
        Self::new(by, record.name.as_str(), record, Rule::Upsert, "destination.set")
    }

    /// Makes a credential.
    ///
    /// # Errors
    /// As [`Act::apply_app`].
    pub fn create_credential(by: Administrator, credential: &StoredCredential) -> Result<Self, Error> {
        Self::on_credential(by, credential, Rule::Insert, "credential.created")
    }

    /// Ends a credential; `version` is that of the row that was read.
    ///
    /// # Errors
    /// As [`Act::apply_app`].
    pub fn revoke_credential(
        by: Administrator,
        credential: &StoredCredential,
        version: u64,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let revoked_at = credential.record.revoked_at.or(Some(now));
        let record = CredentialRecord { revoked_at, ..credential.record.clone() };
        let ended = StoredCredential { record, hash: credential.hash };
        Self::on_credential(by, &ended, Rule::Replace(version), "credential.revoked")
    }

    /// Confirms a credential that a recovery suspended; one that is not suspended stays as it is.
    ///
    /// # Errors
    /// As [`Act::apply_app`].
    pub fn confirm_credential(by: Administrator, credential: &StoredCredential) -> Result<Self, Error> {
        let record = CredentialRecord { suspended: false, ..credential.record.clone() };
        let confirmed = StoredCredential { record, hash: credential.hash };
        Self::on_credential(by, &confirmed, Rule::Upsert, "credential.confirmed")
    }

    /// Takes note of a tenant's first KEK, which lies in the key store already. Before it no entry of the tenant can be written.
    ///
    /// # Errors
    /// As [`Act::apply_app`].
    pub fn create_first_kek(by: Administrator, kek: &KekRecord) -> Result<Self, Error> {
        let act = Self::new(by, &kek.row_key(), kek, Rule::Insert, "kek.created")?;
        Ok(Self { action: Action::Key("kek.created"), ..act })
    }

    /// Makes a tenant; the same stands in the installation's log.
    ///
    /// # Errors
    /// As [`Act::apply_app`].
    pub fn create_tenant(by: Administrator, tenant: &Tenant) -> Result<Self, Error> {
        Self::new(by, tenant.name.as_str(), tenant, Rule::Insert, "tenant.created")
    }

    /// Changes a tenant's switches; `version` is that of the row that was read.
    ///
    /// # Errors
    /// As [`Act::apply_app`].
    pub fn switch_tenant(by: Administrator, tenant: &Tenant, version: u64, act: Switch) -> Result<Self, Error> {
        Self::new(by, tenant.name.as_str(), tenant, Rule::Replace(version), act.as_str())
    }

    fn entry(&self, row: &DecidingRow, now: Timestamp) -> Entry {
        let mut entry =
            Entry::new(self.by.tenant.clone(), now, self.action.clone(), Outcome::Allowed, &self.by.context);
        entry.object = Some(row.object(&self.by.realm));
        entry.app = self.app.clone().or(entry.app);
        if let Some((name, digest)) = &self.flow {
            entry.flow = Some((name.clone(), row.version));
            entry.flow_digest = Some(*digest);
        }
        entry.facts.clone_from(&self.facts);
        entry
    }
}

/// An administrative entry, and what the installation's log says of it: only that log is anchored outside. The copy names
/// the tenant and no row, whose versions stand in the tenant's own log.
pub(in crate::store) fn in_both_logs(entry: Entry) -> Vec<Arc<Entry>> {
    if entry.tenant.is_system() {
        return vec![entry.into()];
    }
    let mut copy = Entry { tenant: TenantName::system(), object: None, ..entry.clone() };
    copy.facts.push(("tenant", entry.tenant.to_string()));
    vec![entry.into(), copy.into()]
}

/// A tenant's switches as entries name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Nothing is captured or opened from now on.
    Seal,
    /// It is again.
    Unseal,
}

impl Switch {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Seal => "tenant.sealed",
            Self::Unseal => "tenant.unsealed",
        }
    }
}

impl Operation for Act {
    type Output = Applied;

    fn tenant(&self) -> &TenantName {
        &self.by.tenant
    }

    fn generation(&self) -> Option<Generation> {
        self.by.generation
    }

    fn asker(&self) -> Option<Asker> {
        self.by.asker()
    }

    fn deadline(&self) -> Timestamp {
        self.by.deadline
    }

    fn moves(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        Reads { rows: vec![(self.row.table, self.row.key.clone())], ..Reads::default() }
    }

    fn hold(&mut self, _: Arc<crate::crypto::DataKey>) {}

    fn decide(&mut self, rows: &dyn Rows) -> Decision<Applied> {
        let there = rows.row(self.row.table, &self.row.key);
        let version = match (self.rule, there) {
            (Rule::Upsert, Some(there)) if there.body == self.row.body => {
                return Decision::Answer(Applied::Unchanged { version: there.version });
            }
            (Rule::Upsert | Rule::Insert, None) => 1,
            (Rule::Upsert, Some(there)) => there.version + 1,
            (Rule::Replace(expected), Some(there)) if there.version == expected => expected + 1,
            (Rule::Insert, Some(_)) | (Rule::Replace(_), _) => return Decision::Answer(Applied::Conflict),
        };
        let row = DecidingRow { version, ..self.row.clone() };
        let changes = Changes {
            entries: in_both_logs(self.entry(&row, rows.now())),
            rows: vec![row],
            bump_generation: true,
            ..Changes::default()
        };
        Decision::Write(changes, Applied::Changed { version })
    }
}

/// Entries that stand for themselves: refusals, reads of the log, counts of both.
pub struct Record {
    tenant: TenantName,
    entries: Vec<Arc<Entry>>,
    deadline: Timestamp,
}

impl Record {
    /// Entries of one tenant's log, to be durable before `deadline`.
    #[must_use]
    pub fn new(
        tenant: TenantName,
        entries: impl IntoIterator<Item = impl Into<Arc<Entry>>>,
        deadline: Timestamp,
    ) -> Self {
        Self { tenant, entries: entries.into_iter().map(Into::into).collect(), deadline }
    }
}

impl Operation for Record {
    type Output = ();

    fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    fn generation(&self) -> Option<Generation> {
        None
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn reads(&self) -> Reads {
        Reads::default()
    }

    fn hold(&mut self, _: Arc<crate::crypto::DataKey>) {}

    fn decide(&mut self, rows: &dyn Rows) -> Decision<()> {
        for entry in &mut self.entries {
            Arc::make_mut(entry).time = rows.now();
        }
        Decision::Write(Changes { entries: self.entries.clone(), ..Changes::default() }, ())
    }
}

/// What a credential's keyed hash is over (docs/formats.md section 5); the key is the key store's `credential`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the credential itself is the input of its keyed hash")]
pub fn credential_message(
    credential: &Credential,
    record: &CredentialRecord,
    tenant: &TenantName,
    realm: &Realm,
) -> zeroize::Zeroizing<Vec<u8>> {
    use secrecy::ExposeSecret;
    let bound_to = record.app.as_ref().map(AppName::as_bytes).or_else(|| record.flow.as_ref().map(FlowName::as_bytes));
    zeroize::Zeroizing::new(lp(&[
        realm.as_bytes(),
        tenant.as_bytes(),
        record.kind.as_str().as_bytes(),
        record.credential_id.as_bytes(),
        bound_to.unwrap_or_default(),
        credential.expose_secret().as_bytes(),
    ]))
}
