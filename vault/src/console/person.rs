//! Who looks at a page: the session of the cookie, its credential looked up anew.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::COOKIE as COOKIES;
use http::request::Parts;

use super::Desk;
use super::page::see;
use super::session::{COOKIE, Session};
use super::view::Who;
use crate::access_log::{Action, Entry, Outcome};
use crate::domain::{Actor, ActorKind, CredentialKind, Origin, RequestContext, TenantName};
use crate::http::{Arrival, Code, RawBody, recall};

/// A signed-in auditor.
pub(super) struct Person {
    pub(super) session: Session,
    pub(super) tenant: TenantName,
    pub(super) context: RequestContext,
    name: String,
}

impl Person {
    /// What the frame of a page shows.
    pub(super) fn who(&self, page: &'static str) -> Who {
        let (tenant, name) = (self.tenant.to_string(), self.name.clone());
        Who { tenant, name, csrf: self.session.csrf.clone(), page }
    }

    /// The entry of a reading that stands for itself.
    pub(super) fn reads(&self, desk: &Desk, rule: &'static str) -> Entry {
        let mut entry =
            Entry::new(self.tenant.clone(), desk.state.now(), Action::LogRead, Outcome::Allowed, &self.context);
        entry.rule = Some(rule);
        entry
    }
}

impl FromRequestParts<Desk> for Person {
    /// To the door; or the problem, if the vault cannot say who this is.
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Response> {
        let arrival = Arrival::from_request_parts(parts, &desk.state).await.unwrap_or_else(|_| Arrival::unknown());
        let to_the_door = || see("/console/sign-in");
        let cookie = cookie(&parts.headers).ok_or_else(to_the_door)?;
        let session = desk.sessions.find(cookie, desk.state.now()).ok_or_else(to_the_door)?;
        let (tenant, record) = match recall(session.credential_id, &desk.state).await {
            Ok(known) => known,
            Err(problem) if matches!(problem.code(), Code::AuthInvalid | Code::AuthExpired) => {
                desk.sessions.end(cookie);
                return Err(to_the_door());
            }
            Err(problem) => return Err(problem.into_response()),
        };
        if tenant != session.tenant || record.kind != CredentialKind::Auditor {
            return Err(to_the_door());
        }
        let context = RequestContext {
            request_id: arrival.request_id,
            actor: Actor {
                id: record.credential_id.to_string(),
                kind: ActorKind::Credential(record.kind),
                name: Some(record.name.clone()),
            },
            on_behalf_of: None,
            origin: Origin { address: Some(arrival.address.to_string()), app: None },
            reference: None,
        };
        Ok(Self { session, tenant, context, name: record.name })
    }
}

/// The console's cookie, if there is exactly one.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(COOKIES).iter().filter_map(|line| line.to_str().ok());
    let mut ours = lines.flat_map(|line| line.split("; ")).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == COOKIE).then_some(value)
    });
    let first = ours.next()?;
    ours.next().is_none().then_some(first)
}

/// The value of one member of a form.
pub(super) fn member(form: &RawBody, name: &str) -> Option<zeroize::Zeroizing<String>> {
    let mut members = url::form_urlencoded::parse(&form.0);
    members.find(|(own, _)| own == name).map(|(_, value)| zeroize::Zeroizing::new(value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cookies_of_one_name_are_none() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIES, text.parse().unwrap());
            cookie(&headers).map(str::to_owned)
        };
        assert_eq!(with("a=b; __Host-siv-console=x"), Some("x".to_owned()));
        assert_eq!(with("__Host-siv-console=x; __Host-siv-console=y"), None);
        assert_eq!(with("siv-console=x"), None);
    }
}
