//! Handlers, one file per noun: extract, call one verb, answer. No policy and no SQL.

pub(super) mod apps;
pub(super) mod captures;
pub(super) mod credentials;
pub(super) mod destinations;
pub(super) mod flows;
pub(super) mod frames;
pub(super) mod health;
pub(super) mod keks;
pub(super) mod log;
pub(crate) mod log_files;
pub(super) mod runs;
pub(super) mod shapes;
pub(super) mod tenants;
pub(super) mod values;
