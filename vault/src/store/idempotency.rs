//! Requests that may come twice: one result, given again to who can open it (docs/formats.md section 7).
//!
//! It knows no route's answer; it judges a stored record inside the batch and seals answers.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Error;
use super::committer::operation::Rows;
use super::rows::IdempotencyRow;
use crate::crypto::{DataKey, MacKey, RecordKey};
use crate::domain::{CaptureSessionId, Credential, DataKeyClass, DataKeyId, Growing, RunId, TenantName, Timestamp, lp};
use crate::keys::{HeldKeys, KeyRecords, Keys, MacPurpose};

/// How long a record is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest `Idempotency-Key`, in bytes.
const LONGEST_KEY: usize = 255;
/// Room for most answers.
const SHORT: usize = 512;
/// The status of a record that runs. Its sealed body is empty: who can open it is told apart from who cannot, and so a
/// caller that came back with another of its credentials from one that sends another body.
const RUNNING: u16 = 102;
/// The status of a record whose answer was not kept. Its sealed body is empty inside, so that who can open it is still
/// told apart from who cannot.
const NOT_KEPT: u16 = 409;
/// The status of a record of a request that is carried out anew each time: it tells another body from the same one, and
/// holds nothing else.
const ANEW: u16 = 205;

/// What a caller sent: its `Idempotency-Key` and the exact body, by which repeats are compared.
pub struct IdempotencyKey {
    key: String,
    body: Zeroizing<Vec<u8>>,
}

impl IdempotencyKey {
    /// Takes header and body; nothing if the header is not 1 to 255 printable ASCII characters.
    #[must_use]
    pub fn new(key: &str, body: Zeroizing<Vec<u8>>) -> Option<Self> {
        let fits = !key.is_empty() && key.len() <= LONGEST_KEY && key.bytes().all(|b| (0x20..0x7f).contains(&b));
        fits.then(|| Self { key: key.to_owned(), body })
    }
}

impl std::fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdempotencyKey(…)")
    }
}

/// Within what an `Idempotency-Key` is one.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Whose it is.
    pub tenant: &'a TenantName,
    /// The route, as method and path without names.
    pub route: &'static str,
    /// The app or flow; empty where there is none.
    pub subject: &'a str,
    /// The capture session.
    pub session: Option<CaptureSessionId>,
    /// Whether sensitive authentication data is touched: the answer then dies with a key of 15 minutes' epoch.
    pub sensitive: bool,
}

/// An answer as it was given out: status and body.
#[derive(Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, exactly; wiped on drop.
    pub body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// An answer of this JSON.
    ///
    /// # Errors
    /// [`Error::Rule`] if it does not serialise, which no answer of ours does.
    pub fn json(status: u16, body: &impl serde::Serialize) -> Result<Self, Error> {
        let mut bytes = Growing::with_capacity(SHORT);
        serde_json::to_writer(&mut bytes, body).map_err(|_| Error::Rule("an answer must serialise"))?;
        Ok(Self { status, body: bytes.into_bytes() })
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({})", self.status)
    }
}

/// What a record says to a request.
#[derive(Debug)]
pub enum Judgement {
    /// There is none, or one that asks for nothing but the same body: go on.
    Fresh,
    /// The same request was answered; the same answer again.
    Replay(Answer),
    /// It gets no answer of its own.
    Refused(Repeated),
}

/// Why a repeat is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Repeated {
    /// The first is still running (409 `idempotency.in_progress`).
    #[error("a request with this Idempotency-Key is still running")]
    InProgress,
    /// The first began and nobody knows its outcome (409 `flow.outcome_unknown`).
    #[error("the outcome of the first request with this Idempotency-Key is not known")]
    OutcomeUnknown(Option<RunId>),
    /// The first had another body (422 `idempotency.mismatch`).
    #[error("this Idempotency-Key came before with another body")]
    Mismatch,
    /// It is done and its answer is not given to this caller (409 `idempotency.completed`).
    #[error("a request with this Idempotency-Key was completed")]
    Completed,
}

/// A request with an `Idempotency-Key`, ready to be judged and to store its answer.
pub struct IdempotencyRequest {
    tenant: TenantName,
    lookup: [u8; 32],
    /// Where its record stands if it was written before the key of look-ups was rotated.
    older: Vec<[u8; 32]>,
    secret: Arc<Credential>,
    given: Arc<IdempotencyKey>,
    data_key: Arc<DataKey>,
    key: RecordKey,
    body_mac: [u8; 32],
    expires: Timestamp,
}

impl IdempotencyRequest {
    /// Derives look-up and record key; gets the data key of the hour (or quarter of an hour).
    ///
    /// # Errors
    /// [`Error::Keys`].
    pub async fn prepare<R: KeyRecords>(
        given: impl Into<Arc<IdempotencyKey>>,
        scope: Scope<'_>,
        secret: Arc<Credential>,
        (keys, records): (&Keys, &R),
        now: Timestamp,
    ) -> Result<Self, Error> {
        let given = given.into();
        let newest = keys.mac(MacPurpose::IdempotencyLookup);
        let lookup = lookup(&newest, &given.key, scope, keys);
        let before = keys.macs(MacPurpose::IdempotencyLookup).iter().filter(|key| key.id() != newest.id());
        let older = before.map(|older| self::lookup(older, &given.key, scope, keys)).collect();
        let class = if scope.sensitive { DataKeyClass::IdempotencySensitive } else { DataKeyClass::Idempotency };
        let data_key = keys.data_key_to_seal(records, scope.tenant, class, now).await?;
        let key = record_key(&data_key, &secret, &lookup);
        let body_mac = key.body_mac(&given.body);
        let expires = now.plus(KEPT);
        let tenant = scope.tenant.clone();
        Ok(Self { tenant, lookup, older, secret, given, data_key, key, body_mac, expires })
    }

    /// Where its record may stand; it is written to the first of them.
    #[must_use]
    pub fn lookups(&self) -> Vec<[u8; 32]> {
        std::iter::once(self.lookup).chain(self.older.iter().copied()).collect()
    }

    /// Judges the record, inside the batch.
    ///
    /// # Errors
    /// The data key that the record needs and that is not at hand.
    pub fn judge(&self, rows: &dyn Rows, held: &HeldKeys) -> Result<Judgement, DataKeyId> {
        let lookups = std::iter::once(&self.lookup).chain(&self.older);
        let Some(row) = lookups.into_iter().find_map(|lookup| rows.idempotency(lookup)) else {
            return Ok(Judgement::Fresh);
        };
        let own_key = row.data_key_id == self.data_key.id();
        if own_key && row.lookup == self.lookup {
            return Ok(judge_row(row, &self.key, &self.body_mac, rows.now()));
        }
        let data_key = if own_key {
            Arc::clone(&self.data_key)
        } else {
            held.get(&self.tenant, row.data_key_id).ok_or(row.data_key_id)?
        };
        let key = record_key(&data_key, &self.secret, &row.lookup);
        Ok(judge_row(row, &key, &key.body_mac(&self.given.body), rows.now()))
    }

    /// The record of a request that goes on until `deadline` at most.
    ///
    /// # Errors
    /// As [`IdempotencyRequest::answered`].
    pub fn running(&self, run_id: Option<RunId>, deadline: Timestamp) -> Result<IdempotencyRow, Error> {
        let marker = Answer { status: RUNNING, body: Zeroizing::default() };
        Ok(IdempotencyRow { deadline, ..self.answered(run_id, &marker)? })
    }

    /// The record of an answered request.
    ///
    /// # Errors
    /// [`Error::Keys`] if there is no randomness.
    pub fn answered(&self, run_id: Option<RunId>, answer: &Answer) -> Result<IdempotencyRow, Error> {
        let sealed = self
            .key
            .seal_answer(answer.status, run_id, self.expires, &answer.body)
            .map_err(|error| Error::Keys(error.into()))?;
        Ok(self.row(run_id, self.expires, Some((answer.status, sealed))))
    }

    /// The record of a request whose answer is never stored (a revealing flow with an outbound step).
    ///
    /// # Errors
    /// As [`IdempotencyRequest::answered`].
    pub fn completed_not_kept(&self, run_id: Option<RunId>) -> Result<IdempotencyRow, Error> {
        self.answered(run_id, &Answer { status: NOT_KEPT, body: Zeroizing::default() })
    }

    /// The record of a request whose answer is never stored and which may be repeated: each time it is a new, recorded
    /// access (a revealing flow without an outbound step).
    ///
    /// # Errors
    /// As [`IdempotencyRequest::answered`].
    pub fn anew(&self, run_id: Option<RunId>) -> Result<IdempotencyRow, Error> {
        self.answered(run_id, &Answer { status: ANEW, body: Zeroizing::default() })
    }

    /// The record of a request that had no effect and may come again as if it had never been.
    #[must_use]
    pub fn forgotten(&self, now: Timestamp) -> IdempotencyRow {
        self.row(None, now, None).forgotten(now)
    }

    fn row(&self, run_id: Option<RunId>, deadline: Timestamp, answer: Option<(u16, Vec<u8>)>) -> IdempotencyRow {
        IdempotencyRow {
            tenant: self.tenant.clone(),
            lookup: self.lookup,
            body_mac: self.body_mac,
            data_key_id: self.data_key.id(),
            run_id,
            deadline,
            expires: self.expires,
            answer,
        }
    }
}

impl std::fmt::Debug for IdempotencyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdempotencyRequest(…)")
    }
}

fn judge_row(row: &IdempotencyRow, key: &RecordKey, body_mac: &[u8; 32], now: Timestamp) -> Judgement {
    let same_body = bool::from(row.body_mac.ct_eq(body_mac));
    let (status, sealed) = row.answer.as_ref().map_or((RUNNING, &[][..]), |(status, sealed)| (*status, &sealed[..]));
    let opened = key.open_answer(status, row.run_id, row.expires, sealed);
    match (status, opened) {
        (_, Ok(_)) if !same_body => Judgement::Refused(Repeated::Mismatch),
        // Whoever cannot open it may still hold another credential of the same flow and come back after a crash: told
        // that this is another request, it would take a new key and charge twice.
        (RUNNING, _) if now < row.deadline => Judgement::Refused(Repeated::InProgress),
        (RUNNING, _) => Judgement::Refused(Repeated::OutcomeUnknown(row.run_id)),
        (_, Err(_)) => Judgement::Refused(Repeated::Completed),
        (ANEW, Ok(_)) => Judgement::Fresh,
        (NOT_KEPT, Ok(body)) if body.is_empty() => Judgement::Refused(Repeated::Completed),
        (_, Ok(body)) => Judgement::Replay(Answer { status, body }),
    }
}

fn lookup(with: &MacKey, key: &str, scope: Scope<'_>, keys: &Keys) -> [u8; 32] {
    let session = scope.session.as_ref().map_or(&[][..], |session| session.as_bytes());
    with.mac(&lp(&[
        keys.realm().as_bytes(),
        scope.tenant.as_bytes(),
        scope.route.as_bytes(),
        scope.subject.as_bytes(),
        session,
        key.as_bytes(),
    ]))
}

#[expect(clippy::disallowed_methods, reason = "the caller's credential is part of the record's key")]
fn record_key(data_key: &DataKey, secret: &Credential, lookup: &[u8; 32]) -> RecordKey {
    RecordKey::derive(data_key, secret.expose_secret(), lookup)
}
