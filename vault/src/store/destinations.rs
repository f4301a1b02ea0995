//! Secrets of destinations: sealed under the tenant's `configuration` data key, bound to tenant, destination, host and name.
//!
//! They go in and are used towards their host; nothing gives them out.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use zeroize::Zeroizing;

use crate::crypto::{self, DataKey};
use crate::domain::{DataKeyClass, DataKeyId, DestinationName, Plaintext, Realm, TenantName, Timestamp, lp};
use crate::keys::{self, Keys};
use crate::store::records::DestinationRecord;
use crate::store::{Error, Store};

/// Gives these seals a key of their own.
const INFO: &str = "siv/v1/destination";

/// Where a secret belongs; it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The realm.
    pub realm: &'a Realm,
    /// The tenant.
    pub tenant: &'a TenantName,
    /// The destination.
    pub destination: &'a DestinationName,
    /// Its host.
    pub host: &'a str,
}

impl Place<'_> {
    fn aad(&self, secret: &str) -> Vec<u8> {
        let destination = self.destination.as_bytes();
        lp(&[self.realm.as_bytes(), self.tenant.as_bytes(), destination, self.host.as_bytes(), secret.as_bytes()])
    }
}

/// Opens one secret of a destination.
///
/// # Errors
/// [`Error::Tampered`] if it was not sealed for this place; [`Error::Unreadable`] if there is none of this name.
pub fn open_secret(
    record: &DestinationRecord,
    secret: &str,
    place: &Place<'_>,
    data_key: &DataKey,
) -> Result<Plaintext, Error> {
    let sealed = record.secrets.get(secret).ok_or(Error::Unreadable("destinations"))?;
    let sealed = Base64UrlUnpadded::decode_vec(sealed).map_err(|_| Error::Unreadable("destinations"))?;
    let bytes = crypto::open_bytes(data_key, INFO, &place.aad(secret), &sealed);
    let bytes = bytes.map_err(|_| Error::Tampered("destinations"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::Unreadable("destinations"))?;
    Ok(Plaintext::new(Zeroizing::new(text.to_owned())))
}

/// Secrets sealed for a destination, ready to become its row.
#[derive(Debug, Clone)]
pub struct SealedSecrets {
    host: String,
    secrets: BTreeMap<String, String>,
    data_key_id: Option<DataKeyId>,
}

impl SealedSecrets {
    /// The row: these secrets over those that are there, if host and data key are the same. A secret never follows its
    /// destination to another host.
    #[must_use]
    pub fn over(&self, there: Option<&DestinationRecord>, name: &DestinationName) -> DestinationRecord {
        let kept = there.filter(|record| record.host == self.host && record.data_key_id == self.data_key_id);
        let mut secrets = kept.map(|record| record.secrets.clone()).unwrap_or_default();
        secrets.extend(self.secrets.clone());
        DestinationRecord { name: name.clone(), host: self.host.clone(), secrets, data_key_id: self.data_key_id }
    }
}

/// Seals a destination's new secrets under the present data key, and moves there what an older one sealed.
///
/// # Errors
/// [`Error::SecretsOutOfReach`] with those that must be given again; [`Error::Keys`], [`Error::Tampered`].
pub async fn seal(
    new: &BTreeMap<&str, &str>,
    there: Option<&DestinationRecord>,
    place: &Place<'_>,
    keys: &Keys,
    store: &Store,
    now: Timestamp,
) -> Result<SealedSecrets, Error> {
    let host = place.host.to_owned();
    let there = there.filter(|record| record.host == host && !record.secrets.is_empty());
    if new.is_empty() && there.is_none() {
        return Ok(SealedSecrets { host, secrets: BTreeMap::new(), data_key_id: None });
    }
    let data_key = keys.data_key_to_seal(store, place.tenant, DataKeyClass::Configuration, now).await?;
    let mut secrets = BTreeMap::new();
    let older = there.and_then(|record| Some((record, record.data_key_id.filter(|id| *id != data_key.id())?)));
    if let Some((record, id)) = older {
        // Those that are given now are not needed as they were.
        let kept: Vec<&String> = record.secrets.keys().filter(|name| !new.contains_key(name.as_str())).collect();
        if !kept.is_empty() {
            let older = match keys.data_key(store, place.tenant, id).await {
                Err(keys::Error::Lost) => return Err(Error::SecretsOutOfReach(kept.into_iter().cloned().collect())),
                Err(error) if keys.is_out_of_reach(store, (place.tenant, id), &error).await? => {
                    return Err(Error::SecretsOutOfReach(kept.into_iter().cloned().collect()));
                }
                older => older?,
            };
            for name in kept {
                let secret = open_secret(record, name, place, &older)?;
                secrets.insert(name.clone(), seal_one(&data_key, name, exposed(&secret), place)?);
            }
        }
    }
    for (name, secret) in new {
        secrets.insert((*name).to_owned(), seal_one(&data_key, name, secret, place)?);
    }
    Ok(SealedSecrets { host, secrets, data_key_id: Some(data_key.id()) })
}

fn seal_one(data_key: &Arc<DataKey>, name: &str, secret: &str, place: &Place<'_>) -> Result<String, Error> {
    let sealed = crypto::seal_bytes(data_key, INFO, &place.aad(name), secret.as_bytes());
    let sealed = sealed.map_err(|error| Error::Keys(error.into()))?;
    Ok(Base64UrlUnpadded::encode_string(&sealed))
}

#[expect(clippy::disallowed_methods, reason = "a secret is sealed anew under the data key of a new epoch")]
fn exposed(secret: &Plaintext) -> &str {
    secrecy::ExposeSecret::expose_secret(secret)
}
