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
async fn the_console_refuses_forged_forms_and_other_credentials() {
    let siv = Siv::start();
    let (person, cookie) = (siv.stranger(), sign_in(&siv).await);
    let export = get(&person, "/console/export", &cookie).await.expect(200);
    let right = format!("csrf={}", csrf(&export.text));
    assert_eq!(post(&person, "/console/export", &cookie, "https://evil.example", right).await.status, 403);
    assert_eq!(post(&person, "/console/export", &cookie, person.base(), "csrf=guess".to_owned()).await.status, 403);
    let operator = format!("credential={}", siv.operator().bearer());
    assert_eq!(post(&person, "/console/sign-in", "", person.base(), operator).await.status, 401);
    assert_eq!(get(&person, "/console/log", "").await.status, 303, "to the door");
    assert_eq!(siv.browser().get("/console/").await.status, 404, "not on the public listener");
}
