//! Taint: every path from a secure input or a destination's secret to an output or a URL passes a declassifier.

use crate::flows::definition::{Action, Flow, Input};
use crate::flows::error::Error;
use crate::flows::template::{Reference, Source};

/// A way that a secure value goes: where it comes from, and every slot and result on the way.
struct Path {
    origin: Source,
    way: String,
}

impl Flow {
    /// Checks every output and every URL.
    pub(in crate::flows) fn check_paths(&self) -> Result<(), Error> {
        for (name, reference) in &self.outputs {
            for path in self.paths(reference) {
                let revealed = matches!(&path.origin, Source::Input(input) if self.reveal.contains(input));
                if !revealed {
                    return Err(refused(&format!("outputs.{name}"), &path));
                }
            }
        }
        for (id, step) in self.http_steps() {
            let first = step.url.path.reference.iter().flat_map(|reference| self.paths(reference)).next();
            if let Some(path) = first {
                return Err(refused(&format!("steps.{id}.url"), &path));
            }
        }
        for step in &self.steps {
            for (slot, reference) in step.references() {
                self.check_place_of_secret(step, &slot, reference)?;
            }
        }
        Ok(())
    }

    /// A destination's secret goes into outbound steps only; towards which host is checked with the destinations.
    fn check_place_of_secret(
        &self,
        step: &crate::flows::definition::Step,
        slot: &str,
        reference: &Reference,
    ) -> Result<(), Error> {
        let relayed = matches!(step.action, Action::Http(_));
        let secret = self.paths(reference).into_iter().find(|path| matches!(path.origin, Source::Secret(_)));
        match secret {
            Some(path) if !relayed => Err(Error::Invalid(format!(
                "steps.{}.{slot}: path {} → steps.{}.{slot} takes a destination's secret elsewhere than into an http step",
                step.id, path.way, step.id
            ))),
            _ => Ok(()),
        }
    }

    /// The ways of secure values into this reference; none if it is declassified.
    fn paths(&self, reference: &Reference) -> Vec<Path> {
        if reference.filter.is_some() { Vec::new() } else { self.paths_of(&reference.source) }
    }

    /// Where secure values in this source come from.
    pub(super) fn origins(&self, source: &Source) -> Vec<Source> {
        self.paths_of(source).into_iter().map(|path| path.origin).collect()
    }

    fn paths_of(&self, source: &Source) -> Vec<Path> {
        let direct = || vec![Path { origin: source.clone(), way: source.to_string() }];
        match source {
            Source::Secret(_) => direct(),
            Source::Input(name) => match self.input(name) {
                Some(Input::Secure(_)) => direct(),
                Some(Input::Typed(_)) | None => Vec::new(),
            },
            Source::Step(id, field) => {
                let step = self.steps.iter().find(|step| step.id == *id);
                // Of all results only a MAC is neither declassified (verify, hash, equals), nor typed and guarded or
                // captured anew (http). References point to earlier steps only, so this ends.
                let Some(Action::Hmac { value, secret }) = step.map(|step| &step.action) else { return Vec::new() };
                let through = |path: Path, slot: &str| Path {
                    origin: path.origin,
                    way: format!("{} → steps.{id}.{slot} → steps.{id}.{field}", path.way),
                };
                let mut paths: Vec<Path> = self.paths(value).into_iter().map(|path| through(path, "value")).collect();
                let secret = Source::Secret(secret.clone());
                let way = secret.to_string();
                paths.push(through(Path { origin: secret, way }, "secret"));
                paths
            }
        }
    }
}

fn refused(at: &str, path: &Path) -> Error {
    Error::Invalid(format!("{at}: path {} → {at} has no declassifier", path.way))
}
