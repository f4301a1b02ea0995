//! What a module does in the situations that went wrong on some module: each a function that looks and says what it saw.

use cryptoki::object::{Attribute, AttributeType};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use cryptoki_sys as ck;

use super::{CheckOptions, Line, Weight};
use crate::configuration::Configuration;
use crate::failure::Fault;
use crate::kek::{self, hex};
use crate::kek_kind::KekKind;
use crate::profile::{Place, Profile, accepts_zero_iv, random};
use crate::scratch::Scratch;
use crate::session::{Live, open};
use crate::uri::KekSelector;

/// All observations. One that cannot be made is a line that says so.
pub(super) fn observe(live: &Live, configuration: &Configuration, options: &CheckOptions) -> Vec<Line> {
    let session = live.session(0);
    let mut lines = Vec::new();
    let mut add = |name: &str, seen: Result<(Weight, String), Fault>| {
        let (weight, seen) =
            seen.unwrap_or_else(|fault| (Weight::Note, format!("could not be looked at: {}", fault.reason())));
        lines.push(Line { name: name.to_owned(), weight, seen });
    };
    match Scratch::aes(&live.module, &session) {
        Ok(scratch) => {
            add("altered-bytes", altered(scratch.place()));
            add("zero-iv", zero_iv(scratch.place()));
            add("key-readable", readable(&session, scratch.place()));
            add("key-made-extractable", made_extractable(&session, scratch.place()));
            add("key-wrapped-away", wrapped_away(live, &session, scratch.place()));
        }
        Err(fault) => add("throw-away-keys", Err(fault)),
    }
    add("random-after-fork", random_after_fork(live, &session));
    // From here on token objects are made, and the login changes.
    let label = Label::new();
    add("duplicate-labels", duplicate(&session, &label));
    drop(session);
    add("handles-after-login", handles(live, configuration, &label));
    if options.wrong_pin {
        add("wrong-pin", wrong_pin(live, configuration));
    }
    label.clear(&live.session(0));
    if live.token.pin_count_low {
        add("pin-count", Ok((Weight::Note, "somebody entered a wrong PIN since the last login".to_owned())));
    }
    lines
}

fn good(seen: &str) -> Result<(Weight, String), Fault> {
    Ok((Weight::Good, seen.to_owned()))
}

/// What code a flipped bit gives, and whether the module is as it was afterwards.
fn altered(place: Place<'_>) -> Result<(Weight, String), Fault> {
    let aes = [
        Profile::AesGcmApplicationIv,
        Profile::AesGcmModuleIv,
        Profile::AesKwp,
        Profile::AesKwpWrapKey,
        Profile::AesKwpWrapKeyPad,
    ];
    let key = random::<32>()?;
    let found = aes.into_iter().find_map(|profile| Some((profile, profile.wrap(place, &key, b"context").ok()?)));
    let Some((profile, mut wrapped)) = found else { return Ok((Weight::Note, "no AES profile".to_owned())) };
    let last = wrapped.len() - 1;
    wrapped[last] ^= 1;
    let code = match profile.unwrap(place, &wrapped, b"context") {
        Ok(_) => return Ok((Weight::Bad, format!("altered bytes are opened by {profile}"))),
        Err(Fault::Code(code, function)) => format!("C_{function:?}: {code:?}"),
        Err(_) => "refused by siv's own comparison".to_owned(),
    };
    wrapped[last] ^= 1;
    profile.unwrap(place, &wrapped, b"context")?;
    good(&code)
}

fn zero_iv(place: Place<'_>) -> Result<(Weight, String), Fault> {
    Ok(match accepts_zero_iv(place) {
        Ok(()) => (Weight::Note, "a zero IV of the application is used as it stands; siv never sends one".to_owned()),
        Err(_) => (Weight::Good, "a zero IV of the application is not used".to_owned()),
    })
}

fn readable(session: &Session, place: Place<'_>) -> Result<(Weight, String), Fault> {
    let answer = session.get_attributes(place.kek.opens, &[AttributeType::Value]);
    let read = answer.is_ok_and(|all| all.iter().any(|a| matches!(a, Attribute::Value(value) if !value.is_empty())));
    if read {
        Ok((Weight::Bad, "CKA_VALUE of a sensitive key can be read".to_owned()))
    } else {
        good("CKA_VALUE stays inside")
    }
}

fn made_extractable(session: &Session, place: Place<'_>) -> Result<(Weight, String), Fault> {
    let _ = session.update_attributes(place.kek.opens, &[Attribute::Extractable(true)]);
    match session.get_attributes(place.kek.opens, &[AttributeType::Extractable])?.first() {
        Some(Attribute::Extractable(true)) => Ok((Weight::Bad, "CKA_EXTRACTABLE can be set afterwards".to_owned())),
        _ => good("CKA_EXTRACTABLE stays false"),
    }
}

/// Whether a key that is not extractable leaves the token under another one.
fn wrapped_away(live: &Live, session: &Session, place: Place<'_>) -> Result<(Weight, String), Fault> {
    let other = Scratch::aes(&live.module, session)?;
    for mechanism in [ck::CKM_AES_KEY_WRAP, ck::CKM_AES_KEY_WRAP_PAD, ck::CKM_AES_KEY_WRAP_KWP] {
        let (session, over) = (session.handle(), other.place().kek.closes.handle());
        if live.module.raw.wrap_key(session, mechanism, over, place.kek.opens.handle(), 64).is_ok() {
            return Ok((Weight::Reservation, "C_WrapKey gives out a key with CKA_EXTRACTABLE=false".to_owned()));
        }
    }
    good("C_WrapKey refuses a key with CKA_EXTRACTABLE=false")
}

fn random_after_fork(live: &Live, session: &Session) -> Result<(Weight, String), Fault> {
    Ok(match live.module.raw.random_after_fork(session.handle())? {
        Some(true) => (
            Weight::Note,
            "parent and child get the same random bytes; siv starts its worker by exec and never forks it".to_owned(),
        ),
        Some(false) => (Weight::Good, "parent and child get different random bytes".to_owned()),
        None => (Weight::Good, "a child cannot use the parent's session".to_owned()),
    })
}

fn duplicate(session: &Session, label: &Label) -> Result<(Weight, String), Fault> {
    kek::generate(session, &label.0, KekKind::Aes256)?;
    // Nobody looks whether it is there: the module is asked itself.
    let second = kek::generate(session, &label.0, KekKind::Aes256);
    Ok(match second {
        Ok(()) => {
            (Weight::Note, "two keys of one label and id are accepted; siv refuses to choose between them".to_owned())
        }
        Err(_) => (Weight::Good, "a second key of one label and id is refused".to_owned()),
    })
}

/// Logs out and in again behind an open handle.
fn handles(live: &Live, configuration: &Configuration, label: &Label) -> Result<(Weight, String), Fault> {
    let session = open(&live.module, live.slot)?;
    let before = label.all(&session)?;
    let pin = configuration.pin.read()?;
    session.logout()?;
    let hidden = label.all(&session).is_ok_and(|found| found.is_empty());
    session.login(UserType::User, Some(pin.auth()))?;
    let survives = before
        .first()
        .is_some_and(|key| session.get_attributes(*key, &[AttributeType::KeyType]).is_ok_and(|a| !a.is_empty()));
    let first = if hidden { "without a login keys look missing" } else { "without a login keys are listed" };
    let second = if survives { "handles survive a login" } else { "handles die with a login" };
    Ok((Weight::Note, format!("{first}; {second}")))
}

fn wrong_pin(live: &Live, configuration: &Configuration) -> Result<(Weight, String), Fault> {
    let session = open(&live.module, live.slot)?;
    let pin = configuration.pin.read()?;
    session.logout()?;
    let refused = session.login(UserType::User, Some(&AuthPin::from("not the PIN".to_owned()))).map_err(Fault::from);
    session.login(UserType::User, Some(pin.auth()))?;
    Ok(match refused {
        Ok(()) => (Weight::Bad, "a wrong PIN is accepted".to_owned()),
        Err(Fault::Code(code, _)) => (Weight::Good, format!("C_Login: {code:?}")),
        Err(_) => (Weight::Note, "a wrong PIN gives rubbish".to_owned()),
    })
}

/// Label of this run's token objects.
struct Label(KekSelector);

impl Label {
    fn new() -> Self {
        let suffix = random::<8>().map(|bytes| hex(&bytes[..])).unwrap_or_default();
        Self(KekSelector { label: Some(format!("siv-check-{suffix}")), id: Some(b"siv-check".to_vec()) })
    }

    fn all(&self, session: &Session) -> Result<Vec<cryptoki::object::ObjectHandle>, Fault> {
        let label = self.0.label.clone().unwrap_or_default().into_bytes();
        Ok(session.find_objects(&[Attribute::Label(label)])?)
    }

    /// Destroys them. What is left after a crash is named `siv-check-…`.
    fn clear(&self, session: &Session) {
        for key in self.all(session).unwrap_or_default() {
            let _ = session.destroy_object(key);
        }
    }
}
