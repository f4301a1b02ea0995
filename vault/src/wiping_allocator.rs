//! The global allocator of the binary: the system's, with every block wiped before it is given back.
//!
//! HTTP and JSON libraries free copies of a request without wiping them; this reaches those too (threat-model.md, promise 10).
//! It does not reach memory that is still in use, registers or swap.

#![expect(unsafe_code, reason = "a global allocator is an unsafe trait, and the system's is set up by a foreign call")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

/// The system's allocator, wiping on free.
///
/// `realloc` is the trait's own: a new block, a copy, and a wiping free of the old one. The system's `realloc` might move a
/// block and leave the old one as it was, or shrink one and leave its tail.
#[derive(Debug, Clone, Copy, Default)]
pub struct WipingAllocator;

/// So many arenas, and one for each core, where glibc would make eight for each; each keeps what was freed in it. With four, siv at
/// 256 clients on two cores had 6 to 10 MB less in use and was as fast (docs/performance.md).
#[cfg(target_env = "gnu")]
const ARENAS: usize = 4;

impl WipingAllocator {
    /// Bounds the system allocator's arenas; before there is a second thread. Another allocator than glibc's is left as it is.
    pub fn keep_few_arenas() {
        #[cfg(target_env = "gnu")]
        {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let arenas = i32::try_from(cores.max(ARENAS)).unwrap_or(i32::MAX);
            // SAFETY: a setting of the allocator with a constant it knows; no other thread uses the allocator meanwhile.
            unsafe {
                libc::mallopt(libc::M_ARENA_MAX, arenas);
            }
        }
    }

    /// Gives pages that are free back to the system, arena by arena, each locked meanwhile: by itself the allocator gives back only
    /// what lies at the end of one, so that each keeps the most that it ever held. Another allocator than glibc's does as it does.
    pub fn give_back() {
        #[cfg(target_env = "gnu")]
        // SAFETY: it locks each arena and touches nothing that is in use.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

// SAFETY: every call is handed to `System` with the arguments it came with; the only addition is a write of zeros into
// a block that the caller has given up and that is still ours until `System::dealloc` runs.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on unchanged.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `alloc` with this layout, so `layout.size()` bytes of it are writable. The barrier
        // keeps the compiler from dropping a write to memory that is about to be freed.
        unsafe {
            ptr::write_bytes(block, 0, layout.size());
            zeroize::optimization_barrier(&*block);
            System.dealloc(block, layout);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kilobytes that this process has in memory.
    #[cfg(target_env = "gnu")]
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn what_a_peak_took_goes_back_to_the_system_though_something_lies_behind_it() {
        let given_back = || {
            // 128 MiB, in pieces smaller than what the allocator maps on its own.
            let mut peak: Vec<Vec<u8>> = (0..2048).map(|_| vec![1; 64 * 1024]).collect();
            let behind = peak.pop();
            drop(peak);
            let before = resident();
            WipingAllocator::give_back();
            let after = resident();
            drop(behind);
            before.saturating_sub(after)
        };
        // Other tests of this process take memory meanwhile.
        let given: Vec<usize> = (0..5).map(|_| given_back()).collect();
        assert!(given.iter().any(|kilobytes| *kilobytes > 64 * 1024), "{given:?} kB");
    }

    #[test]
    fn growing_keeps_the_content() {
        let layout = Layout::from_size_align(32, 8).unwrap();
        // SAFETY: the layout is not empty, the block is freed with the layout it has at the end.
        unsafe {
            let block = WipingAllocator.alloc(layout);
            ptr::write_bytes(block, 7, 32);
            let block = WipingAllocator.realloc(block, layout, 4096);
            assert!((0..32).all(|at| *block.add(at) == 7));
            WipingAllocator.dealloc(block, Layout::from_size_align(4096, 8).unwrap());
        }
    }
}
