//! What the workers of this process may try at a token: one login at a time, and no PIN again that was refused. One memory for
//! all configurations, because a token counts wrong PINs whoever brings them. It holds no PIN: an HMAC under a key of this process.
//! How many new ones may be tried is counted elsewhere ([`MayTry`]), for all processes that reach the token.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::module::ModuleHash;

/// Asked before a PIN is tried that somebody has just said and that was never accepted at the token of this serial number. It counts it
/// where every process that reaches the token sees it, and answers why it may not be tried. It may block.
pub type MayTry = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

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
    /// Whether it was never accepted there, as far as this process knows.
    is_guess: bool,
    /// Whether the token had counted a wrong one before.
    is_counted: bool,
    ended: bool,
}

/// What is known of one token behind one module: whose turn it is. A module that lies about its serial number takes no other's.
#[derive(Debug, Default)]
struct Known {
    under_way: usize,
    accepted: Option<(PinTag, Instant)>,
    /// The last logins, if they did not answer.
    silent: Option<Silent>,
}

/// Logins in a row that did not answer. The module died or was too slow, and most often the token heard nothing of it: that is an outage, and
/// no wrong PIN, unless the token says that it has counted one.
#[derive(Debug, Clone, Copy)]
struct Silent {
    /// The last one's PIN.
    tag: PinTag,
    times: u32,
    at: Instant,
    /// Whether the token had counted a wrong PIN before it already: then that it has says nothing of this one.
    was_counted: bool,
}

/// What was refused at the token of one serial number, whichever module it was reached by.
#[derive(Debug, Default)]
struct Refusals {
    refused: Vec<Refused>,
}

#[derive(Debug)]
struct Refused {
    tag: PinTag,
    at: Instant,
    why: &'static str,
}

#[derive(Debug, Default)]
struct Memory {
    doors: HashMap<Door, Known>,
    tokens: HashMap<String, Refusals>,
}

/// So long a refusal is remembered. By then whoever runs on that PIN has said that it is refused.
const REMEMBERED: Duration = Duration::from_secs(600);
/// After two logins in a row that did not answer the next one waits: a token that does count them and does not say so is not run
/// into its lock at the pace of starts. Short enough that one that is back is used within ten seconds.
const PAUSE: Duration = Duration::from_secs(5);
/// The same of a PIN that somebody has just said.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// After a PIN was accepted its other logins need not wait for each other.
const HERD: Duration = Duration::from_secs(2);
/// Tokens remembered; nothing is known of most.
const TOKENS: usize = 1024;

static MEMORY: LazyLock<Mutex<Memory>> = LazyLock::new(Mutex::default);

fn memory() -> MutexGuard<'static, Memory> {
    // Each change of the maps is one call.
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks whether somebody may log in at `door`; `is_new` says that somebody has just said this PIN, `is_counted` that
/// the token has counted a wrong one since the last login. With leave to go comes what holds the turn.
pub(crate) fn ask(door: Door, tag: PinTag, (is_new, is_counted): (bool, bool)) -> (Leave, Option<Login>) {
    let mut memory = memory();
    let Memory { doors, tokens } = &mut *memory;
    if doors.len() >= TOKENS {
        doors.retain(|_, known| known.under_way > 0 || known.silent.is_some());
    }
    if tokens.len() >= TOKENS {
        tokens.retain(|_, token| token.is_known());
    }
    let refusals = tokens.entry(door.serial.clone()).or_default();
    let known = doors.entry(door.clone()).or_default();
    match known.leave(&tag, (is_new, is_counted), refusals) {
        Leave::Go => {
            known.under_way += 1;
            let is_guess = is_new && !known.has_accepted(&tag);
            (Leave::Go, Some(Login { door, tag, is_guess, is_counted, ended: false }))
        }
        leave => (leave, None),
    }
}

impl Refused {
    /// Why this PIN is not tried again, from memory, and what a person can do who set it right at the token.
    fn told(&self) -> String {
        let minutes = REMEMBERED.saturating_sub(self.at.elapsed()).as_secs().div_ceil(60);
        format!(
            "{} less than ten minutes ago, so this node did not try it again. If it was set right at the token since, say it \
             again in {minutes} minutes, or after a restart of the node",
            self.why
        )
    }
}

impl Refusals {
    fn is_known(&self) -> bool {
        self.refused.iter().any(|refused| refused.at.elapsed() < REMEMBERED)
    }

    fn refuse(&mut self, tag: PinTag, why: &'static str) -> String {
        let refused = Refused { tag, at: Instant::now(), why };
        let told = refused.told();
        self.refused.push(refused);
        told
    }

    fn end(&mut self, tag: PinTag, ending: Ending) {
        if ending == Ending::Refused {
            self.refuse(tag, "the token refused this PIN");
        }
    }
}

impl Known {
    fn has_accepted(&self, tag: &PinTag) -> bool {
        self.accepted.is_some_and(|(accepted, _)| accepted == *tag)
    }

    fn leave(&self, tag: &PinTag, (is_new, is_counted): (bool, bool), refusals: &mut Refusals) -> Leave {
        refusals.refused.retain(|refused| refused.at.elapsed() < REMEMBERED);
        if let Some(refused) = refusals.refused.iter().find(|refused| refused.tag == *tag) {
            return Leave::Never(refused.told());
        }
        let accepted = self.accepted.filter(|(accepted, _)| accepted == tag);
        let is_guess = is_new && accepted.is_none();
        if let Some(silent) = self.silent {
            let is_same = silent.tag == *tag;
            if is_same && is_counted && !silent.was_counted {
                return Leave::Never(
                    refusals.refuse(*tag, "a login did not answer, and the token has counted a wrong PIN"),
                );
            }
            let pause = if is_guess { LONG_PAUSE } else { PAUSE };
            if silent.times > 1 && (is_same || is_guess) && silent.at.elapsed() < pause {
                return Leave::Later("two logins in a row did not answer: the next one waits".to_owned());
            }
        }
        let herd = accepted.is_some_and(|(_, at)| at.elapsed() < HERD);
        if self.under_way > 0 && !herd { Leave::Wait } else { Leave::Go }
    }

    fn end(&mut self, tag: PinTag, ending: Option<Ending>, was_counted: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        match ending {
            Some(Ending::Accepted) => (self.accepted, self.silent) = (Some((tag, Instant::now())), None),
            Some(Ending::Refused) => {
                self.accepted = self.accepted.filter(|(accepted, _)| *accepted != tag);
                self.silent = self.silent.filter(|silent| silent.tag != tag);
            }
            // What was not answered before may have been counted all the same.
            Some(Ending::Neither) => {}
            None => {
                let times = self.silent.map_or(0, |silent| silent.times).saturating_add(1);
                self.silent = Some(Silent { tag, times, at: Instant::now(), was_counted });
            }
        }
    }
}

impl Login {
    /// The serial number of the token, where the PIN was never accepted there.
    pub(crate) fn guesses_at(&self) -> Option<&str> {
        self.is_guess.then_some(&*self.door.serial)
    }

    /// It ended.
    pub(crate) fn end(mut self, ending: Ending) {
        self.ended = true;
        self.tell(Some(ending));
    }

    fn tell(&self, ending: Option<Ending>) {
        let mut memory = memory();
        if let Some(known) = memory.doors.get_mut(&self.door) {
            known.end(self.tag, ending, self.is_counted);
        }
        if let Some(ending) = ending {
            let refusals = memory.tokens.entry(self.door.serial.clone()).or_default();
            refusals.end(self.tag, ending);
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
        let Leave::Never(why) = refusal(&here, 1, false) else { panic!("it is tried again") };
        assert!(why.contains("this node did not try it again") && why.contains("in 10 minutes"), "{why}");
        go(&here, 2, true).end(Ending::Accepted);
        go(&door("elsewhere"), 1, false).end(Ending::Accepted);
        // One that was accepted and is refused now was changed at the token.
        go(&here, 2, false).end(Ending::Refused);
        assert!(matches!(refusal(&here, 2, false), Leave::Never(_)));
    }

    #[test]
    fn what_was_accepted_before_is_no_guess_and_what_somebody_has_just_said_is_one() {
        let here = door("guessed");
        let guess = |pin, is_new| {
            let login = go(&here, pin, is_new);
            let at = login.guesses_at().map(str::to_owned);
            login.end(Ending::Accepted);
            at
        };
        assert_eq!(guess(1, false), None, "a configuration runs on it");
        assert_eq!(guess(1, true), None, "it was accepted a moment ago");
        assert_eq!(guess(2, true).as_deref(), Some("guessed"));
        let refused = go(&here, 3, true);
        assert!(refused.guesses_at().is_some());
        refused.end(Ending::Refused);
        // Through another module file it is the same token.
        let beside = Door { module: ModuleHash([8; 32]), ..here };
        assert!(matches!(refusal(&beside, 3, true), Leave::Never(_)));
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
        // What somebody has just said waits longer.
        memory().doors.get_mut(&here).unwrap().silent.as_mut().unwrap().at -= PAUSE;
        assert!(matches!(refusal(&here, 2, true), Leave::Later(_)));
        // One that was let in before is not held up by it; an answer ends the row.
        go(&here, 1, false).end(Ending::Accepted);
        drop(go(&here, 2, true));
        go(&here, 1, false).end(Ending::Accepted);
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
        // What somebody else's guess left there before it says nothing of it.
        let guessed = door("guessed before");
        drop(ask(guessed.clone(), [1; 32], (false, true)).1.unwrap());
        ask(guessed, [1; 32], (false, true)).1.unwrap().end(Ending::Accepted);
        assert!(matches!(refusal(&here, 1, false), Leave::Never(_)));
    }
}
