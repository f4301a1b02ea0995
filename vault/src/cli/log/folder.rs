//! A bundle as a folder on this machine.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use crate::access_log::bundle::{self, Files};

/// The files below a folder.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

impl Files for Folder {
    fn names(&self) -> io::Result<Vec<String>> {
        let (mut names, mut folders) = (Vec::new(), vec![self.root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let inside = path.strip_prefix(&self.root).unwrap_or(&path);
                let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
                names.push(parts.join("/"));
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.root.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, name: &str) -> io::Result<Option<Box<dyn io::Read + '_>>> {
        match File::open(self.root.join(name)) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A folder into which a bundle comes whole. Dropped before that, it is left as it was found: absent or empty. It holds
/// personal members in clear, so nobody else on the machine may read it.
#[derive(Debug)]
pub(super) struct Landing {
    out: PathBuf,
    was_there: bool,
    is_whole: bool,
}

impl Landing {
    /// Makes the folder, or takes an empty one.
    ///
    /// # Errors
    /// `AlreadyExists` for anything else of that name.
    pub(super) fn make(out: &Path) -> io::Result<Self> {
        if let Some(parent) = out.parent() {
            fs::create_dir_all(parent)?;
        }
        let was_there = match DirBuilder::new().mode(0o700).create(out) {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let is_empty = fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
                if is_empty { true } else { return Err(error) }
            }
            Err(error) => return Err(error),
        };
        Ok(Self { out: out.to_owned(), was_there, is_whole: false })
    }

    /// The file for the tar.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn tar(&self) -> io::Result<File> {
        new_file(&self.out.join(TAR))
    }

    /// Unpacks the tar beside where its files go, then moves them there, the manifest last.
    ///
    /// # Errors
    /// What [`unpack`] refuses, or the medium.
    pub(super) fn unpack(mut self) -> io::Result<()> {
        let (tar, part) = (self.out.join(TAR), self.out.join(PART));
        unpack(&tar, &part)?;
        fs::remove_file(&tar)?;
        let names: Vec<OsString> =
            fs::read_dir(&part)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        let (last, first): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name == bundle::MANIFEST);
        for name in first.iter().chain(&last) {
            fs::rename(part.join(name), self.out.join(name))?;
        }
        fs::remove_dir(&part)?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.is_whole {
            return;
        }
        // Best effort: what cannot be removed now is found by whoever exports again.
        for entry in fs::read_dir(&self.out).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        if !self.was_there {
            let _ = fs::remove_dir(&self.out);
        }
    }
}

const TAR: &str = ".siv-log.tar.part";
const PART: &str = ".siv-log.part";

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Unpacks a tar of plain files into a new folder. A name that leads elsewhere, a link or a second file of one name is refused.
fn unpack(tar: &Path, out: &Path) -> io::Result<()> {
    let mut folders = DirBuilder::new();
    folders.recursive(true).mode(0o700).create(out)?;
    let mut archive = tar::Archive::new(File::open(tar)?);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let inside = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let kind = entry.header().entry_type();
        if kind.is_dir() && inside {
            continue;
        }
        if !inside || !kind.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the tar holds something else than plain files"));
        }
        let path = out.join(name);
        folders.create(path.parent().unwrap_or(out))?;
        let mut file = new_file(&path)?;
        io::copy(&mut entry, &mut file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(name: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(File::create(folder.path().join("t.tar")).unwrap());
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(1);
        header.set_cksum();
        builder.append(&header, &b"x"[..]).unwrap();
        builder.finish().unwrap();
        folder
    }

    /// A landing with a tar that holds a file of this name, and a folder for both.
    fn landing(name: &str, out: &str) -> (tempfile::TempDir, Landing) {
        let folder = tar_of(name);
        let landing = Landing::make(&folder.path().join(out)).unwrap();
        io::copy(&mut File::open(folder.path().join("t.tar")).unwrap(), &mut landing.tar().unwrap()).unwrap();
        (folder, landing)
    }

    fn mode(path: &Path) -> u32 {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
    }

    #[test]
    fn a_new_or_empty_folder_takes_a_bundle_that_only_its_owner_reads() {
        for name in ["new", "."] {
            let folder = tempfile::tempdir().unwrap();
            let tar = tar_of("tile/entries/000");
            let out = folder.path().join(name);
            let landing = Landing::make(&out).unwrap();
            // A folder that was there keeps the mode its owner gave it; what comes into it is private all the same.
            assert!(name == "." || mode(&out) == 0o700);
            io::copy(&mut File::open(tar.path().join("t.tar")).unwrap(), &mut landing.tar().unwrap()).unwrap();
            assert_eq!(mode(&out.join(TAR)), 0o600);
            landing.unpack().unwrap();
            assert_eq!(Folder::new(&out).names().unwrap(), ["tile/entries/000"], "and nothing else is left");
            assert_eq!(mode(&out.join("tile/entries/000")), 0o600);
            assert_eq!(Landing::make(&out).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "now it is not empty");
        }
    }

    #[test]
    fn what_broke_off_leaves_nothing() {
        let (folder, landing_of_a_bad_tar) = landing("../escaped", "out");
        assert!(landing_of_a_bad_tar.unpack().is_err());
        assert!(!folder.path().join("out").exists());
        let (folder, unfinished) = landing("tile/entries/000", "out");
        drop(unfinished);
        assert!(!folder.path().join("out").exists());
        let empty = tempfile::tempdir().unwrap();
        drop(Landing::make(empty.path()).unwrap());
        assert!(empty.path().exists(), "what was there stays");
    }

    #[test]
    fn a_bundle_lands_in_its_folder_and_nowhere_else() {
        let folder = tar_of("tile/entries/000");
        let out = folder.path().join("out");
        unpack(&folder.path().join("t.tar"), &out).unwrap();
        assert_eq!(Folder::new(&out).names().unwrap(), ["tile/entries/000"]);
        for name in ["../escaped", "/escaped", "a/../../escaped"] {
            let folder = tar_of(name);
            let out = folder.path().join("out");
            assert!(unpack(&folder.path().join("t.tar"), &out).is_err(), "{name}");
            assert!(!folder.path().join("escaped").exists());
        }
    }
}
