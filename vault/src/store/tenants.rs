//! A tenant's beginning: its first KEK, then its row with the entries in both logs. In that order, so that a stop between
//! the two leaves something that a repeat finishes.

use std::time::Duration;

use crate::access_log::Action;
use crate::domain::{Tenant, Timestamp};
use crate::keys::{HsmWish, Keys, MadeKek};
use crate::store::administration::{Act, Administrator, Applied};
use crate::store::key_commit::KeyCommit;
use crate::store::refused_pins::Attempt;
use crate::store::rows::Table;
use crate::store::{Committer, Error, Store};

/// How long a commit may take once the token has its key.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// Makes a tenant whose KEK lives in a customer's token. Key, configuration and tenant are one commit: where it fails there
/// is none of them, and a key that was made in the token is taken away again.
///
/// # Errors
/// As [`create`]; [`Error::Keys`] says what is wrong with module, token, PIN or key.
pub async fn create_in_hsm(
    tenant: Tenant,
    wish: HsmWish,
    by: &Administrator,
    ground: Ground<'_>,
) -> Result<Tenant, Error> {
    let name = &tenant.name;
    if ground.store.row(Table::Tenants, name, name.as_str()).await?.is_some() {
        return Err(Error::Conflict);
    }
    // Before the token is asked for anything: a first key has its claim already.
    if !ground.store.rows(Table::Keks, name).await?.is_empty() {
        return Err(Error::BegunLocally);
    }
    let attempt = Attempt::of(&wish, name);
    let made =
        attempt.ended(ground.keys.onboard(ground.store, name, wish, tenant.created_at).await, by, ground).await?;
    let deadline = ground.store.clock().now().plus(PATIENCE);
    let of_tenant = Administrator { tenant: name.clone(), generation: None, deadline, ..by.clone() };
    let commit = KeyCommit::new(of_tenant, made.record.kek_id)
        .made(&made, "kek.created")
        .and_then(|commit| commit.write((name.as_str(), 1), &tenant, Action::Admin("tenant.created"), Vec::new()));
    match commit {
        Ok(commit) => commit.submit(made, ground).await.map(|()| tenant),
        Err(error) => {
            ground.keys.give_up(made).await;
            Err(error)
        }
    }
}

/// The first KEK of a tenant, unless an earlier attempt left one.
async fn first_kek(by: &Administrator, now: Timestamp, ground: Ground<'_>) -> Result<(), Error> {
    if !ground.store.rows(Table::Keks, &by.tenant).await?.is_empty() {
        return Ok(());
    }
    let kek = ground.keys.create_kek(&by.tenant, now).await?;
    let made = ground.committer.submit(Act::create_first_kek(by.clone(), &kek)?).await;
    match made.map(|made| made.output) {
        Ok(Applied::Conflict) | Err(Error::Conflict) => {
            // Another creation of the same tenant gave it its first key.
            if ground.store.row(Table::Keks, &by.tenant, &kek.row_key()).await?.is_none() {
                ground.keys.give_up(MadeKek::local(&by.tenant, kek)).await;
            }
            Err(Error::Conflict)
        }
        made => made.map(|_| ()),
    }
}
