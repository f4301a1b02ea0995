//! The edge: sockets, TLS, connections and their limits. It knows no route.

mod activity;
mod ambiguity;
mod connection;
mod counted;
mod head;
mod leftover;
pub(super) mod listener;
#[cfg(test)]
mod tests;
pub mod tls;
mod wiped;

pub(super) use connection::{CarriesPlaintext, FoundNoRoom, Peer};
pub use listener::Listener;
