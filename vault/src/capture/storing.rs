//! One commit of captured values: session, replays, idempotency, rows and entries; all or nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::access_log::Entry;
use crate::crypto::DataKey;
use crate::domain::{CaptureSessionId, TenantName, Timestamp};
use crate::keys::HeldKeys;
use crate::store::idempotency::{Answer, IdempotencyRequest, Judgement, Repeated};
use crate::store::records::Body;
use crate::store::rows::{DecidingRow, IdempotencyRow, ValueRow};
use crate::store::{Changes, Decision, Generation, Operation, Reads, Rows};

use super::session::SessionRecord;

/// How far a value's `created` may be from the batch's clock (docs/formats.md section 3): epochs are made from it.
const MOST_DRIFT: Duration = Duration::from_secs(60);

/// Values through a session.
pub(super) struct Through {
    pub(super) session: CaptureSessionId,
    /// SHA-256 of each sealed body's enc.
    pub(super) encs: Vec<[u8; 32]>,
    /// How many values.
    pub(super) count: u32,
}

/// The operation.
pub(super) struct Storing {
    pub(super) tenant: TenantName,
    pub(super) generation: Generation,
    pub(super) deadline: Timestamp,
    pub(super) created: Timestamp,
    pub(super) held: HeldKeys,
    pub(super) through: Option<Through>,
    /// The request's record, and the one that stores the answer.
    pub(super) idempotency: Option<(Arc<IdempotencyRequest>, IdempotencyRow)>,
    pub(super) values: Vec<Arc<ValueRow>>,
    pub(super) entries: Vec<Arc<Entry>>,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Stored {
    /// The values are durable.
    Done,
    /// The same request was answered before.
    Before(Answer),
    /// The same request came before and has no answer to give.
    Repeated(Repeated),
    /// The session is past its end, or gone.
    SessionOver,
    /// The session has captured all it may, or a sealed body was seen before.
    Conflict,
    /// `created` is too far from the batch's clock.
    Drifted,
}

impl Operation for Storing {
    type Output = Stored;

    fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    fn generation(&self) -> Option<Generation> {
        Some(self.generation)
    }

    fn deadline(&self) -> Timestamp {
        self.deadline
    }

    fn entries(&self) -> usize {
        self.entries.len()
    }

    fn reads(&self) -> Reads {
        let mut reads = Reads::default();
        reads.idempotency.extend(self.idempotency.iter().flat_map(|(request, _)| request.lookups()));
        if let Some(through) = &self.through {
            reads.sessions.push(through.session);
            reads.encs.extend(through.encs.iter().map(|enc| (through.session, *enc)));
        }
        reads
    }

    fn hold(&mut self, data_key: Arc<DataKey>) {
        self.held.hold(data_key);
    }

    fn decide(&mut self, rows: &dyn Rows) -> Decision<Stored> {
        if let Some((request, _)) = &self.idempotency {
            match request.judge(rows, &self.held) {
                Err(id) => return Decision::NeedDataKeys(vec![id]),
                Ok(Judgement::Fresh) => {}
                Ok(Judgement::Replay(answer)) => return Decision::Answer(Stored::Before(answer)),
                Ok(Judgement::Refused(repeated)) => return Decision::Answer(Stored::Repeated(repeated)),
            }
        }
        let now = rows.now();
        if now.since(self.created).max(self.created.since(now)) > MOST_DRIFT {
            return Decision::Answer(Stored::Drifted);
        }
        for entry in &mut self.entries {
            Arc::make_mut(entry).time = now;
        }
        let mut changes = Changes {
            entries: self.entries.clone(),
            new_values: self.values.clone(),
            idempotency: self.idempotency.iter().map(|(_, row)| row.clone()).collect(),
            ..Changes::default()
        };
        if let Some(through) = &self.through {
            match through.advance(rows) {
                Ok((row, end)) => {
                    changes.encs = through.encs.iter().map(|enc| (through.session, *enc, end)).collect();
                    // So that an older row of the session, with captures to spare, is refused when it is put back.
                    let realm = self.values.first().map(|value| &value.metadata.realm);
                    for (entry, realm) in changes.entries.iter_mut().zip(realm) {
                        Arc::make_mut(entry).object = Some(row.object(realm));
                    }
                    changes.rows.push(row);
                }
                Err(refused) => return Decision::Answer(refused),
            }
        }
        Decision::Write(changes, Stored::Done)
    }
}

impl Through {
    /// The session's next version, and its end.
    fn advance(&self, rows: &dyn Rows) -> Result<(DecidingRow, Timestamp), Stored> {
        let row = rows.session(self.session).ok_or(Stored::SessionOver)?;
        let mut record = SessionRecord::from_row(row).map_err(|_| Stored::SessionOver)?;
        if record.expires_at <= rows.now() {
            return Err(Stored::SessionOver);
        }
        let twice = (1..self.encs.len()).any(|at| self.encs[..at].contains(&self.encs[at]));
        if twice || self.encs.iter().any(|enc| rows.enc_seen(self.session, enc)) {
            return Err(Stored::Conflict);
        }
        record.used = record.used.saturating_add(self.count);
        if record.used > record.max_values {
            return Err(Stored::Conflict);
        }
        let next = record.to_row(&row.tenant, &row.key, row.version + 1).map_err(|_| Stored::SessionOver)?;
        Ok((next, record.expires_at))
    }
}
