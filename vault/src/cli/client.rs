//! The command line's own client of the private listener.

use std::time::Duration;

use base64ct::{Base64, Encoding};
use hyper::body::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sha2::{Digest, Sha384};
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::config::Environment;

use super::failure::Failure;
use super::refused::{refusal, refused};
use crate::domain::chain;

/// How often an answer that is pending is asked for again, each 200 ms.
const PENDING_TRIES: usize = 50;

/// What the HTTP library says of an answer in TLS to a request in plain http.
const OTHER_PROTOCOL: &str = "invalid HTTP version";

/// An answer to a request that can be sent again.
pub(super) type Once = (StatusCode, Option<u64>, Value);

/// No answer to a request that can be sent again.
pub(super) struct NoAnswer {
    pub(super) failure: Failure,
    /// Whether the request may have come through.
    pub(super) was_sent: bool,
}

/// Speaks to one private listener with one credential.
#[derive(Debug, Clone)]
pub(super) struct Client {
    base: Url,
    /// None where none can be checked yet: a sealed node's.
    credential: Option<SecretString>,
    http: reqwest::Client,
}

impl Client {
    /// The client that `SIV_URL` and `SIV_CREDENTIAL` describe.
    pub(super) fn from_environment(environment: &Environment) -> Result<Self, Failure> {
        let url = address_of(environment)?;
        let credential = environment.credential.clone().ok_or_else(|| {
            missing("SIV_CREDENTIAL", "set it to a credential; `siv init` and `siv credential create` print one")
        })?;
        Self::new(url, credential)
    }

    /// The client that `SIV_URL` alone describes, for what is asked of a sealed node.
    pub(super) fn without_credential(environment: &Environment) -> Result<Self, Failure> {
        Self::with(address_of(environment)?, None)
    }

    /// A client of the private listener at `url`.
    pub(super) fn new(url: &str, credential: SecretString) -> Result<Self, Failure> {
        Self::with(url, Some(credential))
    }

    fn with(url: &str, credential: Option<SecretString>) -> Result<Self, Failure> {
        let wrong = || Failure::new("SIV_URL is not an address").so("set it to one like https://vault.internal:8081");
        let base = Url::parse(url).map_err(|_| wrong())?;
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(wrong());
        }
        let loopback = matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if base.scheme() == "http" && !loopback {
            let failure = Failure::new("SIV_URL is plain http to another machine");
            return Err(failure.because("what is secret would be readable on the way").so("use its https address"));
        }
        Ok(Self { base, credential, http: http_client()? })
    }

    /// GET, and the JSON of the answer.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        document(self.send(Method::GET, path, query, None).await?).await
    }

    /// GET, and the answer as it came. Entries that wait for the tree are waited for: integration takes about a second.
    pub(super) async fn fetch(&self, path: &str, query: &[(&str, String)]) -> Result<Response, Failure> {
        for _ in 0..PENDING_TRIES {
            let answer = self.send_any(Method::GET, path, query, None).await?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            let status = answer.status();
            let problem: Value = answer.json().await.unwrap_or(Value::Null);
            if problem.get("code").and_then(Value::as_str) != Some("log.pending") {
                return Err(refused(status, &problem));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(Failure::new("the newest entries are still not in the tree").so("look at /readyz of the private listener"))
    }

    /// POST of a JSON document.
    pub(super) async fn post(&self, path: &str, query: &[(&str, String)], body: &Value) -> Result<Value, Failure> {
        let body = Zeroizing::new(body.to_string());
        document(self.send(Method::POST, path, query, Some(("application/json", body))).await?).await
    }

    /// PUT of a JSON document.
    pub(super) async fn put(&self, path: &str, query: &[(&str, String)], body: &Value) -> Result<Value, Failure> {
        let body = Zeroizing::new(body.to_string());
        document(self.send(Method::PUT, path, query, Some(("application/json", body))).await?).await
    }

    /// PUT of a TOML document.
    pub(super) async fn put_toml(&self, path: &str, query: &[(&str, String)], body: String) -> Result<Value, Failure> {
        document(self.send(Method::PUT, path, query, Some(("application/toml", Zeroizing::new(body)))).await?).await
    }

    /// POST of a JSON document; the status and the JSON of whatever came back.
    pub(super) async fn exchange(&self, path: &str, body: &Value) -> Result<(StatusCode, Value), Failure> {
        let body = ("application/json", Zeroizing::new(body.to_string()));
        whatever(self.send_any(Method::POST, path, &[], Some(body)).await?).await
    }

    /// POST of a JSON document under a key of the caller's own, so that it can be sent again: the status, how many seconds to
    /// wait where the answer says so, and the JSON of whatever came back.
    pub(super) async fn post_once(
        &self,
        path: &str,
        key: &str,
        body: Bytes,
    ) -> Result<Result<Once, NoAnswer>, Failure> {
        let request = self.request(Method::POST, self.address(path, &[])?)?;
        let request = request.header("idempotency-key", key).header(CONTENT_TYPE, "application/json").body(body);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Ok(Err(NoAnswer { was_sent: !is_unsent(&error), failure: self.unreached(error) })),
        };
        let (wait, status) = (wait_of(&answer), answer.status());
        // An answer that breaks off is none: sent again, the same request gets the whole of it.
        Ok(match answer.json().await {
            Ok(document) => Ok((status, wait, document)),
            Err(error) => Err(NoAnswer { was_sent: true, failure: self.unreached(error) }),
        })
    }

    /// GET; the status and the JSON of whatever came back.
    pub(super) async fn look(&self, path: &str) -> Result<(StatusCode, Value), Failure> {
        whatever(self.send_any(Method::GET, path, &[], None).await?).await
    }

    /// POST of a JSON text that is wiped; the status, how many seconds to wait where the answer says so, and its JSON.
    pub(super) async fn offer(&self, path: &str, body: &Zeroizing<String>) -> Result<Once, Failure> {
        let answer = self.send_any(Method::POST, path, &[], Some(("application/json", body.clone()))).await?;
        let wait = wait_of(&answer);
        let (status, document) = whatever(answer).await?;
        Ok((status, wait, document))
    }

    /// PUT of a TOML document; the status and the JSON of whatever came back.
    pub(super) async fn offer_toml(
        &self,
        path: &str,
        query: &[(&str, String)],
        body: String,
    ) -> Result<(StatusCode, Value), Failure> {
        let body = ("application/toml", Zeroizing::new(body));
        whatever(self.send_any(Method::PUT, path, query, Some(body)).await?).await
    }

    /// All of a list, however many parts it comes in: one `data`, and `page.next` null.
    pub(super) async fn list(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        let (mut data, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut query = query.to_vec();
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut part = self.get(path, &query).await?;
            if let Some(items) = part.get_mut("data").and_then(Value::as_array_mut) {
                data.append(items);
            }
            cursor = part.pointer("/page/next").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                return Ok(json!({ "data": data, "page": { "next": null } }));
            }
        }
    }

    /// The `integrity` of a public file: SHA-384 over what the vault serves now.
    pub(super) async fn integrity_of(url: &str) -> Result<String, Failure> {
        let failed = || Failure::new(format!("{url} could not be read"));
        let answer = http_client()?.get(url).send().await.map_err(|error| failed().because(error.without_url()))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(failed().because(status));
        }
        let bytes = answer.bytes().await.map_err(|error| failed().because(error.without_url()))?;
        Ok(format!("sha384-{}", Base64::encode_string(&Sha384::digest(&bytes))))
    }

    /// The address it speaks to, without a slash at the end.
    pub(super) fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<(&'static str, Zeroizing<String>)>,
    ) -> Result<Response, Failure> {
        let answer = self.send_any(method, path, query, body).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(answer).await) }
    }

    async fn send_any(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<(&'static str, Zeroizing<String>)>,
    ) -> Result<Response, Failure> {
        let url = self.address(path, query)?;
        let mut request = self.request(method.clone(), url)?;
        if method == Method::POST {
            request = request.header("idempotency-key", Uuid::now_v7().to_string());
        }
        if let Some((media_type, body)) = body {
            request = request.header(CONTENT_TYPE, media_type).body(body.as_str().to_owned());
        }
        request.send().await.map_err(|error| self.unreached(error))
    }

    /// No answer, with the whole chain of causes: the outermost says only that sending failed.
    fn unreached(&self, error: reqwest::Error) -> Failure {
        let failure = Failure::new(format!("the vault at {} could not be reached", self.base()));
        if error.is_timeout() {
            return failure.because("no answer in time").so("check that `siv serve` or `siv dev` is running");
        }
        let why = chain(&error.without_url());
        // What the libraries say of the inside of a certificate helps nobody: lists of numbers.
        let why = why.split(" {").next().unwrap_or_default().to_owned();
        let next = if self.base.scheme() == "http" && why.contains(OTHER_PROTOCOL) {
            "this listener speaks TLS: let SIV_URL begin with https://"
        } else if self.base.scheme() == "https" && why.contains("InvalidContentType") {
            "this listener speaks plain http: let SIV_URL begin with http://"
        } else if why.contains("certificate") {
            "let SSL_CERT_FILE name the certificates (PEM) that this vault's certificate is signed with, and let SIV_URL \
             name the host that stands in it"
        } else {
            "check SIV_URL and that `siv serve` or `siv dev` is running"
        };
        failure.because(why).so(next)
    }

    fn address(&self, path: &str, query: &[(&str, String)]) -> Result<Url, Failure> {
        // A key that opens a value stands in no address, whatever it was taken for.
        if path.contains("svk_") || query.iter().any(|(_, value)| value.contains("svk_")) {
            let next = "`POST /v1/values/lookup` tells an app's server the valueId of a key, and opens nothing";
            return Err(Failure::new("that is a secureValueKey, not an id: it was not sent").so(next));
        }
        let mut url = self.base.join(path).map_err(|_| Failure::new("SIV_URL is not an address"))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    fn request(&self, method: Method, url: Url) -> Result<reqwest::RequestBuilder, Failure> {
        let request = self.http.request(method, url);
        Ok(match &self.credential {
            Some(credential) => request.header(AUTHORIZATION, Self::bearer(credential)?),
            None => request,
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the caller's own credential goes into its Authorization header")]
    fn bearer(credential: &SecretString) -> Result<HeaderValue, Failure> {
        let text = Zeroizing::new(format!("Bearer {}", credential.expose_secret().trim()));
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| Failure::new("SIV_CREDENTIAL has characters no credential has").so("copy it again"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Whether a request surely came to no vault: there was no connection, or what is there speaks another protocol.
fn is_unsent(error: &reqwest::Error) -> bool {
    error.is_connect() || chain(error).contains(OTHER_PROTOCOL)
}

fn missing(name: &str, next: &str) -> Failure {
    Failure::new(format!("{name} is not set")).so(next)
}

fn address_of(environment: &Environment) -> Result<&str, Failure> {
    environment
        .url
        .as_deref()
        .ok_or_else(|| missing("SIV_URL", "set it to the address of the private listener, like http://127.0.0.1:8081"))
}

/// How many seconds an answer says to wait.
fn wait_of(answer: &Response) -> Option<u64> {
    answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

fn http_client() -> Result<reqwest::Client, Failure> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        // Between two pieces of an answer: an export of a large log takes as long as it takes.
        .read_timeout(Duration::from_secs(120))
        // The vault ends a connection that was idle for a second; a request sent into that end would be lost.
        .pool_idle_timeout(Duration::from_millis(500))
        .build()
        .map_err(|error| Failure::new("the HTTP client did not start").because(error))
}

/// `?tenant=`, where one was named.
pub(super) fn tenant_query(tenant: Option<&crate::domain::TenantName>) -> Vec<(&'static str, String)> {
    tenant.map(|tenant| vec![("tenant", tenant.to_string())]).unwrap_or_default()
}

async fn document(answer: Response) -> Result<Value, Failure> {
    if answer.status() == StatusCode::NO_CONTENT {
        return Ok(Value::Null);
    }
    answer.json().await.map_err(|_| Failure::new("the vault's answer is not JSON").so("check that SIV_URL names a siv"))
}

async fn whatever(answer: Response) -> Result<(StatusCode, Value), Failure> {
    let status = answer.status();
    Ok((status, answer.json().await.unwrap_or(Value::Null)))
}
