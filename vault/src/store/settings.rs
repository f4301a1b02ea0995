//! Where the database is, as the settings say it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::{Host, Url};

use super::Error;

/// The database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseSettings {
    /// One file, for one node.
    Sqlite {
        /// The file; its folder must exist.
        path: PathBuf,
    },
    /// A PostgreSQL, for any number of nodes.
    Postgres {
        /// Where it is, and as whom.
        address: PostgresAddress,
        /// Whether migrations take an advisory lock; off for engines that have none.
        migration_lock: bool,
    },
}

impl DatabaseSettings {
    /// Reads `sqlite:/path/of/the/file`.
    ///
    /// # Errors
    /// [`Error::Setting`] for any other form; parameters are refused, because durability is not for choosing.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let Some(path) = text.strip_prefix("sqlite:") else {
            return Err(Error::Setting("a file is named by sqlite:PATH"));
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains('?') || path.contains(":memory:") {
            return Err(Error::Setting("sqlite:PATH names a file and takes no parameters"));
        }
        Ok(Self::Sqlite { path: PathBuf::from(path) })
    }
}

/// Parameters that are taken. `options` is not among them: durability is not for choosing.
const PARAMETERS: [&str; 8] = ["host", "port", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey"];

/// `postgres://user:password@host:port/database?sslmode=...`, checked. It never shows itself: it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresAddress {
    url: String,
}

impl PostgresAddress {
    /// Reads the address.
    ///
    /// # Errors
    /// One line that says what to change, and repeats nothing of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let hosts = text.split_once("://").map_or("", |(_, rest)| rest);
        let hosts = hosts.split(['/', '?']).next().unwrap_or_default();
        if hosts.rsplit('@').next().is_some_and(|hosts| hosts.contains(',')) {
            return Err(
                "name one host: siv does not look for the primary itself; put HAProxy, PgBouncer or a virtual \
                        address before several",
            );
        }
        let url = Url::parse(text).map_err(|_| "write it as postgres://user@host:port/database?sslmode=verify-full")?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err("write it as postgres://user@host:port/database?sslmode=verify-full");
        }
        if url.query_pairs().any(|(key, _)| !PARAMETERS.contains(&&*key)) {
            return Err("take away parameters other than host, port, user, dbname, sslmode, sslrootcert, sslcert and \
                        sslkey; how a connection writes is not for choosing");
        }
        if url.query_pairs().any(|(key, value)| key == "host" && value.contains(',')) {
            return Err("name one host: siv does not look for the primary itself");
        }
        let address = Self { url: text.to_owned() };
        let options = PgConnectOptions::from_str(text).map_err(|_| "a part of it has no meaning to PostgreSQL")?;
        if options.get_database().is_none() {
            return Err("name the database after the host: postgres://user@host:port/database");
        }
        let verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull | PgSslMode::VerifyCa);
        if !verified && !is_near(&url) {
            return Err("add sslmode=verify-full (and sslrootcert=/path/to/ca.pem): over a network the database must \
                        prove who it is");
        }
        Ok(address)
    }

    /// Whether a password stands in it, so that it must be kept like one.
    #[must_use]
    pub fn has_password(&self) -> bool {
        Url::parse(&self.url).is_ok_and(|url| url.password().is_some())
    }

    /// Whether both name one database of one server, as far as their words tell.
    #[must_use]
    pub fn is_same_database(&self, other: &Self) -> bool {
        let place = |address: &Self| {
            let options = PgConnectOptions::from_str(&address.url).ok()?;
            let host = match options.get_socket() {
                Some(socket) => socket.display().to_string(),
                None if is_near(&Url::parse(&address.url).ok()?) => "localhost".to_owned(),
                None => options.get_host().to_ascii_lowercase(),
            };
            Some((host, options.get_port(), options.get_database()?.to_owned()))
        };
        place(self).is_some_and(|place_of_self| Some(place_of_self) == place(other))
    }

    pub(super) fn options(&self) -> Result<PgConnectOptions, Error> {
        let options = PgConnectOptions::from_str(&self.url).map_err(|_| Error::Setting("not an address"))?;
        Ok(options.application_name("siv").disable_statement_logging())
    }
}

impl fmt::Debug for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresAddress(..)")
    }
}

/// A socket or this machine: nobody is on the way.
fn is_near(url: &Url) -> bool {
    let named = url.query_pairs().filter(|(key, _)| key == "host").last().map(|(_, host)| host.into_owned());
    let host = match named {
        Some(host) => host,
        None => match url.host() {
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Domain(name)) => name.to_owned(),
            None => String::new(),
        },
    };
    let address = host.parse::<std::net::IpAddr>();
    host.is_empty() || host.starts_with(['/', '%']) || host == "localhost" || address.is_ok_and(|at| at.is_loopback())
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

    #[test]
    fn two_names_of_one_database_are_seen_through() {
        let same = |one: &str, other: &str| {
            PostgresAddress::parse(one).unwrap().is_same_database(&PostgresAddress::parse(other).unwrap())
        };
        assert!(same("postgres://siv@localhost/siv", "postgres://other:secret@127.0.0.1:5432/siv"));
        assert!(same("postgres:///siv?host=/run/postgresql", "postgres:///siv?host=/run/postgresql&user=u"));
        assert!(same("postgres://db.example/siv?sslmode=verify-full", "postgres://DB.example/siv?sslmode=verify-ca"));
        assert!(!same("postgres://siv@localhost/siv", "postgres://siv@localhost/siv_keys"));
        assert!(!same("postgres://siv@localhost/siv", "postgres://siv@localhost:5433/siv"));
    }

    #[test]
    fn one_database_is_named_and_it_proves_itself_over_a_network() {
        for refused in [
            "postgres://a,b/siv",
            "postgres://siv:secret@a:5432,b:5432/siv",
            "postgres:///siv?host=a,b",
            "postgres://localhost/siv?options=-csynchronous_commit%3Doff",
            "postgres://localhost",
            "postgres://db.example/siv",
            "postgres://db.example/siv?sslmode=require",
            "postgres:///siv?host=10.0.0.7",
            "mysql://localhost/siv",
        ] {
            let why = PostgresAddress::parse(refused).unwrap_err();
            assert!(!why.contains("secret") && !why.contains("siv:"), "{why}");
        }
        for taken in [
            "postgres://siv@localhost/siv",
            "postgres://siv@127.0.0.1:5433/siv",
            "postgresql://siv@[::1]/siv",
            "postgres:///siv?host=/run/postgresql&user=siv",
            "postgres://siv:secret@db.example/siv?sslmode=verify-full",
        ] {
            let address = PostgresAddress::parse(taken).unwrap();
            assert!(!format!("{address:?}").contains("secret"));
        }
    }
}
