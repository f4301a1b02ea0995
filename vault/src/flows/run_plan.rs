//! What is known of a run before its first commit: who, which flow, which values, until when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::definition::{Action, Flow, Input};
use super::error::{Error, InputFault};
use super::inputs::Inputs;
use super::label::Label;
use super::password::Passwords;
use super::policy::{Asked, Terms};
use super::template::Source;
use super::typed::Typed;
use crate::access_log::{self, Entry, Outcome};
use crate::domain::{CredentialId, RequestContext, RunId, TenantName, Timestamp};
use crate::store::rows::{RunOutcome, RunRow};
use crate::store::{Caller, Generation, StoredFlow};

/// The longest a run may take.
const LONGEST: Duration = Duration::from_secs(30);
/// What a run may need beside its steps, and the time its second commit may take after its deadline.
const SLACK: Duration = Duration::from_secs(2);

/// A run that may begin.
pub(super) struct Plan {
    pub(super) run_id: RunId,
    pub(super) flow: Arc<Flow>,
    pub(super) version: u64,
    pub(super) digest: [u8; 32],
    pub(super) generation: Generation,
    pub(super) credential_id: CredentialId,
    pub(super) context: RequestContext,
    pub(super) tenant: TenantName,
    pub(super) asked: Vec<Asked>,
    pub(super) terms: Terms,
    pub(super) started: Timestamp,
    /// Until when the steps may take.
    pub(super) deadline: Timestamp,
}

impl Plan {
    /// Puts a run together.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if the flow's app has lost a field.
    pub(super) fn new(
        caller: &Caller,
        flow: &Arc<Flow>,
        stored: &StoredFlow,
        inputs: Inputs,
        now: Timestamp,
    ) -> Result<(Self, Typeds), Error> {
        let (_, app) = caller.tenant.apps.get(&flow.app).ok_or(Error::Incomplete)?;
        let mut asked = Vec::with_capacity(inputs.keys.len());
        for (label, key) in inputs.keys {
            let Some(Input::Secure(field)) = flow.input(&label) else { return Err(Error::Incomplete) };
            let spec = app.fields.get(field).ok_or(Error::Incomplete)?;
            asked.push(Asked {
                verified: verifies(flow, &label),
                revealed: flow.reveal.contains(&label),
                kind: spec.kind,
                field: field.clone(),
                label,
                key,
            });
        }
        let mut context = caller.context.clone();
        context.origin.app = Some(flow.app.clone());
        let longest = (flow.longest_run() + SLACK).min(LONGEST);
        let plan = Self {
            run_id: RunId::generate(now),
            flow: Arc::clone(flow),
            version: stored.version,
            digest: stored.digest,
            generation: caller.tenant.generation,
            credential_id: caller.credential.credential_id,
            context,
            tenant: caller.tenant_name().clone(),
            asked,
            terms: Terms { flow: flow.name.clone(), purpose: flow.purpose.clone() },
            started: now,
            deadline: now.plus(longest),
        };
        Ok((plan, inputs.typed))
    }

    /// Its row, with an outcome or without.
    pub(super) fn row(&self, outcome: Option<RunOutcome>, finished: Option<Timestamp>) -> RunRow {
        RunRow {
            tenant: self.tenant.clone(),
            run_id: self.run_id,
            app: self.flow.app.clone(),
            flow: (self.flow.name.clone(), self.version),
            credential_id: self.credential_id,
            started: self.started,
            deadline: self.known_by(),
            outcome,
            finished,
        }
    }

    /// Until when its outcome may still come; after that nobody knows it.
    pub(super) fn known_by(&self) -> Timestamp {
        self.deadline.plus(SLACK)
    }

    /// An entry of this run.
    pub(super) fn entry(&self, action: access_log::Action, outcome: Outcome, now: Timestamp) -> Entry {
        Entry {
            flow: Some((self.flow.name.clone(), self.version)),
            flow_digest: Some(self.digest),
            purpose: Some(self.flow.purpose.clone()),
            run_id: Some(self.run_id),
            destination: self.destination(),
            ..Entry::new(self.tenant.clone(), now, action, outcome, &self.context)
        }
    }

    /// Whether it sends and no entry of a value says so. It may carry a destination's secret, and the log holds whatever left:
    /// such a run has an intent and an outcome of its own.
    pub(super) fn relays_no_value(&self) -> bool {
        self.asked.is_empty() && self.flow.relays()
    }

    /// The hosts it relays to.
    fn destination(&self) -> Option<String> {
        let hosts: BTreeSet<String> = self.flow.http_steps().map(|(_, step)| step.destination()).collect();
        (!hosts.is_empty()).then(|| hosts.into_iter().collect::<Vec<_>>().join(","))
    }
}

/// Typed inputs by their names.
pub(super) type Typeds = BTreeMap<Label, Typed>;

impl Flow {
    /// The steps `verify` that an input goes to.
    pub(super) fn verifications<'a>(&'a self, input: &'a Label) -> impl Iterator<Item = &'a Label> {
        self.steps.iter().filter_map(move |step| match &step.action {
            Action::Verify { password, .. } if password.source == Source::Input(input.clone()) => Some(&step.id),
            _ => None,
        })
    }

    /// The inputs that a step `equals` compares.
    pub(super) fn compared(&self) -> BTreeSet<&Label> {
        let references = self.steps.iter().filter_map(|step| match &step.action {
            Action::Equals { left, right } => Some([left, right]),
            _ => None,
        });
        let inputs = references.flatten().filter_map(|reference| match &reference.source {
            Source::Input(label) => Some(label),
            Source::Step(..) | Source::Secret(_) => None,
        });
        inputs.collect()
    }

    /// Refuses password hashes of an unknown kind or cost before anything is spent on them.
    ///
    /// # Errors
    /// [`Error::Inputs`].
    pub(super) fn check_hashes(&self, inputs: &Inputs) -> Result<(), Error> {
        let mut faults = Vec::new();
        for step in &self.steps {
            let Action::Verify { phc, .. } = &step.action else { continue };
            let Source::Input(label) = &phc.source else { continue };
            let Some(Typed::Text(text)) = inputs.typed.get(label) else { continue };
            if let Err(code) = Passwords::check(text) {
                faults.push(InputFault { input: label.to_string(), code });
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Inputs(faults)) }
    }
}

fn verifies(flow: &Flow, input: &Label) -> bool {
    flow.verifications(input).next().is_some()
}
