//! Capture sessions that were read lately. A form sends its fields one after another, each under the same token: what a
//! session's row says of it does not change but for how often it was used, and that is read again, locked and checked, in
//! the commit that uses it ([`super::storing`]). So nothing here decides about a value.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::session::SessionRecord;
use crate::domain::{CaptureSessionId, TenantName};

/// So many are kept twice over: the young ones, and those that were young before.
const MOST: usize = 2048;

/// A session's tenant and record, authenticated when it was read.
pub(super) type Session = (TenantName, Arc<SessionRecord>);

/// Sessions by their ids.
#[derive(Default)]
pub(super) struct KnownSessions {
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<CaptureSessionId, Session>,
    old: HashMap<CaptureSessionId, Session>,
}

impl KnownSessions {
    /// The session, if it was read lately.
    pub(super) fn get(&self, id: CaptureSessionId) -> Option<Session> {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.get(&id).or_else(|| generations.old.get(&id)).cloned()
    }

    /// Keeps a session; those that were kept longest go when there are too many.
    pub(super) fn keep(&self, id: CaptureSessionId, session: Session) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= MOST {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(id, session);
    }

    /// Forgets one: its row is not what it was.
    pub(super) fn forget(&self, id: CaptureSessionId) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.remove(&id);
        generations.old.remove(&id);
    }
}
