//! The listeners' routes over a real store, without sockets.

mod administration;
mod contract;
mod refusals;
mod vault;
