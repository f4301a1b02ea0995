//! Captures by an app's server, which holds the text in the clear: each item stands for itself.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::error::{Error, Fault};
use super::new_value::{Mould, NewValue};
use super::request::PutItem;
use super::session::Narrowing;
use super::storing::Storing;
use super::{ATTEMPTS, Capture, PATIENCE};
use crate::domain::{AppDocument, AppName, FieldName, FieldSpec, Plaintext, RetentionClass, Timestamp, ValueId};
use crate::store::idempotency::{Answer, IdempotencyKey, IdempotencyRequest};
use crate::store::{self, Caller};

const ROUTE: &str = "POST /v1/values";
/// The most items of one request.
const MOST_ITEMS: usize = 1000;

#[derive(Serialize)]
struct Results<'a> {
    results: Vec<ItemResult<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ItemResult<'a> {
    #[serde(rename_all = "camelCase")]
    Captured {
        status: u16,
        secure_value_key: &'a str,
        value_id: ValueId,
        expires_at: Option<Timestamp>,
    },
    Refused {
        status: u16,
        code: &'static str,
        errors: [&'a Fault; 1],
    },
}

impl Capture {
    /// Captures values that an app's server holds in the clear: 200 with one result for each, in order.
    ///
    /// # Errors
    /// [`Error`]; a bad item is a result, not an error.
    pub async fn put_values(
        &self,
        caller: &Caller,
        items: Vec<PutItem>,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Answer, Error> {
        let name = caller.credential.app.clone().ok_or(Error::PolicyDenied)?;
        if items.is_empty() || items.len() > MOST_ITEMS {
            return Err(Error::invalid("items", if items.is_empty() { "missing" } else { "too_many" }));
        }
        let deadline = self.inner.clock.now().plus(PATIENCE);
        let mut caller = caller.clone();
        let sensitive = touches_sensitive(&items, &caller, &name);
        let repeatable = self.prepare(&caller, ROUTE, (&name, sensitive), idempotency).await?;
        for _ in 0..ATTEMPTS {
            if caller.tenant.tenant.sealed {
                return Err(Error::TenantSealed);
            }
            if let Some(answer) = self.put(&items, &caller, (&name, deadline), repeatable.clone()).await? {
                return Ok(answer);
            }
            let renewed = caller.renewed(&self.inner.catalog, self.inner.clock.now()).await?;
            caller = renewed.ok_or(Error::AuthInvalid)?;
        }
        Err(store::Error::Stale.into())
    }

    /// Nothing if the tenant's settings moved on meanwhile.
    async fn put(
        &self,
        items: &[PutItem],
        caller: &Caller,
        (name, deadline): (&AppName, Timestamp),
        repeatable: Option<Arc<IdempotencyRequest>>,
    ) -> Result<Option<Answer>, Error> {
        let (_, app) = caller.tenant.apps.get(name).ok_or(Error::PolicyDenied)?;
        let now = self.inner.clock.now();
        let mut sealed = Vec::with_capacity(items.len());
        for item in items {
            sealed.push(match shape(item, app, caller, now) {
                Err(fault) => Err(fault),
                Ok((mould, plaintext)) => Ok(self.seal_one(mould, &plaintext, caller).await?),
            });
        }
        let answer = Answer::json(200, &Results { results: sealed.iter().map(ItemResult::of).collect() })?;
        let kept = repeatable.as_ref().map(|request| request.answered(None, &answer)).transpose()?;
        let values: Vec<NewValue> = sealed.into_iter().flatten().collect();
        let operation = Storing {
            tenant: caller.tenant_name().clone(),
            generation: caller.tenant.generation,
            deadline,
            created: now,
            held: self.inner.keys.held(),
            through: None,
            idempotency: repeatable.zip(kept),
            entries: values.iter().map(|value| value.entry(&caller.context, None).into()).collect(),
            values: values.into_iter().map(|value| value.row).collect(),
        };
        self.store(operation, answer).await
    }

    async fn seal_one(&self, mould: Mould, plaintext: &Plaintext, caller: &Caller) -> Result<NewValue, Error> {
        let (inner, class) = (&self.inner, mould.spec.retention().data_key_class());
        let tenant = caller.tenant_name();
        let data_key = inner.keys.data_key_to_seal(&inner.store, tenant, class, mould.created).await?;
        mould.seal(plaintext, &data_key, &inner.keys)
    }
}

impl<'a> ItemResult<'a> {
    fn of(result: &'a Result<NewValue, Fault>) -> Self {
        match result {
            Ok(value) => Self::Captured {
                status: 201,
                secure_value_key: &value.key_text,
                value_id: value.value_id(),
                expires_at: value.row.metadata.expires,
            },
            Err(fault) => Self::Refused { status: 422, code: "validation", errors: [fault] },
        }
    }
}

fn touches_sensitive(items: &[PutItem], caller: &Caller, app: &AppName) -> bool {
    let Some((_, app)) = caller.tenant.apps.get(app) else { return false };
    let sensitive = |spec: &FieldSpec| spec.retention() == RetentionClass::SensitiveAuthentication;
    items.iter().filter_map(|item| app.fields.get(&item.field.parse().ok()?)).any(sensitive)
}

/// What the value of an item will be, or what is wrong with it. An item narrows its field and never widens it.
fn shape(item: &PutItem, app: &AppDocument, caller: &Caller, now: Timestamp) -> Result<(Mould, Plaintext), Fault> {
    let fault = |field: &str, code| Fault { index: None, field: field.to_owned(), code };
    let known = item.field.parse::<FieldName>().ok().filter(|name| app.fields.contains_key(name));
    let field = known.ok_or_else(|| fault("field", "unknown"))?;
    let spec = app.fields.get(&field).ok_or_else(|| fault("field", "unknown"))?;
    let narrowing = Narrowing::read(&item.flows, &item.purposes, &[spec])?;
    let binding = narrowing.bind(spec).ok_or_else(|| fault("flows", "empty_binding"))?;
    let plaintext = spec.read(item.value.clone(), now).map_err(|invalid| fault(field.as_str(), invalid.code()))?;
    let mould = Mould::of_field(caller.tenant_name().clone(), app.name.clone(), field, spec, now);
    let expires = match item.ttl_seconds {
        None => mould.expires,
        Some(ttl) => Some(shorter(ttl, &mould).ok_or_else(|| fault("ttlSeconds", "range"))?),
    };
    let uses = match (item.uses, mould.uses) {
        (None, own) => own,
        (Some(uses), own) if uses > 0 && own.is_none_or(|own| uses <= own) => Some(uses),
        _ => return Err(fault("uses", "range")),
    };
    Ok((Mould { binding, expires, uses, ..mould }, plaintext))
}

/// The end of a lifetime that is no longer than the field's.
fn shorter(ttl_seconds: u64, mould: &Mould) -> Option<Timestamp> {
    // A hundred years: beyond it times would no longer fit RFC 3339.
    let end = (1..=3_153_600_000).contains(&ttl_seconds).then(|| mould.created.plus(Duration::from_secs(ttl_seconds)));
    end.filter(|end| mould.expires.is_none_or(|own| *end <= own))
}
