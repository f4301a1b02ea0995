//! The promises, over the real binary and real sockets.

mod bad_input;
mod capture;
mod command_line;
mod console;
mod custody;
mod custody_ends;
mod custody_outages;
mod docs;
mod first_run;
mod flows;
mod frozen;
mod hsm;
mod idempotency;
mod import;
mod key_store;
mod log;
mod metrics;
mod nodes;
mod operators;
mod postgres;
mod refusals;
mod replica;
mod secrets;
mod shredding;
mod strangers;
