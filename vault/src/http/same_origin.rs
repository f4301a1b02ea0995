//! Requests of browsers that come from elsewhere than the vault's own frames are refused.
//!
//! There are no cookies, so nothing is gained by making a browser ask; this holds a stolen capture token away from pages.
//! A browser says where a POST comes from: `Origin` must be ours, `Sec-Fetch-Site` must be `same-origin`. A server that
//! sends neither is let through: it needs the token all the same.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::ORIGIN;
use http::request::Parts;

use super::authentication::arrival;
use super::problem::{Code, Problem};
use super::state::State;

/// Proof that a request is not one of another origin.
pub(crate) struct SameOrigin;

impl FromRequestParts<State> for SameOrigin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        if is_same(&parts.headers, &state.settings().public_origin) {
            Ok(Self)
        } else {
            state.notes().stranger(arrival(parts).address, "origin.foreign", state.now());
            Err(Problem::new(Code::PolicyDenied))
        }
    }
}

fn is_same(headers: &HeaderMap, own: &str) -> bool {
    let all = |name: &str, wanted: &str| headers.get_all(name).iter().all(|value| value == wanted);
    all(ORIGIN.as_str(), own) && all("sec-fetch-site", "same-origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_origin_is_another_origin_however_it_is_spelled() {
        let own = "https://vault.example";
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            is_same(&headers, own)
        };
        assert!(is_same(&HeaderMap::new(), own));
        assert!(with("origin", own) && with("sec-fetch-site", "same-origin"));
        for wrong in ["null", "https://shop.example", "https://vault.example:443", "https://vault.example.evil.example"]
        {
            assert!(!with("origin", wrong), "{wrong}");
        }
        for wrong in ["cross-site", "same-site", "none"] {
            assert!(!with("sec-fetch-site", wrong), "{wrong}");
        }
    }
}
