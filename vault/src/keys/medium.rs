//! Where a key store's bytes lie: what a folder of one node and a database of several do alike. It sees no key: everything
//! it is given is sealed, or lies in clear by design (docs/formats.md section 4).

use std::path::Path;
use std::pin::Pin;

use super::Error;
use super::key_store::{RootVersion, SecretKind, SecretName};

/// What a medium answers when it has.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The place of a key store. Whatever it acknowledges is durable, and it answers in bounded time: a place that hangs is
/// [`Error::Unavailable`].
pub trait Medium: Send + Sync {
    /// The folder, where it is one: the root key must not lie in it.
    fn folder(&self) -> Option<&Path>;

    /// Whether several nodes may have it open at once.
    fn is_shared(&self) -> bool;

    /// Whether there is no secret at all.
    fn is_empty(&self) -> Answer<'_, bool>;

    /// Stores a secret, sealed under that version of the root key, unless the name has one already; true if this call stored it. Also when it does not, what the name
    /// has is durable.
    fn create(&self, root: RootVersion, name: &SecretName, sealed: Vec<u8>) -> Answer<'_, bool>;

    /// A secret, if it is there.
    fn read(&self, root: RootVersion, name: &SecretName) -> Answer<'_, Option<Vec<u8>>>;

    /// The names of all secrets of a kind.
    fn list(&self, root: RootVersion, kind: SecretKind) -> Answer<'_, Vec<SecretName>>;

    /// Overwrites and removes a secret; false if it was not there.
    fn destroy(&self, root: RootVersion, name: &SecretName) -> Answer<'_, bool>;

    /// A file that lies in clear, if it is there.
    fn read_clear(&self, file: &'static str) -> Answer<'_, Option<Vec<u8>>>;

    /// Replaces a file that lies in clear as a whole, if it is still `old` (nothing: not there); false if it is not, and
    /// then it stays as it is. Of two that swap the same one, one does.
    fn swap_clear(&self, file: &'static str, old: Option<Vec<u8>>, new: Vec<u8>) -> Answer<'_, bool>;

    /// Replaces the file `identity` as [`Medium::swap_clear`] does, if every secret of one version has one of the other; what
    /// is created meanwhile is seen here, or not acknowledged.
    fn switch_root(&self, identity: (Vec<u8>, Vec<u8>), from: RootVersion, to: RootVersion) -> Answer<'_, bool>;

    /// The versions of the root key of which there are secrets.
    fn root_versions(&self) -> Answer<'_, Vec<RootVersion>>;

    /// Overwrites and removes every secret of a version of the root key.
    fn remove_root(&self, root: RootVersion) -> Answer<'_, ()>;
}
