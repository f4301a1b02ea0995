//! Whether a flow fits its app: fields and their types, what may be revealed, what the guard needs.

use crate::domain::{AppDocument, FieldSpec, FieldType, RetentionClass, Tenant};
use crate::flows::definition::{Action, Flow, HttpStep, Input, ResponseKind, Step};
use crate::flows::document::wrong;
use crate::flows::error::Error;
use crate::flows::guard::SHORT;
use crate::flows::label::Label;
use crate::flows::template::{Reference, Source};
use crate::flows::typed::ValueSpec;

impl Flow {
    /// Checks fields and types.
    pub(super) fn check_fit(&self, app: &AppDocument) -> Result<(), Error> {
        if self.app != app.name {
            return Err(wrong("app", "is another app than the one of the app's document"));
        }
        for (name, field) in self.secure_inputs() {
            let at = format!("inputs.{name}");
            if !app.fields.contains_key(field) {
                return Err(wrong(&at, "names a field that the app does not have"));
            }
        }
        for step in &self.steps {
            for (slot, reference) in step.references() {
                self.check_filter(&format!("steps.{}.{slot}", step.id), reference, app)?;
            }
            self.check_operands(step, app)?;
        }
        self.check_verifications()?;
        for (name, reference) in &self.outputs {
            self.check_filter(&format!("outputs.{name}"), reference, app)?;
        }
        self.check_response(app)
    }

    /// The secure inputs whose values would be refused by what their field is bound to today, in words. No fault of the flow:
    /// what a value is bound to is judged at each use, and the app's document may follow.
    #[must_use]
    pub fn unbound(&self, app: &AppDocument) -> Vec<String> {
        let mut words = Vec::new();
        for (name, field) in self.secure_inputs() {
            let Some(spec) = app.fields.get(field) else { continue };
            if !spec.flows.contains(&self.name) {
                words.push(format!("inputs.{name}: the flows of {field} do not hold {}", self.name));
            }
            if !spec.purposes.contains(&self.purpose) {
                words.push(format!("inputs.{name}: the purposes of {field} do not hold {}", self.purpose));
            }
        }
        words
    }

    /// Checks that revealing is allowed, and for each input that it may be.
    pub(super) fn check_reveal(&self, app: &AppDocument, tenant: &Tenant) -> Result<(), Error> {
        for name in &self.reveal {
            let at = format!("reveal.{name}");
            let kind =
                self.kind_of(&Source::Input(name.clone()), app).ok_or_else(|| wrong(&at, "is no secure input"))?;
            if kind.retention() == RetentionClass::SensitiveAuthentication {
                return Err(wrong(&at, "is sensitive authentication data, which is never revealed"));
            }
            let direct =
                |reference: &Reference| reference.filter.is_none() && reference.source == Source::Input(name.clone());
            if !self.outputs.iter().any(|(_, reference)| direct(reference)) {
                return Err(wrong(&at, "is listed, but no output shows it"));
            }
        }
        if self.reveals() && !tenant.reveal {
            return Err(wrong("reveal", "the tenant's switch for revealing flows is off"));
        }
        Ok(())
    }

    /// The field behind a secure input.
    fn kind_of<'a>(&self, source: &Source, app: &'a AppDocument) -> Option<&'a FieldSpec> {
        let Source::Input(name) = source else { return None };
        let Some(Input::Secure(field)) = self.input(name) else { return None };
        app.fields.get(field)
    }

    fn check_filter(&self, at: &str, reference: &Reference, app: &AppDocument) -> Result<(), Error> {
        let Some(filter) = reference.filter else { return Ok(()) };
        match self.kind_of(&reference.source, app) {
            Some(spec) if filter.fits(spec.kind) => Ok(()),
            _ => Err(wrong(at, "puts a filter on a field of a type that it is not for")),
        }
    }

    /// Checks what `verify`, `hash` and `equals` work on.
    fn check_operands(&self, step: &Step, app: &AppDocument) -> Result<(), Error> {
        let at = |slot: &str| format!("steps.{}.{slot}", step.id);
        let is = |reference: &Reference, kind: Option<FieldType>| {
            let spec = self.kind_of(&reference.source, app).filter(|_| reference.filter.is_none());
            spec.is_some_and(|spec| kind.is_none_or(|kind| spec.kind == kind))
        };
        match &step.action {
            Action::Verify { password, .. } | Action::Hash { password } if !is(password, Some(FieldType::Password)) => {
                Err(wrong(&at("password"), "is not a secure input of type password"))
            }
            Action::Verify { phc, .. } if !self.is_text(phc) => Err(wrong(&at("phc"), "is not a typed text")),
            Action::Equals { left, right } if !is(left, None) || !is(right, None) => {
                Err(wrong(&at("left, right"), "are not two secure inputs"))
            }
            _ => Ok(()),
        }
    }

    /// One run counts one failure of a value, so it is verified once: else a run would be several guesses for one.
    fn check_verifications(&self) -> Result<(), Error> {
        for (name, _) in self.secure_inputs() {
            if let Some(again) = self.verifications(name).nth(1) {
                let why = format!("verifies inputs.{name} a second time; one `verify` for each input");
                return Err(wrong(&format!("steps.{again}.password"), &why));
            }
        }
        Ok(())
    }

    /// Whether a reference is a typed text: an input, a response field, or the result of `hash`.
    fn is_text(&self, reference: &Reference) -> bool {
        match &reference.source {
            Source::Input(name) => matches!(self.input(name), Some(Input::Typed(ValueSpec::Text { .. }))),
            Source::Secret(_) => false,
            Source::Step(id, field) => match self.steps.iter().find(|step| step.id == *id).map(|step| &step.action) {
                Some(Action::Hash { .. }) => true,
                Some(Action::Http(http)) => http.response.iter().any(|(name, own)| {
                    name == field && matches!(own.kind, ResponseKind::Typed(ValueSpec::Text { .. }))
                }),
                _ => false,
            },
        }
    }

    /// Response fields captured anew name a field of the app.
    fn check_response(&self, app: &AppDocument) -> Result<(), Error> {
        for (id, http) in self.http_steps() {
            for (name, field) in &http.response {
                if matches!(&field.kind, ResponseKind::Secure(field) if !app.fields.contains_key(field)) {
                    let at = format!("steps.{id}.response.{name}");
                    return Err(wrong(&at, "names a field that the app does not have"));
                }
            }
        }
        self.check_short(app)
    }

    /// Texts beside secrets that may be short have a pattern, because the guard can look for a short secret as a whole
    /// word only.
    pub(super) fn check_short(&self, app: &AppDocument) -> Result<(), Error> {
        let is_short = |field| app.fields.get(field).is_some_and(|spec| spec.bounds().0 < SHORT);
        let inputs = self.secure_inputs().map(|(name, field)| (format!("inputs.{name}"), field));
        let responses = self.http_steps().flat_map(|(id, http)| {
            let named = move |name: &Label| format!("steps.{id}.response.{name}");
            http.response.iter().filter_map(move |(name, field)| match &field.kind {
                ResponseKind::Secure(field) => Some((named(name), field)),
                ResponseKind::Typed(_) => None,
            })
        });
        let Some((short, _)) = inputs.chain(responses).find(|(_, field)| is_short(*field)) else { return Ok(()) };
        match self.free_texts().next() {
            Some((id, name)) => {
                let why = format!("is a text without a `pattern`, and {short} may be short");
                Err(wrong(&format!("steps.{id}.response.{name}"), &why))
            }
            None => Ok(()),
        }
    }

    /// The response fields that are texts without a pattern.
    pub(in crate::flows) fn free_texts(&self) -> impl Iterator<Item = (&Label, &Label)> {
        self.http_steps().flat_map(|(id, http)| {
            let names = http.response.iter().map(|(name, _)| name);
            names.filter(|name| http.is_free_text(name)).map(move |name| (id, name))
        })
    }
}

impl HttpStep {
    /// Whether a response field is a text without a pattern.
    pub(in crate::flows) fn is_free_text(&self, name: &Label) -> bool {
        let free = |kind: &ResponseKind| matches!(kind, ResponseKind::Typed(ValueSpec::Text { pattern: None, .. }));
        self.response.iter().any(|(own, field)| own == name && free(&field.kind))
    }
}
