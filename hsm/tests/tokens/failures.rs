//! Every row of the failure table, injected into a real token: what is retried, what logs in again, what initialises again, what never.

use hsm::{Host, HsmError, KekKind, KekRef, Phase};

use crate::token::{BOTH, LONG, Provider, Token, data_key, kek, watched};

const CONTEXT: &[u8] = b"context";

/// Calls that tell which remedy was used.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Remedies {
    finds: bool,
    logins: usize,
    finalizes: usize,
}

/// A host behind the faulty module, with a watched KEK and something wrapped under it.
struct Bench {
    token: Token,
    host: Host,
    kek: KekRef,
    wrapped: Vec<u8>,
    tag: std::cell::Cell<u32>,
}

impl Bench {
    fn new(provider: Provider) -> Self {
        let token = Token::shimmed(provider);
        let host = token.host();
        let kek = watched(&host, "kek");
        let wrapped = host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
        Self { token, host, kek, wrapped, tag: std::cell::Cell::new(0) }
    }

    /// Unwraps under `fault`; the result and what was done about it.
    fn unwrap(&self, fault: &str) -> (Result<(), HsmError>, Remedies) {
        // Another line each time, so that the module counts it anew.
        self.tag.set(self.tag.get() + 1);
        self.token.inject(&format!("{fault} tag={}\n", self.tag.get()));
        let before = ["C_FindObjectsInit", "C_Login", "C_Finalize"].map(|name| self.token.calls(name));
        let result = self.host.unwrap(&self.kek, &self.wrapped, CONTEXT, LONG);
        let after = ["C_FindObjectsInit", "C_Login", "C_Finalize"].map(|name| self.token.calls(name));
        self.token.inject("");
        let remedies =
            Remedies { finds: after[0] > before[0], logins: after[1] - before[1], finalizes: after[2] - before[2] };
        (result.map(|key| assert_eq!(key, data_key())), remedies)
    }
}

#[test]
fn an_invalid_handle_is_found_again_and_nothing_more() {
    for provider in BOTH {
        let bench = Bench::new(provider);
        for code in ["0x82", "0x60"] {
            let (result, remedies) = bench.unwrap(&format!("C_DecryptInit rv={code} times=1"));
            assert_eq!(result, Ok(()), "{code}");
            assert_eq!(remedies, Remedies { finds: true, logins: 0, finalizes: 0 }, "{provider:?} {code}");
        }
    }
}

#[test]
fn a_lost_session_is_opened_again_with_one_login() {
    for provider in BOTH {
        let bench = Bench::new(provider);
        for code in ["0xb3", "0xb0", "0x101"] {
            let (result, remedies) = bench.unwrap(&format!("C_DecryptInit rv={code} times=1"));
            assert_eq!(result, Ok(()), "{code}");
            assert_eq!(remedies, Remedies { finds: true, logins: 1, finalizes: 0 }, "{provider:?} {code}");
        }
    }
}

#[test]
fn a_lost_token_is_initialised_again() {
    for provider in BOTH {
        let bench = Bench::new(provider);
        for code in ["0x190", "0x32", "0xe0"] {
            let (result, remedies) = bench.unwrap(&format!("C_DecryptInit rv={code} times=1"));
            assert_eq!(result, Ok(()), "{code}");
            assert_eq!(remedies, Remedies { finds: true, logins: 1, finalizes: 1 }, "{provider:?} {code}");
        }
    }
}

#[test]
fn a_login_that_did_not_help_is_followed_by_an_initialisation() {
    let bench = Bench::new(Provider::SoftHsm);
    // The call, and the canary before the key found again is trusted.
    let (result, remedies) = bench.unwrap("C_DecryptInit rv=0xb3 times=2");
    assert_eq!(result, Ok(()));
    assert_eq!(remedies, Remedies { finds: true, logins: 2, finalizes: 1 });
}

#[test]
fn a_code_that_could_be_either_asks_the_canary_and_tears_nothing_down() {
    let bench = Bench::new(Provider::SoftHsm);
    for code in ["0x5", "0x6", "0x30", "0x40", "0x80000123"] {
        let (result, remedies) = bench.unwrap(&format!("C_Decrypt rv={code} times=1"));
        assert_eq!(result, Ok(()), "{code}");
        assert_eq!(remedies, Remedies { finds: false, logins: 0, finalizes: 0 }, "{code}");
    }
}

#[test]
fn altered_bytes_are_told_from_a_dead_token_whatever_the_code() {
    for provider in BOTH {
        let mut bench = Bench::new(provider);
        bench.wrapped[20] ^= 1;
        let (result, remedies) = bench.unwrap("C_Login tag=0");
        assert_eq!(result, Err(HsmError::Tampered), "{provider:?}");
        assert_eq!(remedies, Remedies { finds: false, logins: 0, finalizes: 0 });
        bench.wrapped[20] ^= 1;
        // All of call, canary and round trip fail: the token, not the bytes.
        let (result, remedies) = bench.unwrap("C_Decrypt rv=0x5 times=3");
        assert_eq!(result, Ok(()), "{provider:?}");
        assert_eq!(remedies, Remedies { finds: true, logins: 1, finalizes: 1 });
        let (result, _) = bench.unwrap("C_Decrypt rv=0x5");
        assert!(matches!(result, Err(HsmError::Unavailable(_))), "{result:?}");
    }
}

#[test]
fn what_cannot_help_is_not_tried_again() {
    let bench = Bench::new(Provider::SoftHsm);
    for code in ["0x68", "0x70", "0x63", "0x54"] {
        let before = bench.token.calls("C_DecryptInit");
        let (result, remedies) = bench.unwrap(&format!("C_DecryptInit rv={code}"));
        assert!(matches!(result, Err(HsmError::Refused(_))), "{code} {result:?}");
        assert_eq!(bench.token.calls("C_DecryptInit"), before + 1, "{code}");
        assert_eq!(remedies, Remedies { finds: false, logins: 0, finalizes: 0 }, "{code}");
    }
    assert_eq!(bench.unwrap("C_Login tag=0").0, Ok(()));
}

#[test]
fn a_token_without_room_is_left_alone() {
    let bench = Bench::new(Provider::SoftHsm);
    let (result, remedies) = bench.unwrap("C_DecryptInit rv=0xb1 times=1");
    assert!(result.as_ref().is_err_and(HsmError::is_outage), "{result:?}");
    assert_eq!(remedies, Remedies { finds: false, logins: 0, finalizes: 0 });
}

#[test]
fn a_pin_refused_while_healing_quarantines() {
    for code in ["0xa0", "0xa3", "0xa4"] {
        let bench = Bench::new(Provider::SoftHsm);
        let logins = bench.token.calls("C_Login");
        bench.token.inject(&format!("C_DecryptInit rv=0xb3\nC_Login rv={code}\n"));
        assert!(matches!(bench.host.unwrap(&bench.kek, &bench.wrapped, CONTEXT, LONG), Err(HsmError::Quarantined(_))));
        assert!(bench.host.wait(LONG, |s| s.phase == Phase::Quarantined));
        assert!(matches!(bench.host.wrap(&bench.kek, &data_key(), CONTEXT, LONG), Err(HsmError::Quarantined(_))));
        assert_eq!(bench.token.calls("C_Login"), logins + 1, "{code} was tried more than once");
    }
}

#[test]
fn being_logged_in_already_is_no_failure() {
    let token = Token::shimmed(Provider::SoftHsm);
    token.inject("C_Login after=0x100\n");
    let host = token.host();
    let kek = kek(&host, "kek", KekKind::Aes256);
    host.wrap(&kek, &data_key(), CONTEXT, LONG).unwrap();
}

#[test]
fn rubbish_of_a_module_reaches_nobody() {
    let bench = Bench::new(Provider::SoftHsm);
    let (result, _) = bench.unwrap("C_Decrypt longer times=1");
    assert_eq!(result, Ok(()), "a length beyond the buffer was believed");
    let (result, _) = bench.unwrap("C_Decrypt longer");
    assert!(result.as_ref().is_err_and(HsmError::is_outage), "{result:?}");
}

#[test]
fn what_would_not_come_back_is_not_given_out() {
    let bench = Bench::new(Provider::SoftHsm);
    bench.token.inject("C_Encrypt flip tag=1\n");
    for _ in 0..3 {
        let refusal = bench.host.wrap(&bench.kek, &data_key(), CONTEXT, LONG).unwrap_err();
        assert!(refusal.is_outage(), "{refusal:?}");
    }
    bench.token.inject("C_Encrypt flip times=1\n");
    let until = std::time::Instant::now() + LONG;
    let wrapped = loop {
        match bench.host.wrap(&bench.kek, &data_key(), CONTEXT, LONG) {
            Ok(wrapped) => break wrapped,
            Err(error) => assert!(error.is_outage() && std::time::Instant::now() < until, "{error:?}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(bench.host.unwrap(&bench.kek, &wrapped, CONTEXT, LONG).unwrap(), data_key());
}
