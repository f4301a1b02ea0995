//! Apps: web properties that embed fields, described by a TOML document.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::document;
use super::{AppName, Binding, Error, FieldName, FieldSpec, FlowName, PurposeName};

/// The longest document, in bytes.
pub const LONGEST_DOCUMENT: usize = 256 * 1024;

/// Who mints a capture session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionMode {
    /// The app's server.
    #[default]
    Server,
    /// The frame itself, rate-limited: for static pages.
    Open,
}

/// An app's document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppDocument {
    /// Its name.
    pub name: AppName,
    /// The exact origins that may embed its frames.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Who mints its capture sessions.
    #[serde(default)]
    pub session_mode: SessionMode,
    /// Its fields.
    pub fields: BTreeMap<FieldName, FieldSpec>,
}

impl AppDocument {
    /// Reads a TOML document and checks its rules.
    ///
    /// # Errors
    /// [`Error::Document`] that names the place, never what stands there.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let document: Self = toml::from_str(text).map_err(|error| Error::Document(document::fault(text, &error)))?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), Error> {
        if self.fields.is_empty() {
            return Err(Error::Document("an app has at least one field".to_owned()));
        }
        for (at, origin) in self.origins.iter().enumerate() {
            if !is_origin(origin) {
                let text =
                    format!("origins[{at}] must be an exact origin like https://shop.example, http only for loopback");
                return Err(Error::Document(text));
            }
        }
        for (name, field) in &self.fields {
            field.check().map_err(|error| Error::Document(format!("fields.{name}: {error}")))?;
        }
        Ok(())
    }

    /// What a value of `field` is bound to when a session or an item narrows it: the intersection. Empty lists narrow nothing.
    ///
    /// # Errors
    /// [`Error::Document`] for a name the field does not have, or for an intersection that is empty.
    pub fn bind(
        field: &FieldSpec,
        flows: &BTreeSet<FlowName>,
        purposes: &BTreeSet<PurposeName>,
    ) -> Result<Binding, Error> {
        let narrowed = Binding {
            flows: narrow(&field.flows, flows).ok_or_else(|| Error::Document("flows widen the field".to_owned()))?,
            purposes: narrow(&field.purposes, purposes)
                .ok_or_else(|| Error::Document("purposes widen the field".to_owned()))?,
        };
        Ok(narrowed)
    }
}

/// All of `own` if `wanted` is empty, else their intersection; nothing if that is empty.
fn narrow<T: Ord + Clone>(own: &BTreeSet<T>, wanted: &BTreeSet<T>) -> Option<BTreeSet<T>> {
    if wanted.is_empty() {
        return Some(own.clone());
    }
    let both: BTreeSet<T> = own.intersection(wanted).cloned().collect();
    (!both.is_empty()).then_some(both)
}

/// An origin in its one spelling (RFC 6454 section 6.2): https, or http to loopback.
fn is_origin(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    let host = url.host_str().unwrap_or_default();
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    // It goes into a CSP as it is: a wildcard would be a wildcard there, a semicolon a directive of its own.
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    host.bytes().all(plain)
        && url.origin().ascii_serialization() == text
        && (url.scheme() == "https" || (url.scheme() == "http" && loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r#"
name = "demo-shop"
origins = ["https://shop.example"]
[fields.card-cvc]
type = "card-cvc"
purposes = ["payment"]
flows = ["charge-card"]
"#;

    #[test]
    fn a_document_is_read_strictly() {
        let app = AppDocument::from_toml(SHOP).unwrap();
        assert_eq!(app.session_mode, SessionMode::Server);
        for (from, to) in [
            ("https://shop.example", "https://shop.example/"),
            ("https://shop.example", "https://*.shop.example"),
            ("https://shop.example", "https://a;b.example"),
            ("https://shop.example", "http://shop.example"),
            ("https://shop.example", "https://SHOP.example"),
            ("type = \"card-cvc\"", "type = \"card-cvc\"\nretention = \"stored\""),
            ("type = \"card-cvc\"", "type = \"card-cvc\"\ncolour = \"red\""),
            ("demo-shop", "Demo"),
        ] {
            let text = SHOP.replace(from, to);
            assert!(AppDocument::from_toml(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_session_may_narrow_and_never_widen() {
        let app = AppDocument::from_toml(SHOP).unwrap();
        let field = app.fields.values().next().unwrap();
        let set = |name: &str| BTreeSet::from([name.parse().unwrap()]);
        assert!(AppDocument::bind(field, &set("charge-card"), &BTreeSet::new()).is_ok());
        assert!(AppDocument::bind(field, &set("reveal-card"), &BTreeSet::new()).is_err());
    }
}
