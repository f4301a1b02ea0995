//! Every reference points at something that exists when it is used.

use std::collections::BTreeSet;

use crate::flows::definition::{Action, Body, Flow, HttpStep, Input, ResponseKind};
use crate::flows::document::wrong;
use crate::flows::error::Error;
use crate::flows::label::Label;
use crate::flows::template::{JsonTemplate, Reference, Source};

impl Flow {
    /// Checks that names are unique, steps refer to inputs and earlier steps, and filters stand on secure inputs.
    pub(in crate::flows) fn check_references(&self) -> Result<(), Error> {
        let mut results: BTreeSet<Source> = BTreeSet::new();
        let mut ids: BTreeSet<&Label> = BTreeSet::new();
        for step in &self.steps {
            if !ids.insert(&step.id) {
                return Err(wrong(&format!("steps.{}", step.id), "is there twice"));
            }
            for (slot, reference) in step.references() {
                self.check_reference(&format!("steps.{}.{slot}", step.id), reference, &results)?;
            }
            // A field that is captured anew has its key only after the last step: outputs alone may show it.
            results.extend(step.results().into_iter().map(|field| Source::Step(step.id.clone(), field)));
        }
        results.extend(self.captured());
        for (name, reference) in &self.outputs {
            self.check_reference(&format!("outputs.{name}"), reference, &results)?;
        }
        Ok(())
    }

    fn captured(&self) -> impl Iterator<Item = Source> {
        self.http_steps().flat_map(|(id, http)| {
            let captured = http.response.iter().filter(|(_, field)| matches!(field.kind, ResponseKind::Secure(_)));
            captured.map(|(name, _)| Source::Step(id.clone(), name.clone()))
        })
    }

    fn check_reference(&self, at: &str, reference: &Reference, results: &BTreeSet<Source>) -> Result<(), Error> {
        let secure = match &reference.source {
            Source::Input(name) => match self.input(name) {
                None => return Err(wrong(at, "refers to an input that is not declared")),
                Some(input) => matches!(input, Input::Secure(_)),
            },
            Source::Step(..) if !results.contains(&reference.source) => {
                return Err(wrong(at, "refers to a step or field that does not exist or comes later"));
            }
            Source::Step(..) | Source::Secret(_) => false,
        };
        if reference.filter.is_some() && !secure {
            return Err(wrong(at, "puts a filter on what is no secure input"));
        }
        Ok(())
    }
}

impl crate::flows::definition::Step {
    /// Every reference of the step with the slot it stands in.
    pub(in crate::flows) fn references(&self) -> Vec<(String, &Reference)> {
        match &self.action {
            Action::Http(http) => http.references(),
            Action::Verify { password, phc } => vec![("password".to_owned(), password), ("phc".to_owned(), phc)],
            Action::Hash { password } => vec![("password".to_owned(), password)],
            Action::Equals { left, right } => vec![("left".to_owned(), left), ("right".to_owned(), right)],
            Action::Hmac { value, .. } => vec![("value".to_owned(), value)],
        }
    }

    /// The typed fields that exist after the step.
    pub(in crate::flows) fn results(&self) -> Vec<Label> {
        let named = |name: &str| name.parse().into_iter().collect();
        match &self.action {
            Action::Http(http) => {
                let typed = http.response.iter().filter(|(_, field)| matches!(field.kind, ResponseKind::Typed(_)));
                typed.map(|(name, _)| name.clone()).collect()
            }
            Action::Verify { .. } => named("verified"),
            Action::Hash { .. } => named("phc"),
            Action::Equals { .. } => named("equal"),
            Action::Hmac { .. } => named("mac"),
        }
    }
}

impl HttpStep {
    /// Every reference of the step with the slot it stands in.
    pub(in crate::flows) fn references(&self) -> Vec<(String, &Reference)> {
        let mut found = Vec::new();
        found.extend(self.url.path.reference.as_ref().map(|reference| ("url".to_owned(), reference)));
        for (name, template) in &self.headers {
            found.extend(template.reference.as_ref().map(|reference| (format!("headers.{name}"), reference)));
        }
        match &self.body {
            Body::Empty => {}
            Body::Json(json) => json.references("json".to_owned(), &mut found),
            Body::Form(form) => {
                for (_, template) in form {
                    found.extend(template.reference.as_ref().map(|reference| ("form".to_owned(), reference)));
                }
            }
        }
        found
    }
}

impl JsonTemplate {
    fn references<'a>(&'a self, at: String, found: &mut Vec<(String, &'a Reference)>) {
        match self {
            Self::Object(members) => {
                for (name, member) in members {
                    // Only names that could be ours are repeated in a refusal.
                    let below = name.parse::<Label>().map_or_else(|_| at.clone(), |name| format!("{at}.{name}"));
                    member.references(below, found);
                }
            }
            Self::Array(items) => items.iter().for_each(|item| item.references(at.clone(), found)),
            Self::Reference(reference) => found.push((at, reference)),
            Self::Text(_) | Self::Integer(_) | Self::Boolean(_) => {}
        }
    }
}
