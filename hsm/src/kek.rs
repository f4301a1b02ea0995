//! A key-encryption key in a token: found exactly once or refused, and what the token says about it. Its bytes are never asked for.

use std::fmt::Write as _;

use cryptoki::error::Error;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use serde::{Deserialize, Serialize};

use crate::error::HsmError;
use crate::failure::Fault;
use crate::kek_kind::{KekKind, RsaSize};
use crate::mechanisms;
use crate::profile::PublicKek;
use crate::uri::KekSelector;

/// What a token says of a KEK. Absent where it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KekAttributes {
    /// Kind and size.
    pub kind: KekKind,
    /// `CKA_SENSITIVE`.
    pub sensitive: Option<bool>,
    /// `CKA_ALWAYS_SENSITIVE`.
    pub always_sensitive: Option<bool>,
    /// `CKA_EXTRACTABLE`.
    pub extractable: Option<bool>,
    /// `CKA_NEVER_EXTRACTABLE`.
    pub never_extractable: Option<bool>,
    /// `CKA_LOCAL`: made in the token.
    pub local: Option<bool>,
    /// `CKA_MODIFIABLE`.
    pub modifiable: Option<bool>,
    /// `CKA_KEY_GEN_MECHANISM`, by name.
    pub generated_by: Option<String>,
    /// Check value in hexadecimal: the token's `CKA_CHECK_VALUE` of a secret key, SHA-256 of modulus and exponent of a pair.
    pub check_value: Option<String>,
    /// The public half of a pair.
    pub public: Option<PublicKek>,
}

/// A KEK's handles, good for one login generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kek {
    /// The secret or private key.
    pub(crate) opens: ObjectHandle,
    /// The secret or public key.
    pub(crate) closes: ObjectHandle,
    pub(crate) kind: KekKind,
}

impl KekAttributes {
    /// What a token does not vouch for in this key. A caller takes on no such key that somebody brought: its bytes may be known. Empty is good.
    #[must_use]
    pub fn reservations(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.local != Some(true) {
            found.push("CKA_LOCAL is not true: the key may have existed outside the token".to_owned());
        }
        if self.never_extractable != Some(true) {
            found.push("CKA_NEVER_EXTRACTABLE is not true: the key may have left the token".to_owned());
        }
        if self.always_sensitive != Some(true) {
            found.push("CKA_ALWAYS_SENSITIVE is not true: the key may have been readable".to_owned());
        }
        found
    }
}

impl Kek {
    /// Finds the one KEK of `selector` and refuses a key that could be read out.
    pub(crate) fn find(session: &Session, selector: &KekSelector) -> Result<Self, Fault> {
        if *selector == KekSelector::default() {
            return Err(HsmError::Configuration("a KEK is named by label, id or both".to_owned()).into());
        }
        let Named { opening, public } = Named::of(session, selector)?;
        let opens = match opening[..] {
            [one] => one,
            [] => return Err(HsmError::KekNotFound.into()),
            _ => return Err(HsmError::KekAmbiguous(opening.len()).into()),
        };
        let kind = kind(session, opens)?;
        let closes = if kind == KekKind::Aes256 {
            opens
        } else {
            match public[..] {
                [one] => one,
                [] => return Err(unfit("its public half is not in the token")),
                _ => return Err(HsmError::KekAmbiguous(public.len()).into()),
            }
        };
        let kek = Self { opens, closes, kind };
        let said = kek.attributes(session)?;
        if said.extractable != Some(false) || said.sensitive != Some(true) {
            return Err(unfit("it must be sensitive and not extractable"));
        }
        Ok(kek)
    }

    /// What the token says of it.
    pub(crate) fn attributes(&self, session: &Session) -> Result<KekAttributes, Fault> {
        let asked = [
            AttributeType::Sensitive,
            AttributeType::AlwaysSensitive,
            AttributeType::Extractable,
            AttributeType::NeverExtractable,
            AttributeType::Local,
            AttributeType::Modifiable,
            AttributeType::KeyGenMechanism,
        ];
        let public = self.public(session)?;
        let check_value = public.as_ref().map(PublicKek::check_value).or_else(|| self.secret_check_value(session));
        let mut said = KekAttributes {
            kind: self.kind,
            sensitive: None,
            always_sensitive: None,
            extractable: None,
            never_extractable: None,
            local: None,
            modifiable: None,
            generated_by: None,
            check_value,
            public,
        };
        for kind in asked {
            // One by one: some modules fail the whole list for one attribute they do not know.
            let Ok(answer) = session.get_attributes(self.opens, &[kind]) else { continue };
            match answer.into_iter().next() {
                Some(Attribute::Sensitive(b)) => said.sensitive = Some(b),
                Some(Attribute::AlwaysSensitive(b)) => said.always_sensitive = Some(b),
                Some(Attribute::Extractable(b)) => said.extractable = Some(b),
                Some(Attribute::NeverExtractable(b)) => said.never_extractable = Some(b),
                Some(Attribute::Local(b)) => said.local = Some(b),
                Some(Attribute::Modifiable(b)) => said.modifiable = Some(b),
                Some(Attribute::KeyGenMechanism(m)) => said.generated_by = Some(mechanisms::name(*m)),
                _ => {}
            }
        }
        Ok(said)
    }

    /// The token's own check value of a secret key. Never computed by ECB here: the zero block's image is the hash key of GCM.
    fn secret_check_value(&self, session: &Session) -> Option<String> {
        let answer = session.get_attributes(self.opens, &[AttributeType::CheckValue]).unwrap_or_default();
        answer.into_iter().find_map(|a| match a {
            Attribute::CheckValue(bytes) if !bytes.is_empty() => Some(hex(&bytes)),
            _ => None,
        })
    }

    fn public(&self, session: &Session) -> Result<Option<PublicKek>, Fault> {
        if self.kind == KekKind::Aes256 {
            return Ok(None);
        }
        let ask = |kind| session.get_attributes(self.closes, &[kind]);
        let (modulus, exponent) = (ask(AttributeType::Modulus)?, ask(AttributeType::PublicExponent)?);
        match (modulus.first(), exponent.first()) {
            (Some(Attribute::Modulus(modulus)), Some(Attribute::PublicExponent(exponent))) => {
                Ok(Some(PublicKek::new(modulus, exponent)))
            }
            _ => Err(unfit("its public half shows neither modulus nor exponent")),
        }
    }
}

/// Refuses if label or id are taken.
pub(crate) fn refuse_taken(session: &Session, selector: &KekSelector) -> Result<(), Fault> {
    match Kek::find(session, selector) {
        Err(Fault::Told(HsmError::KekNotFound)) => Ok(()),
        Ok(_) => Err(HsmError::Refused("a key of that label and id exists".to_owned()).into()),
        Err(other) => Err(other),
    }
}

/// Makes a KEK inside the token: not extractable, sensitive, for wrapping only. It does not ask whether there is one.
pub(crate) fn generate(session: &Session, selector: &KekSelector, kind: KekKind) -> Result<(), Fault> {
    let mut named = vec![Attribute::Token(true)];
    named.extend(names(selector));
    let guarded = [Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false)];
    let closes = [Attribute::Encrypt(true), Attribute::Wrap(true)];
    let opens = [Attribute::Decrypt(true), Attribute::Unwrap(true)];
    match kind.modulus() {
        None => {
            let mut all = vec![Attribute::ValueLen(32.into())];
            for part in [&named[..], &guarded, &closes, &opens] {
                all.extend_from_slice(part);
            }
            session.generate_key(&Mechanism::AesKeyGen, &all)?;
        }
        Some(bytes) => {
            let size = [Attribute::ModulusBits((bytes as u64 * 8).into()), Attribute::PublicExponent(vec![1, 0, 1])];
            let public = [&named[..], &size, &closes].concat();
            let private = [&named[..], &guarded, &opens].concat();
            session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)?;
        }
    }
    Ok(())
}

/// Destroys the KEK, and its public half. There is no way back.
pub(crate) fn destroy(session: &Session, kek: Kek) -> Result<(), Fault> {
    session.destroy_object(kek.opens)?;
    if kek.closes.handle() != kek.opens.handle() {
        session.destroy_object(kek.closes)?;
    }
    Ok(())
}

fn names(selector: &KekSelector) -> impl Iterator<Item = Attribute> {
    let label = selector.label.as_ref().map(|label| Attribute::Label(label.as_bytes().to_vec()));
    let id = selector.id.as_ref().map(|id| Attribute::Id(id.clone()));
    label.into_iter().chain(id)
}

/// The keys of one label and id in a token.
#[derive(Default)]
struct Named {
    /// Secret and private ones.
    opening: Vec<ObjectHandle>,
    public: Vec<ObjectHandle>,
}

impl Named {
    /// One search, whatever the kind of key: where a module reads all that its token holds for each, as SoftHSM does, that is most of
    /// what a worker's start costs in a full token.
    fn of(session: &Session, selector: &KekSelector) -> Result<Self, Fault> {
        let mut wanted = vec![Attribute::Token(true)];
        wanted.extend(names(selector));
        let mut named = Self::default();
        for object in session.find_objects(&wanted)? {
            match class(session, object)? {
                Some(ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY) => named.opening.push(object),
                Some(ObjectClass::PUBLIC_KEY) => named.public.push(object),
                _ => {}
            }
        }
        Ok(named)
    }
}

/// Nothing of a class that is a vendor's own. An object that does not say its class may be the key that is looked for: it is
/// never taken for absent, because absence ends keys.
fn class(session: &Session, object: ObjectHandle) -> Result<Option<ObjectClass>, Fault> {
    match session.get_attributes(object, &[AttributeType::Class]) {
        Ok(said) => match said.first() {
            Some(Attribute::Class(class)) => Ok(Some(*class)),
            _ => Err(unfit("the module does not say what kind of object has its name")),
        },
        Err(Error::NotSupported) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn kind(session: &Session, key: ObjectHandle) -> Result<KekKind, Fault> {
    let said = session.get_attributes(key, &[AttributeType::KeyType])?;
    match said.first() {
        Some(Attribute::KeyType(KeyType::AES)) => {
            match session.get_attributes(key, &[AttributeType::ValueLen])?.first() {
                Some(Attribute::ValueLen(length)) if **length == 32 => Ok(KekKind::Aes256),
                _ => Err(unfit("an AES key must have 256 bits")),
            }
        }
        Some(Attribute::KeyType(KeyType::RSA)) => {
            let said = session.get_attributes(key, &[AttributeType::Modulus])?;
            let size = said.first().and_then(|said| match said {
                Attribute::Modulus(modulus) => RsaSize::of(modulus),
                _ => None,
            });
            size.map(KekKind::Rsa).ok_or_else(|| unfit("an RSA key must have 3072 to 8192 bits, a multiple of 64"))
        }
        _ => Err(unfit("only AES and RSA keys can serve")),
    }
}

fn unfit(why: &str) -> Fault {
    HsmError::KekUnfit(why.to_owned()).into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
