//! Holds the source tree to docs/architecture.md: who may use whom, who may call what, how long a file may be.

mod callers;
mod client_files;
mod migrations;
mod rooms;
mod source;
mod threat_model;
mod top_level;
