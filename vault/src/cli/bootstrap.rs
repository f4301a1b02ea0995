//! The first operator credential: made on the machine itself, by who can open the key store. There is no default one.
//!
//! Making it again replaces it, so that a lost line of output is no disaster; once it was used, the way is closed for good.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::access_log::{Action, Entry, Outcome};
use crate::domain::credential::CredentialRecord;
use crate::domain::{
    Actor, ActorKind, Credential, CredentialId, CredentialKind, Origin, RequestContext, RequestId, TenantName,
    Timestamp,
};
use crate::keys::MacPurpose;
use crate::store::administration::{Act, Administrator, Applied, FIRST_OPERATOR, Record, credential_message};
use crate::store::records::StoredCredential;
use crate::store::{Catalog, Committer, EntryFilter, TenantCatalog};

use super::failure::Failure;
use super::installation::Installation;
use super::node::Writer;
use crate::domain::chain;

/// The name of the credential that a recovery makes.
const RECOVERING: &str = "recovering operator";
/// How long the commit may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long the credential of `siv init` and of `siv recover` lasts: time to make operators of one's own with it.
pub(super) const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A credential just made.
pub(super) struct FirstOperator {
    pub(super) id: CredentialId,
    pub(super) expires_at: Timestamp,
    pub(super) text: SecretString,
}

/// Makes the first operator credential of the installation, or replaces it; nothing once it was used, and then the
/// attempt stands in the log.
///
/// # Errors
/// The database does not go on from what was signed, or it cannot be written.
pub(super) async fn first_operator(writer: &Writer, lifetime: Duration) -> Result<Option<FirstOperator>, Failure> {
    continues(&writer.installation)?;
    let Writer { installation, committer, catalog, boot } = writer;
    let failed = |error: crate::store::Error| {
        Failure::new("the first operator credential could not be made").because(chain(&error))
    };
    let system = TenantName::system();
    let settings = catalog.tenant(&system).await.map_err(failed)?;
    for (version, credential) in settings.iter().flat_map(|settings| settings.credentials.values()) {
        if credential.record.name != FIRST_OPERATOR {
            continue;
        }
        if was_used(installation, catalog, credential.record.credential_id).await.map_err(failed)? {
            refused(writer).await.map_err(failed)?;
            return Ok(None);
        }
        if credential.record.revoked_at.is_none() {
            let by = administrator(installation, settings.as_deref(), boot);
            let act = Act::revoke_credential(by, credential, *version, installation.clock.now()).map_err(failed)?;
            submit(committer, catalog, act).await?;
        }
    }
    let settings = catalog.tenant(&system).await.map_err(failed)?;
    let (made, stored) = make(FIRST_OPERATOR, lifetime, installation)?;
    let by = administrator(installation, settings.as_deref(), boot);
    submit(committer, catalog, Act::create_credential(by, &stored).map_err(failed)?).await?;
    Ok(Some(made))
}

/// Makes the operator credential with which a recovery goes on, when every other one is suspended.
///
/// # Errors
/// It cannot be written.
pub(super) async fn recovering_operator(writer: &Writer) -> Result<FirstOperator, Failure> {
    let Writer { installation, committer, catalog, boot } = writer;
    let failed = |error: crate::store::Error| {
        Failure::new("the recovering operator's credential could not be made").because(chain(&error))
    };
    let system = TenantName::system();
    catalog.refresh(&system);
    let settings = catalog.tenant(&system).await.map_err(failed)?;
    let (made, stored) = make(RECOVERING, YEAR, installation)?;
    let by = administrator(installation, settings.as_deref(), boot);
    submit(committer, catalog, Act::create_credential(by, &stored).map_err(failed)?).await?;
    Ok(made)
}

/// Who can act for the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operators {
    /// Somebody can.
    InForce,
    /// Nobody: a recovery suspended them all, and the credential it made did nothing yet. It may never have reached anybody.
    RecoveryBrokeOff,
    /// Nobody: their credentials ended or were revoked.
    Ended,
}

/// Looks through the operators' credentials.
///
/// # Errors
/// The database does not answer.
pub(super) async fn operators(installation: &Installation) -> Result<Operators, Failure> {
    let failed =
        |error: crate::store::Error| Failure::new("the credentials could not be looked at").because(chain(&error));
    let catalog = Catalog::start(installation.store.clone());
    let settings = catalog.tenant(&TenantName::system()).await.map_err(failed)?;
    let now = installation.clock.now();
    let (mut suspended, mut recovered) = (false, false);
    for (_, credential) in settings.iter().flat_map(|settings| settings.credentials.values()) {
        let record = &credential.record;
        if record.kind != CredentialKind::Operator {
            continue;
        }
        if record.suspended {
            suspended = true;
            continue;
        }
        let is_recovering = record.name == RECOVERING;
        let was_used = is_recovering && was_used(installation, &catalog, record.credential_id).await.map_err(failed)?;
        let is_over = record.revoked_at.is_some() || record.expires_at.is_some_and(|end| end <= now);
        if !is_over && (!is_recovering || was_used) {
            return Ok(Operators::InForce);
        }
        recovered |= was_used;
    }
    Ok(if suspended && !recovered { Operators::RecoveryBrokeOff } else { Operators::Ended })
}

/// Refuses a database that does not go on from what the key store says was signed: put back or made anew, it has
/// forgotten that there was a first operator.
///
/// # Errors
/// It does not.
pub(super) fn continues(installation: &Installation) -> Result<(), Failure> {
    if installation.store.log_health().is_serving() {
        return Ok(());
    }
    let failure = Failure::new("no operator credential is made for this database")
        .because("it does not hold what the key store says was signed: it was put back, or is another one");
    Err(failure.so("put the right database in its place, or take this one on with `siv recover`"))
}

/// Records that somebody on the machine asked for a first operator when there was one.
async fn refused(writer: &Writer) -> Result<(), crate::store::Error> {
    let now = writer.installation.clock.now();
    let actor = Actor { id: writer.boot.clone(), kind: ActorKind::Node, name: None };
    let mut entry = Entry::by(TenantName::system(), now, Action::Admin("bootstrap.refused"), Outcome::Denied, actor);
    entry.reason = Some("bootstrap.closed");
    let record = Record::new(TenantName::system(), vec![entry], now.plus(PATIENCE));
    writer.committer.submit(record).await.map(drop)
}

async fn submit(committer: &Committer, catalog: &Catalog, act: Act) -> Result<(), Failure> {
    let failed = || Failure::new("the first operator credential could not be made");
    let committed = committer.submit(act).await.map_err(|error| failed().because(chain(&error)))?;
    catalog.refresh(&TenantName::system());
    match committed.output {
        Applied::Changed { .. } | Applied::Unchanged { .. } => Ok(()),
        Applied::Conflict => Err(failed().because("another change came first").so("run it again")),
    }
}

/// A credential was used if any log has an entry of its doing.
async fn was_used(
    installation: &Installation,
    catalog: &Catalog,
    credential: CredentialId,
) -> Result<bool, crate::store::Error> {
    let filter = EntryFilter { actor: Some(credential.to_string()), ..EntryFilter::default() };
    let mut logs = catalog.tenants().await?;
    logs.push(TenantName::system());
    for log in logs {
        let mut cursor = None;
        loop {
            let page = installation.store.entries(&log, &filter, cursor.as_deref(), 1).await?;
            if !page.entries.is_empty() {
                return Ok(true);
            }
            // A search of a long log comes in parts.
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(false)
}

#[expect(clippy::disallowed_methods, reason = "the credential is shown once, to who asked for it on this machine")]
fn make(
    name: &str,
    lifetime: Duration,
    installation: &Installation,
) -> Result<(FirstOperator, StoredCredential), Failure> {
    let now = installation.clock.now();
    let (id, expires_at) = (CredentialId::generate(now), now.plus(lifetime));
    let credential = Credential::generate(CredentialKind::Operator, *id.as_bytes())
        .map_err(|error| Failure::new("the system gives no randomness").because(error))?;
    let record = CredentialRecord {
        credential_id: id,
        kind: CredentialKind::Operator,
        name: name.to_owned(),
        app: None,
        flow: None,
        created_at: now,
        expires_at: Some(expires_at),
        revoked_at: None,
        suspended: false,
    };
    let keys = &installation.keys;
    let message = credential_message(&credential, &record, &TenantName::system(), keys.realm());
    let hash = keys.mac(MacPurpose::Credential).mac(&message);
    let text = SecretString::from(credential.expose_secret());
    Ok((FirstOperator { id, expires_at, text }, StoredCredential { record, hash }))
}

/// The vault itself, on behalf of who runs the command.
fn administrator(installation: &Installation, settings: Option<&TenantCatalog>, boot: &str) -> Administrator {
    let now = installation.clock.now();
    let actor = Actor { id: boot.to_owned(), kind: ActorKind::Node, name: None };
    Administrator {
        tenant: TenantName::system(),
        generation: settings.map(|settings| settings.generation),
        context: RequestContext {
            request_id: RequestId::generate(now),
            actor,
            on_behalf_of: None,
            origin: Origin::default(),
            reference: None,
        },
        realm: installation.keys.realm().clone(),
        deadline: now.plus(PATIENCE),
    }
}
