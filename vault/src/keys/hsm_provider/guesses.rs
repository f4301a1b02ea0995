//! PINs that somebody brings are counted before they are tried, where every node sees it: who asks at the token's door waits for the
//! database, and nothing is tried that was not counted.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::domain::{TenantName, Timestamp};
use crate::keys::{Error, Guess, HsmRefusal, KeyRecords, RecordsError};

/// How long the door waits for the count.
const PATIENCE: Duration = Duration::from_secs(3);

/// A question of the door: which token, and where the answer goes.
type Question = (String, SyncSender<Result<(), String>>);

/// The PIN of one attempt: it counts once, however often its worker asks.
pub(super) struct Guesses<'r, R> {
    records: &'r R,
    by: &'r TenantName,
    asked: UnboundedReceiver<Question>,
    counted: Option<String>,
    /// So many more may be tried after it.
    left: u32,
}

impl<'r, R: KeyRecords> Guesses<'r, R> {
    /// What the door asks, and who answers it.
    pub(super) fn of(records: &'r R, by: &'r TenantName) -> (hsm::MayTry, Self) {
        let (ask, asked) = unbounded_channel::<Question>();
        let may_try = move |serial: &str| {
            let (answer, answered) = sync_channel(1);
            // Who counts is gone once the token was logged in to: what the host runs on from then on is no guess.
            if ask.send((serial.to_owned(), answer)).is_err() {
                return Ok(());
            }
            answered.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(uncounted()))
        };
        (Arc::new(may_try), Self { records, by, asked, counted: None, left: 0 })
    }

    /// Waits for the attempt and answers its questions. Once its login was let go it stays counted, unless the PIN was accepted: of one
    /// that was not answered, or whose module died in it, or whose node did, nobody knows whether the token counted it.
    pub(super) async fn counted_while<T>(
        mut self,
        attempt: impl Future<Output = Result<(T, hsm::TokenInfo), Error>>,
    ) -> Result<(T, hsm::TokenInfo), Error> {
        let mut attempt = std::pin::pin!(attempt);
        let done = loop {
            tokio::select! {
                done = &mut attempt => break done,
                Some((serial, answer)) = self.asked.recv() => {
                    let before = self.counted.clone();
                    let may_try = self.may_try(serial).await;
                    // It waits no longer: then nothing is tried. What an earlier question counted may have been tried, and stays.
                    if answer.send(may_try).is_err() && self.counted != before {
                        self.not_tried(before).await;
                    }
                }
            }
        };
        match done {
            Ok((done, token)) => {
                self.settle(self.records.guesses_over(self.by, &token.serial).await);
                Ok((done, token))
            }
            Err(error) => Err(self.told(error)),
        }
    }

    /// A refusal of the PIN with how many more may be tried; of anything else that came after the login was let go, that it did.
    fn told(&self, error: Error) -> Error {
        match (error, &self.counted) {
            (Error::HsmRefused(refusal), Some(serial)) if refusal.member == "pin" => {
                let why = format!("{}. {}", refusal.why, left(self.left, serial, self.by));
                Error::HsmRefused(HsmRefusal { why, has_tried: true, ..refusal })
            }
            (error, Some(_)) => error.after_a_login(),
            (error, None) => error,
        }
    }

    async fn not_tried(&mut self, before: Option<String>) {
        if let Some(serial) = std::mem::replace(&mut self.counted, before) {
            self.settle(self.records.guess_back(self.by, &serial).await);
        }
    }

    fn settle(&self, settled: Result<(), RecordsError>) {
        if let Err(error) = settled {
            tracing::warn!(tenant = %self.by, %error, "a PIN that was not refused stays counted as one that was, for a day");
        }
    }

    async fn may_try(&mut self, serial: String) -> Result<(), String> {
        if self.counted.as_ref() == Some(&serial) {
            return Ok(());
        }
        match self.records.guess(self.by, &serial).await {
            Ok(Guess::Counted(left)) => {
                (self.counted, self.left) = (Some(serial), left);
                Ok(())
            }
            Ok(Guess::NotBefore(until)) => Err(refusal(&serial, self.by, until)),
            Err(error) => {
                tracing::error!(tenant = %self.by, %error, "guesses of a PIN could not be counted");
                Err(uncounted())
            }
        }
    }
}

fn refusal(serial: &str, by: &TenantName, until: Timestamp) -> String {
    format!(
        "two PINs that were brought for it were refused at this token, or not answered: no other is tried before {until}, or before \
         an operator of the installation takes that back (`{}`), but for one that was accepted here before. First make sure of the \
         PIN at the token itself",
        forgetting(serial, by)
    )
}

/// How many more siv tries. The token's own count it does not say: whoever else guesses there counts too.
fn left(left: u32, serial: &str, by: &TenantName) -> String {
    match left {
        0 => format!(
            "siv tries no other here for a day, or until an operator of the installation takes that back (`{}`), but for one that \
             was accepted here before",
            forgetting(serial, by)
        ),
        left => format!("siv tries {left} more here within a day; the token has a count of its own, and locks"),
    }
}

/// What an operator says to have PINs tried again.
fn forgetting(serial: &str, by: &TenantName) -> String {
    let tenant = if by.is_system() { String::new() } else { format!(" --tenant {by}") };
    format!("siv tenant forget-pins --serial {}{tenant}", as_argument(serial))
}

/// A serial number as it may stand in a command: who rules a token chooses its sixteen bytes.
fn as_argument(serial: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !serial.is_empty() && serial.bytes().all(is_plain) { serial } else { "SERIAL" }
}

fn uncounted() -> String {
    "how many PINs were tried at this token could not be counted, so this one was not: try again".to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::keys::fixture::{Records, tenant};

    /// An attempt that fails after its worker asked about tokens: whether each time somebody waited for the answer.
    async fn failed(questions: &[(&str, bool)]) -> (u32, Error) {
        let (records, by) = (Records::default(), tenant());
        let (ask, asked) = unbounded_channel::<Question>();
        let guesses = Guesses { records: &records, by: &by, asked, counted: None, left: 0 };
        let attempt = async {
            for (serial, is_waited_for) in questions {
                let (answer, answered) = sync_channel(1);
                let waiting = is_waited_for.then_some(answered);
                ask.send(((*serial).to_owned(), answer)).unwrap();
                // Between two looks at this attempt every question is answered that was asked before.
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
                assert!(waiting.as_ref().is_none_or(|answered| answered.try_recv() == Ok(Ok(()))));
                drop(waiting);
            }
            Err(Error::Ending)
        };
        let done: Result<((), hsm::TokenInfo), Error> = guesses.counted_while(attempt).await;
        (records.guesses.load(Ordering::SeqCst), done.unwrap_err())
    }

    #[tokio::test]
    async fn only_what_nobody_waited_for_and_this_very_question_counted_is_taken_back() {
        let tried = |error: Error| matches!(error, Error::HsmRefused(refusal) if refusal.has_tried);
        for (questions, counted) in [
            (&[][..], 0),
            (&[("17", true)], 1),
            (&[("17", false)], 0),
            // The worker was started again: its first login may have counted, whoever waits for the second answer.
            (&[("17", true), ("17", false)], 1),
            (&[("17", false), ("17", true)], 1),
            (&[("17", true), ("18", false)], 1),
            (&[("17", true), ("18", false), ("17", false)], 1),
        ] {
            let (left, error) = failed(questions).await;
            assert_eq!((left, tried(error)), (counted, counted > 0), "{questions:?}");
        }
    }

    #[test]
    fn a_serial_number_that_a_shell_would_read_is_not_put_into_a_command() {
        let told = |serial| refusal(serial, &"acme".parse().unwrap(), Timestamp::from_millis(0));
        assert!(told("0f3b-7").contains("--serial 0f3b-7 --tenant acme`"));
        for strange in [";sh</tmp/x", "a b", "$(id)", ""] {
            assert!(told(strange).contains("--serial SERIAL --tenant acme`"), "{strange}");
        }
    }
}
