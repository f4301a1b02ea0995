//! A throw-away key of the token, for what must not be tried on a KEK. It lives in the session and is destroyed on drop.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::Session;

use crate::failure::Fault;
use crate::kek::Kek;
use crate::kek_kind::KekKind;
use crate::module::Module;
use crate::profile::Place;

pub(crate) struct Scratch<'a>(Place<'a>);

impl<'a> Scratch<'a> {
    /// A session key with the attributes of a KEK.
    pub(crate) fn aes(module: &'a Module, session: &'a Session) -> Result<Self, Fault> {
        let key = session.generate_key(
            &Mechanism::AesKeyGen,
            &[
                Attribute::Token(false),
                Attribute::ValueLen(32.into()),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::Wrap(true),
                Attribute::Unwrap(true),
            ],
        )?;
        Ok(Self(Place { module, session, kek: Kek { opens: key, closes: key, kind: KekKind::Aes256 } }))
    }

    /// A session pair of RSA-3072 with the attributes of a KEK.
    pub(crate) fn rsa(module: &'a Module, session: &'a Session) -> Result<Self, Fault> {
        let (public, private) = session.generate_key_pair(
            &Mechanism::RsaPkcsKeyPairGen,
            &[
                Attribute::Token(false),
                Attribute::ModulusBits(3072.into()),
                Attribute::PublicExponent(vec![1, 0, 1]),
                Attribute::Encrypt(true),
                Attribute::Wrap(true),
            ],
            &[
                Attribute::Token(false),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Decrypt(true),
                Attribute::Unwrap(true),
            ],
        )?;
        Ok(Self(Place { module, session, kek: Kek { opens: private, closes: public, kind: KekKind::RSA_3072 } }))
    }

    pub(crate) fn place(&self) -> Place<'a> {
        self.0
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // It dies with its session in any case.
        let _ = self.0.session.destroy_object(self.0.kek.opens);
        if self.0.kek.closes.handle() != self.0.kek.opens.handle() {
            let _ = self.0.session.destroy_object(self.0.kek.closes);
        }
    }
}
