//! Renders an outbound step: every value in the spelling of its slot.

use http::{HeaderMap, HeaderValue};
use url::Url;
use zeroize::Zeroizing;

use super::definition::{Body, HttpStep};
use super::error::{Error, InputCode, InputFault, SecretFault};
use super::relay::RelayRequest;
use super::slots::{WipedBuffer, fits_header};
use super::template::{JsonTemplate, Reference, Source, Template};
use super::values::{Resolved, RunValues};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

impl HttpStep {
    /// The request with all values in their slots.
    ///
    /// # Errors
    /// [`Error::Inputs`] for an input that its slot cannot carry; [`Error::Incomplete`].
    pub(super) fn render(&self, values: &RunValues) -> Result<RelayRequest, Error> {
        let body = match &self.body {
            Body::Empty => None,
            Body::Json(json) => {
                let mut buffer = WipedBuffer::default();
                push_json(json, values, &mut buffer)?;
                Some((JSON, buffer.into_bytes()))
            }
            Body::Form(members) => Some((FORM, form(members, values)?)),
        };
        Ok(RelayRequest {
            method: self.method.clone(),
            url: self.render_url(values)?,
            headers: self.render_headers(values)?,
            body,
            timeout: self.timeout,
        })
    }

    fn render_url(&self, values: &RunValues) -> Result<Url, Error> {
        let path = &self.url.path;
        let mut spelled = WipedBuffer::default();
        spelled.push(self.url.base.origin().ascii_serialization().as_bytes());
        spelled.push(path.before.as_bytes());
        if let Some(reference) = &path.reference {
            let text = values.resolve(reference)?.into_text();
            if text.is_empty() {
                return Err(unfit(reference, InputCode::Range));
            }
            spelled.push_segment_text(&text);
        }
        spelled.push(path.after.as_bytes());
        let spelled = spelled.into_bytes();
        let spelled = std::str::from_utf8(&spelled).map_err(|_| Error::Incomplete)?;
        // What is parsed must be what was written: a segment of dots would climb.
        let url = Url::parse(spelled).ok().filter(|url| url.as_str() == spelled);
        url.ok_or_else(|| path.reference.as_ref().map_or(Error::Incomplete, |at| unfit(at, InputCode::Characters)))
    }

    fn render_headers(&self, values: &RunValues) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 1);
        headers.insert(http::header::ACCEPT, HeaderValue::from_static(JSON));
        for (name, template) in &self.headers {
            let mut value = HeaderValue::from_bytes(&header_text(template, values)?).map_err(|_| Error::Incomplete)?;
            value.set_sensitive(template.reference.is_some());
            headers.insert(name.clone(), value);
        }
        Ok(headers)
    }
}

fn header_text(template: &Template, values: &RunValues) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut buffer = WipedBuffer::default();
    buffer.push(template.before.as_bytes());
    if let Some(reference) = &template.reference {
        let text = values.resolve(reference)?.into_text();
        if !fits_header(&text) {
            return Err(unfit(reference, InputCode::Characters));
        }
        buffer.push(text.as_bytes());
    }
    buffer.push(template.after.as_bytes());
    Ok(buffer.into_bytes())
}

fn push_json(json: &JsonTemplate, values: &RunValues, buffer: &mut WipedBuffer) -> Result<(), Error> {
    match json {
        JsonTemplate::Object(members) => {
            for (at, (name, member)) in members.iter().enumerate() {
                buffer.push(if at == 0 { b"{" } else { b"," });
                buffer.push_json_text(name);
                buffer.push(b":");
                push_json(member, values, buffer)?;
            }
            buffer.push(if members.is_empty() { b"{}" } else { b"}" });
        }
        JsonTemplate::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                buffer.push(if at == 0 { b"[" } else { b"," });
                push_json(item, values, buffer)?;
            }
            buffer.push(if items.is_empty() { b"[]" } else { b"]" });
        }
        JsonTemplate::Text(text) => buffer.push_json_text(text),
        JsonTemplate::Integer(number) => buffer.push(number.to_string().as_bytes()),
        JsonTemplate::Boolean(value) => buffer.push(value.to_string().as_bytes()),
        JsonTemplate::Reference(reference) => match values.resolve(reference)? {
            resolved if resolved.is_text() => buffer.push_json_text(&resolved.into_text()),
            resolved => buffer.push(resolved.into_text().as_bytes()),
        },
    }
    Ok(())
}

fn form(members: &[(String, Template)], values: &RunValues) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut buffer = WipedBuffer::default();
    for (at, (name, template)) in members.iter().enumerate() {
        if at > 0 {
            buffer.push(b"&");
        }
        buffer.push_form_text(name);
        buffer.push(b"=");
        match &template.reference {
            Some(reference) => buffer.push_form_text(&values.resolve(reference)?.into_text()),
            None => buffer.push_form_text(&template.before),
        }
    }
    Ok(buffer.into_bytes())
}

/// A value that its slot cannot carry, by where it comes from.
fn unfit(reference: &Reference, code: InputCode) -> Error {
    match &reference.source {
        Source::Input(name) => Error::Inputs(vec![InputFault { input: name.to_string(), code }]),
        Source::Step(step, field) => Error::unfit(step, field),
        // A line end in the file it was set from, most likely.
        Source::Secret(secret) => Error::SecretDenied { secret: secret.clone(), fault: SecretFault::Unfit },
    }
}

impl Resolved<'_> {
    /// Whether JSON writes it as a string.
    const fn is_text(&self) -> bool {
        !matches!(self, Self::Integer(_) | Self::Boolean(_))
    }
}
