//! A bundle as a folder on this machine.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::access_log::bundle::Files;

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
}

/// Unpacks a tar of plain files into a new folder. A name that leads elsewhere, a link or a second file of one name is refused.
pub(super) fn unpack(tar: &Path, out: &Path) -> io::Result<()> {
    fs::create_dir_all(out)?;
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
        fs::create_dir_all(path.parent().unwrap_or(out))?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
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
