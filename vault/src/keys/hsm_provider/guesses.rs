//! PINs that somebody brings are counted before they are tried, where every node sees it: who asks at the token's door waits for the
//! database, and nothing is tried that was not counted.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::domain::TenantName;
use crate::keys::{Error, HsmRefusal, KeyRecords};

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
        (Arc::new(may_try), Self { records, by, asked, counted: None })
    }

    /// Waits for the attempt and answers its questions. It stays counted if the PIN was refused, and where this node ends before it
    /// hears of it: the token may have counted it.
    pub(super) async fn counted_while<T>(
        mut self,
        attempt: impl Future<Output = Result<(T, hsm::TokenInfo), Error>>,
    ) -> Result<(T, hsm::TokenInfo), Error> {
        let mut attempt = std::pin::pin!(attempt);
        let done = loop {
            tokio::select! {
                done = &mut attempt => break done,
                Some((serial, answer)) = self.asked.recv() => {
                    let may_try = self.may_try(serial).await;
                    // It waits no longer: then nothing is tried.
                    let _ = answer.send(may_try);
                }
            }
        };
        let settled = match (&done, &self.counted) {
            (Ok((_, token)), _) => self.records.guesses_over(self.by, &token.serial).await,
            (Err(Error::HsmRefused(HsmRefusal { member: "pin", .. })), _) | (Err(_), None) => Ok(()),
            (Err(_), Some(serial)) => self.records.guess_back(self.by, serial).await,
        };
        if let Err(error) = settled {
            tracing::warn!(tenant = %self.by, %error, "a PIN that was not refused stays counted as one that was, for a day");
        }
        done
    }

    async fn may_try(&mut self, serial: String) -> Result<(), String> {
        if self.counted.as_ref() == Some(&serial) {
            return Ok(());
        }
        match self.records.guess(self.by, &serial).await {
            Ok(true) => {
                self.counted = Some(serial);
                Ok(())
            }
            Ok(false) => {
                Err("two PINs that were brought for it were refused at this token: no other is tried for a day"
                    .to_owned())
            }
            Err(error) => {
                tracing::error!(tenant = %self.by, %error, "guesses of a PIN could not be counted");
                Err(uncounted())
            }
        }
    }
}

fn uncounted() -> String {
    "how many PINs were tried at this token could not be counted, so this one was not: try again".to_owned()
}
