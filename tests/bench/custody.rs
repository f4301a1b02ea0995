//! A tenant whose key lies in a token (SoftHSM) beside one of the built-in KMS: warm, right after a start, and when its data
//! keys are wrapped anew.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::Token;
use tests::token::{LABEL, PIN, Provider};

use super::figures::Spread;
use super::flags::Flags;
use super::load;
use super::measure;
use super::request::{self, Target};
use super::stage::{FEW, Stage};
use super::vault::Vault;

/// Clients of the closed loops.
const CLIENTS: usize = 64;

/// What was measured.
pub struct Custody {
    /// Rates of the token's tenant over those of the other: captures, uses.
    pub warm: [Spread; 2],
    /// Tenants with keys in the token.
    pub tenants: usize,
    /// Milliseconds from `siv is ready` until each of them had captured a value, one after the other.
    pub cold: f64,
    /// Data keys wrapped anew a second, each unwrapped and read back.
    pub rewrapped: f64,
}

/// Runs all of it on a vault of its own.
pub async fn run(stage: &mut Stage, flags: &Flags) -> Custody {
    let token = Token::new(Provider::SoftHsm);
    let mut vault = Vault::start_in(Some(&token), "custody", FEW, &stage.databases, &stage.cards).await;
    let warm = warm(&vault, stage, flags).await;
    let names: Vec<String> = (0..flags.tenants).map(|at| format!("tenant-{at}")).collect();
    let mut apps = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        apps.push(vault.tenant(name, Some(&token)).await);
        if at % 100 == 99 {
            eprintln!("  {} of {} tenants have a key in the token", at + 1, names.len());
        }
    }
    let (cold, rewrapped) = (cold(&mut vault, &apps, stage).await, rewrapped(&vault, &names).await);
    vault.stop();
    Custody { warm, tenants: names.len(), cold, rewrapped }
}

async fn warm(vault: &Vault, stage: &mut Stage, flags: &Flags) -> [Spread; 2] {
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 1..=flags.rounds {
        for (kind, ratios) in ratios.iter_mut().enumerate() {
            let mut rates = [0.0; 2];
            let mut pair = [(0, &stage.vault), (1, vault)];
            // Each is the first in every other round.
            pair.rotate_left(round % 2);
            let mut judged = Vec::new();
            for (at, vault) in pair {
                let target = if kind == 0 { vault.capture() } else { vault.invoke(false) };
                let whole = (Some(vault), Some(&vault.rows));
                let sample = measure::closed(&target, (CLIENTS, flags.length), whole, &stage.databases).await;
                rates[at] = sample.slice.rate();
                judged.push((at == 0 && kind == 0, target.name, sample.slice));
            }
            for (counts, name, slice) in judged {
                stage.judge(&format!("custody, {name}"), &slice);
                stage.acknowledged += if counts { slice.items } else { 0 };
            }
            eprintln!("  custody, round {round}: {:.0}/s local, {:.0}/s in the token", rates[0], rates[1]);
            ratios.push(rates[1] / rates[0].max(1e-9));
        }
    }
    ratios.map(|ratios| Spread::of(ratios.into_iter()))
}

/// Starts the node anew, and lets every tenant capture once.
async fn cold(vault: &mut Vault, apps: &[String], stage: &mut Stage) -> f64 {
    vault.stop();
    if let Err(why) = vault.start_again() {
        stage.void.push(format!("a start with keys in a token failed: {why}"));
        return 0.0;
    }
    let begun = Instant::now();
    for app in apps {
        let target = vault.capture_of(app);
        let target = Target { fill: request::only(1, target.fill), ..target };
        let slice = load::closed(&target, 1, Duration::from_secs(10)).await;
        if slice.done != 1 {
            stage.judge("custody, a first capture", &slice);
        }
    }
    begun.elapsed().as_secs_f64() * 1000.0
}

/// Rotates the key of each tenant and wraps its data keys under the new one.
#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
async fn rewrapped(vault: &Vault, tenants: &[String]) -> f64 {
    let (mut moved, mut seconds) = (0, 0.0);
    for tenant in tenants {
        let custodian = vault.custodian(tenant).await;
        custodian.post("/v1/keks/rotate", &json!({})).await.expect(201);
        let begun = Instant::now();
        let done = custodian.post("/v1/keks/rewrap", &json!({})).await.expect(200);
        seconds += begun.elapsed().as_secs_f64();
        moved += done.json()["moved"].as_u64().unwrap_or(0);
    }
    moved as f64 / f64::max(seconds, 1e-9)
}

/// What a request says of the token.
pub fn described(token: &Token) -> serde_json::Value {
    json!({"module": token.module, "token": LABEL, "pin": PIN})
}
