//! Captures under a capture token: opened, validated, sealed, committed; all or nothing.

use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Serialize;
use zeroize::Zeroizing;

use super::error::{Error, Fault};
use super::new_value::{Mould, NewValue};
use super::request::{CaptureItem, Content};
use super::session::SessionRecord;
use super::sessions::Admitted;
use super::storing::{Storing, Through};
use super::{ATTEMPTS, Capture, PATIENCE, Stored};
use crate::crypto::{self, SEALED_CAPTURE_VERSION};
use crate::domain::{
    Actor, ActorKind, AppDocument, CaptureSessionId, CredentialKind, FieldName, Plaintext, RequestContext,
    RetentionClass, TenantName, Timestamp,
};
use crate::keys;
use crate::store::idempotency::{Answer, IdempotencyKey, IdempotencyRequest, Scope};
use crate::store::{self, TenantCatalog};

const ROUTE: &str = "POST /v1/capture/values";

/// A text with its field, out of its seal.
struct Entered {
    field: FieldName,
    text: Zeroizing<String>,
    enc: Option<[u8; 32]>,
}

/// Whose values are captured, and under what.
struct Under<'a> {
    tenant: &'a TenantCatalog,
    session: CaptureSessionId,
    record: &'a SessionRecord,
    app: &'a AppDocument,
    context: &'a RequestContext,
    now: Timestamp,
    deadline: Timestamp,
}

#[derive(Serialize)]
struct Captured<'a> {
    values: Vec<CapturedValue<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CapturedValue<'a> {
    field: &'a FieldName,
    secure_value_key: &'a str,
    expires_at: Option<Timestamp>,
}

impl Capture {
    /// Captures values under a capture token, all or nothing: 201 with their keys. `context` says where the request came
    /// from; who acts is the session.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn capture_values(
        &self,
        admitted: Admitted,
        items: Vec<CaptureItem>,
        context: &RequestContext,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Answer, Error> {
        let Admitted { token, mut tenant, session, record } = admitted;
        let deadline = self.inner.clock.now().plus(PATIENCE);
        let context = by_session(context, session, &record);
        let entered = self.enter(&items, &tenant, session, &record).await?;
        let (_, app) = tenant.apps.get(&record.app).ok_or(Error::AuthInvalid)?;
        let sensitive = entered.iter().any(|one| {
            app.fields.get(&one.field).is_some_and(|spec| spec.retention() == RetentionClass::SensitiveAuthentication)
        });
        let repeatable = match idempotency {
            None => None,
            Some(given) => {
                let name = &tenant.tenant.name;
                let scope =
                    Scope { tenant: name, route: ROUTE, subject: app.name.as_str(), session: Some(session), sensitive };
                let (place, now) = ((&self.inner.keys, &self.inner.store), self.inner.clock.now());
                Some(Arc::new(IdempotencyRequest::prepare(given, scope, Arc::clone(&token), place, now).await?))
            }
        };
        for _ in 0..ATTEMPTS {
            let (_, app) = tenant.apps.get(&record.app).ok_or(Error::AuthInvalid)?;
            let now = self.inner.clock.now();
            let under = Under { tenant: &tenant, session, record: &record, app, context: &context, now, deadline };
            if let Some(answer) = self.capture(&entered, under, repeatable.clone()).await? {
                return Ok(answer);
            }
            self.inner.catalog.refresh(&tenant.tenant.name);
            tenant = self.session_of(&token).await?.0;
        }
        Err(store::Error::Stale.into())
    }

    /// Takes every text out of its seal; one answer for every failure of that.
    async fn enter(
        &self,
        items: &[CaptureItem],
        tenant: &TenantCatalog,
        session: CaptureSessionId,
        record: &SessionRecord,
    ) -> Result<Vec<Entered>, Error> {
        let most = usize::try_from(record.max_values).unwrap_or(0);
        if items.is_empty() || items.len() > most {
            return Err(Error::invalid("values", if items.is_empty() { "missing" } else { "too_many" }));
        }
        let (mut entered, mut faults) = (Vec::with_capacity(items.len()), Vec::new());
        for (index, item) in items.iter().enumerate() {
            let known = item.field.parse::<FieldName>().ok().filter(|name| record.fields.contains_key(name));
            let Some(field) = known else {
                faults.push(Fault { index: Some(index), field: "field".to_owned(), code: "unknown" });
                continue;
            };
            let opened = match &item.content {
                Content::Plain(text) => Some((text.clone(), None)),
                Content::Sealed(sealed) => self.unseal(sealed, tenant, (session, record), &field).await?,
            };
            match opened {
                Some((text, enc)) => entered.push(Entered { field, text, enc }),
                None => faults.push(Fault { index: Some(index), field: field.to_string(), code: "sealed" }),
            }
        }
        if faults.is_empty() { Ok(entered) } else { Err(Error::Validation(faults)) }
    }

    async fn unseal(
        &self,
        sealed: &str,
        tenant: &TenantCatalog,
        (session, record): (CaptureSessionId, &SessionRecord),
        field: &FieldName,
    ) -> Result<Option<(Zeroizing<String>, Option<[u8; 32]>)>, Error> {
        let Ok(sealed) = Base64UrlUnpadded::decode_vec(sealed) else { return Ok(None) };
        let Some((&SEALED_CAPTURE_VERSION, rest)) = sealed.split_first() else { return Ok(None) };
        let Some(key_id) = rest.first_chunk::<16>() else { return Ok(None) };
        let inner = &self.inner;
        // A key whose time is over, or that no longer opens, is a key the tenant does not have.
        let pair = match inner.pairs.named(*key_id, &tenant.tenant, &inner.keys, &inner.store).await {
            Err(Error::Keys(
                keys::Error::Erased | keys::Error::NoDataKey | keys::Error::Lost | keys::Error::Altered,
            ))
            | Err(Error::Crypto(crypto::Error::Refused)) => None,
            pair => pair?,
        };
        let opened = pair.and_then(|pair| pair.open(&sealed, &record.app, session, field).ok());
        Ok(opened.map(|(text, enc)| (text, Some(enc))))
    }

    /// Nothing if the tenant's settings moved on meanwhile.
    async fn capture(
        &self,
        entered: &[Entered],
        under: Under<'_>,
        repeatable: Option<Arc<IdempotencyRequest>>,
    ) -> Result<Option<Answer>, Error> {
        let values = self.seal(entered, &under).await?;
        let given = values.iter().map(|value| CapturedValue {
            field: &value.row.metadata.field,
            secure_value_key: &value.key_text,
            expires_at: value.row.metadata.expires,
        });
        let answer = Answer::json(201, &Captured { values: given.collect() })?;
        let kept = repeatable.as_ref().map(|request| request.answered(None, &answer)).transpose()?;
        let operation = Storing {
            tenant: under.tenant.tenant.name.clone(),
            generation: under.tenant.generation,
            deadline: under.deadline,
            created: under.now,
            held: self.inner.keys.held(),
            through: Some(Through {
                session: under.session,
                encs: entered.iter().filter_map(|one| one.enc).collect(),
                count: u32::try_from(values.len()).unwrap_or(u32::MAX),
            }),
            idempotency: repeatable.zip(kept),
            entries: values.iter().map(|value| value.entry(under.context, None).into()).collect(),
            values: values.into_iter().map(|value| value.row).collect(),
        };
        let stored = self.store(operation, answer).await;
        if matches!(stored, Err(Error::Store(store::Error::Tampered(_)))) {
            // Where it is the session's row, it was altered since it was read, and the token opens nothing any more.
            self.inner.sessions.forget(under.session);
            self.read_session(under.session).await?;
        }
        stored
    }

    async fn seal(&self, entered: &[Entered], under: &Under<'_>) -> Result<Vec<NewValue>, Error> {
        let tenant = &under.tenant.tenant.name;
        let (mut values, mut faults) = (Vec::with_capacity(entered.len()), Vec::new());
        for (index, one) in entered.iter().enumerate() {
            let fault = |code| Fault { index: Some(index), field: one.field.to_string(), code };
            match shape(one, under, tenant) {
                Err(code) => faults.push(fault(code)),
                // Nothing more is sealed once something is wrong: nothing will be stored.
                Ok(_) if !faults.is_empty() => {}
                Ok((mould, plaintext)) => {
                    let class = mould.spec.retention().data_key_class();
                    let data_key =
                        self.inner.keys.data_key_to_seal(&self.inner.store, tenant, class, under.now).await?;
                    values.push(mould.seal(&plaintext, &data_key, &self.inner.keys)?);
                }
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(Error::Validation(faults)) }
    }

    /// Commits; nothing if the tenant's settings moved on meanwhile.
    pub(super) async fn store(&self, operation: Storing, answer: Answer) -> Result<Option<Answer>, Error> {
        match self.inner.committer.submit(operation).await {
            Ok(committed) => match committed.output {
                Stored::Done => Ok(Some(answer)),
                Stored::Before(answer) => Ok(Some(answer)),
                Stored::Repeated(repeated) => Err(repeated.into()),
                Stored::SessionOver => Err(Error::AuthExpired),
                Stored::Conflict => Err(Error::Conflict),
                Stored::Drifted => Err(store::Error::Late.into()),
            },
            Err(store::Error::Stale) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// What the value of a text will be, or the code of what is wrong with it.
fn shape(one: &Entered, under: &Under<'_>, tenant: &TenantName) -> Result<(Mould, Plaintext), &'static str> {
    let narrowing = under.record.fields.get(&one.field).ok_or("unknown")?;
    let spec = under.app.fields.get(&one.field).ok_or("unknown")?;
    let plaintext = spec.read(one.text.clone(), under.now).map_err(|invalid| invalid.code())?;
    let mould = Mould::of_field(tenant.clone(), under.app.name.clone(), one.field.clone(), spec, under.now);
    let mould = Mould {
        binding: narrowing.bind(spec).ok_or("empty_binding")?,
        session: Some(under.session),
        subject: under.record.subject,
        ..mould
    };
    Ok((mould, plaintext))
}

/// The request, said to come from a session.
fn by_session(context: &RequestContext, session: CaptureSessionId, record: &SessionRecord) -> RequestContext {
    let mut context = context.clone();
    context.actor = Actor { id: session.to_string(), kind: ActorKind::Credential(CredentialKind::Capture), name: None };
    context.origin.app = Some(record.app.clone());
    context
}
