//! A customer's token is taken on: its module is examined, a worker logs in once, a key is made or found, tried out, and
//! given a canary. Nothing is stored here.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use hsm::{
    Host, HsmError, KekAttributes, KekKind, KekRef, KekSelector, ModuleFile, NotMade, Phase, Pin, ProbeReport, Profile,
    TokenInfo, TokenSelector, Trial,
};

use super::guesses::Guesses;
use super::making::{blocking, pin_version};
use super::running::{configuration, limits};
use super::{HsmProvider, HsmSetup, MANAGE};
use crate::domain::text::hex;
use crate::domain::{KeyProviderId, TenantName, Timestamp};
use crate::keys::hsm_records::ProviderRecord;
use crate::keys::{Error, KeyRecords};

/// So long a worker's place is waited for besides.
const ROOM: Duration = Duration::from_secs(2);

/// How long a token may take until it is logged in: as long as a start may, in its three parts.
pub(super) fn connects() -> Duration {
    limits().start() + ROOM
}

/// What a person says about the token that is to be taken on.
#[derive(Debug, Clone)]
pub struct HsmWish {
    /// The vendor's module: an absolute path on the machine of the vault.
    pub module: PathBuf,
    /// The token's label.
    pub token: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The user PIN.
    pub pin: HsmPin,
    /// A key that is there already; without it one is made.
    pub kek: Option<String>,
    /// That key is taken on though somebody may know its bytes: who says so is in the log, with what the token does not vouch for.
    pub waive: bool,
}

/// What a waiver waives: which of these a key lacks stands in the entry that takes it on (`reservations`).
pub const WAIVED: &str = "that the token vouches for the key: that it was made there (CKA_LOCAL), never left it \
    (CKA_NEVER_EXTRACTABLE) and was never readable (CKA_ALWAYS_SENSITIVE); somebody may know its bytes";

impl HsmWish {
    /// What is waived for the key that is named, if something is.
    #[must_use]
    pub fn waived(&self) -> Option<&'static str> {
        self.waive.then_some(WAIVED)
    }
}

/// A PIN on its way: not shown by `Debug`, wiped on drop.
#[derive(Clone)]
pub struct HsmPin(pub(super) Zeroizing<Vec<u8>>);

impl HsmPin {
    /// Takes it over; nothing if it is no PIN.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        Pin::new(text).is_ok().then(|| Self(Zeroizing::new(text.to_vec())))
    }

    /// As a login takes it.
    pub(super) fn pin(&self) -> Result<Pin, Error> {
        Pin::new(&self.0).map_err(Error::Hsm)
    }
}

impl std::fmt::Debug for HsmPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HsmPin(…)")
    }
}

/// Why a token was not taken on: what was said, and what is wrong with it. Somebody has to change one or the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the HSM is not taken on: {member}: {why}")]
pub struct HsmRefusal {
    /// `module`, `token`, `pin` or `kek`.
    pub member: &'static str,
    /// The rule that is broken.
    pub code: &'static str,
    /// In the words of the crate `hsm`, which repeats nothing secret.
    pub why: String,
    /// Whether a login was let go of which nobody knows how it ended, if it was not refused: the token may have counted it.
    pub has_tried: bool,
}

impl HsmRefusal {
    fn new(member: &'static str, code: &'static str, why: impl Into<String>) -> Self {
        Self { member, code, why: why.into(), has_tried: false }
    }
}

impl Error {
    /// What it means once a login was let go.
    pub(super) fn after_a_login(self) -> Self {
        let refusal = match self {
            Self::HsmRefused(refusal) => refusal,
            // The vault's own attempt broke off.
            _ => HsmRefusal::new("token", "unreachable", "the login to it broke off: try again"),
        };
        Self::HsmRefused(HsmRefusal { has_tried: true, ..refusal })
    }
}

/// Of a token that the vault does not see and whoever asks does.
const fn elsewhere(failure: Option<&HsmError>) -> &'static str {
    match failure {
        Some(HsmError::TokenNotFound(_)) => {
            ". What its module needs to find it (such as SOFTHSM2_CONF) belongs in the environment of `siv serve`"
        }
        _ => "",
    }
}

/// A key in a token that was tried out.
pub(super) struct Tried {
    pub(super) kek: KekRef,
    pub(super) canary: hsm::Canary,
    pub(super) attributes: KekAttributes,
}

impl HsmSetup {
    /// Whether the settings let a module be loaded.
    pub(super) fn allows(&self, module: &Path) -> Result<(), HsmError> {
        let Some(allowed) = &self.modules else { return Ok(()) };
        // Another spelling of an allowed path is the same file: it is the one behind all links that is loaded.
        let file = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if allowed.iter().any(|path| path == module || file(path) == file(module)) {
            return Ok(());
        }
        let named = allowed.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        Err(HsmError::Configuration(format!("hsm_modules in the settings does not name the module; it names {named}")))
    }

    /// The file of a module that may be loaded, with its hash.
    pub(super) fn examine(&self, module: &Path) -> Result<ModuleFile, Error> {
        let refused = |code| move |error: HsmError| refusal("module", code, &error);
        self.allows(module).map_err(refused("not_allowed"))?;
        let file = ModuleFile::examine(module).map_err(refused("unusable"))?;
        // What was found, whatever the path led to a moment ago.
        self.allows(&file.path).map_err(refused("not_allowed"))?;
        Ok(file)
    }
}

impl HsmProvider {
    /// A worker that is logged in to the token that is wished for, once; and how it would be reached from now on.
    pub(super) async fn reached<R: KeyRecords>(
        &self,
        records: &R,
        (wish, by): (&HsmWish, &TenantName),
        now: Timestamp,
    ) -> Result<(ProviderRecord, Host, TokenInfo), Error> {
        let setup = self.setup.get().ok_or(Error::KekUnusable)?.clone();
        let asked = selector(wish)?;
        let path = wish.module.clone();
        let module = blocking(move || setup.examine(&path)).await?;
        let draft = ProviderRecord {
            provider_id: KeyProviderId::generate(now),
            module: wish.module.display().to_string(),
            module_sha256: module.sha256,
            token: asked,
            pin_version: pin_version()?,
            quarantined: false,
            changed_at: now,
        };
        let (may_try, guesses) = Guesses::of(records, by);
        let host = self.trying(configuration(&draft, wish.pin.pin()?), may_try)?;
        let connecting = blocking(move || connected(&host).map(|token| (host, token)));
        let (host, token) = guesses.counted_while(connecting).await?;
        Ok((draft, host, token))
    }
}

fn refusal(member: &'static str, code: &'static str, error: &HsmError) -> Error {
    Error::HsmRefused(HsmRefusal::new(member, code, error.to_string()))
}

/// The token a wish names.
fn selector(wish: &HsmWish) -> Result<TokenSelector, Error> {
    if wish.token.is_none() && wish.serial.is_none() {
        let refused = HsmRefusal::new("token", "required", "label or serial number must name the token");
        return Err(Error::HsmRefused(refused));
    }
    Ok(TokenSelector { label: wish.token.clone(), serial: wish.serial.clone(), ..TokenSelector::default() })
}

/// Waits until the host is logged in. One refused PIN is one attempt, and the host makes no second one.
fn connected(host: &Host) -> Result<TokenInfo, Error> {
    let until = Instant::now() + connects();
    let settled = |status: &hsm::Status| {
        matches!(status.phase, Phase::Ready | Phase::Quarantined)
            || (status.phase == Phase::Down && status.last_error.is_some())
    };
    host.wait(until.saturating_duration_since(Instant::now()), settled);
    let status = host.status();
    if status.phase == Phase::Quarantined {
        let why = status.last_error.unwrap_or_default();
        return Err(Error::HsmRefused(HsmRefusal::new("pin", "refused", why)));
    }
    match status.worker {
        Some(worker) if status.phase == Phase::Ready => Ok(worker.token),
        // The host's own words: a token that is not there, a module that does not load, a worker that died.
        _ => Err(Error::HsmRefused(HsmRefusal::new(
            "token",
            "unreachable",
            status.last_error.unwrap_or_else(|| "it did not answer in time".to_owned())
                + elsewhere(status.failure.as_ref()),
        ))),
    }
}

/// A key that somebody made: exactly one, and one that can serve.
pub(super) fn found(host: &Host, (label, waive): (&str, bool)) -> Result<Tried, Error> {
    let selector = KekSelector { label: Some(label.to_owned()), id: None };
    let attributes = host.describe(&selector, MANAGE).map_err(of_kek)?;
    if !waive {
        refuse_known(&attributes)?;
    }
    tried(host, &selector, attributes)
}

/// Refuses a key whose bytes somebody may know: with a copy of the database they would have every data key under it. Of a key
/// that siv makes itself nothing of that kind can be true, whatever a token says.
fn refuse_known(attributes: &KekAttributes) -> Result<(), Error> {
    let reservations = attributes.reservations();
    if reservations.is_empty() {
        return Ok(());
    }
    let why = format!("{}: make one in the token, let siv make it, or waive that", reservations.join("; "));
    Err(Error::HsmRefused(HsmRefusal::new("kek", "unfit", why)))
}

/// A key made in the token: AES, else RSA. What was made and cannot be used is taken away again.
pub(super) fn made(host: &Host, (selector, tenant): (&KekSelector, &TenantName)) -> Result<Tried, Error> {
    let mut last = None;
    for kind in [KekKind::Aes256, KekKind::RSA_3072] {
        match host.create_kek(selector, kind, MANAGE) {
            Ok(()) => {}
            // A token that makes no keys of this kind.
            Err(NotMade { error: error @ (HsmError::Refused(_) | HsmError::ProfileUnavailable(_)), .. }) => {
                last = Some(of_kek(error));
                continue;
            }
            Err(NotMade { error, may_be_there }) => {
                if may_be_there {
                    taken_away(host, (selector, tenant));
                }
                return Err(of_kek(error));
            }
        }
        let described = host.describe(selector, MANAGE).map_err(of_kek);
        match described.and_then(|attributes| tried(host, selector, attributes)) {
            Ok(tried) => return Ok(tried),
            Err(error) => {
                taken_away(host, (selector, tenant));
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or(Error::KekUnusable))
}

/// Destroys a key that was made for nothing; says so where it is left behind.
pub(super) fn taken_away(host: &Host, (selector, tenant): (&KekSelector, &TenantName)) {
    // The label is another attempt's too, whose key may be in use by now: the id is this one's alone.
    let (id, label) = (selector.id.as_deref().map(hex::encode), selector.label.as_deref());
    if let Err(error) = host.destroy_kek(selector, None, MANAGE) {
        tracing::error!(%tenant, label, id, %error, "a key made in a token protects nothing and could not be removed: remove the key with this CKA_ID there, if it is there, and no other of its label");
    }
}

/// The profile that a key made there would be pinned to, as throw-away keys of the same kinds show it.
pub(super) fn would_do(host: &Host) -> Result<Profile, Error> {
    let mut last = None;
    for kind in [KekKind::Aes256, KekKind::RSA_3072] {
        match host.probe_kind(kind, MANAGE).map_err(of_kek).and_then(chosen) {
            Ok(profile) => return Ok(profile),
            Err(error @ Error::HsmRefused(_)) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or(Error::KekUnusable))
}

/// The profile to pin.
fn chosen(report: ProbeReport) -> Result<Profile, Error> {
    let words = |trial: &Trial| format!("{}: {}", trial.profile, trial.refusal.as_deref().unwrap_or("works"));
    report.chosen.ok_or_else(|| {
        let why = report.trials.iter().map(words).collect::<Vec<_>>().join("; ");
        Error::HsmRefused(HsmRefusal::new("kek", "no_profile", why))
    })
}

fn tried(host: &Host, selector: &KekSelector, attributes: KekAttributes) -> Result<Tried, Error> {
    let profile = host.probe(selector, MANAGE).map_err(of_kek).and_then(chosen)?;
    let kek = KekRef { selector: selector.clone(), profile };
    let canary = host.make_canary(&kek, MANAGE).map_err(of_kek)?;
    Ok(Tried { kek, canary, attributes })
}

/// The key that was named stands behind a version already, whosever.
pub(super) fn in_use() -> Error {
    let why =
        "it is the key of another version already, of this tenant or another: name another one, or let one be made";
    Error::HsmRefused(HsmRefusal::new("kek", "in_use", why))
}

fn of_kek(error: HsmError) -> Error {
    let code = match &error {
        HsmError::KekNotFound => {
            let why =
                format!("{error}: name one that is there, or leave out the key's label (--kek), and siv makes one");
            return Error::HsmRefused(HsmRefusal::new("kek", "not_found", why));
        }
        HsmError::KekAmbiguous(_) => "ambiguous",
        HsmError::KekUnfit(_) => "unfit",
        HsmError::Refused(_) | HsmError::ProfileUnavailable(_) => "refused",
        _ => return Error::Hsm(error),
    };
    refusal("kek", code, &error)
}
