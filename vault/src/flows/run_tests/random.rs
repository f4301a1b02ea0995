//! Random requests with lost requests and lost answers, on each engine, against the model. The seed is printed.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngSeed, TestCaseError, TestError, TestRunner};

use super::model::{Kind, Worlds};
use super::working::Nodes;

/// Steps of one case.
const STEPS: usize = 50;
/// The cases of proptest where nothing is said.
const UNSAID: u32 = 256;

/// One step. Which value it is about is chosen among those there are then.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Put {
        kind: Kind,
        uses: u32,
        seconds: u64,
        card: usize,
    },
    Use {
        value: Index,
        keyed: bool,
    },
    Repeat {
        request: Index,
    },
    /// So many uses at once, shared among the nodes.
    Burst {
        value: Index,
        times: usize,
    },
    Guess {
        value: Index,
        right: bool,
    },
    Lookup {
        value: Index,
    },
    Delete {
        value: Index,
    },
    Extend {
        value: Index,
        seconds: u64,
    },
    Wait {
        seconds: u64,
    },
    Purge,
    /// The tenant's settings change: what was decided under those before is decided anew.
    Change,
    /// A credential is revoked, and used once more.
    Revoke,
}

/// What becomes of a step's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Heard,
    /// Its asker goes away before there is an answer.
    Abandoned,
    /// It is done, and nobody hears of it.
    AnswerLost,
}

/// A step with the node it is asked of.
pub(super) type Asking = (Step, Fate, usize);

fn step() -> impl Strategy<Value = Step> {
    let kind =
        prop_oneof![3 => Just(Kind::Few), 2 => Just(Kind::Card), 2 => Just(Kind::Code), 1 => Just(Kind::Password)];
    let put = (kind, 1..=4_u32, 20..=1800_u64, 0..3_usize);
    prop_oneof![
        8 => put.prop_map(|(kind, uses, seconds, card)| Step::Put { kind, uses, seconds, card }),
        10 => any::<(Index, bool)>().prop_map(|(value, keyed)| Step::Use { value, keyed }),
        5 => any::<Index>().prop_map(|request| Step::Repeat { request }),
        3 => (any::<Index>(), 2..=6_usize).prop_map(|(value, times)| Step::Burst { value, times }),
        2 => any::<(Index, bool)>().prop_map(|(value, right)| Step::Guess { value, right }),
        4 => any::<Index>().prop_map(|value| Step::Lookup { value }),
        2 => any::<Index>().prop_map(|value| Step::Delete { value }),
        3 => (any::<Index>(), prop_oneof![0..=3600_u64, Just(700_000)])
            .prop_map(|(value, seconds)| Step::Extend { value, seconds }),
        4 => prop_oneof![6 => 1..=60_u64, 1 => 600..=1800_u64].prop_map(|seconds| Step::Wait { seconds }),
        2 => Just(Step::Purge),
        2 => Just(Step::Change),
        1 => Just(Step::Revoke),
    ]
}

fn asking() -> impl Strategy<Value = Asking> {
    let fate = prop_oneof![8 => Just(Fate::Heard), 1 => Just(Fate::Abandoned), 2 => Just(Fate::AnswerLost)];
    (step(), fate, 0..2_usize)
}

/// What proptest reads in the environment. A handful of cases where nothing is said, `CASES` in `make test-long`, and no more
/// than 250: five hundred had not ended after half an hour.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, max_shrink_iters: 60, ..ProptestConfig::default() };
    config.cases = if config.cases == UNSAID { 6 } else { config.cases.min(250) };
    if matches!(config.rng_seed, RngSeed::Random) {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).unwrap();
        config.rng_seed = RngSeed::Fixed(u64::from_be_bytes(bytes));
    }
    config
}

/// Runs the cases on nodes that go on from one to the next: every case has values of its own.
#[expect(clippy::print_stdout, reason = "a test says how much it did")]
fn never_diverge(start: impl AsyncFnOnce() -> Nodes) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let nodes = runtime.block_on(start());
    let config = config();
    let (cases, RngSeed::Fixed(seed)) = (config.cases, config.rng_seed) else { panic!("a seed was chosen") };
    println!("PROPTEST_RNG_SEED={seed}");
    let mut runner = TestRunner::new(config);
    let steps = prop::collection::vec(asking(), STEPS);
    let run = runner.run(&steps, |steps| {
        let case = std::panic::AssertUnwindSafe(|| runtime.block_on(case(&nodes, &steps)));
        std::panic::catch_unwind(case).map_err(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            TestCaseError::fail(said.unwrap_or_else(|| "it panicked".to_owned()))
        })
    });
    println!("{cases} cases of {STEPS} steps: {:?}", nodes.tally());
    match run {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => panic!("in {steps:?}\n{why}\nPROPTEST_RNG_SEED={seed}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    nodes.assert_that_little_was_lost_by_itself();
}

async fn case(nodes: &Nodes, steps: &[Asking]) {
    let mut values = Vec::new();
    let mut requests = Vec::new();
    for asking in steps {
        nodes.take(asking, &mut values, &mut requests).await;
    }
    for value in &mut values {
        nodes.settle(value).await;
    }
}

/// A value's key, what its flow must give out, and what it may be.
pub(super) struct Value {
    pub(super) key: String,
    pub(super) last4: &'static str,
    pub(super) uses: Option<u32>,
    pub(super) worlds: Worlds,
}

/// A use with an `Idempotency-Key`: of which value, when, and the answer if it was heard.
pub(super) struct Request {
    pub(super) value: usize,
    pub(super) at: u64,
    pub(super) key: String,
    pub(super) answer: Option<Vec<u8>>,
}

/// How often what happened.
pub(super) type Tally = BTreeMap<&'static str, usize>;

#[test]
fn random_requests_on_sqlite_never_diverge_from_the_model() {
    never_diverge(Nodes::on_sqlite);
}

#[test]
fn random_requests_on_two_nodes_of_postgresql_never_diverge_from_the_model() {
    never_diverge(Nodes::on_postgres);
}
