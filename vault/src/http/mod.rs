//! The two listeners: routes, authentication, limits, problem+json. The only room beside console/ that names axum.

mod answer;
mod authentication;
mod client_files;
mod creation;
mod detached;
mod dress;
mod edge;
mod frame;
mod given_id;
mod json;
mod listing;
mod metrics;
mod notes;
mod openapi;
mod problem;
mod rate;
mod refusal;
mod route;
mod router;
mod routes;
mod same_origin;
mod sealed;
mod serve;
mod settings;
mod state;
mod tally;
#[cfg(test)]
mod tests;
mod unseal_tries;
mod waiting;

pub use edge::{Listener, tls};
pub use rate::Rates;
pub use sealed::{SealedNode, Unsealed, serve_sealed};
pub use serve::{Listeners, serve};
pub use settings::Settings;
pub use state::{Rooms, State};
pub use unseal_tries::RefusedTries;

pub(crate) use authentication::{recall, recognise};
pub(crate) use dress::Arrival;
pub(crate) use json::RawBody;
pub(crate) use problem::{Code, Problem};
pub(crate) use routes::log::shown;
pub(crate) use routes::log_files::{PENDING, bundle};
pub(crate) use routes::put_item::PutValue;
