//! Who calls: bearer, keyed hash, expiry, tenant, kind. It opens nothing and knows no route.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Uri};

use super::dress::Arrival;
use super::problem::{Code, Problem};
use super::state::State;
use crate::access_log::{Action, Entry, Outcome};
use crate::domain::credential::CredentialRecord;
use crate::domain::{Actor, ActorKind, Credential, CredentialId, CredentialKind, Origin, RequestContext, TenantName};
use crate::keys::MacPurpose;
use crate::store::administration::credential_message;
use crate::store::{Caller, TenantCatalog};

/// A kind of credential as a type, so that a route's signature says whom it admits.
pub(crate) trait Kind: Send + Sync + 'static {
    /// The kind.
    const KIND: CredentialKind;
    /// Whether its routes are closed while the tenant is sealed.
    const OPENS_VALUES: bool;
}

macro_rules! kinds {
    ($($name:ident opens $opens:literal),*) => {$(
        #[doc = concat!("Admits credentials of the kind `", stringify!($name), "`.")]
        pub(crate) struct $name;
        impl Kind for $name {
            const KIND: CredentialKind = CredentialKind::$name;
            const OPENS_VALUES: bool = $opens;
        }
    )*};
}

kinds!(Operator opens false, Custodian opens false, App opens true, Flow opens true, Auditor opens false);

/// An authenticated caller of one kind.
pub(crate) struct By<K: Kind>(pub(crate) Caller, pub(crate) PhantomData<K>);

impl<K: Kind> FromRequestParts<State> for By<K> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let caller = authenticate(parts, state).await?;
        if K::OPENS_VALUES && caller.tenant.tenant.sealed {
            return Err(sealed(state, &caller).await);
        }
        if caller.credential.kind != K::KIND {
            return Err(refuse(state, &caller).await);
        }
        Ok(Self(caller, PhantomData))
    }
}

/// An authenticated caller of any kind whose tenant is not sealed: for the one route that asks for the kind after it
/// has read the request.
pub(crate) struct Unsealed(pub(crate) Caller);

impl FromRequestParts<State> for Unsealed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let caller = authenticate(parts, state).await?;
        if caller.tenant.tenant.sealed { Err(sealed(state, &caller).await) } else { Ok(Self(caller)) }
    }
}

/// Records a refusal of a known caller. The answer is the same whether or not the entry could be written: nothing was done.
pub(crate) async fn refuse(state: &State, caller: &Caller) -> Problem {
    let tried = (&caller.context, caller.asked.as_str());
    denied(state, caller.tenant_name().clone(), tried, Code::PolicyDenied, "credential.kind").await
}

/// The rule that a credential of an app serves that app alone.
pub(crate) const OTHER_APP: &str = "credential.app";

/// The same for a rule of the act itself, which the entry names.
pub(crate) async fn deny(state: &State, caller: &Caller, rule: &'static str) -> Problem {
    let tried = (&caller.context, caller.asked.as_str());
    denied(state, caller.tenant_name().clone(), tried, Code::PolicyDenied, rule).await
}

/// The same of one whose tenant is sealed: who asked meanwhile is what its custodian wants to know.
async fn sealed(state: &State, caller: &Caller) -> Problem {
    let log = caller.tenant_name().clone();
    let problem = denied(state, log, (&caller.context, &caller.asked), Code::TenantSealed, "tenant.sealed").await;
    problem.saying(if caller.tenant.is_shredded() { SHREDDED } else { "The tenant's custodian has sealed it." })
}

/// Why a tenant stays sealed.
pub(crate) const SHREDDED: &str =
    "The tenant's keys were destroyed by its custodians, or are being: it does not come back.";

async fn denied(
    state: &State,
    log: TenantName,
    (context, asked): (&RequestContext, &str),
    code: Code,
    rule: &'static str,
) -> Problem {
    let mut entry = Entry::new(log, state.now(), Action::AccessDenied, Outcome::Denied, context);
    entry.reason = Some(code.as_str());
    entry.rule = Some(rule);
    entry.facts.push(("asked", asked.to_owned()));
    if state.record(entry).await.is_err() {
        tracing::warn!("a refusal could not be recorded");
    }
    Problem::new(code)
}

/// Proves who calls.
pub(crate) async fn authenticate(parts: &Parts, state: &State) -> Result<Caller, Problem> {
    let arrival = arrival(parts);
    let known = identify(&parts.headers, state).await;
    let (secret, tenant, record) = known.inspect_err(|problem| {
        if problem.code().status() == 401 {
            state.notes().stranger(arrival.address, problem.code().as_str(), state.now());
        }
    })?;
    state.limits().credential(record.credential_id, arrival.address)?;
    if record.kind != CredentialKind::Auditor {
        state.serving()?;
    }
    let of_installation = tenant.is_system();
    let own = tenant.clone();
    let context = RequestContext {
        request_id: arrival.request_id,
        actor: Actor {
            id: record.credential_id.to_string(),
            kind: ActorKind::Credential(record.kind),
            name: Some(record.name.clone()),
        },
        on_behalf_of: None,
        origin: Origin { address: Some(arrival.address.to_string()), app: record.app.clone() },
        reference: None,
    };
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let asked = format!("{} {route}", parts.method);
    let tenant = match tenant_for(state, &record, tenant, named_tenant(&parts.uri)?).await {
        Ok(tenant) => tenant,
        Err(problem) if problem.code() == Code::PolicyDenied => {
            // A probe of another tenant stands in the log of the tenant whose credential it was.
            return Err(denied(state, own, (&context, &asked), Code::PolicyDenied, "credential.tenant").await);
        }
        Err(problem) => return Err(problem),
    };
    let caller = Caller { tenant, credential: record, secret: Arc::new(secret), context, asked };
    if of_installation {
        state.close_bootstrap(&caller).await?;
    }
    Ok(caller)
}

/// Compares the credential with its row; nothing in the answer tells an unknown one from a wrong one.
async fn identify(headers: &HeaderMap, state: &State) -> Result<(Credential, TenantName, CredentialRecord), Problem> {
    let secret = bearer(headers)?;
    let (tenant, record) = recognise(&secret, state).await?;
    Ok((secret, tenant, record))
}

/// The row of a credential, if it is the right one and holds.
pub(crate) async fn recognise(secret: &Credential, state: &State) -> Result<(TenantName, CredentialRecord), Problem> {
    let invalid = || Problem::new(Code::AuthInvalid);
    let id = CredentialId::from_bytes(secret.id_bytes());
    let (tenant, record, hash) = state.rooms().catalog.credential(&id).await?.ok_or_else(invalid)?;
    let keys = &state.rooms().keys;
    let message = credential_message(secret, &record, &tenant, keys.realm());
    if !keys.verifies(MacPurpose::Credential, &message, &hash) || secret.kind() != record.kind {
        return Err(invalid());
    }
    holds(&record, state)?;
    Ok((tenant, record))
}

/// The row of a credential whose holder signed in before; it is looked up again, so that revoking it ends the session.
pub(crate) async fn recall(id: CredentialId, state: &State) -> Result<(TenantName, CredentialRecord), Problem> {
    let found = state.rooms().catalog.credential(&id).await?;
    let (tenant, record, _) = found.ok_or(Problem::new(Code::AuthInvalid))?;
    holds(&record, state)?;
    Ok((tenant, record))
}

fn holds(record: &CredentialRecord, state: &State) -> Result<(), Problem> {
    if record.revoked_at.is_some() || record.suspended {
        return Err(Problem::new(Code::AuthInvalid));
    }
    if record.expires_at.is_some_and(|end| end <= state.now()) {
        return Err(Problem::new(Code::AuthExpired));
    }
    Ok(())
}

/// Which tenant is meant. A credential belongs to one; the installation's operator names one.
async fn tenant_for(
    state: &State,
    record: &CredentialRecord,
    own: TenantName,
    named: Option<TenantName>,
) -> Result<Arc<TenantCatalog>, Problem> {
    let installations = own.is_system() && record.kind == CredentialKind::Operator;
    match named {
        Some(named) if installations || named == own => state.tenant(&named).await,
        // Whether the other tenant exists is not this caller's business.
        Some(_) => Err(Problem::new(Code::PolicyDenied)),
        None => {
            let usual = state.settings().default_tenant.as_ref().filter(|_| installations);
            if let Some(usual) = usual {
                // Before the first tenant is made there is only the installation itself.
                if let Some(tenant) = state.rooms().catalog.tenant(usual).await? {
                    return Ok(tenant);
                }
            }
            state.tenant(&own).await
        }
    }
}

/// `?tenant=`, which no other member of a query is.
fn named_tenant(uri: &Uri) -> Result<Option<TenantName>, Problem> {
    let mut named =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).filter(|(name, _)| name == "tenant");
    let Some((_, tenant)) = named.next() else { return Ok(None) };
    let tenant = TenantName::from_store(&tenant).map_err(|_| Problem::invalid("tenant", "name"))?;
    if named.next().is_some() { Err(Problem::new(Code::Malformed)) } else { Ok(Some(tenant)) }
}

/// The one bearer credential of a request (RFC 6750 section 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Credential, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(Problem::new(Code::AuthMissing)) };
    let invalid = || Problem::new(Code::AuthInvalid);
    if values.next().is_some() {
        return Err(invalid());
    }
    let (scheme, text) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(invalid)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Problem::new(Code::AuthMissing));
    }
    Credential::parse(text).map_err(|_| invalid())
}

/// What the outermost layer noted of the request.
pub(crate) fn arrival(parts: &Parts) -> Arrival {
    parts.extensions.get::<Arrival>().cloned().unwrap_or_else(Arrival::unknown)
}

impl FromRequestParts<State> for Arrival {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Self::Rejection> {
        Ok(arrival(parts))
    }
}
