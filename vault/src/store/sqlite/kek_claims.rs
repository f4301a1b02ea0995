//! What keys of customers' tokens are known by, and whose they are.

use sqlx::SqliteConnection;

use crate::domain::TenantName;
use crate::store::kek_claims::{Claims, owner};
use crate::store::rows::DecidingRow;

/// Claims what a new version's key is known by, or frees it with the key's end. Another version's claim breaks the primary key.
pub(super) async fn write(
    row: &DecidingRow,
    is_new: bool,
    connection: &mut SqliteConnection,
) -> Result<(), sqlx::Error> {
    match Claims::of(row, is_new) {
        None => {}
        Some(Claims::Taken(claims)) => {
            for claim in claims {
                sqlx::query("INSERT INTO kek_claims (tenant, claim, owner) VALUES (?, ?, ?)")
                    .bind(TenantName::SYSTEM)
                    .bind(claim)
                    .bind(owner(row))
                    .execute(&mut *connection)
                    .await?;
            }
        }
        Some(Claims::Over) => {
            sqlx::query("DELETE FROM kek_claims WHERE tenant = ? AND owner = ?")
                .bind(TenantName::SYSTEM)
                .bind(owner(row))
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}
