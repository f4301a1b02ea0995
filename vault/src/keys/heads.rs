//! The newest head of every log, in one signed file outside the database (docs/formats.md sections 4 and 8).

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};

use super::key_store::KeyStore;
use super::{Error, Keys, LogSigner};
use crate::domain::TenantName;

const FILE: &str = "heads";
const TITLE: &str = "siv/v1/heads";
/// So often the file may have been swapped by another node in between, each time with larger heads than before.
const SWAPS: u32 = 32;

/// A log's head: size and root of its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Whose log.
    pub log: TenantName,
    /// How many entries.
    pub size: u64,
    /// RFC 6962 root.
    pub root: [u8; 32],
}

impl Keys {
    /// The heads in the file; their signature is checked.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file is missing or was altered.
    pub async fn read_heads(&self) -> Result<Vec<Head>, Error> {
        self.heads_as_stored().await.map(|(_, heads)| heads)
    }

    /// The same with the file's bytes, for the swap.
    async fn heads_as_stored(&self) -> Result<(Vec<u8>, Vec<Head>), Error> {
        let signer = self.log_signer(&TenantName::system()).await?;
        let bytes =
            self.inner.store.read_clear(FILE).await?.ok_or(Error::Damaged("the heads of the logs are missing"))?;
        let heads = parse(&bytes, &signer).ok_or(Error::Damaged("the heads of the logs were altered"))?;
        Ok((bytes, heads))
    }

    /// The heads in the file whichever of the system log's keys signed them: a recovery that broke off may have made a
    /// newer key before it replaced the file.
    ///
    /// # Errors
    /// As [`Keys::read_heads`].
    pub async fn read_heads_for_recovery(&self) -> Result<Vec<Head>, Error> {
        let signers = LogSigner::open_all(&self.inner.store, &TenantName::system()).await?;
        let bytes =
            self.inner.store.read_clear(FILE).await?.ok_or(Error::Damaged("the heads of the logs are missing"))?;
        let heads = signers.iter().find_map(|signer| parse(&bytes, signer));
        heads.ok_or(Error::Damaged("the heads of the logs were altered"))
    }

    /// Writes heads that the database has committed. A smaller one never replaces a larger: it is passed over.
    ///
    /// # Errors
    /// [`Error::HeadContradicts`] for another root at the same size: the log has forked, and nothing is written.
    pub async fn write_heads(&self, heads: &[Head]) -> Result<(), Error> {
        // One at a time in this node; other nodes by the swap.
        let _alone = self.inner.writing_heads.lock().await;
        for _ in 0..SWAPS {
            let (bytes, stored) = self.heads_as_stored().await?;
            let merged = merged(&stored, heads)?;
            if merged == stored || self.swap_heads(Some(bytes), merged).await? {
                return Ok(());
            }
        }
        Err(Error::Io { doing: "noting heads", source: std::io::ErrorKind::ResourceBusy.into() })
    }

    /// Replaces the file whatever stands in it: for `siv recover`, which records the loss in the logs themselves.
    ///
    /// # Errors
    /// The key store cannot be written.
    pub async fn replace_heads_after_recovery(&self, heads: Vec<Head>) -> Result<(), Error> {
        let _alone = self.inner.writing_heads.lock().await;
        for _ in 0..SWAPS {
            let there = self.inner.store.read_clear(FILE).await?;
            if self.swap_heads(there, heads.clone()).await? {
                return Ok(());
            }
        }
        Err(Error::Io { doing: "replacing heads", source: std::io::ErrorKind::ResourceBusy.into() })
    }

    async fn swap_heads(&self, old: Option<Vec<u8>>, mut new: Vec<Head>) -> Result<bool, Error> {
        let signer = self.log_signer(&TenantName::system()).await?;
        new.sort_by(|a, b| a.log.cmp(&b.log));
        self.inner.store.swap_clear(FILE, old, write(&new, &signer)).await
    }
}

/// The stored heads with those of `newer` that are larger.
fn merged(stored: &[Head], newer: &[Head]) -> Result<Vec<Head>, Error> {
    let mut merged: BTreeMap<&TenantName, &Head> = stored.iter().map(|head| (&head.log, head)).collect();
    for head in newer {
        match merged.get(&head.log) {
            Some(old) if old.size == head.size && old.root != head.root => return Err(Error::HeadContradicts),
            Some(old) if old.size >= head.size => {}
            _ => drop(merged.insert(&head.log, head)),
        }
    }
    Ok(merged.into_values().cloned().collect())
}

/// Writes the first, empty file while a key store is being made.
pub(super) async fn begin(store: &KeyStore) -> Result<(), Error> {
    if store.read_clear(FILE).await?.is_some() {
        return Ok(());
    }
    let signer = LogSigner::open(store, &TenantName::system()).await?;
    // Where another node was first, that one stays.
    store.swap_clear(FILE, None, write(&[], &signer)).await.map(drop)
}

/// A signed note (c2sp.org/signed-note): title, origin, a line per log, an empty line, the signature line.
fn write(heads: &[Head], signer: &LogSigner) -> Vec<u8> {
    let mut text = format!("{TITLE}\n{}\n", signer.origin());
    for head in heads {
        text += &format!("{} {} {}\n", head.log, head.size, Base64::encode_string(&head.root));
    }
    let signature = [&signer.verifier().key_id()[..], &signer.sign(text.as_bytes())].concat();
    let line = format!("\n\u{2014} {} {}\n", signer.origin(), Base64::encode_string(&signature));
    (text + &line).into_bytes()
}

fn parse(bytes: &[u8], signer: &LogSigner) -> Option<Vec<Head>> {
    let note = std::str::from_utf8(bytes).ok()?;
    let (text, line) = note.split_at(note.rfind("\n\n")? + 1);
    let encoded = line.strip_prefix(&format!("\n\u{2014} {} ", signer.origin()))?.strip_suffix('\n')?;
    let signature = Base64::decode_vec(encoded).ok()?;
    let (hash, signature) = signature.split_first_chunk::<4>()?;
    if *hash != signer.verifier().key_id() || !signer.verify(text.as_bytes(), signature.try_into().ok()?) {
        return None;
    }
    let heads = text.strip_prefix(&format!("{TITLE}\n{}\n", signer.origin()))?;
    heads.lines().map(parse_head).collect()
}

fn parse_head(line: &str) -> Option<Head> {
    let mut words = line.split(' ');
    let log = TenantName::from_store(words.next()?).ok()?;
    let size = words.next()?.parse().ok()?;
    let root = Base64::decode_vec(words.next()?).ok()?.try_into().ok()?;
    words.next().is_none().then_some(Head { log, size, root })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::domain::Clock;
    use crate::keys::fixture::{NOW, open, tenant};

    fn head(size: u64, root: u8) -> Head {
        Head { log: tenant(), size, root: [root; 32] }
    }

    #[tokio::test]
    async fn a_head_never_goes_back_and_never_forks() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
        assert_eq!(keys.read_heads().await.unwrap(), []);
        let system = Head { log: TenantName::system(), size: 1, root: [9; 32] };
        keys.write_heads(&[head(5, 1), system.clone()]).await.unwrap();
        keys.write_heads(&[head(4, 2)]).await.unwrap();
        keys.write_heads(&[head(5, 1)]).await.unwrap();
        assert_eq!(keys.read_heads().await.unwrap(), [system.clone(), head(5, 1)]);
        assert!(matches!(keys.write_heads(&[head(5, 2)]).await, Err(Error::HeadContradicts)));
        keys.write_heads(&[head(6, 3)]).await.unwrap();
        drop(keys);
        let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
        assert_eq!(keys.read_heads().await.unwrap(), [system, head(6, 3)]);
    }

    #[tokio::test]
    async fn altered_or_missing_heads_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
        keys.write_heads(&[head(5, 1)]).await.unwrap();
        let file = dir.path().join("keys/heads");
        let bytes = fs::read(&file).unwrap();
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            fs::write(&file, &wrong).unwrap();
            assert!(matches!(keys.read_heads().await, Err(Error::Damaged(_))), "byte {at}");
            assert!(keys.write_heads(&[head(6, 1)]).await.is_err(), "not written over");
        }
        fs::remove_file(&file).unwrap();
        drop(keys);
        // Opening, even where making is allowed, does not put an empty file in its place.
        let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
        assert!(matches!(keys.read_heads().await, Err(Error::Damaged(_))));
    }
}
