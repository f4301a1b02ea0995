//! What a sweep begins with: another number every day, the one that `SIV_TEST_SEED` names, and all of it in `make test-long`.

/// The seed. It is printed by whoever uses it.
fn seed() -> usize {
    let told = std::env::var("SIV_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let day = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    told.unwrap_or_else(|| usize::try_from(day).unwrap())
}

/// A number that nobody chose, always the same for a seed.
pub(super) fn number(of: usize) -> usize {
    let mut mixed =
        (seed() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (of as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((mixed ^ (mixed >> 32)) >> 1).unwrap()
}

/// All numbers below one, or a sample of so many.
pub(super) fn some(below: usize, sample: usize) -> Vec<usize> {
    if std::env::var_os("SIV_TEST_ROUNDS").is_some() {
        return (0..below).collect();
    }
    let stride = below.div_ceil(sample).max(1);
    let first = number(below) % stride;
    println!("a sample of {below}: every {stride}th from {first} (SIV_TEST_SEED={})", seed());
    (first..below).step_by(stride).collect()
}

/// Calls to fail at, from one to another: one of them, or a tenth of `SIV_TEST_ROUNDS` of them.
pub(super) fn calls(from: usize, to: usize) -> Vec<usize> {
    let rounds = std::env::var("SIV_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1_usize);
    let calls: Vec<usize> = (0..rounds.div_ceil(10)).map(|round| from + number(round) % (to - from)).collect();
    println!("fails at the calls {calls:?} (SIV_TEST_SEED={})", seed());
    calls
}
