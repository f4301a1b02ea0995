//! What the process does to itself before it touches a secret.

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// No core dumps, no attaching by a process of the same user, new files for the owner only, and panics that tell their
/// place and never their payload (which may hold what was being worked on).
///
/// None of it stops root on the same machine (threat-model.md, residual risks). What the kernel refuses is left as it is:
/// a container may forbid a call, and the vault must still start.
pub fn harden_process() {
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
        tracing::error!(place, "panic");
    }));
}
