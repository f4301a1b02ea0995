//! The harness: the real binary on a folder of its own, and the actors who speak to it.
//!
//! Everything listens on loopback, on ports the system chose; processes are ended by process id.

pub mod actor;
pub mod bodies;
pub mod crash;
pub mod installation;
pub mod postgres;
pub mod siv;

pub use actor::{Actor, Answer};
pub use installation::{Installation, Serving};
pub use postgres::Postgres;
pub use siv::Siv;
