//! What the workers of this process may try at a token: one login at a time, no PIN again that was refused, and few new ones. One memory for
//! all configurations, because a token counts wrong PINs whoever brings them. It holds no PIN: an HMAC under a key of this process.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::module::ModuleHash;

/// A token as its module names it before anybody logs in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Door {
    pub(crate) module: ModuleHash,
    pub(crate) serial: String,
}

/// HMAC of a PIN for one door.
pub(crate) type PinTag = [u8; 32];

/// Whether a worker may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Leave {
    /// It may, and says how it ended.
    Go,
    /// Another login is under way at this token: ask again.
    Wait,
    /// Not this PIN, until a person acts.
    Never(String),
    /// Not now.
    Later(String),
}

/// How a login ended. One that does not end is what [`Login`]'s drop sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ending {
    Accepted,
    Refused,
    /// Something else was wrong, and the token said what.
    Neither,
}

/// A login under way. Dropped without an end, it did not answer, and may have been counted by the token.
#[derive(Debug)]
pub(crate) struct Login {
    door: Door,
    tag: PinTag,
    ended: bool,
}

/// What is known of one token.
#[derive(Debug, Default)]
struct Known {
    under_way: usize,
    accepted: Option<(PinTag, Instant)>,
    /// A PIN whose last logins did not answer.
    silent: Option<Silent>,
    refused: Vec<Refused>,
}

/// Logins in a row that did not answer. The module died or was too slow, and most often the token heard nothing of it: that is an outage, and
/// no wrong PIN, unless the token says that it has counted one.
#[derive(Debug, Clone, Copy)]
struct Silent {
    tag: PinTag,
    times: u32,
    at: Instant,
}

#[derive(Debug)]
struct Refused {
    tag: PinTag,
    at: Instant,
    why: &'static str,
}

/// So long a refusal is remembered. By then whoever runs on that PIN has said that it is refused.
const REMEMBERED: Duration = Duration::from_secs(600);
/// So many PINs that were never accepted are refused within that time, then no other is tried: a token allows three and more.
const NEW_PINS: usize = 2;
/// After two logins in a row that did not answer the next one waits: a token that does count them and does not say so is not run
/// into its lock at the pace of starts. Short enough that one that is back is used within ten seconds.
const PAUSE: Duration = Duration::from_secs(5);
/// The same of a PIN that somebody has just said.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// After a PIN was accepted its other logins need not wait for each other.
const HERD: Duration = Duration::from_secs(2);
/// Tokens remembered; nothing is known of most.
const DOORS: usize = 1024;

static DOORS_KNOWN: LazyLock<Mutex<HashMap<Door, Known>>> = LazyLock::new(Mutex::default);

fn doors() -> MutexGuard<'static, HashMap<Door, Known>> {
    // Each change of the map is one call.
    DOORS_KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks whether somebody may log in at `door`; `is_new` says that this PIN was never accepted there, `is_counted` that the token has counted
/// a wrong one since the last login. With leave to go comes what holds the turn.
pub(crate) fn ask(door: Door, tag: PinTag, (is_new, is_counted): (bool, bool)) -> (Leave, Option<Login>) {
    let mut doors = doors();
    if doors.len() >= DOORS {
        doors.retain(|_, known| known.under_way > 0 || known.silent.is_some() || known.is_fresh());
    }
    let known = doors.entry(door.clone()).or_default();
    match known.leave(&tag, (is_new, is_counted)) {
        Leave::Go => {
            known.under_way += 1;
            (Leave::Go, Some(Login { door, tag, ended: false }))
        }
        leave => (leave, None),
    }
}

impl Known {
    fn is_fresh(&self) -> bool {
        self.refused.iter().any(|refused| refused.at.elapsed() < REMEMBERED)
    }

    fn leave(&mut self, tag: &PinTag, (is_new, is_counted): (bool, bool)) -> Leave {
        self.refused.retain(|refused| refused.at.elapsed() < REMEMBERED);
        if let Some(refused) = self.refused.iter().find(|refused| refused.tag == *tag) {
            return Leave::Never(refused.why.to_owned());
        }
        let accepted = self.accepted.filter(|(accepted, _)| accepted == tag);
        if let Some(silent) = self.silent.filter(|silent| silent.tag == *tag) {
            if is_counted {
                let why = "a login did not answer, and the token has counted a wrong PIN";
                self.refused.push(Refused { tag: *tag, at: Instant::now(), why });
                return Leave::Never(why.to_owned());
            }
            let pause = if is_new && accepted.is_none() { LONG_PAUSE } else { PAUSE };
            if silent.times > 1 && silent.at.elapsed() < pause {
                return Leave::Later("two logins in a row did not answer: the next one waits".to_owned());
            }
        }
        if is_new && accepted.is_none() && self.refused.len() >= NEW_PINS {
            return Leave::Later(
                "two PINs were refused at this token within ten minutes: no other is tried".to_owned(),
            );
        }
        let herd = accepted.is_some_and(|(_, at)| at.elapsed() < HERD);
        if self.under_way > 0 && !herd { Leave::Wait } else { Leave::Go }
    }

    fn end(&mut self, tag: PinTag, ending: Option<Ending>) {
        self.under_way = self.under_way.saturating_sub(1);
        let silent = self.silent.take_if(|silent| silent.tag == tag);
        match ending {
            Some(Ending::Accepted) => self.accepted = Some((tag, Instant::now())),
            Some(Ending::Refused) => {
                let why = "the token refused this PIN; it was tried once, and is tried by nobody";
                self.refused.push(Refused { tag, at: Instant::now(), why });
                self.accepted = self.accepted.filter(|(accepted, _)| *accepted != tag);
            }
            // What was not answered before may have been counted all the same.
            Some(Ending::Neither) => self.silent = self.silent.or(silent),
            None => {
                let times = silent.map_or(0, |silent| silent.times).saturating_add(1);
                self.silent = Some(Silent { tag, times, at: Instant::now() });
            }
        }
    }
}

impl Login {
    /// It ended.
    pub(crate) fn end(mut self, ending: Ending) {
        self.ended = true;
        self.tell(Some(ending));
    }

    fn tell(&self, ending: Option<Ending>) {
        if let Some(known) = doors().get_mut(&self.door) {
            known.end(self.tag, ending);
        }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(serial: &str) -> Door {
        Door { module: ModuleHash([9; 32]), serial: serial.to_owned() }
    }

    fn go(door: &Door, pin: u8, is_new: bool) -> Login {
        let (leave, login) = ask(door.clone(), [pin; 32], (is_new, false));
        login.unwrap_or_else(|| panic!("{leave:?}"))
    }

    fn refusal(door: &Door, pin: u8, is_new: bool) -> Leave {
        let (leave, login) = ask(door.clone(), [pin; 32], (is_new, false));
        assert!(login.is_none());
        leave
    }

    #[test]
    fn a_refused_pin_is_tried_by_nobody_and_another_one_may_be() {
        let here = door("refused");
        go(&here, 1, false).end(Ending::Refused);
        assert!(matches!(refusal(&here, 1, false), Leave::Never(_)));
        go(&here, 2, true).end(Ending::Accepted);
        go(&door("elsewhere"), 1, false).end(Ending::Accepted);
        // One that was accepted and is refused now was changed at the token.
        go(&here, 2, false).end(Ending::Refused);
        assert!(matches!(refusal(&here, 2, false), Leave::Never(_)));
    }

    #[test]
    fn who_guesses_is_stopped_and_who_was_let_in_before_is_not() {
        let here = door("guessed");
        go(&here, 1, true).end(Ending::Refused);
        go(&here, 2, true).end(Ending::Refused);
        assert!(matches!(refusal(&here, 3, true), Leave::Later(_)));
        go(&here, 4, false).end(Ending::Accepted);
        go(&here, 4, true).end(Ending::Accepted);
    }

    #[test]
    fn logins_at_one_token_are_one_at_a_time_until_one_is_accepted() {
        let here = door("herd");
        let first = go(&here, 1, false);
        assert_eq!(refusal(&here, 1, false), Leave::Wait);
        assert_eq!(refusal(&here, 2, false), Leave::Wait);
        first.end(Ending::Accepted);
        let (one, other) = (go(&here, 1, false), go(&here, 1, false));
        assert_eq!(refusal(&here, 2, false), Leave::Wait);
        one.end(Ending::Accepted);
        other.end(Ending::Accepted);
    }

    #[test]
    fn logins_that_do_not_answer_are_an_outage_and_tried_less_often() {
        let here = door("silent");
        drop(go(&here, 1, false));
        drop(go(&here, 1, false));
        assert!(matches!(refusal(&here, 1, false), Leave::Later(why) if why.contains("did not answer")));
        // The right one is not held up by it, and what was silent is tried again after a while.
        go(&here, 2, true).end(Ending::Accepted);
        doors().get_mut(&here).unwrap().silent.as_mut().unwrap().at -= PAUSE;
        go(&here, 1, false).end(Ending::Accepted);
        drop(go(&here, 1, false));
    }

    #[test]
    fn a_login_that_did_not_answer_is_not_repeated_where_the_token_has_counted_a_wrong_pin() {
        let here = door("counted");
        // Somebody else's wrong PIN alone stops nobody.
        ask(here.clone(), [1; 32], (false, true)).1.unwrap().end(Ending::Accepted);
        drop(go(&here, 1, false));
        // That the module then said something else takes nothing back.
        go(&here, 1, false).end(Ending::Neither);
        assert!(matches!(ask(here.clone(), [1; 32], (false, true)), (Leave::Never(_), None)));
        assert!(matches!(refusal(&here, 1, false), Leave::Never(_)));
    }
}
