//! Opening capture sessions, and saying what one may capture.

use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use secrecy::ExposeSecret;

use super::error::Error;
use super::known::Session;
use super::request::{FieldDescription, KeyDescription, OpenedSession, SessionDescription, SessionRequest};
use super::session::{SessionRecord, token_hash};
use super::{ATTEMPTS, Capture, PATIENCE};
use crate::crypto::DataKey;
use crate::domain::{
    AppDocument, AppName, CaptureSessionId, Credential, CredentialKind, FieldName, FieldSpec, FieldType, SessionMode,
    TenantName, Timestamp,
};
use crate::keys::HeldKeys;
use crate::store::idempotency::{Answer, IdempotencyKey, IdempotencyRequest, Judgement, Repeated};
use crate::store::records::Body;
use crate::store::rows::{DecidingRow, IdempotencyRow};
use crate::store::{self, Caller, Changes, Decision, Generation, Operation, Reads, Rows, TenantCatalog};

const ROUTE: &str = "POST /v1/capture/sessions";

/// A capture token that was proved, with the session it opens and its tenant's settings of that moment.
pub struct Admitted {
    pub(super) token: Arc<Credential>,
    pub(super) tenant: Arc<TenantCatalog>,
    pub(super) session: CaptureSessionId,
    pub(super) record: Arc<SessionRecord>,
}

impl Capture {
    /// Opens a capture session for an app's server: 201 with [`OpenedSession`].
    ///
    /// # Errors
    /// [`Error`].
    pub async fn open_session(
        &self,
        caller: &Caller,
        request: SessionRequest,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Answer, Error> {
        let name = caller.credential.app.clone().ok_or(Error::PolicyDenied)?;
        let mut tenant = Arc::clone(&caller.tenant);
        let deadline = self.inner.clock.now().plus(PATIENCE);
        let prepared = self.prepare(caller, ROUTE, (&name, false), idempotency).await?;
        for _ in 0..ATTEMPTS {
            if tenant.tenant.sealed {
                return Err(Error::TenantSealed);
            }
            // The request's own faults first (422), then whether the credential serves that app (403).
            let asked = request.app.parse::<AppName>().ok().filter(|app| tenant.apps.contains_key(app));
            let asked = asked.ok_or_else(|| Error::invalid("app", "unknown"))?;
            let (_, app) = tenant.apps.get(&asked).ok_or_else(|| Error::invalid("app", "unknown"))?;
            if asked != name {
                return Err(Error::PolicyDenied);
            }
            if let Some(answer) = self.open(&request, app, (&tenant, deadline), prepared.clone()).await? {
                return Ok(answer);
            }
            let renewed = caller.renewed(&self.inner.catalog, self.inner.clock.now()).await?;
            tenant = renewed.ok_or(Error::AuthInvalid)?.tenant;
        }
        Err(store::Error::Stale.into())
    }

    /// Opens a capture session for the frame itself, in an app whose session mode is `open`: 201 with [`OpenedSession`].
    ///
    /// # Errors
    /// [`Error::NotFound`] for an absent app, [`Error::PolicyDenied`] for one of mode `server`.
    pub async fn open_session_from_frame(&self, app: &str) -> Result<Answer, Error> {
        let name: AppName = app.parse().map_err(|_| Error::NotFound)?;
        let deadline = self.inner.clock.now().plus(PATIENCE);
        for _ in 0..ATTEMPTS {
            let tenant = self.inner.catalog.tenant_of_app(&name).await?.ok_or(Error::NotFound)?;
            let tenant = self.inner.catalog.tenant(&tenant).await?.ok_or(Error::NotFound)?;
            if tenant.tenant.sealed {
                return Err(Error::TenantSealed);
            }
            let (_, app) = tenant.apps.get(&name).ok_or(Error::NotFound)?;
            if app.session_mode != SessionMode::Open {
                return Err(Error::PolicyDenied);
            }
            let request = SessionRequest { app: name.to_string(), ..SessionRequest::default() };
            if let Some(answer) = self.open(&request, app, (&tenant, deadline), None).await? {
                return Ok(answer);
            }
            self.inner.catalog.refresh(&tenant.tenant.name);
        }
        Err(store::Error::Stale.into())
    }

    /// Proves a capture token: whoever asks is known before anything of the request is read.
    ///
    /// # Errors
    /// [`Error::AuthInvalid`], [`Error::AuthExpired`], [`Error::TenantSealed`].
    pub async fn admit(&self, token: Arc<Credential>) -> Result<Admitted, Error> {
        let (tenant, session, record) = self.session_of(&token).await?;
        Ok(Admitted { token, tenant, session, record })
    }

    /// What a capture token may capture, and to which keys the frame seals.
    ///
    /// # Errors
    /// [`Error::AuthInvalid`].
    pub async fn describe_session(&self, admitted: Admitted) -> Result<SessionDescription, Error> {
        let Admitted { tenant, record, .. } = admitted;
        let (_, app) = tenant.apps.get(&record.app).ok_or(Error::AuthInvalid)?;
        let fields = record.fields.keys().filter_map(|name| app.fields.get(name).map(|spec| describe(name, spec)));
        let inner = &self.inner;
        let pair = inner.pairs.today(&tenant.tenant, &inner.keys, &inner.store, inner.clock.now()).await?;
        Ok(SessionDescription {
            fields: fields.collect(),
            keys: vec![KeyDescription {
                key_id: Base64UrlUnpadded::encode_string(&pair.key_id()),
                kem: "P-256",
                public_key: Base64UrlUnpadded::encode_string(&pair.public_bytes()),
            }],
            expires_at: record.expires_at,
            app: record.app.clone(),
        })
    }

    /// Whose token this is: the tenant's settings and the session, checked and still open.
    pub(super) async fn session_of(
        &self,
        token: &Credential,
    ) -> Result<(Arc<TenantCatalog>, CaptureSessionId, Arc<SessionRecord>), Error> {
        if token.kind() != CredentialKind::Capture {
            return Err(Error::AuthInvalid);
        }
        let session = CaptureSessionId::from_bytes(token.id_bytes());
        let (tenant, record) = match self.inner.sessions.get(session) {
            Some(known) => known,
            None => self.read_session(session).await?,
        };
        if !record.admits(token, (session, &tenant), &self.inner.keys) {
            return Err(Error::AuthInvalid);
        }
        if record.expires_at <= self.inner.clock.now() {
            return Err(Error::AuthExpired);
        }
        let tenant = self.inner.catalog.tenant(&tenant).await?.ok_or(Error::AuthInvalid)?;
        if tenant.tenant.sealed {
            return Err(Error::TenantSealed);
        }
        Ok((tenant, session, record))
    }

    /// The session of an id, read and authenticated, and kept for the requests that follow.
    pub(super) async fn read_session(&self, session: CaptureSessionId) -> Result<Session, Error> {
        let row = match self.inner.store.session(session).await {
            Ok(row) => row.ok_or(Error::AuthInvalid)?,
            Err(store::Error::Tampered(_) | store::Error::Unreadable(_)) => return Err(Error::AuthInvalid),
            Err(error) => return Err(error.into()),
        };
        let record = SessionRecord::from_row(&row).map_err(|_| Error::AuthInvalid)?;
        if row.key != session.to_string() {
            return Err(Error::AuthInvalid);
        }
        let read = (row.tenant, Arc::new(record));
        self.inner.sessions.keep(session, read.clone());
        Ok(read)
    }

    /// Nothing if the tenant's settings moved on meanwhile.
    #[expect(clippy::disallowed_methods, reason = "a new capture token is given to its holder, once")]
    async fn open(
        &self,
        request: &SessionRequest,
        app: &AppDocument,
        (tenant, deadline): (&TenantCatalog, Timestamp),
        idempotency: Option<Arc<IdempotencyRequest>>,
    ) -> Result<Option<Answer>, Error> {
        let inner = &self.inner;
        let (now, name) = (inner.clock.now(), tenant.tenant.name.clone());
        let session = CaptureSessionId::generate(now);
        let token = Credential::generate(CredentialKind::Capture, *session.as_bytes())?;
        let hash = token_hash(&token, (session, &app.name, &name), &inner.keys);
        let record = SessionRecord::from_request(request, app, hash, now)?;
        let opened = OpenedSession {
            capture_session_id: session,
            capture_token: token.expose_secret(),
            expires_at: record.expires_at,
        };
        let answer = Answer::json(201, &opened)?;
        let kept = idempotency.as_ref().map(|request| request.answered(None, &answer)).transpose()?;
        let operation = Opening {
            row: record.to_row(&name, &session.to_string(), 1)?,
            tenant: name,
            generation: tenant.generation,
            deadline,
            held: inner.keys.held(),
            idempotency: idempotency.zip(kept),
            answer,
        };
        match inner.committer.submit(operation).await {
            Ok(committed) => committed.output.map(Some).map_err(Error::from),
            Err(store::Error::Stale) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The session's row, and the answer if the request may come twice. No entry: a session opens nothing, and each capture
/// through it names it.
struct Opening {
    tenant: TenantName,
    generation: Generation,
    deadline: Timestamp,
    held: HeldKeys,
    row: DecidingRow,
    idempotency: Option<(Arc<IdempotencyRequest>, IdempotencyRow)>,
    answer: Answer,
}

impl Operation for Opening {
    type Output = Result<Answer, Repeated>;

    fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    fn generation(&self) -> Option<Generation> {
        Some(self.generation)
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn reads(&self) -> Reads {
        let lookups = self.idempotency.iter().flat_map(|(request, _)| request.lookups());
        Reads { idempotency: lookups.collect(), ..Reads::default() }
    }

    fn hold(&mut self, data_key: Arc<DataKey>) {
        self.held.hold(data_key);
    }

    fn decide(&mut self, rows: &dyn Rows) -> Decision<Self::Output> {
        if let Some((request, _)) = &self.idempotency {
            match request.judge(rows, &self.held) {
                Err(id) => return Decision::NeedDataKeys(vec![id]),
                Ok(Judgement::Fresh) => {}
                Ok(Judgement::Replay(answer)) => return Decision::Answer(Ok(answer)),
                Ok(Judgement::Refused(repeated)) => return Decision::Answer(Err(repeated)),
            }
        }
        let changes = Changes {
            rows: vec![self.row.clone()],
            idempotency: self.idempotency.iter().map(|(_, row)| row.clone()).collect(),
            ..Changes::default()
        };
        Decision::Write(changes, Ok(self.answer.clone()))
    }
}

fn describe(name: &FieldName, spec: &FieldSpec) -> FieldDescription {
    let sized = matches!(spec.kind, FieldType::Text | FieldType::Password);
    let (min, max) = spec.bounds();
    let start = Timestamp::from_millis(0);
    FieldDescription {
        field: name.clone(),
        kind: spec.kind,
        min: sized.then_some(min),
        max: sized.then_some(max),
        retention: spec.retention(),
        ttl_seconds: spec.expires(start).map(|end| end.since(start)).as_ref().map(Duration::as_secs),
        show_brand: spec.show_brand,
    }
}
