//! How long an unwrap takes with 1, 4 and 16 sessions at once. Figures of one machine at one time, not a promise.

use std::time::Instant;

use super::{CheckOptions, Latency};
use crate::failure::Fault;
use crate::kek::Kek;
use crate::kek_kind::KekKind;
use crate::profile::{Place, Profile};
use crate::scratch::Scratch;
use crate::session::{Live, open};

const CONTEXT: &[u8] = b"siv/v1/hsm-latency";

pub(super) fn measure(live: &Live, profile: Profile, options: &CheckOptions) -> Result<Vec<Latency>, Fault> {
    let session = live.session(0);
    let scratch = match &options.kek {
        Some(_) => None,
        None if profile.fits(KekKind::Aes256) => Some(Scratch::aes(&live.module, &session)?),
        None => Some(Scratch::rsa(&live.module, &session)?),
    };
    let place = match (&options.kek, &scratch) {
        (_, Some(scratch)) => scratch.place(),
        (Some(selector), None) => live.find(&session, selector)?,
        (None, None) => return Ok(Vec::new()),
    };
    let wrapped = profile.wrap(place, &[7; 32], CONTEXT)?;
    let mut found = Vec::new();
    for sessions in [1, 4, 16] {
        // A token without room for so many sessions is measured with as many as it has room for.
        if let Ok(latency) = with(live, profile, place.kek, &wrapped, sessions, options.rounds) {
            found.push(latency);
        }
    }
    Ok(found)
}

fn with(
    live: &Live,
    profile: Profile,
    kek: Kek,
    wrapped: &[u8],
    sessions: usize,
    rounds: u32,
) -> Result<Latency, Fault> {
    let sessions: Vec<_> = (0..sessions).map(|_| open(&live.module, live.slot)).collect::<Result<_, _>>()?;
    let (count, start) = (sessions.len(), Instant::now());
    let mut times: Vec<u64> = std::thread::scope(|scope| {
        let lanes: Vec<_> = sessions
            .into_iter()
            .map(|session| {
                let module = &live.module;
                scope.spawn(move || {
                    let mut times = Vec::new();
                    for _ in 0..rounds {
                        let place = Place { module, session: &session, kek };
                        let start = Instant::now();
                        profile.unwrap(place, wrapped, CONTEXT)?;
                        times.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
                    }
                    Ok(times)
                })
            })
            .collect();
        let joined = lanes.into_iter().map(|lane| lane.join().unwrap_or(Err(Fault::Rubbish("a thread ended"))));
        joined.collect::<Result<Vec<Vec<u64>>, Fault>>()
    })?
    .concat();
    times.sort_unstable();
    let at = |percent: usize| {
        times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    let per_second = times.len() as f64 / start.elapsed().as_secs_f64().max(1e-6);
    Ok(Latency { sessions: count, p50_micros: at(50), p99_micros: at(99), per_second: per_second as u64 })
}
