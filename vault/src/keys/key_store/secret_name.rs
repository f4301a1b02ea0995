//! The name of a secret in the key store: its kind, owner, id and version. All of it stands in the AAD.

use std::path::PathBuf;

use crate::domain::{DataKeyClass, Epoch, KekId, KeyProviderId, SecretId, TenantName};

/// Which root key secrets are sealed under: 1 at first, one more after each `siv keys rotate-root`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootVersion(pub u32);

impl RootVersion {
    /// The version of a new key store.
    pub const FIRST: Self = Self(1);

    /// Where secrets of this version lie in a folder: at its top at first, `root-<version>/` later.
    pub(crate) fn folder(self) -> PathBuf {
        if self == Self::FIRST { PathBuf::new() } else { format!("root-{}", self.0).into() }
    }

    /// The version whose folder has this name.
    pub(crate) fn of_folder(name: &str) -> Option<Self> {
        let version = Self(name.strip_prefix("root-")?.parse().ok()?);
        (version > Self::FIRST && version.folder().to_str() == Some(name)).then_some(version)
    }
}

/// What a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// A KEK of the built-in KMS.
    Kek,
    /// An erasure key.
    Erasure,
    /// A pepper of verifiers.
    Pepper,
    /// HMAC key of wrapped data keys.
    DataKeyMac,
    /// HMAC key of rows that decide.
    ConfigMac,
    /// HMAC key of credentials.
    CredentialMac,
    /// HMAC key of node keys.
    NodeMac,
    /// HMAC key of idempotency look-ups.
    IdempotencyLookupMac,
    /// A log's signing key.
    LogSigning,
    /// The PIN of a tenant's token.
    HsmPin,
    /// How a KEK version that lay in a token ended.
    KekEnd,
}

impl SecretKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Kek,
        Self::Erasure,
        Self::Pepper,
        Self::DataKeyMac,
        Self::ConfigMac,
        Self::CredentialMac,
        Self::NodeMac,
        Self::IdempotencyLookupMac,
        Self::LogSigning,
        Self::HsmPin,
        Self::KekEnd,
    ];

    /// The name in paths, infos and AADs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kek => "kek",
            Self::Erasure => "erasure",
            Self::Pepper => "pepper",
            Self::DataKeyMac => "data-key",
            Self::ConfigMac => "config",
            Self::CredentialMac => "credential",
            Self::NodeMac => "node",
            Self::IdempotencyLookupMac => "idempotency-lookup",
            Self::LogSigning => "log-signing",
            Self::HsmPin => "hsm-pin",
            Self::KekEnd => "kek-end",
        }
    }
}

/// A secret's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretName {
    /// What it is.
    pub kind: SecretKind,
    /// Whose it is; the installation's own stand under the system's name.
    pub tenant: TenantName,
    /// Its id within the kind.
    pub id: String,
    /// Its version, from 1.
    pub version: u32,
}

impl SecretName {
    /// A version of a tenant's KEK.
    pub(crate) fn kek(tenant: &TenantName, kek_id: KekId, version: u32) -> Self {
        Self { kind: SecretKind::Kek, tenant: tenant.clone(), id: kek_id.to_string(), version }
    }

    /// The erasure key of a class and epoch, for all tenants.
    pub(crate) fn erasure(class: DataKeyClass, epoch: Epoch) -> Self {
        let id = format!("{class}.{}", epoch.0);
        Self { kind: SecretKind::Erasure, tenant: TenantName::system(), id, version: 1 }
    }

    /// An HMAC key or pepper.
    pub(crate) fn mac(kind: SecretKind, id: SecretId) -> Self {
        Self { kind, tenant: TenantName::system(), id: id.to_string(), version: 1 }
    }

    /// A log's signing key.
    pub(crate) fn log_signing(log: &TenantName, version: u32) -> Self {
        Self { kind: SecretKind::LogSigning, tenant: log.clone(), id: "ed25519".to_owned(), version }
    }

    /// A version of the PIN that one of a tenant's HSM configurations logs in with.
    pub(crate) fn hsm_pin(tenant: &TenantName, provider: KeyProviderId, version: u32) -> Self {
        Self { kind: SecretKind::HsmPin, tenant: tenant.clone(), id: provider.to_string(), version }
    }

    /// The end of a version of a tenant's KEK.
    pub(crate) fn kek_end(tenant: &TenantName, kek_id: KekId, version: u32) -> Self {
        Self { kind: SecretKind::KekEnd, ..Self::kek(tenant, kek_id, version) }
    }

    /// The class and epoch of an erasure key.
    pub(crate) fn erasure_epoch(&self) -> Option<(DataKeyClass, Epoch)> {
        let (class, epoch) = self.id.split_once('.')?;
        Some((class.parse().ok()?, Epoch(epoch.parse().ok()?)))
    }

    /// Where it lies: `kind/tenant/id.version`, below the folder of its root key's version.
    pub(crate) fn path(&self, root: RootVersion) -> PathBuf {
        let file = format!("{}.{}", self.id, self.version);
        let mut path = root.folder();
        path.extend([self.kind.as_str(), self.tenant.as_str(), &file]);
        path
    }

    /// The name of a file; nothing for a file that is no secret (a torn temporary one begins with a dot).
    pub(crate) fn of_file(kind: SecretKind, tenant: &str, file: &str) -> Option<Self> {
        let (id, version) = file.rsplit_once('.')?;
        let tenant = TenantName::from_store(tenant).ok()?;
        (!id.is_empty()).then_some(())?;
        Some(Self { kind, tenant, id: id.to_owned(), version: version.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_from_its_path() {
        let name = SecretName::erasure(DataKeyClass::SensitiveAuthentication, Epoch(1_994_988));
        let path = "erasure/-system/sensitive-authentication.1994988.1";
        assert_eq!(name.path(RootVersion::FIRST).to_str(), Some(path));
        assert_eq!(name.path(RootVersion(2)).to_str(), Some(&*format!("root-2/{path}")));
        assert_eq!(RootVersion::of_folder("root-2"), Some(RootVersion(2)));
        assert!(["root-1", "root-02", "root-", "kek"].iter().all(|name| RootVersion::of_folder(name).is_none()));
        let again = SecretName::of_file(SecretKind::Erasure, "-system", "sensitive-authentication.1994988.1").unwrap();
        assert_eq!(again, name);
        assert_eq!(again.erasure_epoch(), Some((DataKeyClass::SensitiveAuthentication, Epoch(1_994_988))));
        assert_eq!(SecretName::of_file(SecretKind::Erasure, "-system", ".tmp-00ff"), None);
    }
}
