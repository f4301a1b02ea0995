//! Faults injected into the real thing: the process is killed under load, inside a destination's handler and at every step
//! between its two durable places; disk, memory and random numbers fail; the database is written to behind its back.

mod bit_rot;
mod black_hole;
mod clock;
mod database;
mod destination;
mod disk;
mod ending;
mod failover;
mod init;
mod kill;
mod lost_version;
mod many_values;
mod out_of_memory;
mod overload;
mod put_back_whole;
mod random;
mod recover;
mod root_rotation;
mod seed;
mod server_bit_rot;
mod server_disk;
mod server_killed;
mod server_syncs;
mod sessions;
mod shredding;
mod soak;
mod transplant;
mod two_places;
