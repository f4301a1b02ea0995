//! Faults injected into the real thing: the process is killed under load, inside a destination's handler and at every step
//! between its two durable places; the disk fails; the database is written to behind its back.

mod database;
mod destination;
mod disk;
mod init;
mod kill;
mod put_back_whole;
mod recover;
mod sessions;
mod transplant;
mod two_places;
