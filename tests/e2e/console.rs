//! The auditor's pages, as a browser without scripts sees them.

use tests::{Actor, Answer, Siv};

const FORM: &str = "application/x-www-form-urlencoded";

async fn post(person: &Actor, path: &str, cookie: &str, origin: &str, body: String) -> Answer {
    let request = person.request(reqwest::Method::POST, path).header("content-type", FORM);
    person.send(request.header("cookie", cookie).header("origin", origin).body(body)).await
}

async fn get(person: &Actor, path: &str, cookie: &str) -> Answer {
    person.send(person.request(reqwest::Method::GET, path).header("cookie", cookie)).await
}

/// Signs in; the cookie.
async fn sign_in(siv: &Siv) -> String {
    let person = siv.stranger();
    let body = format!("credential={}", siv.auditor().bearer());
    let answer = post(&person, "/console/sign-in", "", person.base(), body).await.expect(303);
    let line = answer.header("set-cookie").unwrap();
    for attribute in ["__Host-siv-console=", "Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(line.contains(attribute), "{attribute}");
    }
    line.split(';').next().unwrap().to_owned()
}

fn csrf(page: &str) -> String {
    page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn an_auditor_signs_in_finds_a_value_and_takes_a_bundle_home() {
    let siv = Siv::start();
    siv.capture("card-number", "4242424242424242").await;
    let (person, cookie) = (siv.stranger(), sign_in(&siv).await);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let list = get(&person, "/console/log?action=value.captured", &cookie).await.expect(200);
    assert!(list.text.contains("value.captured"));
    assert!(list.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    assert!(!list.text.contains("<script>") && !list.text.contains("style="));
    assert!(list.text.contains("entries of the last 8 days every hour, last ended <time"), "{}", list.text);
    assert!(list.text.contains("Nothing was found altered"), "{}", list.text);
    for wrong in ["action=value.opened", "action=key.", "outcome=refused"] {
        let refused = get(&person, &format!("/console/log?{wrong}"), &cookie).await.expect(422);
        assert!(refused.text.contains("The filter was not understood"), "{wrong}");
    }
    let none = get(&person, "/console/log?action=key.kek.lost", &cookie).await.expect(200);
    assert!(none.text.contains("No entries match"), "{}", none.text);
    let keys = get(&person, "/console/log?action=key.kek.created", &cookie).await.expect(200);
    assert!(keys.text.contains("About") && keys.text.contains("version 1 of "), "{}", keys.text);
    let entry = list.text.split("href=\"/console/entries/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let page = get(&person, &format!("/console/entries/{entry}"), &cookie).await.expect(200);
    assert!(page.text.contains("In the tree of"), "the proof is shown");
    let value = list.text.split("href=\"/console/values/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let history = get(&person, &format!("/console/values/{value}"), &cookie).await.expect(200);
    assert!(history.text.contains("value.captured"));
    let export = get(&person, "/console/export", &cookie).await.expect(200);
    let body = format!("csrf={}", csrf(&export.text));
    let bundle = post(&person, "/console/export", &cookie, person.base(), body).await.expect(200);
    assert_eq!(bundle.header("content-type"), Some("application/x-tar"));
    assert!(bundle.bytes.windows(8).any(|w| w == b"MANIFEST"));
    let body = format!("csrf={}", csrf(&export.text));
    post(&person, "/console/sign-out", &cookie, person.base(), body).await.expect(303);
    assert_eq!(get(&person, "/console/log", &cookie).await.status, 303, "the session is over");
}

#[tokio::test]
async fn the_list_begins_with_the_newest_and_its_pages_reach_the_first() {
    let siv = Siv::start();
    for _ in 0..60 {
        siv.capture("card-cvc", "123").await;
    }
    for _ in 0..200 {
        if siv.entries("").await.iter().all(|entry| entry["integrated"] == true) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (person, cookie) = (siv.stranger(), sign_in(&siv).await);
    let (mut place, mut indices) = (Some("/console/log".to_owned()), Vec::new());
    while let Some(path) = place {
        let page = get(&person, &path, &cookie).await.expect(200).text;
        let rows = page.split("href=\"/console/entries/").skip(1).map(|row| row.split('"').next().unwrap());
        indices.extend(rows.map(|index| index.parse::<usize>().unwrap()));
        let next = page.split("rel=\"next\" href=\"").nth(1).map(|rest| rest.split('"').next().unwrap());
        place = next.map(|next| next.replace("&#38;", "&").replace("&amp;", "&"));
    }
    assert!(indices.len() > 60, "{indices:?}");
    assert!(indices.iter().copied().eq((0..indices.len()).rev()), "{indices:?}");
}

#[tokio::test]
async fn the_console_refuses_forged_forms_and_other_credentials() {
    let siv = Siv::start();
    let (person, cookie) = (siv.stranger(), sign_in(&siv).await);
    let export = get(&person, "/console/export", &cookie).await.expect(200);
    let right = format!("csrf={}", csrf(&export.text));
    let accepted = "The form was not accepted";
    says(&post(&person, "/console/export", &cookie, "https://evil.example", right).await, 403, accepted);
    says(&post(&person, "/console/export", &cookie, person.base(), "csrf=guess".to_owned()).await, 403, accepted);
    let operator = format!("credential={}", siv.operator().bearer());
    let refused = post(&person, "/console/sign-in", "", person.base(), operator).await;
    says(&refused, 401, "This is not an auditor&#39;s credential that holds.");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(get(&person, "/console/log", "").await.status, 303, "to the door");
    assert_eq!(siv.browser().get("/console/").await.status, 404, "not on the public listener");
}

/// A refusal that a person can read, with all that keeps a page safe.
fn says(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{}", answer.text);
    assert!(answer.text.contains(words), "{words}: {}", answer.text);
    assert!(answer.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn whatever_the_console_refuses_it_says_in_words() {
    let siv = Siv::start();
    let (person, cookie) = (siv.stranger(), sign_in(&siv).await);
    for (path, status, words) in [
        ("/console/log?from=yesterday", 422, "The filter was not understood"),
        ("/console/log?before=nonsense", 400, "The address cannot be read"),
        ("/console/entries/999999", 404, "No such entry"),
        ("/console/entries/abc", 404, "No such entry"),
        ("/console/values/abc", 404, "No such value"),
        ("/console/nothing/here", 404, "There is no such page"),
        ("/console/sign-out", 405, "There is no such page"),
    ] {
        says(&get(&person, path, &cookie).await, status, words);
    }
    assert_eq!(get(&person, "/console", &cookie).await.header("location"), Some("/console/"));
    let day = get(&person, "/console/log?from=2026-01-31&to=2126-01-31", &cookie).await.expect(200);
    assert!(day.text.contains("Remove filter from: 2026-01-31"), "{}", day.text);
    let asset = get(&person, "/console/assets/console.css", "").await.expect(200);
    assert_eq!(asset.header("cross-origin-resource-policy"), Some("same-origin"));
}

#[tokio::test]
async fn whoever_guesses_credentials_is_told_to_wait() {
    let siv = Siv::start();
    let person = siv.stranger();
    let guess = || post(&person, "/console/sign-in", "", person.base(), "credential=siv_aud_guess".to_owned());
    for _ in 0..10 {
        says(&guess().await, 401, "Check that you copied all of it.");
    }
    let waits = guess().await;
    says(&waits, 429, "Wait half an hour.");
    assert_eq!(waits.header("retry-after"), Some("1800"));
}
