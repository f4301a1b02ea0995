//! Keys that lie apart from all other memory: in pages of `memfd_secret(2)`, which the kernel itself does not map and no other
//! process can read, root's debugger included; where the kernel has none, in pages that are locked in RAM and left out of core
//! dumps and of forks. Each is wiped when it is dropped.
//!
//! The pages are taken in chunks and kept; a key takes 32 bytes of them. Where no more can be had (`RLIMIT_MEMLOCK`), a key lies
//! in ordinary memory, wiped all the same: a limit of the machine's never fails a request. It is said once, and counted.

#![expect(
    unsafe_code,
    reason = "mmap and its like are C calls, and their pages have no type; every block says why it is sound"
)]

use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use secrecy::ExposeSecret;
use zeroize::Zeroize as _;

/// Bytes of a chunk: what old systems let a process lock at all.
const CHUNK: usize = 64 * 1024;
/// Keys of a chunk.
const KEYS: usize = CHUNK / 32;
/// Chunks at most: 32,768 keys. More opened keys than that lie in ordinary memory.
const CHUNKS: usize = 16;

/// Where keys lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Pages of `memfd_secret`.
    Secret,
    /// Pages that are locked in RAM, and left out of dumps and forks.
    Locked,
    /// Ordinary memory.
    Ordinary,
}

impl Place {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Secret, Self::Locked, Self::Ordinary];

    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "memfd_secret",
            Self::Locked => "locked",
            Self::Ordinary => "ordinary",
        }
    }
}

/// A key of 32 bytes in memory of its own kind.
pub struct LockedKey {
    slot: Slot,
}

enum Slot {
    /// 32 bytes of a chunk that no other key has.
    Page(NonNull<[u8; 32]>, Place),
    Heap(Box<[u8; 32]>),
}

// SAFETY: a slot of a page belongs to one key alone until that is dropped; shared references only read it.
unsafe impl Send for LockedKey {}
// SAFETY: the same.
unsafe impl Sync for LockedKey {}

impl LockedKey {
    /// Fills a key where it lies.
    ///
    /// # Errors
    /// Whatever `fill` says; what was written until then is wiped.
    pub fn try_init_with<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = Self { slot: pool().take() };
        fill(key.bytes_mut()).map(|()| key)
    }

    /// The same where nothing can go wrong.
    pub fn init_with(fill: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut key = Self { slot: pool().take() };
        fill(key.bytes_mut());
        key
    }

    /// Where it lies.
    #[must_use]
    pub const fn place(&self) -> Place {
        match &self.slot {
            Slot::Page(_, place) => *place,
            Slot::Heap(_) => Place::Ordinary,
        }
    }

    /// How many keys lie in each place now.
    #[must_use]
    pub fn counted() -> [(Place, u64); 3] {
        let pool = pool();
        Place::ALL.map(|place| (place, pool.used[place as usize]))
    }

    fn bytes_mut(&mut self) -> &mut [u8; 32] {
        match &mut self.slot {
            // SAFETY: the slot is 32 readable and writable bytes of a mapping that is never given back, and this key's alone.
            Slot::Page(at, _) => unsafe { at.as_mut() },
            Slot::Heap(bytes) => bytes,
        }
    }
}

impl ExposeSecret<[u8; 32]> for LockedKey {
    fn expose_secret(&self) -> &[u8; 32] {
        match &self.slot {
            // SAFETY: as in `bytes_mut`; nobody writes while there are shared references to this key.
            Slot::Page(at, _) => unsafe { at.as_ref() },
            Slot::Heap(bytes) => bytes,
        }
    }
}

impl fmt::Debug for LockedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedKey(…)")
    }
}

impl Drop for LockedKey {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        let place = self.place();
        let mut pool = pool();
        if let Slot::Page(at, _) = self.slot {
            pool.free.push((at, place));
        }
        pool.used[place as usize] -= 1;
    }
}

/// The pages of this process.
struct Pool {
    chunks: usize,
    /// Whether more pages can be had.
    exhausted: bool,
    free: Vec<(NonNull<[u8; 32]>, Place)>,
    used: [u64; 3],
}

// SAFETY: the free slots are nobody's; whoever takes one takes it from the list under the lock.
unsafe impl Send for Pool {}

static POOL: Mutex<Pool> = Mutex::new(Pool { chunks: 0, exhausted: false, free: Vec::new(), used: [0; 3] });

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A slot of zeros.
    fn take(&mut self) -> Slot {
        if self.free.is_empty() && !self.exhausted && self.chunks < CHUNKS {
            match map(Place::Secret).or_else(|| map(Place::Locked)) {
                Some((base, place)) => self.add(base, place),
                None => {
                    self.exhausted = true;
                    tracing::warn!("keys lie in memory that is not locked: RLIMIT_MEMLOCK is too small for them");
                }
            }
        }
        let slot = match self.free.pop() {
            Some((at, place)) => Slot::Page(at, place),
            None => Slot::Heap(Box::default()),
        };
        let place = if let Slot::Page(_, place) = &slot { *place } else { Place::Ordinary };
        self.used[place as usize] += 1;
        slot
    }

    fn add(&mut self, base: NonNull<[u8; 32]>, place: Place) {
        if self.chunks == 0 {
            tracing::info!(place = place.as_str(), "where keys lie");
        }
        self.chunks += 1;
        // SAFETY: each offset lies inside the chunk of `KEYS` slots that was just mapped.
        self.free.extend((0..KEYS).map(|at| (unsafe { base.add(at) }, place)));
    }
}

/// Maps a chunk of zeros of that kind, for good; nothing if the kernel does not give one.
fn map(place: Place) -> Option<(NonNull<[u8; 32]>, Place)> {
    // SAFETY: plain system calls on a descriptor and a mapping of our own. A mapping of a sealed size is page-aligned, zero,
    // and stays until the process ends: nothing unmaps it but the failure paths here, before anybody has a pointer into it.
    unsafe {
        let (descriptor, kind) = match place {
            Place::Secret => {
                let descriptor = i32::try_from(libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC)).ok()?;
                if descriptor < 0 {
                    return None;
                }
                if libc::ftruncate(descriptor, libc::off_t::try_from(CHUNK).ok()?) != 0 {
                    libc::close(descriptor);
                    return None;
                }
                (descriptor, libc::MAP_SHARED)
            }
            Place::Locked => (-1, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS),
            Place::Ordinary => return None,
        };
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let base = libc::mmap(ptr::null_mut(), CHUNK, rights, kind, descriptor, 0);
        if descriptor >= 0 {
            libc::close(descriptor);
        }
        if base == libc::MAP_FAILED {
            return None;
        }
        // Pages of memfd_secret are locked by their kind, and left out of dumps.
        let kept = place == Place::Secret
            || (libc::mlock(base, CHUNK) == 0 && libc::madvise(base, CHUNK, libc::MADV_DONTDUMP) == 0);
        if !kept || libc::madvise(base, CHUNK, libc::MADV_DONTFORK) != 0 {
            libc::munmap(base, CHUNK);
            return None;
        }
        // Each page is had now: one that cannot be had later would end the process in the middle of a request.
        ptr::write_bytes(base.cast::<u8>(), 0, CHUNK);
        Some((NonNull::new(base.cast())?, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags that the kernel shows of the mapping at an address (proc(5), `VmFlags`).
    fn flags(at: NonNull<[u8; 32]>) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (address, mut inside) = (at.as_ptr() as usize, false);
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let ends = range.and_then(|(start, end)| {
                Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
            });
            if let Some((start, end)) = ends {
                inside = (start..end).contains(&address);
            } else if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
                return format!("{flags} ");
            }
        }
        String::new()
    }

    #[test]
    fn pages_of_both_kinds_are_locked_and_left_out_of_dumps_and_forks() {
        let mut kinds = Vec::new();
        for place in [Place::Secret, Place::Locked] {
            // A kernel may have no memfd_secret, and a container may forbid it: then the other kind is all there is.
            let Some((base, _)) = map(place) else { continue };
            let flags = flags(base);
            for (flag, what) in [(" dd ", "left out of dumps"), (" lo ", "locked"), (" dc ", "left out of forks")] {
                assert!(flags.contains(flag), "{place:?} is not {what}: {flags}");
            }
            kinds.push(place);
        }
        assert!(kinds.contains(&Place::Locked), "{kinds:?}");
    }

    #[test]
    fn a_fork_s_child_and_a_debugger_find_no_key() {
        let key = LockedKey::init_with(|bytes| bytes.fill(0x5a));
        let Slot::Page(at, Place::Secret) = key.slot else { return };
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut memory = std::fs::File::open("/proc/self/mem").unwrap();
        memory.seek(SeekFrom::Start(at.as_ptr() as u64)).unwrap();
        assert!(memory.read_exact(&mut [0; 32]).is_err(), "the kernel reads it for us");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "bytes of the test's own")]
    fn a_dropped_key_leaves_zeros_and_its_place() {
        let key = LockedKey::init_with(|bytes| bytes.fill(7));
        assert_eq!((key.expose_secret(), format!("{key:?}").as_str()), (&[7; 32], "LockedKey(…)"));
        let Slot::Page(at, _) = key.slot else { panic!("no page could be had") };
        let mut pool_of_one = Pool { chunks: CHUNKS, exhausted: false, free: Vec::new(), used: [0; 3] };
        drop(key);
        // Another test may have taken the place meanwhile, and filled it with bytes of its own.
        // SAFETY: the mapping stays for good; a read of bytes that another thread writes is what this test accepts.
        let left = unsafe { at.read_volatile() };
        assert_ne!(left, [7; 32]);
        // Without pages a key is had all the same.
        assert!(matches!(pool_of_one.take(), Slot::Heap(_)));
        assert_eq!(pool_of_one.used[Place::Ordinary as usize], 1);
        let failed = LockedKey::try_init_with(|bytes| {
            bytes.fill(9);
            Err::<(), _>("no")
        });
        assert_eq!(failed.err(), Some("no"));
    }
}
