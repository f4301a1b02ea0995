//! siv, the secure input vault: rooms from the innermost outward (docs/architecture.md).

pub mod access_log;
pub mod capture;
pub mod cli;
pub mod config;
pub mod console;
pub mod crypto;
pub mod domain;
pub mod flows;
pub mod http;
pub mod keys;
pub mod sequencer;
pub mod store;
pub mod telemetry;
pub mod wiping_allocator;
