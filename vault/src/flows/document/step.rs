//! Reads one step of a document.

use std::time::Duration;

use http::{HeaderName, Method};
use url::Url;

use super::shape::{Http, Pairs, Step as StepShape, Value};
use super::{MOST_MEMBERS, bounded, no_reference, wrong};
use crate::flows::definition::{Action, Body, HttpStep, ResponseField, ResponseKind, Step, UrlTemplate};
use crate::flows::error::Error;
use crate::flows::label::Label;
use crate::flows::template::{JsonTemplate, Reference, SecretName, Template};

const DEFAULT_TIMEOUT: u64 = 10;
const LONGEST_TIMEOUT: u64 = 30;
/// What a member of a body is.
const LITERAL_OR_WHOLE: &str = "holds literals and whole references only";
/// How deep a JSON body may be.
const DEEPEST: usize = 16;
const LONGEST_JSON_PATH: usize = 256;
/// Headers that belong to the connection, or follow from the body: no flow sets them.
const OWN_HEADERS: [&str; 14] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "accept-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "proxy-authorization",
    "proxy-connection",
];

impl StepShape {
    pub(super) fn read(self) -> Result<Step, Error> {
        let id = self.id;
        let at = format!("steps.{id}");
        let whole = |name: &str, text: &str| {
            let why = || no_reference(text, "is not one whole reference");
            Reference::whole(text).ok_or_else(|| wrong(&format!("{at}.{name}"), &why()))
        };
        let action = match (self.http, self.verify, self.hash, self.equals, self.hmac) {
            (Some(http), None, None, None, None) => Action::Http(Box::new(http.read(&at)?)),
            (None, Some(verify), None, None, None) => {
                Action::Verify { password: whole("password", &verify.password)?, phc: whole("phc", &verify.phc)? }
            }
            (None, None, Some(hash), None, None) => Action::Hash { password: whole("password", &hash.password)? },
            (None, None, None, Some(equals), None) => {
                Action::Equals { left: whole("left", &equals.left)?, right: whole("right", &equals.right)? }
            }
            (None, None, None, None, Some(hmac)) => Action::Hmac {
                value: whole("value", &hmac.value)?,
                secret: SecretName::read(&hmac.secret)
                    .ok_or_else(|| wrong(&format!("{at}.secret"), "is not destination.<name>.<secret>"))?,
            },
            _ => return Err(wrong(&at, "is exactly one of http, verify, hash, equals, hmac")),
        };
        Ok(Step { id, action })
    }
}

impl Http {
    fn read(self, at: &str) -> Result<HttpStep, Error> {
        let method = match self.method.as_str() {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            _ => return Err(wrong(&format!("{at}.method"), "is one of GET, POST, PUT, PATCH")),
        };
        let seconds = self.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
        if !(1..=LONGEST_TIMEOUT).contains(&seconds) {
            return Err(wrong(&format!("{at}.timeout_seconds"), "is 1 to 30"));
        }
        let body = match (self.json, self.form) {
            (None, None) => Body::Empty,
            (Some(json @ (toml::Value::Table(_) | toml::Value::Array(_))), None) => {
                Body::Json(read_json(json, &format!("{at}.json"), 0)?)
            }
            (None, Some(form)) => Body::Form(read_form(form, &format!("{at}.form"))?),
            _ => return Err(wrong(at, "has one body: a table or array `json`, or `form`")),
        };
        if method == Method::GET && !matches!(body, Body::Empty) {
            return Err(wrong(at, "is a GET, which has no body"));
        }
        Ok(HttpStep {
            method,
            url: read_url(&self.url, &format!("{at}.url"))?,
            headers: read_headers(self.headers, &format!("{at}.headers"))?,
            body,
            timeout: Duration::from_secs(seconds),
            response: read_response(self.response, &format!("{at}.response"))?,
        })
    }
}

/// Scheme, host and port are literal and in their one spelling; a reference stands in the path only.
fn read_url(text: &str, at: &str) -> Result<UrlTemplate, Error> {
    let template = Template::read(text);
    let template = template.ok_or_else(|| wrong(at, &no_reference(text, "holds at most one whole reference")))?;
    let refused = |why: &str| match &template.reference {
        Some(reference) => Err(Error::Invalid(format!("{at}: path {} → {at} {why}", reference.source))),
        None => Err(wrong(at, why)),
    };
    let scheme = ["https://", "http://"].into_iter().find(|scheme| template.before.starts_with(scheme));
    let Some(scheme) = scheme else { return refused("must begin with a literal https://") };
    let rest = &template.before[scheme.len()..];
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if end == rest.len() && template.reference.is_some() {
        return refused("leads into the host or port, which are literal");
    }
    let origin = &template.before[..scheme.len() + end];
    let base = Url::parse(origin).ok().filter(|url| url.origin().ascii_serialization() == *origin);
    let sound = |url: &Url| url.host_str().is_some_and(|host| !host.ends_with('.') && !host.contains('*'));
    let Some(base) = base.filter(sound).filter(|url| url.port() != Some(0)) else {
        return refused("must name scheme, host and port in their one spelling, without user or default port");
    };
    let tail = &rest[end..];
    if template.reference.is_some() && tail.contains('?') {
        return refused("leads into the query; a reference stands in the path only");
    }
    let path = Template { before: if tail.is_empty() { "/".to_owned() } else { tail.to_owned() }, ..template.clone() };
    // A probe in place of the reference: what is literal must be what is sent, without dots, fragments or respelling.
    let probe = if path.reference.is_some() { "x" } else { "" };
    let spelled = format!("{origin}{}{probe}{}", path.before, path.after);
    let whole = Url::parse(&spelled).ok().filter(|url| url.as_str() == spelled && url.fragment().is_none());
    if whole.is_none() {
        return refused("must have a path and query in their one spelling, without a fragment");
    }
    Ok(UrlTemplate { base, path })
}

fn read_headers(headers: Pairs<String, String>, at: &str) -> Result<Vec<(HeaderName, Template)>, Error> {
    bounded(at, headers.0.len(), MOST_MEMBERS)?;
    let mut read: Vec<(HeaderName, Template)> = Vec::new();
    for (name, text) in headers.0 {
        if let Some(Template { reference: Some(reference), .. }) = Template::read(&name) {
            let path = format!("{at}: path {} → {at} leads into a header's name, which is literal", reference.source);
            return Err(Error::Invalid(path));
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(at, "has a name that is none"))?;
        if OWN_HEADERS.contains(&name.as_str()) || read.iter().any(|(own, _)| *own == name) {
            return Err(wrong(&format!("{at}.{name}"), "is set by the vault, or is there twice"));
        }
        let at = format!("{at}.{name}");
        let why = || no_reference(&text, "holds literal text around at most one reference");
        let template = Template::read(&text).ok_or_else(|| wrong(&at, &why()))?;
        let visible = |text: &str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
        if !visible(&template.before) || !visible(&template.after) {
            return Err(wrong(&at, "holds a character that a header does not carry"));
        }
        read.push((name, template));
    }
    Ok(read)
}

fn read_form(form: Pairs<String, String>, at: &str) -> Result<Vec<(String, Template)>, Error> {
    bounded(at, form.0.len(), MOST_MEMBERS)?;
    let read = form.0.into_iter().map(|(name, text)| {
        literal(&name).ok_or_else(|| wrong(at, "has a name that is not literal"))?;
        let template = Template::read(&text).filter(Template::is_whole);
        Ok((name, template.ok_or_else(|| wrong(at, &no_reference(&text, LITERAL_OR_WHOLE)))?))
    });
    read.collect()
}

fn read_json(value: toml::Value, at: &str, depth: usize) -> Result<JsonTemplate, Error> {
    if depth > DEEPEST {
        return Err(wrong(at, "is nested too deep"));
    }
    match value {
        toml::Value::Table(table) => {
            let members = table.into_iter().map(|(name, member)| {
                literal(&name).ok_or_else(|| wrong(at, "has a name that is not literal"))?;
                let below = if name.parse::<Label>().is_ok() { format!("{at}.{name}") } else { at.to_owned() };
                Ok((name, read_json(member, &below, depth + 1)?))
            });
            members.collect::<Result<_, Error>>().map(JsonTemplate::Object)
        }
        toml::Value::Array(items) => {
            let items = items.into_iter().map(|item| read_json(item, at, depth + 1));
            items.collect::<Result<_, Error>>().map(JsonTemplate::Array)
        }
        toml::Value::String(text) => match Template::read(&text).filter(Template::is_whole) {
            Some(Template { reference: Some(reference), .. }) => Ok(JsonTemplate::Reference(reference)),
            Some(Template { before, .. }) => Ok(JsonTemplate::Text(before)),
            None => Err(wrong(at, &no_reference(&text, LITERAL_OR_WHOLE))),
        },
        toml::Value::Integer(number) => Ok(JsonTemplate::Integer(number)),
        toml::Value::Boolean(value) => Ok(JsonTemplate::Boolean(value)),
        toml::Value::Float(_) | toml::Value::Datetime(_) => {
            Err(wrong(at, "holds texts, whole numbers and booleans only"))
        }
    }
}

fn read_response(response: Pairs<Label, Value>, at: &str) -> Result<Vec<(Label, ResponseField)>, Error> {
    bounded(at, response.0.len(), MOST_MEMBERS)?;
    let read = response.0.into_iter().map(|(name, mut value)| {
        let at = format!("{at}.{name}");
        let from = value.from.take().ok_or_else(|| wrong(&at, "needs `from`"))?;
        // Descents inside descents would visit every node of an answer for every node of it.
        if from.len() > LONGEST_JSON_PATH || from.matches("..").count() > 1 {
            return Err(wrong(&at, "has a `from` over 256 bytes or with more than one `..`"));
        }
        let from =
            serde_json_path::JsonPath::parse(&from).map_err(|_| wrong(&at, "has a `from` that is no JSONPath"))?;
        let kind = match value.secure.clone() {
            Some(field) => value.nothing_beside_secure(&at).map(|()| ResponseKind::Secure(field))?,
            None => ResponseKind::Typed(value.read_spec(&at)?),
        };
        Ok((name, ResponseField { from, kind }))
    });
    read.collect()
}

/// A name without braces.
fn literal(name: &str) -> Option<()> {
    Template::read(name).filter(|template| template.reference.is_none()).map(|_| ())
}
