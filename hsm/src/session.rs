//! A login at a token: the anchor session that keeps it, the sessions that work, the KEKs found in it. How it heals is in `pool`.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;

use crate::canary::{Canary, Song};
use crate::configuration::Configuration;
use crate::doorman::Doorman;
use crate::error::HsmError;
use crate::failure::Fault;
use crate::kek::Kek;
use crate::logins::Door;
use crate::module::{Module, ModuleFile};
use crate::profile::{KekRef, Place, Profile};
use crate::token::{self, TokenInfo};
use crate::uri::KekSelector;

/// Everything that one login gives, and that dies with it: no handle outlives its generation.
pub(crate) struct Live {
    pub(crate) generation: u64,
    pub(crate) file: ModuleFile,
    pub(crate) module: Arc<Module>,
    pub(crate) slot: Slot,
    pub(crate) token: TokenInfo,
    sessions: Vec<Mutex<Session>>,
    keks: Mutex<HashMap<KekSelector, Kek>>,
    // Closing the last session logs out on every module: this one stays open, and works only where there is no other. Closed last.
    anchor: Mutex<Session>,
}

impl Live {
    /// Loads the module, finds the token, logs in once, opens the sessions.
    pub(crate) fn connect(configuration: &Configuration, generation: u64, doorman: &Doorman) -> Result<Self, Fault> {
        let file = ModuleFile::examine(&configuration.module)?;
        if configuration.module_sha256.is_some_and(|pinned| pinned != file.sha256) {
            return Err(HsmError::Configuration("the module is not the file that was onboarded".to_owned()).into());
        }
        let module = Module::load(&file)?;
        let (slot, token) = token::find(&module, &configuration.token)?;
        let anchor = open(&module, slot)?;
        let door = Door { module: file.sha256, serial: token.serial.clone() };
        log_in(&anchor, (&module, slot), configuration, (door, doorman))?;
        let room = token
            .most_sessions
            .map_or(usize::MAX, |most| usize::try_from(most.saturating_sub(1)).unwrap_or(usize::MAX));
        let mut sessions = Vec::new();
        for _ in 0..configuration.sessions.min(room).max(1) {
            match open(&module, slot) {
                Ok(session) => sessions.push(Mutex::new(session)),
                // A token that counts other applications' sessions as well gives fewer than it says.
                // With none at all the anchor works.
                Err(Fault::Code(RvError::SessionCount, _)) => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(Self { generation, file, module, slot, token, sessions, keks: Mutex::default(), anchor: Mutex::new(anchor) })
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len().max(1)
    }

    /// The session of a lane; lanes beyond the number of sessions share.
    pub(crate) fn session(&self, lane: usize) -> MutexGuard<'_, Session> {
        let session = self.sessions.get(lane % self.sessions()).unwrap_or(&self.anchor);
        session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The KEK, from the cache or found now. One found now is trusted only after its canary.
    pub(crate) fn place<'a>(
        &'a self,
        session: &'a Session,
        wanted: &KekRef,
        canaries: &[Canary],
    ) -> Result<Place<'a>, Fault> {
        let cached = self.keks.lock().unwrap_or_else(PoisonError::into_inner).get(&wanted.selector).copied();
        if let Some(kek) = cached {
            return Ok(Place { module: &self.module, session, kek });
        }
        let place = self.find(session, &wanted.selector)?;
        if let Some(canary) = canaries.iter().find(|canary| canary.kek == *wanted) {
            match canary.ask(place) {
                Song::Healthy => {}
                Song::Replaced => return Err(HsmError::KekReplaced.into()),
                Song::Silent(fault) => return Err(fault),
            }
        }
        self.keks.lock().unwrap_or_else(PoisonError::into_inner).insert(wanted.selector.clone(), place.kek);
        Ok(place)
    }

    /// Looks the KEK up past the cache.
    pub(crate) fn find<'a>(&'a self, session: &'a Session, selector: &KekSelector) -> Result<Place<'a>, Fault> {
        match Kek::find(session, selector) {
            Ok(kek) => Ok(Place { module: &self.module, session, kek }),
            // Not logged in looks like a missing key on every module.
            Err(Fault::Told(HsmError::KekNotFound)) => match session.get_session_info()?.session_state() {
                SessionState::RoUser | SessionState::RwUser => Err(HsmError::KekNotFound.into()),
                _ => Err(Error::Pkcs11(RvError::UserNotLoggedIn, cryptoki::context::Function::FindObjects).into()),
            },
            Err(other) => Err(other),
        }
    }

    /// Drops a cached handle.
    pub(crate) fn forget(&self, selector: &KekSelector) {
        self.keks.lock().unwrap_or_else(PoisonError::into_inner).remove(selector);
    }

    /// Finalises the module. Its sessions are not closed one by one: after `C_Finalize` their numbers belong to others.
    pub(crate) fn abandon(self) -> Result<(), Fault> {
        for session in self.sessions {
            mem::forget(session);
        }
        mem::forget(self.anchor);
        self.module.reinitialise()
    }
}

/// Read-write where the token allows it: CloudHSM has no read-only sessions.
pub(crate) fn open(module: &Module, slot: Slot) -> Result<Session, Fault> {
    match module.safe.open_rw_session(slot) {
        Err(Error::Pkcs11(RvError::TokenWriteProtected, _)) => Ok(module.safe.open_ro_session(slot)?),
        other => Ok(other?),
    }
}

/// One attempt with the PIN as it is now. A token that stands one attempt before its lock is left to a person.
fn log_in(
    anchor: &Session,
    (module, slot): (&Module, Slot),
    configuration: &Configuration,
    (door, doorman): (Door, &Doorman),
) -> Result<(), Fault> {
    let counted = || {
        let token = TokenInfo::read(module, slot)?;
        if token.pin_locked {
            return Err(HsmError::Quarantined("the PIN is locked at the token".to_owned()).into());
        }
        if token.pin_final_try {
            return Err(HsmError::Quarantined(
                "one more wrong PIN would lock the token: a person must log in first".to_owned(),
            )
            .into());
        }
        Ok(token.pin_count_low)
    };
    let pin = configuration.pin.read()?;
    doorman.log_in(door, &pin, counted, || match anchor.login(UserType::User, Some(pin.auth())) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(error) => Err(error.into()),
    })
}

/// SHA-1 is for SoftHSM alone, whatever a configuration says.
pub(crate) fn allows_sha1(configuration: &Configuration, token: &TokenInfo) -> bool {
    configuration.sha1_for_tests && token.manufacturer == "SoftHSM project"
}

/// Refuses the test profile outside tests.
pub(crate) fn must_allow(profile: Profile, configuration: &Configuration, token: &TokenInfo) -> Result<(), Fault> {
    if profile == Profile::TestRsaOaepSha1 && !allows_sha1(configuration, token) {
        return Err(HsmError::ProfileUnavailable("OAEP with SHA-1 outside tests on SoftHSM".to_owned()).into());
    }
    Ok(())
}
