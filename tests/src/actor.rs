//! Who speaks to the vault: one base address and at most one credential.

use std::time::Duration;

use serde_json::Value;

/// A caller.
#[derive(Clone)]
pub struct Actor {
    http: reqwest::Client,
    base: String,
    bearer: Option<String>,
}

/// What the vault answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub text: String,
    /// The body's bytes.
    pub bytes: Vec<u8>,
}

impl Actor {
    /// A caller of `base` with or without a credential.
    pub fn new(base: &str, bearer: Option<&str>) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(40))
            // Less than the vault keeps one: a request must not meet its end.
            .pool_idle_timeout(Duration::from_millis(500))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { http, base: base.trim_end_matches('/').to_owned(), bearer: bearer.map(str::to_owned) }
    }

    /// The same caller with another credential.
    pub fn with_bearer(&self, bearer: &str) -> Self {
        Self { bearer: Some(bearer.to_owned()), ..self.clone() }
    }

    /// The address it speaks to.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Its credential.
    pub fn bearer(&self) -> &str {
        self.bearer.as_deref().unwrap_or("")
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(reqwest::Method::GET, path)).await
    }

    /// A metric of the node's, as a scrape of its private listener tells it: with labels one series, without them the sum of all; none
    /// where nothing was counted yet.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.get("/metrics").await.expect(200).text;
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let number = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
            Some(number.parse::<f64>().unwrap())
        };
        metrics.lines().filter_map(of).reduce(|sum, one| sum + one)
    }

    /// An auditor's checkpoint of its log, another than `known`: entries come into the tree within seconds.
    pub async fn checkpoint(&self, known: &str) -> String {
        for _ in 0..200 {
            let answer = self.get("/v1/log/checkpoint").await;
            if answer.status == 200 && answer.text != known {
                return answer.text;
            }
            assert!(answer.status == 200 || answer.code() == "log.pending", "{}", answer.text);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no new checkpoint within ten seconds");
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(reqwest::Method::POST, path).json(body)).await
    }

    /// POST of JSON with an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.send(self.request(reqwest::Method::POST, path).header("idempotency-key", key).json(body)).await
    }

    /// PUT of TOML.
    pub async fn put_toml(&self, path: &str, toml: &str) -> Answer {
        let request = self.request(reqwest::Method::PUT, path).header("content-type", "application/toml");
        self.send(request.body(toml.to_owned())).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(reqwest::Method::PUT, path).json(body)).await
    }

    /// A request to be changed before it is sent.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.bearer {
            Some(bearer) => request.bearer_auth(bearer),
            None => request,
        }
    }

    /// Sends a request; a connection that breaks is status 0.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let Ok(response) = request.send().await else {
            return Answer { status: 0, headers: Vec::new(), text: String::new(), bytes: Vec::new() };
        };
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let headers = headers.collect();
        let bytes = response.bytes().await.map(|b| b.to_vec()).unwrap_or_default();
        Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The problem's code.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Status and code in one, for comparing refusals.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.code())
    }

    /// This answer, if it has the status; else the test fails with what came instead.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}
