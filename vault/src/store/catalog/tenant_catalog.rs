//! One tenant's settings as of one generation.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::tenant::KeyProviderKind;
use crate::domain::{
    AppDocument, AppName, CredentialId, DestinationName, FlowName, KeyProviderId, Tenant, TenantName, Timestamp,
};
use crate::keys::{KekRecord, KekState, ProviderRecord};
use crate::store::Error;
use crate::store::committer::operation::Generation;
use crate::store::records::{Body as _, DestinationRecord, FlowRecord, StoredCredential};
use crate::store::rows::{DecidingRow, Table};

/// A flow with its version and the digest of its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFlow {
    /// The row's version.
    pub version: u64,
    /// SHA-256 of the document.
    pub digest: [u8; 32],
    /// The record, document included.
    pub record: FlowRecord,
}

impl StoredFlow {
    /// The document.
    #[must_use]
    pub fn toml(&self) -> &str {
        &self.record.toml
    }
}

/// Everything that decides about a tenant, each row authenticated and fresh; never changed, only replaced.
#[derive(Debug, Clone)]
pub struct TenantCatalog {
    /// The generation all of it was read under.
    pub generation: Generation,
    /// The tenant with its switches.
    pub tenant: Tenant,
    /// The version of the tenant's row.
    pub tenant_version: u64,
    /// Its apps with their versions.
    pub apps: BTreeMap<AppName, (u64, Arc<AppDocument>)>,
    /// Its flows.
    pub flows: BTreeMap<FlowName, StoredFlow>,
    /// Its destinations with their versions.
    pub destinations: BTreeMap<DestinationName, (u64, DestinationRecord)>,
    /// Its credentials with their versions.
    pub credentials: BTreeMap<CredentialId, (u64, StoredCredential)>,
    /// Its KEKs with the versions of their rows, by the rows' keys.
    pub keks: BTreeMap<String, (u64, KekRecord)>,
    /// How its HSMs are reached, with the versions of their rows.
    pub providers: BTreeMap<KeyProviderId, (u64, ProviderRecord)>,
}

impl TenantCatalog {
    /// Whether every key of the tenant is destroyed, or on its way there: nothing of it opens ever again.
    #[must_use]
    pub fn is_shredded(&self) -> bool {
        let ends = |(_, kek): &(u64, KekRecord)| kek.state == KekState::Destroying || kek.state.is_over();
        !self.keks.is_empty() && self.keks.values().all(ends)
    }

    /// Puts the rows of one generation together; none if there is no row of the tenant itself.
    pub(super) fn read(
        tenant: &TenantName,
        generation: Generation,
        rows: &[DecidingRow],
    ) -> Result<Option<Self>, Error> {
        let own = rows.iter().find(|row| row.table == Table::Tenants);
        let (tenant_version, own) = match own {
            Some(row) => (row.version, Tenant::from_row(row)?),
            None if tenant.is_system() => (0, system()),
            None => return Ok(None),
        };
        if own.name != *tenant {
            return Err(Error::Tampered(Table::Tenants.as_str()));
        }
        let mut catalog = Self {
            generation,
            tenant: own,
            tenant_version,
            apps: BTreeMap::new(),
            flows: BTreeMap::new(),
            destinations: BTreeMap::new(),
            credentials: BTreeMap::new(),
            keks: BTreeMap::new(),
            providers: BTreeMap::new(),
        };
        for row in rows {
            catalog.add(row)?;
        }
        Ok(Some(catalog))
    }

    /// Whether a key that still opens lives behind this configuration.
    #[must_use]
    pub fn uses(&self, provider: &ProviderRecord) -> bool {
        let of = |kek: &KekRecord| kek.hsm.as_ref().is_some_and(|hsm| hsm.provider == provider.provider_id);
        self.keks.values().any(|(_, kek)| kek.state.may_wrap() && of(kek))
    }

    fn add(&mut self, row: &DecidingRow) -> Result<(), Error> {
        let version = row.version;
        match row.table {
            Table::Apps => {
                let document = AppDocument::from_row(row)?;
                self.apps.insert(document.name.clone(), (version, Arc::new(document)));
            }
            Table::Flows => {
                let record = FlowRecord::from_row(row)?;
                let flow = StoredFlow { version, digest: record.digest(), record };
                self.flows.insert(flow.record.name.clone(), flow);
            }
            Table::Destinations => {
                let record = DestinationRecord::from_row(row)?;
                self.destinations.insert(record.name.clone(), (version, record));
            }
            Table::Credentials => {
                let stored = StoredCredential::from_row(row)?;
                self.credentials.insert(stored.record.credential_id, (version, stored));
            }
            Table::Keks => {
                self.keks.insert(row.key.clone(), (version, KekRecord::from_row(row)?));
            }
            Table::KeyProviders => {
                let record = ProviderRecord::from_row(row)?;
                self.providers.insert(record.provider_id, (version, record));
            }
            Table::Tenants | Table::CaptureSessions | Table::NodeKeys | Table::Approvals => {}
        }
        Ok(())
    }
}

/// The installation itself: it has credentials and a KEK, but no row of its own, no apps and no values.
fn system() -> Tenant {
    Tenant {
        name: TenantName::system(),
        reveal: false,
        sealed: false,
        key_provider: KeyProviderKind::Local,
        cache_seconds: 300,
        created_at: Timestamp::from_millis(0),
    }
}
