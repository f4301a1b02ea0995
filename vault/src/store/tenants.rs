//! A tenant's beginning: its first KEK, then its row with the entries in both logs. In that order, so that a stop between
//! the two leaves something that a repeat finishes.

use crate::domain::{Tenant, Timestamp};
use crate::keys::Keys;
use crate::store::administration::{Act, Administrator, Applied};
use crate::store::rows::Table;
use crate::store::{Committer, Error, Store};

/// The rooms a tenant is made with.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The rows.
    pub store: &'a Store,
    /// The writer.
    pub committer: &'a Committer,
    /// The keys.
    pub keys: &'a Keys,
}

/// Makes a tenant. `by` acts for the installation.
///
/// # Errors
/// [`Error::Conflict`] if there is a tenant of this name; [`Error::Keys`]; those of the committer.
pub async fn create(tenant: Tenant, by: &Administrator, ground: Ground<'_>) -> Result<Tenant, Error> {
    let name = &tenant.name;
    if ground.store.row(Table::Tenants, name, name.as_str()).await?.is_some() {
        return Err(Error::Conflict);
    }
    let of_tenant = Administrator { tenant: name.clone(), generation: None, ..by.clone() };
    first_kek(&of_tenant, tenant.created_at, ground).await?;
    let act = Act::create_tenant(of_tenant, &tenant)?;
    if ground.committer.submit(act).await?.output == Applied::Conflict {
        return Err(Error::Conflict);
    }
    Ok(tenant)
}

/// The first KEK of a tenant, unless an earlier attempt left one.
async fn first_kek(by: &Administrator, now: Timestamp, ground: Ground<'_>) -> Result<(), Error> {
    if !ground.store.rows(Table::Keks, &by.tenant).await?.is_empty() {
        return Ok(());
    }
    let kek = ground.keys.create_kek(&by.tenant, now).await?;
    ground.committer.submit(Act::create_first_kek(by.clone(), &kek)?).await?;
    Ok(())
}
