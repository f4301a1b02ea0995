//! `/v1/credentials`: made, listed without their secrets, revoked.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::response::Response;
use http::{StatusCode, Uri};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::credential::CredentialRecord;
use crate::domain::{Credential, CredentialId, CredentialKind, Timestamp};
use crate::http::authentication::{By, Operator};
use crate::http::creation::Creation;
use crate::http::json::Json as Body;
use crate::http::listing::{Listed, part};
use crate::http::problem::{Code, Problem};
use crate::http::state::State;
use crate::keys::MacPurpose;
use crate::store::TenantCatalog;
use crate::store::administration::{Act, credential_message};
use crate::store::idempotency::Answer;
use crate::store::records::StoredCredential;

/// How long a credential lasts where nobody says.
const USUAL: Duration = Duration::from_secs(90 * 86_400);
/// And at most.
const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);
/// Characters of a name.
const LONGEST_NAME: usize = 100;

/// A credential to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct CreateCredential {
    /// `operator`, `custodian`, `app`, `flow` or `auditor`.
    kind: String,
    name: String,
    #[serde(default)]
    app: Option<String>,
    #[serde(default)]
    flow: Option<String>,
    #[serde(default)]
    expires_at: Option<String>,
}

/// A credential, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedCredential {
    #[schema(value_type = String)]
    credential_id: CredentialId,
    credential: String,
    #[schema(value_type = String)]
    expires_at: Option<Timestamp>,
}

/// A credential in a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CredentialSummary {
    #[schema(value_type = String)]
    credential_id: CredentialId,
    kind: &'static str,
    name: String,
    app: Option<String>,
    flow: Option<String>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    expires_at: Option<Timestamp>,
    #[schema(value_type = String)]
    revoked_at: Option<Timestamp>,
    suspended: bool,
}

impl From<&CredentialRecord> for CredentialSummary {
    fn from(record: &CredentialRecord) -> Self {
        Self {
            credential_id: record.credential_id,
            kind: record.kind.as_str(),
            name: record.name.clone(),
            app: record.app.as_ref().map(ToString::to_string),
            flow: record.flow.as_ref().map(ToString::to_string),
            created_at: record.created_at,
            expires_at: record.expires_at,
            revoked_at: record.revoked_at,
            suspended: record.suspended,
        }
    }
}

/// Makes a credential.
pub(crate) async fn create(
    Shared(state): Shared<State>,
    By(caller, _): By<Operator>,
    creation: Creation,
    uri: Uri,
    Body { body, raw }: Body<CreateCredential>,
) -> Result<Response, Problem> {
    let is_named =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).any(|(name, _)| name == "tenant");
    // A custodian of the installation itself is wanted seldom, and made by mistake with ease: it must be named.
    if body.kind == CredentialKind::Custodian.as_str() && caller.tenant_name().is_system() && !is_named {
        return Err(Problem::invalid("tenant", "missing"));
    }
    let record = wanted(&body, state.now())?;
    bound(&record, &caller.tenant)?;
    let (doing, by) = (state.clone(), caller.clone());
    let made = async move {
        let (credential, stored) = generate(&doing, &by.tenant, record)?;
        let answer = shown(&credential, &stored.record);
        let act = move |tenant: &TenantCatalog, by| {
            bound(&stored.record, tenant)?;
            Ok(Act::create_credential(by, &stored)?)
        };
        doing.administer(by, act).await?.version().ok_or(Problem::new(Code::Conflict))?;
        Ok(Answer::json(201, &answer)?)
    };
    creation.once(&state, &caller, "POST /v1/credentials", raw, made).await
}

fn wanted(body: &CreateCredential, now: Timestamp) -> Result<CredentialRecord, Problem> {
    let kind = CredentialKind::ALL.into_iter().find(|kind| kind.as_str() == body.kind);
    let kind =
        kind.filter(|kind| *kind != CredentialKind::Capture).ok_or_else(|| Problem::invalid("kind", "unknown"))?;
    if body.name.trim().is_empty()
        || body.name.chars().count() > LONGEST_NAME
        || body.name.chars().any(char::is_control)
    {
        return Err(Problem::invalid("name", "name"));
    }
    let app = name_for(kind == CredentialKind::App, body.app.as_deref(), "app")?;
    let flow = name_for(kind == CredentialKind::Flow, body.flow.as_deref(), "flow")?;
    let end = match body.expires_at.as_deref() {
        Some(text) => Timestamp::from_rfc3339(text),
        None => Some(now.plus(USUAL)),
    };
    let end = end.filter(|end| *end > now && *end <= now.plus(LONGEST));
    Ok(CredentialRecord {
        credential_id: CredentialId::generate(now),
        kind,
        name: body.name.clone(),
        app,
        flow,
        created_at: now,
        expires_at: Some(end.ok_or_else(|| Problem::invalid("expiresAt", "range"))?),
        revoked_at: None,
        suspended: false,
    })
}

/// The app or flow a credential is bound to: named by the kinds that have one, and by no other.
fn name_for<T: std::str::FromStr>(wanted: bool, given: Option<&str>, member: &str) -> Result<Option<T>, Problem> {
    match (wanted, given) {
        (true, Some(name)) => name.parse().map(Some).map_err(|_| Problem::invalid(member, "unknown")),
        (true, None) => Err(Problem::invalid(member, "missing")),
        (false, Some(_)) => Err(Problem::invalid(member, "not_of_this_kind")),
        (false, None) => Ok(None),
    }
}

/// What it is bound to must exist.
fn bound(record: &CredentialRecord, tenant: &TenantCatalog) -> Result<(), Problem> {
    if record.app.as_ref().is_some_and(|app| !tenant.apps.contains_key(app)) {
        return Err(Problem::invalid("app", "unknown"));
    }
    if record.flow.as_ref().is_some_and(|flow| !tenant.flows.contains_key(flow)) {
        return Err(Problem::invalid("flow", "unknown"));
    }
    Ok(())
}

fn generate(
    state: &State,
    tenant: &TenantCatalog,
    record: CredentialRecord,
) -> Result<(Credential, StoredCredential), Problem> {
    let credential = Credential::generate(record.kind, *record.credential_id.as_bytes());
    let credential = credential.map_err(|_| Problem::new(Code::Internal))?;
    let keys = &state.rooms().keys;
    let message = credential_message(&credential, &record, &tenant.tenant.name, keys.realm());
    let hash = keys.mac(MacPurpose::Credential).mac(&message);
    Ok((credential, StoredCredential { record, hash }))
}

#[expect(clippy::disallowed_methods, reason = "a credential is shown once, to the operator who made it")]
fn shown(credential: &Credential, record: &CredentialRecord) -> CreatedCredential {
    CreatedCredential {
        credential_id: record.credential_id,
        credential: credential.expose_secret().to_owned(),
        expires_at: record.expires_at,
    }
}

/// Lists credentials, without their secrets.
pub(crate) async fn list(By(caller, _): By<Operator>, uri: Uri) -> Result<Json<Listed<CredentialSummary>>, Problem> {
    let lines = caller.tenant.credentials.iter();
    part(lines.map(|(id, (_, stored))| (id.to_string(), (&stored.record).into())), &uri)
}

/// Ends a credential at once.
pub(crate) async fn revoke(
    Shared(state): Shared<State>,
    By(caller, _): By<Operator>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id: CredentialId = id.parse().map_err(|_| Problem::new(Code::NotFound))?;
    let now = state.now();
    let act = move |tenant: &TenantCatalog, by| {
        let (version, stored) = tenant.credentials.get(&id).ok_or(Problem::new(Code::NotFound))?;
        Ok(Act::revoke_credential(by, stored, *version, now)?)
    };
    state.administer(caller, act).await?.version().ok_or(Problem::new(Code::Conflict))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Confirms a credential that a recovery suspended.
pub(crate) async fn confirm(
    Shared(state): Shared<State>,
    By(caller, _): By<Operator>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id: CredentialId = id.parse().map_err(|_| Problem::new(Code::NotFound))?;
    let act = move |tenant: &TenantCatalog, by| {
        let (_, stored) = tenant.credentials.get(&id).ok_or(Problem::new(Code::NotFound))?;
        Ok(Act::confirm_credential(by, stored)?)
    };
    state.administer(caller, act).await?.version().ok_or(Problem::new(Code::Conflict))?;
    Ok(StatusCode::NO_CONTENT)
}
