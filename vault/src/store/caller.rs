//! Who a request comes from, once that is proven.

use std::sync::Arc;

use super::Error;
use super::catalog::{Catalog, TenantCatalog};
use crate::domain::credential::CredentialRecord;
use crate::domain::{Credential, RequestContext, TenantName, Timestamp};

/// An authenticated caller: made by http/ after the credential's hash was compared, and by nobody else.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant's settings, as of the generation the request is decided under.
    pub tenant: Arc<TenantCatalog>,
    /// The credential's record.
    pub credential: CredentialRecord,
    /// The credential itself: part of the key of stored answers.
    pub secret: Arc<Credential>,
    /// What the log says of the request.
    pub context: RequestContext,
    /// Method and route, as the log says them of what is refused: no id stands in it.
    pub asked: String,
}

impl Caller {
    /// The tenant's name.
    #[must_use]
    pub fn tenant_name(&self) -> &TenantName {
        &self.tenant.tenant.name
    }

    /// The same caller under the tenant's present settings; nothing if its credential was revoked, suspended or ended.
    ///
    /// # Errors
    /// As [`Catalog::tenant`].
    pub async fn renewed(&self, catalog: &Catalog, now: Timestamp) -> Result<Option<Self>, Error> {
        catalog.refresh(self.tenant_name());
        let Some(tenant) = catalog.tenant(self.tenant_name()).await? else { return Ok(None) };
        let stored = tenant.credentials.get(&self.credential.credential_id);
        let Some(credential) = stored.map(|(_, stored)| stored.record.clone()) else { return Ok(None) };
        if !credential.is_in_force(now) {
            return Ok(None);
        }
        Ok(Some(Self { tenant, credential, ..self.clone() }))
    }
}
