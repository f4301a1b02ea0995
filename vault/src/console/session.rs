//! Signed-in auditors: a random cookie, kept by its hash, with a token against forged requests.
//!
//! Sessions live in this node's memory: they end with it. Idle for 15 minutes (PCI DSS 8.2.8) or after 8 hours they end too.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::domain::{CredentialId, TenantName, Timestamp};

/// The cookie's name. The prefix makes browsers insist on Secure and on this very host (RFC 6265bis section 4.1.3).
pub(super) const COOKIE: &str = "__Host-siv-console";

const IDLE: Duration = Duration::from_secs(15 * 60);
const LONGEST: Duration = Duration::from_secs(8 * 3600);
/// Wrong credentials from one address before it waits (PCI DSS 8.3.4).
const TRIES: u32 = 10;
pub(super) const WAIT: Duration = Duration::from_secs(30 * 60);
/// Sessions and addresses remembered; the oldest give way.
const MOST: usize = 10_000;

/// Who signed in.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Whose log.
    pub(super) tenant: TenantName,
    /// With which credential; it is looked up again at each request, so revoking it ends the session.
    pub(super) credential_id: CredentialId,
    /// Stands in every form of this session.
    pub(super) csrf: String,
    begun: Timestamp,
    seen: Timestamp,
}

/// All sessions of this node.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<[u8; 32], Session>,
    failures: HashMap<String, (u32, Timestamp)>,
}

impl Sessions {
    /// Begins a session; the text for the cookie.
    ///
    /// # Errors
    /// The system's generator failed.
    pub(super) fn begin(
        &self,
        tenant: TenantName,
        credential_id: CredentialId,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, getrandom::Error> {
        let cookie = random()?;
        let csrf = random()?.to_string();
        let session = Session { tenant, credential_id, csrf, begun: now, seen: now };
        let mut inner = self.lock();
        inner.forget(now);
        if inner.sessions.len() >= MOST {
            let oldest = inner.sessions.iter().min_by_key(|(_, session)| session.seen).map(|(hash, _)| *hash);
            oldest.and_then(|hash| inner.sessions.remove(&hash));
        }
        inner.sessions.insert(hash(&cookie), session);
        Ok(cookie)
    }

    /// The session of a cookie, if it lives.
    pub(super) fn find(&self, cookie: &str, now: Timestamp) -> Option<Session> {
        let mut inner = self.lock();
        inner.forget(now);
        let session = inner.sessions.get_mut(&hash(cookie))?;
        session.seen = now;
        Some(session.clone())
    }

    /// Ends a session.
    pub(super) fn end(&self, cookie: &str) {
        self.lock().sessions.remove(&hash(cookie));
    }

    /// Whether an address must wait before it tries again.
    pub(super) fn must_wait(&self, address: &str, now: Timestamp) -> bool {
        let mut inner = self.lock();
        inner.forget(now);
        inner.failures.get(address).is_some_and(|(tries, _)| *tries >= TRIES)
    }

    /// Counts a wrong credential.
    pub(super) fn failed(&self, address: &str, now: Timestamp) {
        let mut inner = self.lock();
        if inner.failures.len() < MOST || inner.failures.contains_key(address) {
            let entry = inner.failures.entry(address.to_owned()).or_insert((0, now));
            *entry = (entry.0 + 1, now);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // What a panicking holder left is whole: each change is one insert or remove.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Whether a form was made for this session.
    pub(super) fn made(&self, csrf: &str) -> bool {
        self.csrf.as_bytes().ct_eq(csrf.as_bytes()).into()
    }
}

impl Inner {
    fn forget(&mut self, now: Timestamp) {
        self.sessions.retain(|_, session| now.since(session.seen) < IDLE && now.since(session.begun) < LONGEST);
        self.failures.retain(|_, (_, last)| now.since(*last) < WAIT);
    }
}

fn random() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut bytes[..])?;
    Ok(Zeroizing::new(Base64UrlUnpadded::encode_string(&bytes[..])))
}

fn hash(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(sessions: &Sessions, now: Timestamp) -> Zeroizing<String> {
        sessions.begin("demo".parse().unwrap(), CredentialId::generate(now), now).unwrap()
    }

    #[test]
    fn an_idle_session_ends_after_fifteen_minutes_and_any_after_eight_hours() {
        let (sessions, start) = (Sessions::default(), Timestamp::from_millis(1_000_000));
        let cookie = begin(&sessions, start);
        let mut now = start;
        for _ in 0..47 {
            now = now.plus(Duration::from_secs(10 * 60));
            assert!(sessions.find(&cookie, now).is_some());
        }
        assert!(sessions.find(&cookie, start.plus(LONGEST)).is_none());
        let idle = begin(&sessions, start);
        assert!(sessions.find(&idle, start.plus(IDLE)).is_none());
    }

    #[test]
    fn a_form_of_another_session_is_refused() {
        let (sessions, now) = (Sessions::default(), Timestamp::from_millis(1));
        let (one, other) = (begin(&sessions, now), begin(&sessions, now));
        let (one, other) = (sessions.find(&one, now).unwrap(), sessions.find(&other, now).unwrap());
        assert!(one.made(&one.csrf));
        assert!(!one.made(&other.csrf));
        assert!(!one.made(""));
    }

    #[test]
    fn ten_wrong_credentials_make_an_address_wait_half_an_hour() {
        let (sessions, now) = (Sessions::default(), Timestamp::from_millis(1));
        for _ in 0..TRIES {
            assert!(!sessions.must_wait("192.0.2.1", now));
            sessions.failed("192.0.2.1", now);
        }
        assert!(sessions.must_wait("192.0.2.1", now));
        assert!(!sessions.must_wait("192.0.2.2", now));
        assert!(!sessions.must_wait("192.0.2.1", now.plus(WAIT)));
    }
}
