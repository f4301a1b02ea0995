//! One byte of the database's file is another: what it belonged to is refused, everything else is served, and nothing is
//! ever taken for what it is not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::{Answer, Served};

use super::database::Database;
use super::seed;

const PAGE: usize = 4096;
const NUMBERS: [(&str, &str); 3] =
    [("4242424242424242", "4242"), ("5555555555554444", "4444"), ("4000000000000002", "0002")];
const VALUES: usize = 60;

/// Keys of values, each with what its flow gives out of it.
pub(super) type Values = Vec<(String, &'static str)>;

/// What a node did with a damaged file.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    /// Pages after whose damage it did not start, and said why.
    refused: usize,
    /// Pages after whose damage some values were refused and others served.
    pub(super) some: usize,
    none: usize,
    pub(super) all: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_that_rotted_in_the_file_is_noticed_where_it_matters_and_never_served() {
    let (template, values) = stopped().await;
    let size = usize::try_from(fs::metadata(template.database()).unwrap().len()).unwrap();
    let pages: Vec<usize> = seed::some(size / PAGE, 12);
    let mut seen = Seen::default();
    for page in &pages {
        let mut served = Served::copy_of(&template);
        // Past the header of the file, whose every byte is looked at when it is opened.
        let at = page * PAGE + if *page == 0 { 100 } else { 0 } + seed::number(*page) % (PAGE - 100);
        flip(&served.database(), at);
        check(&mut served, &values, &format!("page {page}, byte {}", at % PAGE), &mut seen).await;
    }
    println!("{} of {} pages: {seen:?}", pages.len(), size / PAGE);
    assert!(seen.some + seen.all > 0, "no node served anything");
}

/// An installation with values, its node ended in order: everything is in the one file.
async fn stopped() -> (Served, Values) {
    let mut served = Served::on_sqlite();
    let values = put(&served).await;
    assert_eq!(served.terminate(), Some(0));
    let mut database = Database::open(served.database().parent().unwrap()).await;
    database.run("PRAGMA wal_checkpoint(TRUNCATE)".to_owned()).await;
    database.close().await;
    let beside = fs::metadata(served.database().with_extension("db-wal")).map_or(0, |wal| wal.len());
    assert_eq!(beside, 0, "something lies beside the file");
    (served, values)
}

/// Values of three texts, so that one taken for another is seen.
pub(super) async fn put(served: &Served) -> Values {
    let texts: Vec<&str> = (0..VALUES).map(|at| NUMBERS[at % 3].0).collect();
    let keys = served.put_all("card-number", &texts).await;
    keys.into_iter().enumerate().map(|(at, key)| (key, NUMBERS[at % 3].1)).collect()
}

pub(super) fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 1 << (at % 8);
    fs::write(file, bytes).unwrap();
}

/// A node begins on what was damaged: which values it serves, or nothing if it did not start and said why.
pub(super) async fn check(served: &mut Served, values: &Values, point: &str, seen: &mut Seen) -> Option<Vec<bool>> {
    if let Err(why) = served.begin() {
        assert!(!why.contains("\"panic\""), "{point}: {why}");
        assert!(why.contains("error: "), "{point}: it did not start and does not say why: {why}");
        seen.refused += 1;
        return None;
    }
    let kept = served_of(served, values, point).await;
    match kept.iter().filter(|served| **served).count() {
        0 => seen.none += 1,
        all if all == values.len() => seen.all += 1,
        some => {
            println!("{point}: {some} of {} values are served", values.len());
            seen.some += 1;
        }
    }
    assert!(served.runs(), "{point}: the node ended");
    let panics = served.stranger().metric("siv_http_panics_total").await;
    assert!(panics.is_none_or(|count| count < 1.0), "{point}: {panics:?}");
    assert!(!served.log_text().contains("\"panic\""), "{point}: {}", served.log_text());
    Some(kept)
}

/// Which of them are served, none of them as another one. Who is told to come back does so once: a server of which a process
/// fell over what it read begins anew.
async fn served_of(served: &Served, values: &Values, point: &str) -> Vec<bool> {
    let (mut kept, mut later) = (Vec::new(), Vec::new());
    for (at, (card, last4)) in values.iter().enumerate() {
        let answer = served.invoke("card-summary", card, None).await;
        kept.push(is_served(&answer, last4, point));
        later.extend((answer.status == 503).then_some(at));
    }
    if !later.is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for at in later {
        let (card, last4) = &values[at];
        kept[at] = is_served(&served.invoke("card-summary", card, None).await, last4, point);
    }
    kept
}

fn is_served(answer: &Answer, last4: &str, point: &str) -> bool {
    match answer.status {
        200 => assert_eq!(answer.json()["outputs"]["last4"], *last4, "{point}: another value's outputs"),
        404 => assert_eq!(answer.code(), "value.not_found", "{point}"),
        // A row that decides about all of them: the tenant, its key, the credential or the flow.
        401 | 500 | 503 => {}
        status => panic!("{point}: {status} {}", answer.text),
    }
    answer.status == 200
}
