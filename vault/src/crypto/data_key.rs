//! A tenant's opened data key: input of HKDF, never used itself (docs/formats.md section 3).

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::ExposeSecret;

use super::LockedKey;
use super::derive::derive_into;
use crate::domain::{DataKeyId, KekId};

/// A key derived from a data key, in a place of its own as that one is.
pub(crate) struct DerivedKey(LockedKey);

impl std::ops::Deref for DerivedKey {
    type Target = [u8; 32];

    #[expect(clippy::disallowed_methods, reason = "key of a seal or a MAC inside crypto/")]
    fn deref(&self) -> &[u8; 32] {
        self.0.expose_secret()
    }
}

type Derived = Arc<DerivedKey>;

/// 32 random bytes of one tenant, class and epoch, wiped on drop.
pub struct DataKey {
    id: DataKeyId,
    /// The KEK it was unwrapped with: entries name it.
    kek_id: Option<KekId>,
    bytes: LockedKey,
    /// What was derived from it: one key seals thousands of rows a second, and goes with all of these.
    derived: RwLock<Vec<(&'static str, Derived)>>,
    /// What was sealed under it, counted by whoever opened it.
    seals: Arc<AtomicU64>,
}

impl DataKey {
    /// Fills a key in place.
    pub fn init_with(id: DataKeyId, fill: impl FnOnce(&mut [u8; 32])) -> Self {
        Self { id, kek_id: None, bytes: LockedKey::init_with(fill), derived: RwLock::default(), seals: Arc::default() }
    }

    /// A new key: 32 bytes of the operating system's CSPRNG.
    ///
    /// # Errors
    /// [`super::Error::Random`]: there is no fallback.
    pub fn generate(id: DataKeyId) -> Result<Self, super::Error> {
        let mut filled = Ok(());
        let key = Self::init_with(id, |bytes| filled = getrandom::fill(bytes));
        filled.map(|()| key).map_err(super::Error::Random)
    }

    /// The same key, with the KEK it was unwrapped with.
    #[must_use]
    pub fn under(self, kek_id: KekId) -> Self {
        Self { kek_id: Some(kek_id), ..self }
    }

    /// The same key, which goes on with this count of what was sealed under it.
    #[must_use]
    pub fn counted_by(self, seals: Arc<AtomicU64>) -> Self {
        Self { seals, ..self }
    }

    /// How much was sealed under it, as far as its count reaches back.
    #[must_use]
    pub fn seals(&self) -> u64 {
        self.seals.load(Ordering::Relaxed)
    }

    /// The KEK it was unwrapped with; none before it was ever wrapped.
    #[must_use]
    pub const fn kek_id(&self) -> Option<KekId> {
        self.kek_id
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> DataKeyId {
        self.id
    }

    /// The key of an `info` under this data key (docs/formats.md section 3): HKDF with the data key's id as salt.
    pub(crate) fn derived(&self, info: &'static str) -> Derived {
        let find = |known: &[(&'static str, Derived)]| {
            known.iter().find(|(of, _)| *of == info).map(|(_, key)| Arc::clone(key))
        };
        if let Some(key) = find(&self.derived.read().unwrap_or_else(PoisonError::into_inner)) {
            return key;
        }
        let fill = |bytes: &mut [u8; 32]| derive_into(bytes, self.bytes(), self.id.as_bytes(), info);
        let key = Arc::new(DerivedKey(LockedKey::init_with(fill)));
        let mut known = self.derived.write().unwrap_or_else(PoisonError::into_inner);
        find(&known).unwrap_or_else(|| {
            known.push((info, Arc::clone(&key)));
            key
        })
    }

    /// The same for so many seals, which count.
    pub(crate) fn sealing(&self, info: &'static str, seals: u64) -> Derived {
        self.seals.fetch_add(seals, Ordering::Relaxed);
        self.derived(info)
    }

    /// The bytes, for HKDF inside crypto/ and for wrapping inside keys/.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "input of HKDF, or of the KEK's wrap")]
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        self.bytes.expose_secret()
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id)
    }
}
