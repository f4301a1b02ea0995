//! Capture sessions: what a request becomes, what the row holds, whose token opens it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::{Error, Fault};
use super::request::SessionRequest;
use crate::domain::{
    AppDocument, AppName, Binding, CaptureSessionId, Credential, CredentialKind, FieldName, FieldSpec, FlowName,
    PurposeName, Realm, SecretId, TenantName, Timestamp, lp,
};
use crate::keys::{Keys, MacPurpose};
use crate::store::records::Body;
use crate::store::rows::Table;

/// The lifetime of a session that names none, and the longest, in seconds.
const DEFAULT_TTL: u64 = 600;
const LONGEST_TTL: u64 = 3600;
/// The most values of one session.
const MOST_VALUES: u32 = 100;
/// The longest subject, in characters.
const LONGEST_SUBJECT: usize = 128;

/// What a session's row holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SessionRecord {
    /// Of which app.
    pub(super) app: AppName,
    /// What may be captured, and to what each value is bound.
    pub(super) fields: BTreeMap<FieldName, Narrowing>,
    /// Salted commitment to whose values they are.
    pub(super) subject: Option<[u8; 32]>,
    /// When it began.
    pub(super) created_at: Timestamp,
    /// When it ends.
    pub(super) expires_at: Timestamp,
    /// How many values it may capture.
    pub(super) max_values: u32,
    /// How many it has captured.
    pub(super) used: u32,
    /// HMAC of the token.
    pub(super) token_hash: [u8; 32],
    /// The key of that HMAC.
    pub(super) mac_key_id: SecretId,
}

/// What a session wants of a field's flows and purposes; empty narrows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Narrowing {
    /// Flows.
    pub(super) flows: BTreeSet<FlowName>,
    /// Purposes.
    pub(super) purposes: BTreeSet<PurposeName>,
}

impl Body for SessionRecord {
    const TABLE: Table = Table::CaptureSessions;
}

impl Narrowing {
    /// Reads names of flows and purposes; one that `specs` do not have is unknown.
    pub(super) fn read(flows: &[String], purposes: &[String], specs: &[&FieldSpec]) -> Result<Self, Fault> {
        let unknown = |field: &str| Fault { index: None, field: field.to_owned(), code: "unknown" };
        let known = |flow: &FlowName| specs.iter().any(|spec| spec.flows.contains(flow));
        let read = flows.iter().map(|name| name.parse().ok().filter(known));
        let flows = read.collect::<Option<_>>().ok_or_else(|| unknown("flows"))?;
        let known = |purpose: &PurposeName| specs.iter().any(|spec| spec.purposes.contains(purpose));
        let read = purposes.iter().map(|name| name.parse().ok().filter(known));
        let purposes = read.collect::<Option<_>>().ok_or_else(|| unknown("purposes"))?;
        Ok(Self { flows, purposes })
    }

    /// What a value of the field is bound to.
    pub(super) fn bind(&self, spec: &FieldSpec) -> Option<Binding> {
        AppDocument::bind(spec, &self.flows, &self.purposes).ok()
    }
}

impl SessionRecord {
    /// What a request asks for, in the words of its app.
    ///
    /// # Errors
    /// [`Error::Validation`].
    pub(super) fn from_request(
        request: &SessionRequest,
        app: &AppDocument,
        (token_hash, mac_key_id): ([u8; 32], SecretId),
        now: Timestamp,
    ) -> Result<Self, Error> {
        let fields = fields(request, app)?;
        let default_values = u32::try_from(fields.len()).unwrap_or(MOST_VALUES).min(MOST_VALUES);
        let max_values = request.max_values.unwrap_or(default_values);
        if !(1..=MOST_VALUES).contains(&max_values) {
            return Err(Error::invalid("maxValues", "range"));
        }
        let ttl = request.ttl_seconds.unwrap_or(DEFAULT_TTL);
        if !(1..=LONGEST_TTL).contains(&ttl) {
            return Err(Error::invalid("ttlSeconds", "range"));
        }
        Ok(Self {
            app: app.name.clone(),
            fields,
            subject: request.subject.as_deref().map(subject).transpose()?,
            created_at: now,
            expires_at: now.plus(Duration::from_secs(ttl)),
            max_values,
            used: 0,
            token_hash,
            mac_key_id,
        })
    }

    /// Whether the token is this session's; in constant time.
    pub(super) fn admits(
        &self,
        token: &Credential,
        (session, tenant): (CaptureSessionId, &TenantName),
        keys: &Keys,
    ) -> bool {
        let message = token_message(token, session, &self.app, tenant, keys.realm());
        let key = keys.mac_by_id(MacPurpose::Credential, self.mac_key_id);
        token.kind() == CredentialKind::Capture && key.is_some_and(|key| key.verify(&message, &self.token_hash))
    }
}

/// The keyed hash of a new token, and the key it was made with.
pub(super) fn token_hash(
    token: &Credential,
    (session, app, tenant): (CaptureSessionId, &AppName, &TenantName),
    keys: &Keys,
) -> ([u8; 32], SecretId) {
    let key = keys.mac(MacPurpose::Credential);
    (key.mac(&token_message(token, session, app, tenant, keys.realm())), key.id())
}

/// lp(realm, tenant, kind, session id, app, token), as of every credential (docs/formats.md section 5).
#[expect(clippy::disallowed_methods, reason = "the token itself is the input of its keyed hash")]
fn token_message(
    token: &Credential,
    session: CaptureSessionId,
    app: &AppName,
    tenant: &TenantName,
    realm: &Realm,
) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(lp(&[
        realm.as_bytes(),
        tenant.as_bytes(),
        CredentialKind::Capture.as_str().as_bytes(),
        session.as_bytes(),
        app.as_bytes(),
        token.expose_secret().as_bytes(),
    ]))
}

fn fields(request: &SessionRequest, app: &AppDocument) -> Result<BTreeMap<FieldName, Narrowing>, Error> {
    let mut wanted = BTreeMap::new();
    for (index, name) in request.fields.iter().enumerate() {
        let known = name.as_str().parse::<FieldName>().ok().and_then(|name| app.fields.get_key_value(&name));
        let fault = || Fault { index: Some(index), field: "fields".to_owned(), code: "unknown" };
        let (name, spec) = known.ok_or_else(|| Error::Validation(vec![fault()]))?;
        wanted.insert(name.clone(), spec);
    }
    if request.fields.is_empty() {
        wanted = app.fields.iter().map(|(name, spec)| (name.clone(), spec)).collect();
    }
    let specs: Vec<&FieldSpec> = wanted.values().copied().collect();
    let narrowing =
        Narrowing::read(&request.flows, &request.purposes, &specs).map_err(|fault| Error::Validation(vec![fault]))?;
    for (name, spec) in &wanted {
        if narrowing.bind(spec).is_none() {
            return Err(Error::Validation(vec![Fault { index: None, field: name.to_string(), code: "empty_binding" }]));
        }
    }
    Ok(wanted.into_keys().map(|name| (name, narrowing.clone())).collect())
}

/// SHA-256(lp(`siv/v1/subject`, salt, subject)). The salt is kept nowhere: who holds the subject cannot test it either.
fn subject(text: &str) -> Result<[u8; 32], Error> {
    let length = text.chars().count();
    if !(1..=LONGEST_SUBJECT).contains(&length) || text.chars().any(char::is_control) {
        return Err(Error::invalid("subject", "range"));
    }
    let mut salt = [0_u8; 32];
    getrandom::fill(&mut salt)?;
    Ok(commitment(&salt, text))
}

fn commitment(salt: &[u8; 32], text: &str) -> [u8; 32] {
    Sha256::digest(lp(&[b"siv/v1/subject", salt, text.as_bytes()])).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = r#"
name = "shop"
[fields.card]
type = "card-number"
flows = ["charge", "reveal"]
purposes = ["payment", "support"]
[fields.cvc]
type = "card-cvc"
flows = ["charge"]
purposes = ["payment"]
"#;

    fn ask(json: &str) -> Result<SessionRecord, Error> {
        let app = AppDocument::from_toml(APP).unwrap();
        let request: SessionRequest = serde_json::from_str(json).unwrap();
        let id = SecretId::generate(Timestamp::from_millis(1));
        SessionRecord::from_request(&request, &app, ([0; 32], id), Timestamp::from_millis(1000))
    }

    #[test]
    fn a_token_is_hashed_and_a_subject_committed_to_as_their_vector_says() {
        let vector = crate::crypto::vectors::committed("capture-token.json");
        let text = |member: &str| vector[member].as_str().unwrap();
        let bytes = |member: &str| crate::domain::text::hex::decode(text(member)).unwrap();
        let token = Credential::parse(text("captureToken")).unwrap();
        let session = CaptureSessionId::from_bytes(token.id_bytes());
        assert_eq!((token.kind(), session.to_string().as_str()), (CredentialKind::Capture, text("captureSessionId")));
        let (realm, tenant) = (text("realm").parse().unwrap(), text("tenant").parse().unwrap());
        let message = token_message(&token, session, &text("app").parse().unwrap(), &tenant, &realm);
        assert_eq!(*message, bytes("message"));
        let key =
            crate::crypto::MacKey::new(SecretId::from_bytes([6; 16]), &bytes("credentialKey").try_into().unwrap());
        assert_eq!(key.mac(&message)[..], bytes("hash"));
        let salt = bytes("subjectSalt").try_into().unwrap();
        assert_eq!(commitment(&salt, text("subject"))[..], bytes("subjectCommitment"));
    }

    #[test]
    fn a_session_narrows_its_fields() {
        let record = ask(r#"{"app":"shop","fields":["card",{"field":"cvc"}],"flows":["charge"]}"#).unwrap();
        assert_eq!((record.max_values, record.expires_at), (2, Timestamp::from_millis(601_000)));
        let app = AppDocument::from_toml(APP).unwrap();
        let card: FieldName = "card".parse().unwrap();
        let binding = record.fields[&card].bind(&app.fields[&card]).unwrap();
        assert_eq!((binding.flows.len(), binding.purposes.len()), (1, 2));
        assert_eq!(ask(r#"{"app":"shop"}"#).unwrap().fields.len(), 2);
    }

    #[test]
    fn unknown_names_empty_intersections_and_ranges_are_refused() {
        for wrong in [
            r#"{"app":"shop","fields":["pin"]}"#,
            r#"{"app":"shop","fields":["Card"]}"#,
            r#"{"app":"shop","flows":["refund"]}"#,
            r#"{"app":"shop","flows":["charge","Not a name"]}"#,
            r#"{"app":"shop","purposes":["marketing"]}"#,
            r#"{"app":"shop","flows":["reveal"]}"#,
            r#"{"app":"shop","ttlSeconds":3601}"#,
            r#"{"app":"shop","ttlSeconds":0}"#,
            r#"{"app":"shop","maxValues":0}"#,
            r#"{"app":"shop","maxValues":101}"#,
            r#"{"app":"shop","subject":""}"#,
        ] {
            assert!(matches!(ask(wrong), Err(Error::Validation(_))), "{wrong}");
        }
    }
}
