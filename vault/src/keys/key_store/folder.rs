//! The folder as a medium: its file work, where it does not hold up the runtime.

use std::path::Path;
use std::sync::Arc;

use super::directory::Directory;
use super::identity;
use super::secret_name::{RootVersion, SecretKind, SecretName};
use crate::keys::Error;
use crate::keys::medium::{Answer, Medium};

/// A folder that this process has for itself.
pub(super) struct Folder(Arc<Directory>);

impl Folder {
    /// Opens it; makes it if `create` says so.
    pub(super) async fn open(dir: &Path, create: bool) -> Result<Self, Error> {
        let dir = dir.to_owned();
        let directory = super::blocking(move || Directory::open(&dir, create)).await?;
        Ok(Self(Arc::new(directory)))
    }

    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Directory) -> Result<T, Error> + Send + 'static,
    ) -> Answer<'static, T> {
        let directory = Arc::clone(&self.0);
        Box::pin(super::blocking(move || work(&directory)))
    }
}

impl Medium for Folder {
    fn folder(&self) -> Option<&Path> {
        Some(self.0.path())
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn is_empty(&self) -> Answer<'_, bool> {
        self.ask(Directory::is_empty)
    }

    fn create(&self, root: RootVersion, name: &SecretName, sealed: Vec<u8>) -> Answer<'_, bool> {
        let path = name.path(root);
        self.ask(move |directory| directory.create(&path, &sealed))
    }

    fn read(&self, root: RootVersion, name: &SecretName) -> Answer<'_, Option<Vec<u8>>> {
        let path = name.path(root);
        self.ask(move |directory| directory.read(&path))
    }

    fn list(&self, root: RootVersion, kind: SecretKind) -> Answer<'_, Vec<SecretName>> {
        self.ask(move |directory| directory.list(root, kind))
    }

    fn destroy(&self, root: RootVersion, name: &SecretName) -> Answer<'_, bool> {
        let path = name.path(root);
        self.ask(move |directory| directory.destroy(&path))
    }

    fn read_clear(&self, file: &'static str) -> Answer<'_, Option<Vec<u8>>> {
        self.ask(move |directory| directory.read(Path::new(file)))
    }

    fn swap_clear(&self, file: &'static str, old: Option<Vec<u8>>, new: Vec<u8>) -> Answer<'_, bool> {
        self.ask(move |directory| directory.swap(file, old.as_deref(), &new))
    }

    /// No other process has the folder, and this one creates nothing while it rotates: the secrets need not be compared.
    fn switch_root(&self, (old, new): (Vec<u8>, Vec<u8>), _from: RootVersion, _to: RootVersion) -> Answer<'_, bool> {
        self.ask(move |directory| directory.swap(identity::FILE, Some(&old), &new))
    }

    fn root_versions(&self) -> Answer<'_, Vec<RootVersion>> {
        self.ask(Directory::root_versions)
    }

    fn remove_root(&self, root: RootVersion) -> Answer<'_, ()> {
        self.ask(move |directory| directory.remove_root(root))
    }
}
