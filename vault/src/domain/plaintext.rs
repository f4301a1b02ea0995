//! The sensitive text itself.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// The longest text a field can hold, in bytes: the largest bucket of the inner seal less its length.
pub const LONGEST_PLAINTEXT: usize = 16_384 - 4;

/// A sensitive text: wiped on drop, never printed, copied, compared or serialised.
///
/// The only door is [`ExposeSecret::expose_secret`], which clippy refuses where no reason is written beside it.
pub struct Plaintext(SecretString);

impl Plaintext {
    /// Takes the text over; the buffer it came in is wiped by its own drop.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(SecretString::from(text.as_str()))
    }
}

impl ExposeSecret<str> for Plaintext {
    #[expect(clippy::disallowed_methods, reason = "this is the door itself; each caller states its reason")]
    fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plaintext(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_holds_no_content() {
        let plaintext = Plaintext::new(Zeroizing::new("4111111111111111".to_owned()));
        assert_eq!(format!("{plaintext:?}"), "Plaintext(…)");
    }
}
