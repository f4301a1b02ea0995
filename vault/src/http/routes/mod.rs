//! Handlers, one file per noun: extract, call one verb, answer. No policy and no SQL.

use super::problem::Problem;
use crate::store::Caller;

pub(super) mod approvals;
pub(super) mod apps;
pub(super) mod captures;
pub(super) mod certificates;
pub(super) mod credentials;
pub(super) mod destinations;
pub(super) mod flows;
pub(super) mod frames;
pub(super) mod health;
mod hsm_members;
pub(super) mod kek_states;
pub(super) mod keks;
pub(crate) mod log;
pub(crate) mod log_files;
pub(super) mod lost_versions;
pub(super) mod pin_guesses;
pub(crate) mod put_item;
pub(super) mod rewraps;
pub(super) mod runs;
pub(super) mod shapes;
pub(super) mod tenants;
pub(super) mod values;

/// Apps, flows and destinations belong to a customer's tenant: the installation's operator has to name one.
fn of_a_tenant(caller: &Caller) -> Result<(), Problem> {
    if caller.tenant_name().is_system() { Err(Problem::invalid("tenant", "missing")) } else { Ok(()) }
}
