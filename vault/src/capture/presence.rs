//! Whether a `secureValueKey` leads to a value: of this tenant and app, right secret, usable, and what was written.
//!
//! Everything is judged on the rows of one batch. Nothing is opened: of the seal only the outer layer is checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::crypto::{self, DataKey, MacKey, StateCode, ValueState, verifier_matches};
use crate::domain::{AppName, DataKeyId, SecureValueKey, TenantName, Timestamp, ValueId};
use crate::keys::{self, HeldKeys, Keys, RecordsError};
use crate::store::{Error, ReadValue, Rows, Store, current_state};

/// Why a key leads to no value. The caller never learns which; the log does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// There is no such value of this tenant and app.
    Absent,
    /// The secret half is another.
    WrongSecret,
    /// Its time is over.
    Expired,
    /// Its uses are spent, or its failures were too many.
    Spent,
    /// A row of it is not what was written.
    Tampered,
    /// Its data key ended with a KEK version that two custodians stated to be lost.
    Lost,
}

impl Absence {
    /// The rule as entries name it.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Absent => "value.absent",
            Self::WrongSecret => "value.wrong-secret",
            Self::Expired => "value.expired",
            Self::Spent => "value.spent",
            Self::Tampered => "value.tampered",
            Self::Lost => "value.key-lost",
        }
    }

    /// The reason as entries name it: the code of the answer, but for what is an alarm.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Tampered => "tampered",
            Self::Absent | Self::WrongSecret | Self::Expired | Self::Spent | Self::Lost => "value.not_found",
        }
    }
}

/// A value that is there.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its rows.
    pub value: &'a ReadValue,
    /// Its state, authenticated.
    pub state: ValueState,
    /// The data key of both.
    pub data_key: Arc<DataKey>,
}

/// What a key leads to.
#[derive(Debug)]
pub enum Presence<'a> {
    /// A value.
    Here(Found<'a>),
    /// None that may be used. The rows are given where the secret is right, so that the entry can say what it was about.
    Gone(Absence, Option<&'a ReadValue>),
    /// The data key is not at hand.
    NeedDataKey(DataKeyId),
}

/// Within what a key is looked for.
#[derive(Debug, Clone)]
pub struct Place {
    /// Whose values.
    pub tenant: TenantName,
    /// Of which app.
    pub app: AppName,
    /// Values whose rows cannot even be read, or whose data key is no more, and why.
    pub unreadable: BTreeMap<ValueId, Absence>,
}

impl Place {
    /// Those that a batch can read.
    #[must_use]
    pub fn readable(&self, ids: impl IntoIterator<Item = ValueId>) -> Vec<ValueId> {
        ids.into_iter().filter(|id| !self.unreadable.contains_key(id)).collect()
    }
}

/// What finding needs beside the rows.
#[derive(Debug, Clone)]
pub struct Finder {
    /// Peppers and the realm.
    pub keys: Keys,
    /// Data keys.
    pub held: HeldKeys,
}

impl Finder {
    /// A finder that holds no data key yet.
    #[must_use]
    pub fn new(keys: &Keys) -> Self {
        Self { keys: keys.clone(), held: keys.held() }
    }

    /// Finds the value of a key.
    ///
    /// Absent and foreign values cost one verifier too, so that time does not tell them from a wrong secret; a data key
    /// is fetched for nobody who does not have the secret.
    #[must_use]
    pub fn find<'a>(&self, key: &SecureValueKey, place: &Place, rows: &'a dyn Rows) -> Presence<'a> {
        if let Some(absence) = place.unreadable.get(&key.value_id()) {
            return Presence::Gone(*absence, None);
        }
        let value = rows.value(key.value_id()).filter(|value| value.row.metadata.app == place.app);
        let pepper =
            value.map_or_else(|| Some(self.keys.pepper()), |value| self.keys.pepper_by_id(value.row.pepper_id));
        let Some(pepper) = pepper else { return Presence::Gone(Absence::Tampered, None) };
        let stored = value.map_or([0; 32], |value| value.row.verifier);
        let right = self.is_right(&stored, &pepper, key, place);
        let Some(value) = value else { return Presence::Gone(Absence::Absent, None) };
        if !right {
            return Presence::Gone(Absence::WrongSecret, None);
        }
        self.judge(value, place, rows.now())
    }

    /// Which of these values made an operation fail: their rows cannot be read, or their data key is no more. Keys that
    /// can be had are held from then on.
    ///
    /// # Errors
    /// The store, or the key provider, does not answer.
    pub async fn diagnose(
        &mut self,
        error: &Error,
        ids: &[ValueId],
        tenant: &TenantName,
        store: &Store,
    ) -> Result<BTreeMap<ValueId, Absence>, Error> {
        let mut unreadable = BTreeMap::new();
        if !is_about_rows(error) {
            return Ok(unreadable);
        }
        for id in ids {
            let data_key = match store.value(tenant, *id).await {
                Ok(None) => continue,
                Ok(Some(value)) => self.keys.data_key(store, tenant, value.row.data_key_id).await.map_err(Error::from),
                Err(error) => Err(error),
            };
            match data_key {
                Ok(data_key) => self.held.hold(data_key),
                Err(Error::Keys(keys::Error::Lost)) => drop(unreadable.insert(*id, Absence::Lost)),
                Err(error) if is_about_rows(&error) => drop(unreadable.insert(*id, Absence::Tampered)),
                Err(error) => return Err(error),
            }
        }
        Ok(unreadable)
    }

    fn is_right(&self, stored: &[u8; 32], pepper: &MacKey, key: &SecureValueKey, place: &Place) -> bool {
        verifier_matches(stored, pepper, self.keys.realm(), &place.tenant, key)
    }

    fn judge<'a>(&self, value: &'a ReadValue, place: &Place, now: Timestamp) -> Presence<'a> {
        let (row, state) = (&value.row, current_state(value));
        if let Some(absence) = unusable(&state, now) {
            return Presence::Gone(absence, Some(value));
        }
        let Some(data_key) = self.held.get(&place.tenant, row.data_key_id) else {
            return Presence::NeedDataKey(row.data_key_id);
        };
        if self.is_genuine(value, &state, &data_key, place) {
            Presence::Here(Found { value, state, data_key })
        } else {
            Presence::Gone(Absence::Tampered, Some(value))
        }
    }

    /// State MAC, newest state version of the log, and the seal over all metadata.
    fn is_genuine(&self, value: &ReadValue, state: &ValueState, data_key: &DataKey, place: &Place) -> bool {
        let (row, realm) = (&value.row, self.keys.realm());
        let state_holds = value.state.as_ref().is_none_or(|stored| {
            stored.data_key_id == row.data_key_id
                && stored.state.verify_mac(data_key, realm, &place.tenant, row.metadata.value_id, &stored.mac)
        });
        state_holds
            && state.version == value.newest_state_version
            && row.metadata.tenant == place.tenant
            && row.metadata.realm == *realm
            && crypto::authenticate(&row.sealed, &row.metadata, data_key).is_ok()
    }
}

/// Why a value in this state may not be used now.
#[must_use]
pub fn unusable(state: &ValueState, now: Timestamp) -> Option<Absence> {
    if state.expires.is_some_and(|end| end <= now) {
        return Some(Absence::Expired);
    }
    (state.code == StateCode::Spent || state.uses_left == Some(0)).then_some(Absence::Spent)
}

/// Whether an error says that something stored is not what was written, or is no more; not that the store is away.
fn is_about_rows(error: &Error) -> bool {
    match error {
        Error::Tampered(_) | Error::Unreadable(_) => true,
        Error::Keys(error) => matches!(
            error,
            keys::Error::NoDataKey
                | keys::Error::Lost
                | keys::Error::Erased
                | keys::Error::Altered
                | keys::Error::Records(RecordsError::Altered)
        ),
        _ => false,
    }
}
