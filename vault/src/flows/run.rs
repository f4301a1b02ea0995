//! A run of a flow: policy, one commit or two around its steps, answer. The order is that of docs/architecture.md.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::definition::Flow;
use super::error::Error;
use super::inputs::RawInputs;
use super::password::Passwords;
use super::relay::Relay;
use super::run_answer::again;
use super::run_at_once::AtOnce;
use super::run_begin::{Beginning, Begun};
use super::run_error::RunError;
use super::run_limits::Comparisons;
use super::run_plan::Plan;
use super::run_steps::Started;
use crate::access_log::{Action, Entry, Outcome};
use crate::capture::presence::{Absence, Finder, Place};
use crate::capture::{ATTEMPTS, PATIENCE};
use crate::domain::{AppDocument, Clock, CredentialKind, FieldName, FlowName, RetentionClass, ValueId};
use crate::keys::Keys;
use crate::store::administration::Record;
use crate::store::idempotency::{Answer, IdempotencyKey, IdempotencyRequest, Scope};
use crate::store::{self, Caller, Catalog, Committed, Committer, Store, StoredFlow};

const ROUTE: &str = "POST /v1/flows/invoke";
/// The longest reference and on-behalf-of, in characters.
const LONGEST_MEMBER: usize = 128;
/// So many read flows are kept.
const FLOWS_KEPT: u64 = 1024;

/// `POST /v1/flows/{name}/invoke`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InvokeRequest {
    /// The flow's inputs.
    #[serde(default)]
    pub inputs: RawInputs,
    /// The caller's own reference (personal).
    #[serde(default)]
    pub reference: Option<String>,
    /// For whom (personal).
    #[serde(default)]
    pub on_behalf_of: Option<String>,
}

/// Runs flows. Cheap to clone.
#[derive(Clone)]
pub struct Runner {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) committer: Committer,
    pub(super) keys: Keys,
    pub(super) catalog: Catalog,
    pub(super) clock: Clock,
    pub(super) relay: Relay,
    pub(super) passwords: Passwords,
    comparisons: Comparisons,
    /// Flows by the digest of their document: reading one compiles its patterns.
    flows: moka::sync::Cache<[u8; 32], Arc<Flow>>,
}

impl Runner {
    /// Puts the room together.
    #[must_use]
    pub fn new(
        store: Store,
        committer: Committer,
        keys: Keys,
        catalog: Catalog,
        clock: Clock,
        (relay, passwords): (Relay, Passwords),
    ) -> Self {
        let (comparisons, flows) = (Comparisons::default(), moka::sync::Cache::new(FLOWS_KEPT));
        let inner = Inner { store, committer, keys, catalog, clock, relay, passwords, comparisons, flows };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// What speaks to destinations.
    #[must_use]
    pub fn relay(&self) -> &Relay {
        &self.inner.relay
    }

    /// Runs a flow: 200 with `{"runId","outputs","receipts"}`. A run must not stop between its two commits: whoever
    /// may go away has it polled to its end.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn invoke(
        &self,
        caller: &Caller,
        flow: &FlowName,
        request: InvokeRequest,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Answer, RunError> {
        for (name, member) in [("reference", &request.reference), ("onBehalfOf", &request.on_behalf_of)] {
            if member.as_deref().is_some_and(|text| !is_member(text)) {
                return Err(RunError::Member(name));
            }
        }
        let mut caller = caller.clone();
        caller.context.reference = request.reference;
        caller.context.on_behalf_of = request.on_behalf_of;
        self.work(caller, flow, request.inputs, idempotency).await
    }

    async fn work(
        &self,
        mut caller: Caller,
        name: &FlowName,
        raw: RawInputs,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Answer, RunError> {
        let inner = &*self.inner;
        let given = idempotency.map(Arc::new);
        let mut finder = Finder::new(&inner.keys);
        let mut unreadable = BTreeMap::new();
        for _ in 0..ATTEMPTS {
            let admitted = self.admit(&caller, name, &raw).await?;
            let started = self.prepare(&caller, admitted).await?;
            // Anew each time: a new version of the flow may relay where the old one did not.
            let repeatable = self.repeatable(&caller, &started, given.as_ref()).await?;
            let beginning = self.beginning(&caller, &started, (&finder, &unreadable), repeatable.as_ref())?;
            match inner.committer.submit(beginning).await {
                Ok(committed) => return self.begun(started, committed, repeatable).await,
                Err(store::Error::Stale) => {
                    let renewed = caller.renewed(&inner.catalog, inner.clock.now()).await?;
                    caller = renewed.ok_or(RunError::AuthInvalid)?;
                }
                Err(error) if unreadable.is_empty() => {
                    let ids: Vec<_> = started.plan.asked.iter().map(|one| one.key.value_id()).collect();
                    unreadable = finder.diagnose(&error, &ids, caller.tenant_name(), &inner.store).await?;
                    if unreadable.is_empty() {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(store::Error::Stale.into())
    }

    fn beginning(
        &self,
        caller: &Caller,
        started: &Started,
        (finder, unreadable): (&Finder, &BTreeMap<ValueId, Absence>),
        repeatable: Option<&Arc<IdempotencyRequest>>,
    ) -> Result<Beginning, RunError> {
        let (inner, plan) = (&*self.inner, &started.plan);
        let (tenant, app) = (caller.tenant_name().clone(), plan.flow.app.clone());
        let running = |request: &Arc<IdempotencyRequest>| {
            let record = match plan.flow.is_done_anew() {
                true => request.anew(Some(plan.run_id)),
                false => request.running(Some(plan.run_id), plan.known_by()),
            };
            Ok::<_, store::Error>((Arc::clone(request), record?))
        };
        let at_once = (repeatable.is_some() && plan.flow.is_at_once()).then(|| AtOnce {
            typed: started.typed.clone(),
            relay: inner.relay.clone(),
            passwords: inner.passwords.clone(),
        });
        Ok(Beginning {
            plan: Arc::clone(plan),
            place: Place { tenant, app, unreadable: unreadable.clone() },
            finder: finder.clone(),
            idempotency: repeatable.map(running).transpose()?,
            at_once,
            deadline: inner.clock.now().plus(PATIENCE),
        })
    }

    /// What comes before any value is looked at: sealed, the request itself (422), the caller and the flow (403).
    async fn admit(&self, caller: &Caller, name: &FlowName, raw: &RawInputs) -> Result<Admitted, RunError> {
        if caller.tenant.tenant.sealed {
            return Err(RunError::TenantSealed);
        }
        let serves = caller.credential.kind == CredentialKind::Flow && caller.credential.flow.as_ref() == Some(name);
        let Some(stored) = caller.tenant.flows.get(name) else {
            return Err(if serves {
                RunError::NotFound
            } else {
                self.deny(caller, name, None, "credential.flow").await
            });
        };
        let flow = self.read(stored)?;
        let inputs = flow.read_inputs(raw.clone())?;
        flow.check_hashes(&inputs)?;
        let denied = match (serves, flow.reveals() && !caller.tenant.tenant.reveal) {
            (false, _) => Some("credential.flow"),
            (true, true) => Some("tenant.reveal"),
            (true, false) => None,
        };
        if let Some(rule) = denied {
            return Err(self.deny(caller, name, Some(stored), rule).await);
        }
        let (_, app) = caller.tenant.apps.get(&flow.app).ok_or(Error::Incomplete)?;
        let (plan, typed) = Plan::new(caller, &flow, stored, inputs, self.inner.clock.now())?;
        let compared = flow.compared();
        // Each value compared is counted, also after one was refused.
        let mut admitted = true;
        for one in plan.asked.iter().filter(|one| compared.contains(&one.label)) {
            admitted &= self.inner.comparisons.admit(one.key.value_id(), plan.started);
        }
        if !admitted {
            return Err(RunError::RateLimited);
        }
        Ok(Admitted { plan, typed, app: Arc::clone(app) })
    }

    fn read(&self, stored: &StoredFlow) -> Result<Arc<Flow>, Error> {
        if let Some(flow) = self.inner.flows.get(&stored.digest) {
            return Ok(flow);
        }
        let flow = Arc::new(Flow::from_toml(stored.toml())?);
        self.inner.flows.insert(stored.digest, Arc::clone(&flow));
        Ok(flow)
    }

    /// Gets everything that can be missing before anything is spent.
    async fn prepare(&self, caller: &Caller, admitted: Admitted) -> Result<Started, RunError> {
        let Admitted { plan, typed, app } = admitted;
        let secrets = match self.secrets(&plan.flow, &caller.tenant).await {
            Err(RunError::Flow { error: error @ Error::SecretDenied { .. }, .. }) => {
                let reasons = (error.code(), "destination.secret");
                self.record_denial(plan.entry(Action::AccessDenied, Outcome::Denied, plan.started), reasons).await?;
                return Err(error.into());
            }
            secrets => secrets?,
        };
        let data_keys = self.keys_to_capture(&plan.flow, &app, &caller.tenant, plan.started).await?;
        Ok(Started { plan: Arc::new(plan), typed, secrets, data_keys, app })
    }

    /// With the record that a repeat is judged by, where the caller asks for one.
    async fn repeatable(
        &self,
        caller: &Caller,
        started: &Started,
        given: Option<&Arc<IdempotencyKey>>,
    ) -> Result<Option<Arc<IdempotencyRequest>>, RunError> {
        let flow = &started.plan.flow;
        let Some(given) = given.map(Arc::clone) else { return Ok(None) };
        // What a destination gives back counts as what is sent to it.
        let class = |field: &FieldName| started.app.fields.get(field).map(|spec| spec.retention());
        let sensitive =
            flow.used_fields().iter().any(|(_, field)| class(field) == Some(RetentionClass::SensitiveAuthentication));
        let scope =
            Scope { tenant: caller.tenant_name(), route: ROUTE, subject: flow.name.as_str(), session: None, sensitive };
        let (place, now) = ((&self.inner.keys, &self.inner.store), self.inner.clock.now());
        let secret = Arc::clone(&caller.secret);
        Ok(Some(Arc::new(IdempotencyRequest::prepare(given, scope, secret, place, now).await?)))
    }

    async fn begun(
        &self,
        started: Started,
        committed: Committed<Begun>,
        repeatable: Option<Arc<IdempotencyRequest>>,
    ) -> Result<Answer, RunError> {
        let receipts = match committed.output {
            Begun::Granted(_) => committed.receipts(),
            _ => Vec::new(),
        };
        match committed.output {
            Begun::Granted(uses) => {
                let ending = repeatable.filter(|_| !started.plan.flow.is_done_anew());
                self.perform(started, uses, (&committed.durable, &receipts), ending).await
            }
            Begun::Answered(answer) => {
                answer.map_err(|error| RunError::Flow { run_id: Some(started.plan.run_id), error })
            }
            Begun::Performed(_) => Err(store::Error::Rule("a run in one commit is answered by it").into()),
            Begun::Before(answer) => again(answer),
            Begun::Repeated(repeated) => Err(repeated.into()),
            Begun::Refused { bound_elsewhere: Some(input) } => Err(RunError::NotBound(input)),
            Begun::Refused { bound_elsewhere: None } => Err(RunError::ValueNotFound),
        }
    }

    /// Records that a caller may not run a flow, before it is told so.
    async fn deny(
        &self,
        caller: &Caller,
        name: &FlowName,
        stored: Option<&StoredFlow>,
        rule: &'static str,
    ) -> RunError {
        let (tenant, now) = (caller.tenant_name().clone(), self.inner.clock.now());
        let mut entry = Entry {
            flow: stored.map(|stored| (name.clone(), stored.version)),
            flow_digest: stored.map(|stored| stored.digest),
            ..Entry::new(tenant, now, Action::AccessDenied, Outcome::Denied, &caller.context)
        };
        if stored.is_none() {
            // Never the name: it is a text of the caller's, who may have put a value there, and an entry is for good.
            entry.facts.push(("asked", caller.asked.clone()));
        }
        match self.record_denial(entry, ("policy.denied", rule)).await {
            Ok(()) => RunError::PolicyDenied,
            Err(error) => error,
        }
    }

    async fn record_denial(&self, entry: Entry, (reason, rule): (&'static str, &'static str)) -> Result<(), RunError> {
        let (tenant, until) = (entry.tenant.clone(), self.inner.clock.now().plus(PATIENCE));
        let entry = Entry { reason: Some(reason), rule: Some(rule), ..entry };
        self.inner.committer.submit(Record::new(tenant, vec![entry], until)).await?;
        Ok(())
    }
}

/// A run that its caller may begin.
struct Admitted {
    plan: Plan,
    typed: super::run_plan::Typeds,
    app: Arc<AppDocument>,
}

fn is_member(text: &str) -> bool {
    let length = text.chars().count();
    (1..=LONGEST_MEMBER).contains(&length) && !text.chars().any(char::is_control)
}
