//! The harness: the real binary on a folder of its own, and the actors who speak to it.
//!
//! Everything listens on loopback, on ports the system chose; processes are ended by process id.

pub mod actor;
pub mod bodies;
pub mod bound;
pub mod crash;
pub mod custody;
pub mod installation;
pub mod load;
pub mod patroni;
pub mod postgres;
pub mod process;
pub mod served;
pub mod siv;
pub mod token;
pub mod wire;

pub use actor::{Actor, Answer};
pub use bound::bound;
pub use custody::Custody;
pub use installation::{Installation, Serving};
pub use load::{Load, Told};
pub use postgres::Postgres;
pub use served::Served;
pub use siv::Siv;
pub use token::Token;
