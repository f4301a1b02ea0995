//! What needs two custodians, as they meet it on the command line: what each is shown, asked and told.

use serde_json::Value;
use tests::custody::{Custody, Customer, text};

/// What becomes of the only request there is.
fn only(custody: &Custody, customer: &Customer) -> Value {
    let listed = custody.keys(customer, &["approvals"]);
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    listed["data"][0].clone()
}

fn id(asked: &Value) -> &str {
    asked["approval"]["approvalId"].as_str().unwrap()
}

#[test]
fn a_custodian_reads_what_it_is_about_before_approving_it_and_is_asked_on_a_terminal() {
    let custody = Custody::of(&[]);
    let acme = custody.customer("acme", &[], 0);
    let nothing = custody.command(&acme.custodian, &["keys", "approvals"]);
    assert!(text(&nothing).contains("nothing was asked for"), "{}", text(&nothing));
    let asked = custody.keys(&acme, &["cache", "60"]);
    let listed = custody.command(&acme.second, &["keys", "approvals"]);
    let block = text(&listed);
    let approve = format!("siv keys approve {}", id(&asked));
    for said in ["acme", "60 seconds at most", "custodian (", "23 h 59 min left", "waits for a second", &*approve] {
        assert!(block.contains(said), "{said}: {block}");
    }
    assert!(block.lines().all(|line| line.chars().count() <= 100), "{block}");
    // Who would ask for the same is told of it instead.
    let told = text(&custody.command(&acme.second, &["keys", "cache", "60"]));
    assert!(told.contains(&approve) && told.contains("asked for by custodian ("), "{told}");

    // A person is asked. What is typed is no yes: nothing is approved.
    let arguments = ["keys", "approve", id(&asked)];
    for typed in ["no\n", "\n", ""] {
        let told = custody.typed(&acme.second, &arguments, typed);
        let said = text(&told);
        assert!(!told.status.success() && said.contains("nothing was approved"), "{typed:?}: {said}");
        assert!(said.contains("60 seconds at most") && said.contains("[yes/no]"), "{said}");
        assert_eq!(only(&custody, &acme)["state"], "requested");
    }
    let told = custody.typed(&acme.second, &arguments, "yes\n");
    assert!(told.status.success() && text(&told).contains("leave-strict is done"), "{}", text(&told));
    let done = only(&custody, &acme);
    assert_eq!((&done["state"], &done["tenant"]), (&"completed".into(), &"acme".into()), "{done}");
    assert_eq!(done["approvedByName"], "custodian");
}

#[test]
fn who_says_yes_before_and_who_has_no_terminal_are_not_asked() {
    let custody = Custody::of(&[]);
    let acme = custody.customer("acme", &[], 0);
    let asked = custody.keys(&acme, &["cache", "60"]);
    let told = custody.typed(&acme.second, &["keys", "approve", id(&asked), "--yes"], "");
    assert!(told.status.success() && !text(&told).contains("[yes/no]"), "{}", text(&told));
    custody.keys(&acme, &["cache", "0"]);
    let asked = custody.keys(&acme, &["cache", "30"]);
    let told = custody.command(&acme.second, &["keys", "approve", id(&asked)]);
    assert!(told.status.success() && !text(&told).contains("[yes/no]"), "{}", text(&told));
    // It is shown all the same, beside the result and not in it.
    let [result, shown] = [&told.stdout, &told.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(shown.contains("30 seconds at most"), "{shown}");
    assert_eq!(result.trim(), "approved: leave-strict is done");
    // Of another digest than that of what is shown nothing is done.
    custody.keys(&acme, &["cache", "0"]);
    let far = custody.command(&acme.custodian, &["keys", "cache", "301"]);
    assert!(text(&far).contains("cacheSeconds: range (0 to 300)"), "{}", text(&far));
    let asked = custody.keys(&acme, &["cache", "20"]);
    // Of one's own request there is no certificate yet.
    let out = custody.folder().join("certificate.json").display().to_string();
    let own = custody.command(&acme.custodian, &["keys", "approve", id(&asked), "--out", &out]);
    assert!(!own.status.success() && text(&own).contains("there is no certificate yet"), "{}", text(&own));
    assert!(!std::path::Path::new(&out).exists());
    let told = custody.typed(&acme.second, &["keys", "approve", id(&asked), "--digest", "00"], "yes\n");
    assert!(!told.status.success() && text(&told).contains("approval: digest"), "{}", text(&told));
}

#[tokio::test]
async fn a_request_that_nothing_can_come_of_does_not_say_that_it_waits() {
    let custody = Custody::of(&[]);
    let acme = custody.customer("acme", &[], 60);
    let block = || text(&custody.command(&acme.custodian, &["keys", "approvals"]));
    custody.keys(&acme, &["shred"]);
    assert_eq!(only(&custody, &acme)["state"], "requested");
    // Another key than those that it names.
    custody.keys(&acme, &["rotate"]);
    assert_eq!(only(&custody, &acme)["state"], "changed");
    let said = block();
    assert!(said.contains("void: keys or settings are others") && said.contains("siv keys shred …"), "{said}");
    assert!(!said.contains("siv keys approve"), "{said}");
    // Another asker than one that still holds.
    let asked = custody.command(&acme.second, &["keys", "shred", "--json"]);
    let asked: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let asker = asked["approval"]["requestedBy"].as_str().unwrap();
    let gone = custody.operate(&["credential", "revoke", asker, "--tenant", "acme"]);
    assert!(gone.status.success(), "{}", text(&gone));
    let listed = custody.keys(&acme, &["approvals"]);
    let states: Vec<_> = listed["data"].as_array().unwrap().iter().map(|asked| &asked["state"]).collect();
    assert_eq!(states, ["changed", "withdrawn"], "{listed}");
    assert!(block().contains("the credential that asked does not hold"), "{}", block());
}

#[tokio::test]
async fn a_request_is_withdrawn_by_either_custodian_and_the_log_says_by_whom() {
    let custody = Custody::of(&[]);
    let acme = custody.customer("acme", &[], 0);
    for who in [&acme.custodian, &acme.second] {
        let asked = custody.keys(&acme, &["cache", "60"]);
        let stranger = custody.command(&acme.auditor, &["keys", "withdraw", id(&asked)]);
        assert!(!stranger.status.success() && text(&stranger).contains("policy.denied"), "{}", text(&stranger));
        let withdrawn = custody.command(who, &["keys", "withdraw", id(&asked)]);
        assert!(withdrawn.status.success(), "{}", text(&withdrawn));
        for (credential, act) in [(&acme.second, "approve"), (&acme.custodian, "withdraw")] {
            let late = custody.command(credential, &["keys", act, id(&asked)]);
            assert!(!late.status.success() && text(&late).contains("approval: withdrawn"), "{act}: {}", text(&late));
        }
    }
    let listed = custody.keys(&acme, &["approvals"]);
    let listed = listed["data"].as_array().unwrap();
    let [own, others] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(own["withdrawnBy"], own["requestedBy"]);
    assert_ne!(others["withdrawnBy"], others["requestedBy"]);
    let entries = custody.entries(&acme, "key.approval.withdrawn").await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    for (entry, asked) in entries.iter().zip(listed) {
        assert_eq!((&entry["actor"]["id"], &entry["facts"]["approval"]), (&asked["withdrawnBy"], &asked["approvalId"]));
    }
    let block = text(&custody.command(&acme.custodian, &["keys", "approvals"]));
    assert!(block.contains("withdrawn by custodian ("), "{block}");
}

#[tokio::test]
async fn a_list_of_the_log_says_which_version_of_a_key_in_which_token_an_entry_is_about() {
    use tests::token::{LABEL, PIN, Provider, Token};
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    custody.keys(&acme, &["rotate"]);
    custody.keys(&acme, &["cache", "60"]);
    let rows = |action: &str| text(&custody.command(&acme.auditor, &["log", "entries", "--action", action]));
    let made = rows("key.kek.rotated");
    assert!(
        made.contains("about") && made.contains("version 2 of ") && made.contains(&format!("token {LABEL}")),
        "{made}"
    );
    assert!(rows("key.approval.requested").contains("leave-strict, 60 s"), "{}", rows("key.approval.requested"));
    assert!(rows("admin.app.applied").contains("app acme"), "{}", rows("admin.app.applied"));
    // What a token would be left for, and which one: for who approves, and for who reads of it.
    custody.keys(&acme, &["rotate", "--key-provider", "local"]);
    let asked = rows("key.approval.requested");
    assert!(asked.contains(&format!("in token {LABEL}, to the built-in KMS")), "{asked}");
    let blocks = text(&custody.command(&acme.second, &["keys", "approvals"]));
    let block = blocks.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(block.contains(&format!("lies in the token {LABEL}, serial number")), "{blocks}");
    assert!(block.contains("called siv-acme-2") && block.contains("goes to the built-in KMS"), "{blocks}");
}

#[tokio::test]
async fn a_custodian_sees_that_the_tenant_is_sealed_and_what_its_key_is_called_in_the_token() {
    use tests::token::{LABEL, PIN, Provider, Token};
    let token = Token::new(Provider::SoftHsm);
    let custody = Custody::of(&[&token]);
    let acme = custody.customer_in("acme", (&token, LABEL, PIN), 0);
    let table = || text(&custody.command(&acme.custodian, &["keys", "list"]));
    assert!(table().contains("siv-acme-1") && !table().contains("sealed)"), "{}", table());
    let kek = custody.keys(&acme, &["list"])["data"][0].clone();
    assert_eq!((&kek["label"], &kek["sealed"]), (&"siv-acme-1".into(), &false.into()), "{kek}");
    custody.keys(&acme, &["seal"]);
    assert!(table().contains("acme (sealed)") && table().contains("siv keys unseal"), "{}", table());
    let kek = custody.keys(&acme, &["list"])["data"][0].clone();
    assert_eq!((&kek["tenant"], &kek["sealed"]), (&"acme".into(), &true.into()), "{kek}");
    custody.keys(&acme, &["unseal"]);
    assert!(!table().contains("sealed"), "{}", table());
}
