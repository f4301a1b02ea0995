//! The first operator credential: made on the machine itself, by who can open the key store. There is no default one.
//!
//! Making it again replaces it, so that a lost line of output is no disaster; once it was used, the way is closed for good.

use secrecy::{ExposeSecret, SecretString};

use crate::domain::credential::CredentialRecord;
use crate::domain::{
    Actor, ActorKind, Credential, CredentialId, CredentialKind, Origin, RequestContext, RequestId, TenantName,
};
use crate::keys::MacPurpose;
use crate::store::administration::{Act, Administrator, Applied, FIRST_OPERATOR, credential_message};
use crate::store::records::StoredCredential;
use crate::store::{Catalog, Committer, EntryFilter, TenantCatalog};

use super::failure::Failure;
use super::installation::{Installation, chain};
use super::node::Writer;

/// The name of the credential that a recovery makes.
const RECOVERING: &str = "recovering operator";
/// How long the commit may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// A credential just made.
pub(super) struct FirstOperator {
    pub(super) id: CredentialId,
    pub(super) text: SecretString,
}

/// Makes the first operator credential of the installation, or replaces it.
///
/// # Errors
/// It was used already.
pub(super) async fn first_operator(writer: &Writer) -> Result<FirstOperator, Failure> {
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
            let failure = Failure::new("the first operator credential was used already, so no other is made here");
            return Err(failure.so("make operators with it: siv credential create --kind operator"));
        }
        if credential.record.revoked_at.is_none() {
            let by = administrator(installation, settings.as_deref(), boot);
            let act = Act::revoke_credential(by, credential, *version, installation.clock.now()).map_err(failed)?;
            submit(committer, catalog, act).await?;
        }
    }
    let settings = catalog.tenant(&system).await.map_err(failed)?;
    let (made, stored) = make(FIRST_OPERATOR, installation)?;
    let by = administrator(installation, settings.as_deref(), boot);
    submit(committer, catalog, Act::create_credential(by, &stored).map_err(failed)?).await?;
    Ok(made)
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
    let (made, stored) = make(RECOVERING, installation)?;
    let by = administrator(installation, settings.as_deref(), boot);
    submit(committer, catalog, Act::create_credential(by, &stored).map_err(failed)?).await?;
    Ok(made)
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
fn make(name: &str, installation: &Installation) -> Result<(FirstOperator, StoredCredential), Failure> {
    let now = installation.clock.now();
    let id = CredentialId::generate(now);
    let credential = Credential::generate(CredentialKind::Operator, *id.as_bytes())
        .map_err(|error| Failure::new("the system gives no randomness").because(error))?;
    let record = CredentialRecord {
        credential_id: id,
        kind: CredentialKind::Operator,
        name: name.to_owned(),
        app: None,
        flow: None,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        suspended: false,
    };
    let keys = &installation.keys;
    let message = credential_message(&credential, &record, &TenantName::system(), keys.realm());
    let hash = keys.mac(MacPurpose::Credential).mac(&message);
    let text = SecretString::from(credential.expose_secret());
    Ok((FirstOperator { id, text }, StoredCredential { record, hash }))
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
