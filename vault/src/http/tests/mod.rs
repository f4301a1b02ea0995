//! The listeners' routes over a real store, without sockets.

mod administration;
mod contract;
mod custody;
mod keys;
mod recorded;
mod refusals;
mod vault;
