//! How a worker asks its host before it logs in, and says how that ended. The host knows what other workers have tried at the same token.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::error::HsmError;
use crate::failure::{Class, Fault, Moment};
use crate::frame::Frame;
use crate::logins::{Door, Ending, Leave, PinTag};
use crate::pin::Pin;

/// The number of frames that are about a login, in both directions: no request has it.
pub(crate) const KNOCK: u64 = u64::MAX;
/// Between two questions while another login is under way.
const AGAIN: Duration = Duration::from_millis(20);
/// A host answers from memory; one that does not is gone, or stopped.
const PATIENCE: Duration = Duration::from_secs(10);
const LABEL: &[u8] = b"siv/v1/hsm-pin-tag";

/// What a worker says at the door.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Knock {
    /// And whether the token says that it has counted a wrong PIN since the last login.
    MayLogIn(Door, PinTag, bool),
    Ended(Ending),
}

/// A worker's side.
pub(crate) struct Doorman {
    /// The key under which this host knows PINs.
    pub(crate) key: [u8; 32],
    pub(crate) writer: Arc<Mutex<UnixStream>>,
    pub(crate) answers: Mutex<Receiver<Frame>>,
}

impl Doorman {
    /// Logs in with leave, and tells how it ended. A login that never ends is known by what was not told. `counted` looks whether the
    /// token has counted a wrong PIN, and refuses where another one would lock it.
    pub(crate) fn log_in(
        &self,
        door: Door,
        pin: &Pin,
        counted: impl Fn() -> Result<bool, Fault>,
        login: impl FnOnce() -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let tag = self.tag(&door, pin);
        let (mut is_counted, mut has_waited) = (counted()?, false);
        loop {
            match self.leave(&Knock::MayLogIn(door.clone(), tag, is_counted))? {
                // Whose turn it was before may have been counted.
                Leave::Go if std::mem::take(&mut has_waited) => {
                    let now = counted();
                    if matches!(now, Ok(now) if now == is_counted) {
                        break;
                    }
                    self.say(&Knock::Ended(Ending::Neither))?;
                    is_counted = now?;
                }
                Leave::Go => break,
                Leave::Wait => {
                    has_waited = true;
                    std::thread::sleep(AGAIN);
                }
                Leave::Never(why) => return Err(HsmError::Quarantined(why).into()),
                Leave::Later(why) => return Err(HsmError::Unavailable(why).into()),
            }
        }
        let done = login();
        let ending = match &done {
            Ok(()) => Ending::Accepted,
            Err(fault) if fault.class(Moment::Connect) == Class::Quarantine => Ending::Refused,
            Err(_) => Ending::Neither,
        };
        self.say(&Knock::Ended(ending))?;
        done
    }

    fn tag(&self, door: &Door, pin: &Pin) -> PinTag {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key)
            .unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
        // The serial number comes last: it is the only part besides the PIN whose length is not fixed, and the PIN's is given.
        let (pin, length) = (pin.wire(), [u8::try_from(pin.wire().len()).unwrap_or(u8::MAX)]);
        // Not the module's hash: through another file it is the same token, which counts.
        for part in [LABEL, &length, pin, door.serial.as_bytes()] {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    fn leave(&self, knock: &Knock) -> Result<Leave, HsmError> {
        self.say(knock)?;
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.recv_timeout(PATIENCE).map_err(|_| gone())?;
        serde_json::from_slice(answer.field(0)).map_err(|_| HsmError::Protocol("no leave of a host".to_owned()))
    }

    fn say(&self, knock: &Knock) -> Result<(), HsmError> {
        let frame = frame(knock)?;
        frame.write(&mut *self.writer.lock().unwrap_or_else(PoisonError::into_inner)).map_err(|_| gone())
    }
}

/// A frame about a login.
pub(crate) fn frame(said: &impl Serialize) -> Result<Frame, HsmError> {
    let json = serde_json::to_vec(said).map_err(|_| HsmError::Protocol("a login is not text".to_owned()))?;
    Ok(Frame::new(KNOCK, [&json, &[], &[]]))
}

fn gone() -> HsmError {
    HsmError::Unavailable("the host does not answer".to_owned())
}
