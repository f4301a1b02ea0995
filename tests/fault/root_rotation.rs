//! `siv keys rotate-root` killed at every step: the key store opens under the old root key or under the new one, whole.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::json;
use tests::Served;
use tests::crash::Crash;

use crate::two_places::sample;

const OLD: &str = "root_key   = \"file:root/root.key\"";
const ROTATE: [&str; 5] = ["keys", "rotate-root", "--to", "file:root/second.key", "--json"];

/// Starts the node; serves an old value and a new one; ends it.
async fn serves(served: &mut Served, wish: &serde_json::Value, point: &str) {
    let opened = served.flow("card-summary").post("/v1/flows/card-summary/invoke", wish).await;
    assert_eq!(opened.status, 200, "{point}: {}", opened.text);
    let items = json!({"items": [{"field": "once", "value": "4242424242424242"}]});
    let put = served.app().post("/v1/values", &items).await;
    assert_eq!(put.status, 200, "{point}: {}", put.text);
    served.verify_log().unwrap_or_else(|why| panic!("{point}: {why}"));
    assert_eq!(served.terminate(), Some(0), "{point}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_of_the_root_key_that_is_killed_anywhere_leaves_one_root_key_that_opens_everything() {
    let mut template = Served::on_sqlite();
    let items = json!({"items": [{"field": "card-number", "value": "4242424242424242"}]});
    let put = template.app().post("/v1/values", &items).await.expect(200).json();
    let wish = json!({"inputs": {"card": put["results"][0]["secureValueKey"]}});
    assert_eq!(template.terminate(), Some(0));
    let rotate = |served: &Served, crash: &Crash| served.installation().run_in(&crash.environment(), &ROTATE);
    let steps = {
        let counted = Served::copy_of(&template);
        let crash = Crash::new(counted.folder());
        crash.count();
        let done = rotate(&counted, &crash);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        crash.counted()
    };
    assert!(steps > 50, "only {steps} steps were seen");
    let (mut inside, mut under_old, mut under_new) = (0, 0, 0);
    let points = sample(steps, 24);
    let of = points.len();
    for step in points {
        let point = format!("rotate-root killed at step {step} of {steps}");
        let mut served = Served::copy_of(&template);
        let crash = Crash::new(served.folder());
        crash.at_step(step);
        let killed = rotate(&served, &crash);
        assert!(killed.status.success() || killed.status.signal() == Some(9), "{point}: {killed:?}");
        inside += usize::from(!killed.status.success());
        match served.begin() {
            Ok(()) => under_old += 1,
            Err(why) => {
                assert!(why.contains("the root key is not the one"), "{point}: {why}");
                under_new += 1;
                served.installation().change(OLD, "root_key = \"file:root/second.key\"");
                served.begin().unwrap_or_else(|why| panic!("{point}, it opens under neither root key: {why}"));
            }
        }
        serves(&mut served, &wish, &point).await;
        // And it can be rotated again.
        let again = served.installation().run(&["keys", "rotate-root", "--to", "file:root/third.key", "--json"]);
        assert!(again.status.success(), "{point}: {}", String::from_utf8_lossy(&again.stderr));
    }
    println!("{steps} steps; {under_old} under the old root key, {under_new} under the new");
    assert!(inside * 4 >= of * 3 && under_old > 0 && under_new > 0, "{inside} of {of}, {under_old}, {under_new}");
}
