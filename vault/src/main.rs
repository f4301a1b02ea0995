//! The binary `siv`: hardens its own process, then hands over to the command line.

use std::process::ExitCode;

use vault::cli;
use vault::wiping_allocator::WipingAllocator;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    WipingAllocator::keep_few_arenas();
    cli::harden_process();
    cli::run()
}
