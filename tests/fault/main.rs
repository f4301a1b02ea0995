//! Faults injected into the real thing: the process is killed under load, inside a destination's handler and at every step
//! between its two durable places; disk, memory and random numbers fail; the database is written to behind its back.

mod black_hole;
mod database;
mod destination;
mod disk;
mod ending;
mod init;
mod kill;
mod out_of_memory;
mod put_back_whole;
mod random;
mod recover;
mod server_disk;
mod server_killed;
mod sessions;
mod transplant;
mod two_places;
