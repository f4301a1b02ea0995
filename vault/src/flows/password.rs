//! Steps `verify` and `hash`: PHC and bcrypt strings, with a floor and a cap on cost, a few at a time.

use std::sync::Arc;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use moka::sync::Cache;
use password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use secrecy::ExposeSecret;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use super::error::{Error, InputCode};
use crate::domain::{Plaintext, TenantName};

/// The longest a hash within the cap may take, its wait for a turn included.
pub(super) const LONGEST: Duration = Duration::from_secs(10);
/// How long a run waits for its turn.
const WAIT: Duration = Duration::from_secs(2);

/// What `hash` makes: Argon2id, 64 MiB, 3 passes, 1 lane. RFC 9106 section 4 recommends 64 MiB and 3 passes where
/// memory is bounded; a `hash` runs once per change of a password, so its tenth of a second does not matter.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;

/// Floors are the settings that the OWASP password storage sheet names as equivalents: (KiB, passes) for Argon2,
/// (log N, lanes) for scrypt at r = 8, rounds for PBKDF2. A hash must reach one of its kind in both numbers. Caps keep one
/// run from taking a node's memory or a second's multiple of its time.
const ARGON2_FLOORS: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];
const SCRYPT_FLOORS: [(u32, u32); 5] = [(17, 1), (16, 2), (15, 3), (14, 5), (13, 10)];
const PBKDF2_SHA256_FLOOR: u32 = 600_000;
const PBKDF2_SHA512_FLOOR: u32 = 210_000;
const ARGON2_MOST: (u32, u32) = (256 * 1024, 10);
const ARGON2_LANES: std::ops::RangeInclusive<u32> = 1..=8;
const BCRYPT_COST: std::ops::RangeInclusive<u32> = 10..=15;
const SCRYPT_MOST_LOG_N: u32 = 18;
const SCRYPT_BYTES: u64 = 256 * 1024 * 1024;
const PBKDF2_MOST: u32 = 5_000_000;
/// The shortest output that is compared, in bytes.
const SHORTEST_OUTPUT: usize = 16;

/// So many tenants' turns are counted at a time; one that was not asked for so long has none under way.
const MOST_TENANTS: u64 = 4096;
const COUNTED: Duration = Duration::from_secs(60);

/// Computes password hashes, a few at a time, off the runtime's threads.
#[derive(Debug, Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// The turns of each tenant: one less than there are, so that no tenant's costly hashes keep all others waiting.
    of_tenant: Cache<TenantName, Arc<Semaphore>>,
    most_of_one: usize,
}

/// The right to compute one hash.
type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Passwords {
    /// At most `at_once` hashes at a time: one per processor is the most that makes sense.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        let of_tenant = Cache::builder().max_capacity(MOST_TENANTS).time_to_idle(COUNTED).build();
        let most_of_one = at_once.saturating_sub(1).max(1);
        Self { turns: Arc::new(Semaphore::new(at_once.max(1))), of_tenant, most_of_one }
    }

    /// Whether a string is one that [`Passwords::verify`] takes; costs nothing.
    ///
    /// # Errors
    /// The code for a string of an unknown kind or of a cost out of bounds.
    pub fn check(phc: &str) -> Result<(), InputCode> {
        Stored::read(phc).map(|_| ())
    }

    /// Compares a password with an Argon2, bcrypt, scrypt or PBKDF2 string, in constant time.
    ///
    /// # Errors
    /// The code for a string of an unknown kind or of a cost out of bounds; [`Error::Overloaded`] by [`Refused::Busy`].
    pub async fn verify(&self, tenant: &TenantName, password: &Plaintext, phc: &str) -> Result<bool, Refused> {
        let stored = Stored::read(phc).map_err(Refused::Hash)?;
        let turn = self.turn(tenant).await?;
        let password = copy(password);
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            stored.verify(&password)
        });
        checked.await.map_err(|_| Refused::Busy)?.map_err(Refused::Hash)
    }

    /// Makes an Argon2id PHC string with a new salt.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::Random`].
    pub async fn hash(&self, tenant: &TenantName, password: &Plaintext) -> Result<Zeroizing<String>, Error> {
        let mut salt = [0_u8; 16];
        getrandom::fill(&mut salt).map_err(Error::Random)?;
        let turn = self.turn(tenant).await.map_err(|_| Error::Overloaded)?;
        let password = copy(password);
        let made = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            hash_with(&password, &salt)
        });
        made.await.ok().flatten().ok_or(Error::Overloaded)
    }

    async fn turn(&self, tenant: &TenantName) -> Result<Turn, Refused> {
        let own = || Arc::new(Semaphore::new(self.most_of_one));
        let of_tenant = self.of_tenant.get_with_by_ref(tenant, own);
        // The tenant's own first: who waits for that holds nothing that others wait for.
        let turn = async { Ok::<_, AcquireError>((of_tenant.acquire_owned().await?, self.any().await?)) };
        tokio::time::timeout(WAIT, turn).await.ok().and_then(Result::ok).ok_or(Refused::Busy)
    }

    async fn any(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        Arc::clone(&self.turns).acquire_owned().await
    }
}

/// Why a password was not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The string is of no known kind, or its cost is out of bounds.
    Hash(InputCode),
    /// Too many are under way.
    Busy,
}

#[expect(clippy::disallowed_methods, reason = "the password is hashed on another thread")]
fn copy(password: &Plaintext) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(password.expose_secret().as_bytes().to_vec())
}

fn hash_with(password: &[u8], salt: &[u8]) -> Option<Zeroizing<String>> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).ok()?;
    let mut output = Zeroizing::new([0_u8; 32]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    argon2.hash_password_into(password, salt, &mut output[..]).ok()?;
    let phc = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).ok()?,
        salt: Some(Salt::new(salt).ok()?),
        hash: Some(Output::new(&output[..]).ok()?),
    };
    Some(Zeroizing::new(phc.to_string()))
}

/// Whether a cost is one of the floors or above it.
fn reaches(floors: &[(u32, u32)], cost: (u32, u32)) -> bool {
    floors.iter().any(|floor| cost.0 >= floor.0 && cost.1 >= floor.1)
}

/// A stored hash whose cost is within bounds.
enum Stored {
    Argon2 { algorithm: Algorithm, version: Version, params: Params, salt: Salt, output: Output },
    Scrypt { params: scrypt::Params, salt: Salt, output: Output },
    Pbkdf2 { wide: bool, rounds: u32, salt: Salt, output: Output },
    Bcrypt(Zeroizing<String>),
}

impl Stored {
    fn read(text: &str) -> Result<Self, InputCode> {
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            return Self::read_bcrypt(text);
        }
        let phc = PasswordHash::new(text).map_err(|_| InputCode::Hash)?;
        let (Some(salt), Some(output)) = (phc.salt, phc.hash) else { return Err(InputCode::Hash) };
        if output.len() < SHORTEST_OUTPUT {
            return Err(InputCode::Hash);
        }
        let param = |name: &str| phc.params.get_decimal(name);
        match phc.algorithm.as_str() {
            name @ ("argon2id" | "argon2i") => {
                let algorithm = Algorithm::try_from(name).map_err(|_| InputCode::Hash)?;
                // Without a version it is the first one (PHC string format, Argon2 encoding).
                let version = Version::try_from(phc.version.unwrap_or(0x10)).map_err(|_| InputCode::Hash)?;
                let (Some(m), Some(t), Some(p)) = (param("m"), param("t"), param("p")) else {
                    return Err(InputCode::Hash);
                };
                let capped = m <= ARGON2_MOST.0 && t <= ARGON2_MOST.1 && ARGON2_LANES.contains(&p);
                if !capped || !reaches(&ARGON2_FLOORS, (m, t)) {
                    return Err(InputCode::Cost);
                }
                let params = Params::new(m, t, p, Some(output.len())).map_err(|_| InputCode::Hash)?;
                Ok(Self::Argon2 { algorithm, version, params, salt, output })
            }
            "scrypt" => {
                let (Some(ln), Some(r), Some(p)) = (param("ln"), param("r"), param("p")) else {
                    return Err(InputCode::Hash);
                };
                let bytes = 128_u64.checked_shl(ln.min(40)).unwrap_or(u64::MAX).saturating_mul(u64::from(r));
                let work = bytes.saturating_mul(u64::from(p));
                let bounded = bytes <= SCRYPT_BYTES && work <= SCRYPT_BYTES * 2 && ln <= SCRYPT_MOST_LOG_N;
                if !bounded || r < 8 || !reaches(&SCRYPT_FLOORS, (ln, p)) {
                    return Err(InputCode::Cost);
                }
                let ln = u8::try_from(ln).map_err(|_| InputCode::Cost)?;
                let params = scrypt::Params::new(ln, r, p).map_err(|_| InputCode::Hash)?;
                Ok(Self::Scrypt { params, salt, output })
            }
            name @ ("pbkdf2-sha256" | "pbkdf2-sha512") => {
                let rounds = param("i").ok_or(InputCode::Hash)?;
                let wide = name.ends_with("512");
                let floor = if wide { PBKDF2_SHA512_FLOOR } else { PBKDF2_SHA256_FLOOR };
                if !(floor..=PBKDF2_MOST).contains(&rounds) {
                    return Err(InputCode::Cost);
                }
                Ok(Self::Pbkdf2 { wide, rounds, salt, output })
            }
            _ => Err(InputCode::Hash),
        }
    }

    /// `$2b$12$` and 53 letters: 16 bytes of salt, 23 of hash.
    fn read_bcrypt(text: &str) -> Result<Self, InputCode> {
        let body = text.get(4..7).filter(|_| text.len() == 60 && text.is_ascii());
        let cost = body.and_then(|cost| cost.strip_suffix('$')).filter(|cost| cost.bytes().all(|b| b.is_ascii_digit()));
        let cost: u32 = cost.and_then(|cost| cost.parse().ok()).ok_or(InputCode::Hash)?;
        // As the crate reads it when it compares: what it would refuse then is refused before anything is spent. (Salt and hash end
        // within a letter whose other bits must be zero.)
        let reads = text.parse::<bcrypt::HashParts>().is_ok();
        match (reads, BCRYPT_COST.contains(&cost)) {
            (false, _) => Err(InputCode::Hash),
            (_, false) => Err(InputCode::Cost),
            _ => Ok(Self::Bcrypt(Zeroizing::new(text.to_owned()))),
        }
    }

    fn verify(&self, password: &[u8]) -> Result<bool, InputCode> {
        let mut computed = Zeroizing::new([0_u8; Output::MAX_LENGTH]);
        let output = match self {
            // The crate compares in constant time. It reads 72 bytes, as every bcrypt does.
            Self::Bcrypt(text) => return bcrypt::verify(password, text).map_err(|_| InputCode::Hash),
            Self::Argon2 { algorithm, version, params, salt, output } => {
                let argon2 = Argon2::new(*algorithm, *version, params.clone());
                let out = &mut computed[..output.len()];
                argon2.hash_password_into(password, salt, out).map_err(|_| InputCode::Hash)?;
                output
            }
            Self::Scrypt { params, salt, output } => {
                let out = &mut computed[..output.len()];
                scrypt::scrypt(password, salt, params, out).map_err(|_| InputCode::Hash)?;
                output
            }
            Self::Pbkdf2 { wide, rounds, salt, output } => {
                let out = &mut computed[..output.len()];
                if *wide {
                    pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, *rounds, out);
                } else {
                    pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, *rounds, out);
                }
                output
            }
        };
        Ok(computed[..output.len()].ct_eq(output.as_bytes()).into())
    }
}

#[cfg(test)]
mod tests;
