//! The conformance and safety report on a customer's module before it is onboarded. It executes what a module can do; it believes nothing
//! that the module merely says. Run by [`crate::Host::check`] in a worker of its own, because modules do crash in it.

mod behaviour;
mod latency;
mod table;
mod verdict;

use serde::{Deserialize, Serialize};

use crate::error::HsmError;
use crate::failure::{Fault, Moment};
use crate::kek::KekAttributes;
use crate::kek_kind::KekKind;
use crate::mechanisms;
use crate::module::ModuleFile;
use crate::pool::Pool;
use crate::profile::{Place, Profile, Trial, of_kind, try_out};
use crate::scratch::Scratch;
use crate::session::{Live, allows_sha1};
use crate::token::{TokenInfo, text};
use crate::uri::KekSelector;

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckOptions {
    /// The KEK to be onboarded. Without one, profiles are tried on throw-away keys.
    pub kek: Option<KekSelector>,
    /// Whether to try one wrong PIN, followed by the right one. Only where a person asked for it: it counts at the token.
    pub wrong_pin: bool,
    /// Unwraps per session for the latency; 0 leaves it out.
    pub rounds: u32,
}

/// The report. Its `Display` is a table for a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// The judgement.
    pub verdict: Verdict,
    /// The profile to pin.
    pub profile: Option<Profile>,
    /// Why the verdict is not better, worst first.
    pub reasons: Vec<String>,
    /// The module's file.
    pub module: ModuleFile,
    /// What the module says of itself.
    pub library: Library,
    /// The token.
    pub token: TokenInfo,
    /// Advertised mechanisms, which says little.
    pub mechanisms: Vec<String>,
    /// What the token says of the KEK.
    pub kek: Option<KekAttributes>,
    /// Every profile, executed.
    pub trials: Vec<Trial>,
    /// Behaviour, one line each.
    pub lines: Vec<Line>,
    /// Latency of an unwrap with the profile to pin.
    pub latency: Vec<Latency>,
}

/// The judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Fit,
    /// It works; a person weighs each reason and writes down why it is borne.
    FitWithReservations,
    /// It must not be used.
    Unfit,
}

/// `C_GetInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Library {
    /// Manufacturer.
    pub manufacturer: String,
    /// Description.
    pub description: String,
    /// `major.minor` of the library.
    pub version: String,
    /// `major.minor` of PKCS#11.
    pub cryptoki: String,
}

/// One observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// What was looked at, such as `zero-iv`.
    pub name: String,
    /// How it weighs.
    pub weight: Weight,
    /// What was seen.
    pub seen: String,
}

/// How an observation weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// As it should be.
    Good,
    /// Worth knowing; siv copes with it.
    Note,
    /// For a person to weigh.
    Reservation,
    /// Rules the module out.
    Bad,
}

/// Latency with a number of sessions at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Sessions at once.
    pub sessions: usize,
    /// Median in microseconds.
    pub p50_micros: u64,
    /// 99th percentile in microseconds.
    pub p99_micros: u64,
    /// Unwraps per second, all sessions together.
    pub per_second: u64,
}

/// Runs the report on a connected pool.
pub(crate) fn run(pool: &Pool, options: &CheckOptions) -> Result<CheckReport, HsmError> {
    let sha1 = |live: &Live| allows_sha1(pool.configuration(), &live.token);
    let mut report = pool.with_session(Moment::Wrap, |live| begin(live, options, sha1(live)))?;
    pool.with_session(Moment::Wrap, |live| Ok(behaviour::observe(live, pool.configuration(), options)))
        .map(|lines| report.lines.extend(lines))?;
    if let (Some(profile), true) = (report.profile, options.rounds > 0) {
        report.latency = pool.with_session(Moment::Wrap, |live| latency::measure(live, profile, options))?;
    }
    verdict::judge(&mut report);
    Ok(report)
}

fn begin(live: &Live, options: &CheckOptions, sha1: bool) -> Result<CheckReport, Fault> {
    let info = live.module.raw.info()?;
    let version = |v: cryptoki_sys::CK_VERSION| format!("{}.{}", v.major, v.minor);
    let session = live.session(0);
    let place = options.kek.as_ref().map(|selector| live.find(&session, selector)).transpose()?;
    let kek = place.map(|place| place.kek.attributes(&session)).transpose()?;
    let scratch = Scratch::aes(&live.module, &session).ok();
    let pair = Scratch::rsa(&live.module, &session).ok();
    let scratch = scratch.as_ref().map(Scratch::place);
    let pair = pair.as_ref().map(Scratch::place);
    let mut trials = Vec::new();
    for kind in [KekKind::RSA_3072, KekKind::Aes256] {
        for profile in of_kind(kind, sha1) {
            let spare = if kind == KekKind::Aes256 { scratch } else { pair };
            trials.push(trial(profile, place.filter(|place| profile.fits(place.kek.kind)), spare));
        }
    }
    let fits = |trial: &&Trial| trial.refusal.is_none() && kek.as_ref().is_none_or(|kek| trial.profile.fits(kek.kind));
    Ok(CheckReport {
        verdict: Verdict::Unfit,
        profile: trials.iter().find(fits).map(|trial| trial.profile),
        reasons: Vec::new(),
        module: live.file.clone(),
        library: Library {
            manufacturer: text(&info.manufacturerID),
            description: text(&info.libraryDescription),
            version: version(info.libraryVersion),
            cryptoki: version(info.cryptokiVersion),
        },
        token: live.token.clone(),
        mechanisms: mechanisms::list(&live.module, live.slot.id())?,
        kek,
        trials,
        lines: Vec::new(),
        latency: Vec::new(),
    })
}

/// Tries a profile on a throw-away key, and then on the KEK where it is of that kind.
fn trial(profile: Profile, kek: Option<Place<'_>>, spare: Option<Place<'_>>) -> Trial {
    let missing =
        || Fault::from(HsmError::ProfileUnavailable("no throw-away key could be made to try it on".to_owned()));
    let tried = match (spare, kek) {
        (Some(spare), Some(kek)) => try_out(profile, spare).and_then(|()| try_out(profile, kek)),
        (Some(spare), None) => try_out(profile, spare),
        // What the module does with the IV is not found out on a KEK.
        (None, Some(kek)) if !matches!(profile, Profile::AesGcmModuleIv | Profile::AesGcmAppendedIv) => {
            try_out(profile, kek)
        }
        (None, _) => Err(missing()),
    };
    Trial { profile, refusal: tried.err().map(|fault| fault.reason()) }
}
