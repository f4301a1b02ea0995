//! A connection that reads, lent for one reading.

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};

/// A connection of the pool that goes back to it only when its reading came to its end. A reading that was dropped on the way
/// may have begun a snapshot that nobody ends: sqlx counts a transaction only once its BEGIN is answered. In the pool such a
/// connection would go on to show the database as it was then, with credentials that are revoked since.
pub(super) struct Reader {
    /// Nothing once it was given back.
    held: Option<PoolConnection<Postgres>>,
}

impl Reader {
    pub(super) const fn of(held: PoolConnection<Postgres>) -> Self {
        Self { held: Some(held) }
    }

    pub(super) fn connection(&mut self) -> Option<&mut PgConnection> {
        self.held.as_deref_mut()
    }

    /// The server answered all that it was asked: another may have the connection.
    pub(super) fn give_back(mut self) {
        drop(self.held.take());
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            drop(held.detach());
        }
    }
}

#[cfg(test)]
impl super::PostgresStore {
    /// Every connection that reads lists, as if lists had them.
    pub(in crate::store) async fn take_readers(&self) -> Vec<impl Sized + use<>> {
        let mut taken = Vec::new();
        for _ in 0..super::READERS {
            taken.push(self.reader().await.unwrap());
        }
        taken
    }
}
