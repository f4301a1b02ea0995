//! Where the database is, as the settings say it.

use std::path::PathBuf;

use super::Error;

/// The database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseSettings {
    /// One file, for one node.
    Sqlite {
        /// The file; its folder must exist.
        path: PathBuf,
    },
}

impl DatabaseSettings {
    /// Reads `sqlite:/path/of/the/file`.
    ///
    /// # Errors
    /// [`Error::Setting`] for any other form; parameters are refused, because durability is not for choosing.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let Some(path) = text.strip_prefix("sqlite:") else {
            return Err(Error::Setting("this build takes sqlite:PATH"));
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains('?') || path.contains(":memory:") {
            return Err(Error::Setting("sqlite:PATH names a file and takes no parameters"));
        }
        Ok(Self::Sqlite { path: PathBuf::from(path) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weaker_durability_cannot_be_asked_for() {
        for text in ["sqlite:", "sqlite::memory:", "sqlite:a.db?synchronous=off", "mysql://x", "a.db"] {
            assert!(DatabaseSettings::parse(text).is_err(), "{text}");
        }
        let path = PathBuf::from("/var/lib/siv/siv.db");
        assert_eq!(
            DatabaseSettings::parse("sqlite:///var/lib/siv/siv.db").ok(),
            Some(DatabaseSettings::Sqlite { path })
        );
    }
}
