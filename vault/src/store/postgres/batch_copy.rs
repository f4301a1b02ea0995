//! Many rows of one batch, by `COPY … BINARY` (PostgreSQL's documentation, "COPY", binary format): it writes less of a
//! write-ahead log than a statement with arrays, and takes two round trips for each table, which few rows are not worth.

use sqlx::PgConnection;

use super::batch_write::{entry_columns, value_columns, words};
use super::column::{int, millis};
use crate::access_log::Batch;
use crate::store::batch::EntryRow;
use crate::store::rows::ValueRow;

/// From so many rows on.
pub(super) const MANY: usize = 128;

const VALUES: &str = concat!("COPY secure_values (", value_columns!(), ") FROM STDIN BINARY");
const ENTRIES: &str = concat!("COPY access_log (", entry_columns!(), ") FROM STDIN BINARY");

/// What every stream begins with: signature, no flags, no extension.
const HEAD: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// So much goes out at once.
const PIECE: usize = 64 * 1024;

/// Copies new values.
pub(super) async fn values(rows: &[&ValueRow], connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    copy(VALUES, rows, connection, |row, out| {
        let metadata = &row.metadata;
        let expires = metadata.expires.map(millis);
        let flows = words(metadata.binding.flows.iter().map(|name| name.as_str()));
        let purposes = words(metadata.binding.purposes.iter().map(|name| name.as_str()));
        out.fields(18)
            .text(metadata.tenant.as_str())
            .bytes(metadata.value_id.as_bytes())
            .text(metadata.app.as_str())
            .text(metadata.field.as_str())
            .text(metadata.kind.as_str())
            .text(metadata.retention.as_str())
            .number(millis(metadata.created))
            .maybe_number(expires)
            .maybe_number(metadata.uses.map(i64::from))
            .maybe(metadata.session.as_ref().map(|id| &id.as_bytes()[..]))
            .maybe(metadata.subject.as_ref().map(|hash| &hash[..]))
            .text(&flows)
            .text(&purposes)
            .bytes(&row.verifier)
            .bytes(row.pepper_id.as_bytes())
            .bytes(row.data_key_id.as_bytes())
            .bytes(&row.sealed)
            .maybe_number(expires);
    })
    .await
}

/// Copies a batch's entries.
pub(super) async fn entries(
    rows: &[EntryRow],
    batch: &Batch,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    copy(ENTRIES, rows, connection, |row, out| {
        let (object, version) = row
            .object
            .as_ref()
            .map_or((None, None), |(object, version)| (Some(object.as_bytes()), Some(int(*version))));
        out.fields(20)
            .text(row.entry.tenant.as_str())
            .bytes(batch.boot.as_bytes())
            .number(i64::from(batch.lane))
            .number(int(row.position.number))
            .number(millis(row.entry.time))
            .text(&row.action)
            .text(row.entry.outcome.as_str())
            .maybe(row.value_id())
            .text(&row.entry.actor.id)
            .maybe(row.flow().map(str::as_bytes))
            .maybe(row.app().map(str::as_bytes))
            .maybe(object)
            .maybe_number(version)
            .maybe_number(row.entry.state_version.map(int))
            .bytes(&row.leaf)
            .maybe(row.openings.as_ref().map(|(id, _)| &id.as_bytes()[..]));
        for at in 0..4 {
            out.maybe(row.openings.as_ref().map(|(_, sealed)| &sealed[at][..]));
        }
    })
    .await
}

async fn copy<R>(
    statement: &'static str,
    rows: &[R],
    connection: &mut PgConnection,
    write: impl Fn(&R, &mut Stream),
) -> Result<(), sqlx::Error> {
    let mut copying = connection.copy_in_raw(statement).await?;
    let mut stream = Stream(Vec::with_capacity(PIECE + PIECE / 8));
    stream.0.extend_from_slice(&HEAD);
    for row in rows {
        write(row, &mut stream);
        if stream.0.len() >= PIECE {
            copying.send(&stream.0[..]).await?;
            stream.0.clear();
        }
    }
    stream.0.extend_from_slice(&(-1_i16).to_be_bytes());
    copying.send(&stream.0[..]).await?;
    let copied = copying.finish().await?;
    if copied == rows.len() as u64 {
        Ok(())
    } else {
        Err(sqlx::Error::Protocol("a copy took another number of rows than it was given".to_owned()))
    }
}

/// Rows in the binary format: a row is its number of fields, a field its length and its bytes, nothing is length -1.
struct Stream(Vec<u8>);

impl Stream {
    fn fields(&mut self, fields: i16) -> &mut Self {
        self.0.extend_from_slice(&fields.to_be_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        // Leaves end at 65,535 bytes and sealed values at some more: far below what a length can say.
        self.0.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn number(&mut self, number: i64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn maybe(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => {
                self.0.extend_from_slice(&(-1_i32).to_be_bytes());
                self
            }
        }
    }

    fn maybe_number(&mut self, number: Option<i64>) -> &mut Self {
        self.maybe(number.map(i64::to_be_bytes).as_ref().map(|bytes| &bytes[..]))
    }
}
