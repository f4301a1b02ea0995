//! What a request asks of a batch: rows to read, a pure decision, changes to write.

use std::sync::Arc;
use std::time::Duration;

use crate::access_log::{Entry, Receipt};
use crate::crypto::ValueState;
use crate::domain::{CaptureSessionId, CredentialKind, DataKeyId, TenantName, Timestamp, ValueId};
use crate::keys::LostDataKey;
use crate::store::Error;
use crate::store::rows::{CaptureKeyRow, DataKeyRow, DecidingRow, IdempotencyRow, RunRow, StateRow, Table, ValueRow};

/// The number of a tenant's settings; it grows with every change of a row that decides.
///
/// A request carries the generation it was decided under; if the batch finds another, the request is decided anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Generation(pub u64);

/// How long a request waits for its commit.
pub(in crate::store) const A_REQUEST: Duration = Duration::from_millis(1800);

/// The credential that asked for an administrative act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Key of its row: its id. The row is of the tenant acted on, or of the installation.
    pub key: String,
    /// What it was when it asked.
    pub kind: CredentialKind,
}

/// What a batch must read for an operation, before it decides.
#[derive(Debug, Clone, Default)]
pub struct Reads {
    /// Values with their states and the newest state version in the log.
    pub values: Vec<ValueId>,
    /// Capture sessions' rows.
    pub sessions: Vec<CaptureSessionId>,
    /// Idempotency records.
    pub idempotency: Vec<[u8; 32]>,
    /// (session, SHA-256 of enc) pairs already seen.
    pub encs: Vec<(CaptureSessionId, [u8; 32])>,
    /// Rows that decide, to be changed by compare-and-set of their version.
    pub rows: Vec<(Table, String)>,
    /// Runs.
    pub runs: Vec<crate::domain::RunId>,
    /// Serial numbers of tokens: how many PINs count there that its tenant brought.
    pub guesses: Vec<String>,
    /// Data keys that it seals under, if it carries no generation that says they are there: those found are there until the
    /// batch is durable.
    pub data_keys: Vec<DataKeyId>,
}

/// A value as the batch sees it, all changes of earlier operations of the same batch included.
#[derive(Debug, Clone)]
pub struct ReadValue {
    /// The row.
    pub row: Arc<ValueRow>,
    /// Its state row, if it has one; the MAC is not yet checked.
    pub state: Option<StateRow>,
    /// The newest state version that an entry of the log carries for this value; 0 if none does.
    pub newest_state_version: u64,
}

/// The rows an operation asked for. Absent is absent, foreign (of another tenant) is absent too.
pub trait Rows {
    /// The batch's clock (the database's where there are several nodes).
    fn now(&self) -> Timestamp;
    /// A value.
    fn value(&self, value_id: ValueId) -> Option<&ReadValue>;
    /// A capture session's row (authenticated).
    fn session(&self, session: CaptureSessionId) -> Option<&DecidingRow>;
    /// An idempotency record that has not expired.
    fn idempotency(&self, lookup: &[u8; 32]) -> Option<&IdempotencyRow>;
    /// Whether this enc was seen in this session.
    fn enc_seen(&self, session: CaptureSessionId, enc: &[u8; 32]) -> bool;
    /// A row that decides (authenticated).
    fn row(&self, table: Table, key: &str) -> Option<&DecidingRow>;
    /// A run.
    fn run(&self, run_id: crate::domain::RunId) -> Option<&RunRow>;
    /// How many PINs count at a token that was asked for, if any were brought.
    fn guesses(&self, token: &str) -> Option<u64>;
    /// Whether a data key that was asked for is there: what is sealed under one that is gone opens for nobody.
    fn has_data_key(&self, id: DataKeyId) -> bool;
    /// Whether something may be sealed under it, too: it is there and not closed.
    fn may_seal_under(&self, id: DataKeyId) -> bool;
}

/// What an operation writes. All of it, its entries included, is durable before anything of it is released.
#[derive(Debug, Default)]
pub struct Changes {
    /// Entries, in order. Receipts come back in the same order.
    pub entries: Vec<Arc<Entry>>,
    /// New values. What an operation writes may be written anew: it keeps its rows and hands them out shared.
    pub new_values: Vec<Arc<ValueRow>>,
    /// Values that were read, sealed anew under another data key.
    pub resealed: Vec<Arc<ValueRow>>,
    /// New or changed states.
    pub states: Vec<StateRow>,
    /// Values to remove with their states.
    pub removed: Vec<ValueId>,
    /// Encs now seen, with the end of the session.
    pub encs: Vec<(CaptureSessionId, [u8; 32], Timestamp)>,
    /// Idempotency records, inserted or replaced.
    pub idempotency: Vec<IdempotencyRow>,
    /// Runs, inserted or replaced.
    pub runs: Vec<RunRow>,
    /// Rows that decide, inserted (version 1) or replaced (version n over n - 1).
    pub rows: Vec<DecidingRow>,
    /// Data keys that were wrapped anew; one that is gone by now stays gone.
    pub data_keys: Vec<DataKeyRow>,
    /// Data keys to remove: their erasure keys are gone.
    pub removed_data_keys: Vec<DataKeyId>,
    /// Data keys to close: from then on nothing of another batch is sealed under them.
    pub closed_data_keys: Vec<DataKeyId>,
    /// Data keys to remove that nothing was found to need since they were closed. Unless each is there and closed, nothing is
    /// written.
    pub retired_data_keys: Vec<DataKeyId>,
    /// Data keys to remove, and to mark, with the KEK version that wraps them. Unless each is there under it, nothing is written.
    pub lost_data_keys: Vec<LostDataKey>,
    /// Serial numbers of tokens at which no PINs count any more that the operation's tenant brought.
    pub forgotten_guesses: Vec<String>,
    /// Capture key pairs.
    pub capture_keys: Vec<CaptureKeyRow>,
    /// Whether the tenant's generation grows (any change of tenants, apps, flows, destinations, credentials, keks).
    pub bump_generation: bool,
}

/// What an operation decided.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for each request and consumed at once")]
pub enum Decision<T> {
    /// Write these changes; give out `T` when they are durable.
    Write(Changes, T),
    /// Nothing to write; give out `T` at once after the commit of the batch (so that it speaks of durable rows only).
    Answer(T),
    /// Some data keys are not at hand: leave the batch before numbering and come back holding them.
    NeedDataKeys(Vec<DataKeyId>),
}

/// One request's share of a batch. The decision is pure: no clock, no I/O, no provider of keys; it may run more than once.
pub trait Operation: Send + 'static {
    /// What the request gets when the batch is durable.
    type Output: Send + 'static;

    /// Whose rows it touches.
    fn tenant(&self) -> &TenantName;

    /// The generation it was decided under; `None` for the vault's own work.
    fn generation(&self) -> Option<Generation>;

    /// Who asked, where that is a credential: its row is read in the transaction, and nothing is done for one that is not in
    /// force by then ([`Error::CredentialEnded`]). So an act that takes long, or rests on no generation, ends with the
    /// credential that asked for it. `None` for the vault's own work, and where the generation says it all.
    fn asker(&self) -> Option<Asker> {
        None
    }

    /// Until when an answer is of use; a later one is not given out.
    fn deadline(&self) -> Timestamp;

    /// How long its caller waits at most, for all rounds and keys together. A request is answered within two seconds, or
    /// it is 503 (promise 3): the rest of them is for saying so. The vault's own work has more time.
    fn patience(&self) -> Duration {
        A_REQUEST
    }

    /// How many entries it is likely to write: what it takes of the queue.
    fn entries(&self) -> usize {
        1
    }

    /// Whether it is likely to move its tenant's generation on: then it does not share it first with other nodes. What does
    /// so unsaid is rolled back once and made anew.
    fn moves(&self) -> bool {
        false
    }

    /// What to read.
    fn reads(&self) -> Reads;

    /// Takes a data key that [`Decision::NeedDataKeys`] asked for; the next decision finds it held.
    fn hold(&mut self, data_key: Arc<crate::crypto::DataKey>);

    /// Decides on the rows.
    fn decide(&mut self, rows: &dyn Rows) -> Decision<Self::Output>;

    /// Called after [`Decision::Write`] when its entries have their places and before anything is written: an answer that
    /// holds receipts can so be stored by the very commit it speaks of.
    ///
    /// # Errors
    /// Whatever makes the operation fail, and nothing of it be written.
    fn numbered(
        &mut self,
        _output: &mut Self::Output,
        _receipts: &dyn Fn() -> Vec<Receipt>,
    ) -> Result<Option<IdempotencyRow>, Error> {
        Ok(None)
    }
}

/// The state a value has, as captured or as its row says.
#[must_use]
pub fn current_state(value: &ReadValue) -> ValueState {
    value.state.as_ref().map_or(
        ValueState {
            version: 0,
            code: crate::crypto::StateCode::Active,
            uses_left: value.row.metadata.uses,
            expires: value.row.metadata.expires,
            failures: 0,
        },
        |row| row.state,
    )
}
