//! What host and worker say to each other. Secrets travel in fields of their own and never through JSON.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::canary::{Canary, Finding};
use crate::check::CheckOptions;
use crate::error::HsmError;
use crate::frame::Frame;
use crate::kek_kind::KekKind;
use crate::module::ModuleFile;
use crate::profile::KekRef;
use crate::token::TokenInfo;
use crate::uri::KekSelector;

/// What the host asks. The frame's second and third field are named beside each verb.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Verb {
    /// The first frame: configuration as JSON in field 1; in field 2 the key under which the host knows PINs, then a PIN handed over.
    /// Answered once module, token and login stand.
    Configure,
    /// Key in field 1, context in field 2; the answer's bytes are the wrapped key.
    Wrap(KekRef),
    /// Wrapped key in field 1, context in field 2; the answer's bytes are the key.
    Unwrap(KekRef),
    /// Which profile a KEK does.
    Probe(KekSelector),
    /// Which profile a KEK of this kind would do, tried on a throw-away key.
    ProbeKind(KekKind),
    /// What the token says of a KEK.
    Describe(KekSelector),
    /// A canary for a KEK version.
    MakeCanary(KekRef),
    /// Asks one canary; what is wrong with its KEK, if anything is. One request each, so that many of them are no hung call.
    AskCanary(Canary),
    /// The same for somebody who acts on it for good: that the key is not there is said by a module that was initialised for this.
    Look(Canary),
    /// What stands.
    Status,
    /// Replaces the canaries.
    Watch(Vec<Canary>),
    /// Makes a KEK in the token.
    CreateKek(KekSelector, KekKind),
    /// Destroys a KEK, once its canary answers.
    DestroyKek(KekSelector, Option<Canary>),
    /// The conformance and safety report.
    Check(CheckOptions),
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// The module it loaded.
    pub module: ModuleFile,
    /// The token it logged into.
    pub token: TokenInfo,
    /// Rises at each login or initialisation.
    pub generation: u64,
    /// Sessions that work at once.
    pub sessions: usize,
    /// What the canaries found; empty is good. The host asks them one by one and keeps it here.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// What became of a key that was to be made; an error as it crosses ([`HsmError::to_wire`]).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Making {
    /// Nobody could log in, or the name is taken: the module was not told to make it.
    NotBegun((u8, String)),
    /// The module was told to.
    Begun(Result<(), (u8, String)>),
}

/// An answer: JSON, bytes, or both.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) json: Vec<u8>,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

impl Answer {
    pub(crate) fn of(value: &impl Serialize) -> Result<Self, HsmError> {
        let json = serde_json::to_vec(value).map_err(|_| HsmError::Protocol("an answer is not text".to_owned()))?;
        Ok(Self { json, bytes: Zeroizing::default() })
    }

    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, HsmError> {
        serde_json::from_slice(&self.json).map_err(|_| HsmError::Protocol("an answer of another form".to_owned()))
    }
}

pub(crate) fn request(number: u64, verb: &Verb, first: &[u8], second: &[u8]) -> Result<Frame, HsmError> {
    let json = serde_json::to_vec(verb).map_err(|_| HsmError::Protocol("a request is not text".to_owned()))?;
    Ok(Frame::new(number, [&json, first, second]))
}

pub(crate) fn verb(frame: &Frame) -> Result<Verb, HsmError> {
    serde_json::from_slice(frame.field(0)).map_err(|_| HsmError::Protocol("an unknown request".to_owned()))
}

pub(crate) fn answer(number: u64, result: &Result<Answer, HsmError>) -> Frame {
    match result {
        Ok(answer) => Frame::new(number, [&[], &answer.json, &answer.bytes]),
        Err(error) => {
            let (code, detail) = error.to_wire();
            Frame::new(number, [&[code], detail.as_bytes(), &[]])
        }
    }
}

pub(crate) fn result(frame: &Frame) -> Result<Answer, HsmError> {
    match frame.field(0) {
        [] => Ok(Answer { json: frame.field(1).to_vec(), bytes: Zeroizing::new(frame.field(2).to_vec()) }),
        [code] => Err(HsmError::from_wire(*code, String::from_utf8_lossy(frame.field(1)).into_owned())),
        _ => Err(HsmError::Protocol("neither an answer nor an error".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn requests_and_answers_cross_unchanged() {
        let kek = KekRef { selector: KekSelector { label: Some("k".to_owned()), id: None }, profile: Profile::AesKwp };
        let frame = request(3, &Verb::Unwrap(kek.clone()), b"wrapped", b"context").unwrap();
        assert!(matches!(verb(&frame).unwrap(), Verb::Unwrap(k) if k == kek));
        assert_eq!((frame.number, frame.field(1), frame.field(2)), (3, &b"wrapped"[..], &b"context"[..]));
        let good = Answer { json: b"1".to_vec(), bytes: Zeroizing::new(vec![7; 32]) };
        assert_eq!(result(&answer(3, &Ok(good))).unwrap().bytes[..], [7; 32]);
        assert_eq!(result(&answer(3, &Err(HsmError::Tampered))).unwrap_err(), HsmError::Tampered);
    }
}
