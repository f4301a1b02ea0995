//! What a run gets before its first commit, so that nothing is spent if it cannot be had: destinations' secrets, and data
//! keys for what its response fields will capture; and how that is sealed.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::check::host_serves;
use super::definition::{Action, Flow, ResponseKind};
use super::error::{Error, SecretFault};
use super::guard::SHORT;
use super::run::Runner;
use super::run_end::Ending;
use super::run_error::RunError;
use super::run_plan::Plan;
use super::run_steps::Captured;
use super::template::SecretName;
use super::values::RunValues;
use crate::access_log::Entry;
use crate::capture::Mould;
use crate::capture::entries::about;
use crate::crypto::{DataKey, reseal_outer};
use crate::domain::{AppDocument, DataKeyClass, Plaintext, Timestamp};
use crate::store::TenantCatalog;
use crate::store::destinations::{Place, open_secret};
use crate::store::rows::ValueRow;

/// Data keys by class.
pub(super) type DataKeys = BTreeMap<DataKeyClass, Arc<DataKey>>;

impl Runner {
    /// Opens the secrets that a flow's steps use, each only towards its own destination.
    pub(super) async fn secrets(
        &self,
        flow: &Flow,
        tenant: &TenantCatalog,
    ) -> Result<Vec<(SecretName, Plaintext)>, RunError> {
        let mut wanted: BTreeMap<SecretName, Vec<String>> = BTreeMap::new();
        for (name, destination) in flow.secret_uses() {
            wanted.entry(name).or_default().push(destination);
        }
        for step in &flow.steps {
            if let Action::Hmac { secret, .. } = &step.action {
                wanted.entry(secret.clone()).or_default();
            }
        }
        let mut opened = Vec::with_capacity(wanted.len());
        for (name, destinations) in wanted {
            let denied = |fault| Error::SecretDenied { secret: name.clone(), fault };
            let there = tenant.destinations.get(&name.destination);
            let (_, record) = there.ok_or_else(|| denied(SecretFault::NotSet))?;
            if !destinations.iter().all(|destination| host_serves(&record.host, destination)) {
                return Err(denied(SecretFault::OtherHost).into());
            }
            let is_set = record.secrets.contains_key(name.secret.as_str());
            let id = record.data_key_id.filter(|_| is_set).ok_or_else(|| denied(SecretFault::NotSet))?;
            let inner = self.inner();
            let data_key = inner.keys.data_key(&inner.store, &tenant.tenant.name, id).await?;
            let place = Place {
                realm: inner.keys.realm(),
                tenant: &tenant.tenant.name,
                destination: &name.destination,
                host: &record.host,
            };
            let secret = open_secret(record, name.secret.as_str(), &place, &data_key)?;
            // The guard cannot find a short one inside a text that may hold anything.
            if is_short(&secret) && flow.free_texts().next().is_some() {
                return Err(denied(SecretFault::Unfit).into());
            }
            opened.push((name.clone(), secret));
        }
        Ok(opened)
    }

    /// Gets the data keys of the classes that the flow's secure response fields are of.
    pub(super) async fn keys_to_capture(
        &self,
        flow: &Flow,
        app: &AppDocument,
        tenant: &TenantCatalog,
        now: Timestamp,
    ) -> Result<DataKeys, RunError> {
        let mut keys = DataKeys::new();
        for (_, step) in flow.http_steps() {
            for (_, field) in &step.response {
                let ResponseKind::Secure(name) = &field.kind else { continue };
                let class = app.fields.get(name).ok_or(Error::Incomplete)?.retention().data_key_class();
                if let std::collections::btree_map::Entry::Vacant(e) = keys.entry(class) {
                    let inner = self.inner();
                    let key = inner.keys.data_key_to_seal(&inner.store, &tenant.tenant.name, class, now).await?;
                    e.insert(key);
                }
            }
        }
        Ok(keys)
    }

    /// What response fields gave, under data keys that are chosen anew, as a capture is whose settings moved on: those of before were closed
    /// while the steps went on. Only the outer seal is renewed; where that fails nothing is captured.
    pub(super) async fn sealed_anew(&self, ending: Ending) -> Ending {
        match self.resealed(&ending).await {
            Ok((new_values, captures)) => Ending { new_values, captures, is_last: true, ..ending },
            Err(error) => {
                tracing::warn!(%error, "what a response gave is not captured");
                Ending { is_last: true, ..ending }
            }
        }
    }

    async fn resealed(&self, ending: &Ending) -> Result<(Vec<Arc<ValueRow>>, Vec<Entry>), RunError> {
        let (inner, tenant) = (self.inner(), &ending.plan.tenant);
        // Read anew, so that this node has heard of what was closed.
        inner.catalog.refresh(tenant);
        if inner.catalog.tenant(tenant).await?.is_none_or(|settings| settings.tenant.sealed) {
            return Err(RunError::TenantSealed);
        }
        let mut rows = Vec::with_capacity(ending.new_values.len());
        let mut entries = Vec::with_capacity(ending.captures.len());
        for (row, entry) in ending.new_values.iter().zip(&ending.captures) {
            let (metadata, class) = (&row.metadata, row.metadata.retention.data_key_class());
            let old = ending.held.get(tenant, row.data_key_id).ok_or(Error::Incomplete)?;
            let new = inner.keys.data_key_to_seal(&inner.store, tenant, class, metadata.created).await?;
            let sealed = reseal_outer(&row.sealed, metadata, &old, &new).map_err(|_| Error::Incomplete)?;
            rows.push(Arc::new(ValueRow { data_key_id: new.id(), sealed, ..(**row).clone() }));
            entries.push(Entry { kek_id: new.kek_id(), ..about(metadata, new.id(), entry.clone()) });
        }
        Ok((rows, entries))
    }

    /// Seals what the response fields hold and puts their new keys in their place.
    #[expect(clippy::disallowed_methods, reason = "a response field is validated and sealed like a captured text")]
    pub(super) fn capture(
        &self,
        values: &mut RunValues,
        plan: &Plan,
        app: &AppDocument,
        keys: &DataKeys,
    ) -> Result<Captured, Error> {
        let (mut captured, mut given) = (Vec::new(), Vec::new());
        for (step, field, name, text) in values.to_capture() {
            let spec = app.fields.get(name).ok_or(Error::Incomplete)?;
            let data_key = keys.get(&spec.retention().data_key_class()).ok_or(Error::Incomplete)?;
            let text = Zeroizing::new(text.expose_secret().to_owned());
            let plaintext = spec.read(text, plan.started).map_err(|_| Error::unfit(step, field))?;
            let mould = Mould::of_field(plan.tenant.clone(), app.name.clone(), name.clone(), spec, plan.started);
            let value = mould.seal(&plaintext, data_key, &self.inner().keys).map_err(|_| Error::Incomplete)?;
            captured.push((Arc::clone(&value.row), value.entry(&plan.context, Some(plan.run_id))));
            given.push((step.clone(), field.clone(), value.key_text));
        }
        for (step, field, key_text) in given {
            values.give_captured(&step, &field, key_text);
        }
        Ok(captured)
    }
}

#[expect(clippy::disallowed_methods, reason = "only its length is asked for")]
fn is_short(secret: &Plaintext) -> bool {
    secret.expose_secret().chars().count() < SHORT
}
