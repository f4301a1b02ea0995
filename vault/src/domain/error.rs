//! What can be wrong with a word of the domain. No variant carries the input.

/// A text or document that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A `secureValueKey` that is not in the one canonical spelling.
    #[error("not a secureValueKey")]
    SecureValueKey,
    /// A credential or capture token that is not in the one canonical spelling.
    #[error("not a credential")]
    Credential,
    /// A name that is not an ASCII slug.
    #[error("a name is 1 to 63 characters of a-z, 0-9 and '-', beginning with a letter or digit")]
    Name,
    /// An id that is not a UUID in its canonical spelling.
    #[error("not an id")]
    Id,
    /// A document (app) that breaks a rule; the text is ours and names the place, never the content.
    #[error("{0}")]
    Document(String),
}
