//! Values to put in: canaries that cannot stand anywhere by chance.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::Value;
use vault::domain::{CaptureSessionId, Clock, Credential, SecureValueKey};

/// A random text of 24 hexadecimal digits.
pub fn canary() -> String {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A random card number of 16 digits that passes the Luhn check and is approved by the mock acquirer.
pub fn card_number() -> String {
    let mut bytes = [0; 11];
    getrandom::fill(&mut bytes).unwrap();
    let mut digits: Vec<u32> = vec![4, 2, 4, 2];
    digits.extend(bytes.iter().map(|b| u32::from(b % 10)));
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(at, d)| if at % 2 == 0 { d * 2 / 10 + d * 2 % 10 } else { *d }).sum();
    digits.push((10 - sum % 10) % 10);
    digits.iter().map(ToString::to_string).collect()
}

/// Every spelling of a canary that a careless program might leave behind.
pub fn spellings(canary: &str) -> Vec<Vec<u8>> {
    let bytes = canary.as_bytes();
    let mut all = vec![bytes.to_vec()];
    all.push(bytes.iter().flat_map(|b| [*b, 0]).collect());
    all.push(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().into_bytes());
    for skip in 0..3 {
        // The middle of base64 at each of the three offsets.
        let shifted = [vec![b'x'; skip], bytes.to_vec()].concat();
        let text = base64ct::Base64Unpadded::encode_string(&shifted);
        all.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    all
}

/// True if `hay` holds `needle`.
pub fn holds(hay: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && memchr::memmem::find(hay, needle).is_some()
}

/// Looks for secrets in every file of a folder, and panics with the name of the first that holds one.
pub fn scan(root: &std::path::Path, secrets: &[Vec<u8>]) {
    let (mut folders, mut files) = (vec![root.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                // A file that was written and renamed while the folder was read is met under its name.
                Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
                Err(why) => panic!("{}: {why}", path.display()),
            };
            files += 1;
            let held = secrets.iter().any(|secret| holds(&bytes, secret));
            assert!(!held, "{} holds a secret", path.display());
        }
    }
    assert!(files > 5, "nothing was scanned");
}

/// An Argon2id string of a password (m = 19456 KiB, t = 2, p = 1).
pub fn phc(password: &str) -> String {
    use argon2::PasswordHasher as _;
    argon2::Argon2::default().hash_password(password.as_bytes()).unwrap().to_string()
}

/// A well-formed `secureValueKey` that no vault gave out.
pub fn secure_value_key() -> String {
    SecureValueKey::generate(Clock::System.now()).unwrap().reveal_text().to_string()
}

/// A well-formed `secureValueKey` with the public half of one and the secret half of another.
pub fn cross(public: &str, secret: &str) -> String {
    let (public, secret): (SecureValueKey, SecureValueKey) = (public.parse().unwrap(), secret.parse().unwrap());
    SecureValueKey::from_parts(public.value_id(), *secret.secret()).reveal_text().to_string()
}

/// Seals a text as the frame does, to the key that `GET /v1/capture/session` named.
pub fn seal(described: &Value, token: &str, field: &str, text: &str) -> String {
    let key = &described["keys"][0];
    let bytes = |text: &Value| Base64UrlUnpadded::decode_vec(text.as_str().unwrap()).unwrap();
    let key_id: [u8; 16] = match key["keyId"].as_str().unwrap().parse::<uuid::Uuid>() {
        Ok(id) => *id.as_bytes(),
        Err(_) => bytes(&key["keyId"]).try_into().unwrap(),
    };
    let public: [u8; 65] = bytes(&key["publicKey"]).try_into().unwrap();
    let session = CaptureSessionId::from_bytes(Credential::parse(token).unwrap().id_bytes());
    let app = described["app"].as_str().unwrap().parse().unwrap();
    let sealed = vault::crypto::seal_capture(&public, &key_id, &app, session, &field.parse().unwrap(), text);
    Base64UrlUnpadded::encode_string(&sealed.unwrap())
}
