//! Keyed hashes, look-ups and sealed secrets of rows against the vectors in tests/vectors, which other code computed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use super::administration::credential_message;
use super::destinations::{Place, open_secret};
use super::idempotency::{IdempotencyKey, IdempotencyRequest, Scope};
use super::records::DestinationRecord;
use super::testing::TestVault;
use crate::crypto::{DataKey, MacKey, vectors};
use crate::domain::credential::CredentialRecord;
use crate::domain::text::hex;
use crate::domain::{Credential, CredentialId, CredentialKind, DataKeyId, SecretId, Timestamp};
use crate::keys::MacPurpose;

fn text<'v>(vector: &'v Value, member: &str) -> &'v str {
    vector[member].as_str().unwrap_or_else(|| panic!("{member} of {vector}"))
}

fn bytes(vector: &Value, member: &str) -> Vec<u8> {
    hex::decode(text(vector, member)).unwrap()
}

fn mac_key(vector: &Value, member: &str) -> MacKey {
    MacKey::new(SecretId::from_bytes([6; 16]), &bytes(vector, member).try_into().unwrap())
}

#[test]
fn a_credential_is_hashed_as_its_vector_says() {
    let vector = vectors::committed("credential.json");
    let key = mac_key(&vector, "credentialKey");
    let (realm, tenant) = (text(&vector, "realm").parse().unwrap(), text(&vector, "tenant").parse().unwrap());
    for one in vector["credentials"].as_array().unwrap() {
        let credential = Credential::parse(text(one, "credential")).unwrap();
        let record = CredentialRecord {
            credential_id: CredentialId::from_bytes(credential.id_bytes()),
            kind: credential.kind(),
            name: "not in the hash".to_owned(),
            app: None,
            flow: Some(text(one, "boundTo")).filter(|flow| !flow.is_empty()).map(|flow| flow.parse().unwrap()),
            created_at: Timestamp::from_millis(1),
            expires_at: None,
            revoked_at: None,
            suspended: false,
        };
        assert_eq!(record.credential_id.to_string(), text(one, "credentialId"));
        let message = credential_message(&credential, &record, &tenant, &realm);
        assert_eq!(*message, bytes(one, "message"));
        assert_eq!(key.mac(&message)[..], bytes(one, "hash"));
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test compares the secret")]
fn a_destination_s_secret_opens_as_its_vector_says() {
    let vector = vectors::committed("destination.json");
    let (realm, tenant) = (text(&vector, "realm").parse().unwrap(), text(&vector, "tenant").parse().unwrap());
    let destination = text(&vector, "destination").parse().unwrap();
    let id: DataKeyId = text(&vector, "dataKeyId").parse().unwrap();
    let data_key = DataKey::init_with(id, |place| place.copy_from_slice(&bytes(&vector, "dataKey")));
    let (name, host) = (text(&vector, "name"), text(&vector, "host"));
    let record = DestinationRecord {
        name: "acquirer".parse().unwrap(),
        host: host.to_owned(),
        secrets: BTreeMap::from([(name.to_owned(), text(&vector, "sealed").to_owned())]),
        data_key_id: Some(id),
    };
    let place = Place { realm: &realm, tenant: &tenant, destination: &destination, host };
    let opened = open_secret(&record, name, &place, &data_key).unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&opened), text(&vector, "secret"));
    let elsewhere = Place { host: "other.example", ..place };
    assert!(open_secret(&record, name, &elsewhere, &data_key).is_err());
}

#[tokio::test]
async fn an_idempotency_key_is_looked_up_as_its_vector_says() {
    let vector = vectors::committed("idempotency-lookup.json");
    let (key, vault) = (mac_key(&vector, "lookupKey"), TestVault::start().await);
    for one in vector["lookups"].as_array().unwrap() {
        let route = match text(one, "route") {
            "POST /v1/values" => "POST /v1/values",
            "POST /v1/capture/values" => "POST /v1/capture/values",
            other => panic!("{other}"),
        };
        let session = one["session"].as_str().map(|id| id.parse().unwrap());
        let scope = Scope { tenant: &vault.tenant, route, subject: text(one, "subject"), session, sensitive: false };
        let given = IdempotencyKey::new(text(one, "idempotencyKey"), Zeroizing::new(Vec::new())).unwrap();
        let secret = Arc::new(Credential::generate(CredentialKind::App, [1; 16]).unwrap());
        let place = (&vault.keys, &vault.store);
        let request = IdempotencyRequest::prepare(given, scope, secret, place, vault.clock.now()).await.unwrap();
        // The installation's own key over the vector's message: the message is what must not drift.
        let message = bytes(one, "message");
        assert_eq!(request.lookups()[0], vault.keys.mac(MacPurpose::IdempotencyLookup).mac(&message));
        assert_eq!(key.mac(&message)[..], bytes(one, "lookup"));
    }
}
