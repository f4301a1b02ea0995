//! The Ed25519 key of one log: signs checkpoints; its public half is a C2SP verifier key line.

use std::fmt;
use std::sync::{Arc, PoisonError};

use ed25519_dalek::{Signature, Signer, SigningKey};
use secrecy::ExposeSecret as _;

use super::key_store::{KeyStore, SecretKind, SecretName};
use super::{Error, Keys};
use crate::access_log::VerifierKey;
use crate::domain::{InstallationId, TenantName};

/// Signs for one log. The private half is wiped on drop.
pub struct LogSigner {
    key: SigningKey,
    verifier: VerifierKey,
}

impl LogSigner {
    pub(super) fn new(origin: &str, seed: &[u8; 32]) -> Result<Self, Error> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(origin, key.verifying_key().to_bytes()).map_err(|_| Error::ReservedName)?;
        Ok(Self { key, verifier })
    }

    /// Loads a log's key, which is made on first use.
    pub(super) async fn open(store: &KeyStore, log: &TenantName) -> Result<Self, Error> {
        Self::open_version(newest(store, log).await?.unwrap_or(1), store, log).await
    }

    /// Loads or makes the key of one of a log's origins; each recovery begins another.
    #[expect(clippy::disallowed_methods, reason = "the seed of a signing key")]
    async fn open_version(version: u32, store: &KeyStore, log: &TenantName) -> Result<Self, Error> {
        let origin = origin(store.installation_id(), log, version)?;
        let seed = store.create_key(&SecretName::log_signing(log, version)).await?;
        Self::new(&origin, seed.expose_secret())
    }

    /// Every key the log ever signed with, the newest first.
    pub(super) async fn open_all(store: &KeyStore, log: &TenantName) -> Result<Vec<Self>, Error> {
        let mut all = Vec::new();
        for version in (1..=newest(store, log).await?.unwrap_or(1)).rev() {
            all.push(Self::open_version(version, store, log).await?);
        }
        Ok(all)
    }

    /// The log's origin, which is the key's name too: `siv/<installation id>/<log>`.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.verifier.name()
    }

    /// The public half with its name.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The verifier key line (c2sp.org/signed-note).
    #[must_use]
    pub fn vkey(&self) -> String {
        self.verifier.to_string()
    }

    /// The Ed25519 signature of a message (RFC 8032).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// Whether this key signed the message; no malleable or small-order keys and signatures.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verifying_key().verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Debug for LogSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogSigner({})", self.vkey())
    }
}

/// `siv/<installation id>/<log>`, after a recovery `…/2` and so on; the installation's own log is `system`.
fn origin(installation: InstallationId, log: &TenantName, version: u32) -> Result<String, Error> {
    let name = match log.as_str() {
        TenantName::SYSTEM => "system",
        // It would be signed under the same name as the installation's own log.
        "system" => return Err(Error::ReservedName),
        name => name,
    };
    let again = if version > 1 { format!("/{version}") } else { String::new() };
    Ok(format!("siv/{installation}/{name}{again}"))
}

/// The newest version of a log's key.
async fn newest(store: &KeyStore, log: &TenantName) -> Result<Option<u32>, Error> {
    let names = store.list(SecretKind::LogSigning).await?;
    Ok(names.into_iter().filter(|name| name.tenant == *log).map(|name| name.version).max())
}

impl Keys {
    /// The signer of a log; its key is made on first use.
    ///
    /// # Errors
    /// The key store cannot be read or written; [`Error::ReservedName`] for a tenant named `system`.
    pub async fn log_signer(&self, log: &TenantName) -> Result<Arc<LogSigner>, Error> {
        let signers = || self.inner.signers.lock().unwrap_or_else(PoisonError::into_inner);
        let open = signers().get(log).map(Arc::clone);
        if let Some(signer) = open {
            return Ok(signer);
        }
        let signer = Arc::new(LogSigner::open(&self.inner.store, log).await?);
        Ok(Arc::clone(signers().entry(log.clone()).or_insert(signer)))
    }

    /// The verifier keys of every origin a log ever had, the newest first.
    ///
    /// # Errors
    /// As [`Keys::log_signer`].
    pub async fn log_verifiers(&self, log: &TenantName) -> Result<Vec<VerifierKey>, Error> {
        let signers = LogSigner::open_all(&self.inner.store, log).await?;
        Ok(signers.iter().map(|signer| signer.verifier().clone()).collect())
    }

    /// Gives a log a new origin with a key of its own: only `siv recover` does, when what was signed is lost.
    ///
    /// # Errors
    /// As [`Keys::log_signer`].
    pub async fn begin_log_anew(&self, log: &TenantName) -> Result<Arc<LogSigner>, Error> {
        let version = newest(&self.inner.store, log).await?.unwrap_or(0).checked_add(1).ok_or(Error::ReservedName)?;
        let signer = Arc::new(LogSigner::open_version(version, &self.inner.store, log).await?);
        let mut signers = self.inner.signers.lock().unwrap_or_else(PoisonError::into_inner);
        signers.insert(log.clone(), Arc::clone(&signer));
        Ok(signer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Clock;
    use crate::keys::fixture::{NOW, open, tenant};

    #[tokio::test]
    async fn each_log_has_one_key_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
        let signer = keys.log_signer(&tenant()).await.unwrap();
        let system = keys.log_signer(&TenantName::system()).await.unwrap();
        assert_eq!(signer.origin(), format!("siv/{}/demo", keys.installation_id()));
        assert_eq!(system.origin(), format!("siv/{}/system", keys.installation_id()));
        assert_ne!(signer.verifier(), system.verifier());
        let vkey = signer.vkey();
        drop((signer, keys));
        let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
        assert_eq!(keys.log_signer(&tenant()).await.unwrap().vkey(), vkey);
    }

    #[tokio::test]
    async fn a_log_that_begins_anew_has_another_name_and_key_and_keeps_them() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
        let first = keys.log_signer(&tenant()).await.unwrap().vkey();
        let second = keys.begin_log_anew(&tenant()).await.unwrap().vkey();
        assert!(second.starts_with(&format!("siv/{}/demo/2+", keys.installation_id())), "{second}");
        assert_eq!(keys.log_signer(&tenant()).await.unwrap().vkey(), second);
        drop(keys);
        let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
        assert_eq!(keys.log_signer(&tenant()).await.unwrap().vkey(), second);
        let all: Vec<_> = keys.log_verifiers(&tenant()).await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(all, [second, first]);
    }

    #[tokio::test]
    async fn no_tenant_can_sign_as_the_system_log() {
        let dir = tempfile::tempdir().unwrap();
        let keys = open(dir.path(), &Clock::held(NOW)).await.unwrap();
        let posing = keys.log_signer(&"system".parse().unwrap()).await;
        assert!(matches!(posing, Err(Error::ReservedName)));
    }
}
