//! Which passwords and PHC strings verify, and which strings are refused.

use proptest::prelude::*;

use super::*;

fn password(text: &str) -> Plaintext {
    Plaintext::new(Zeroizing::new(text.to_owned()))
}

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

async fn verify(text: &str, phc: &str) -> Result<bool, Refused> {
    Passwords::new(2).verify(&tenant("demo"), &password(text), phc).await
}

fn argon2(algorithm: Algorithm, m: u32, t: u32, p: u32) -> String {
    let argon2 = Argon2::new(algorithm, Version::V0x13, Params::new(m, t, p, Some(32)).unwrap());
    use argon2::PasswordHasher;
    argon2.hash_password_with_salt(b"correct horse", b"0123456789abcdef").unwrap().to_string()
}

#[tokio::test]
async fn every_kind_of_hash_is_verified() {
    use argon2::PasswordHasher;
    let scrypt = scrypt::Scrypt::new_with_params(scrypt::Params::new(14, 8, 5).unwrap());
    let scrypt: PasswordHash = scrypt.hash_password_with_salt(b"correct horse", b"0123456789abcdef").unwrap();
    let mut output = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(b"correct horse", b"0123456789abcdef", 600_000, &mut output);
    let (salt, output) = (Salt::new(b"0123456789abcdef").unwrap(), Output::new(&output).unwrap());
    let pbkdf2 = format!("$pbkdf2-sha256$i=600000,l=32${}${output}", salt.to_salt_string());
    for phc in [
        argon2(Algorithm::Argon2id, 7168, 5, 1),
        argon2(Algorithm::Argon2i, 19456, 2, 2),
        scrypt.to_string(),
        pbkdf2,
        bcrypt::hash("correct horse", 10).unwrap(),
        bcrypt::hash("correct horse", 10).unwrap().replace("$2b$", "$2y$"),
    ] {
        assert_eq!(verify("correct horse", &phc).await, Ok(true), "{phc}");
        assert_eq!(verify("correct hors", &phc).await, Ok(false), "{phc}");
    }
}

#[tokio::test]
async fn a_cost_out_of_bounds_is_refused_before_it_is_paid() {
    let sound = argon2(Algorithm::Argon2id, 7168, 5, 1);
    let bcrypt = bcrypt::hash("x", 4).unwrap();
    for phc in [
        sound.replace("m=7168", "m=7167"),
        sound.replace("m=7168", "m=4194304"),
        sound.replace("t=5", "t=4"),
        sound.replace("t=5", "t=11"),
        sound.replace("m=7168,t=5", "m=47103,t=1"),
        sound.replace("m=7168,t=5", "m=19455,t=2"),
        sound.replace("p=1", "p=9"),
        bcrypt.clone(),
        bcrypt.replace("$04$", "$31$"),
        "$scrypt$ln=16,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg".to_owned(),
        "$scrypt$ln=17,r=7,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg".to_owned(),
        "$scrypt$ln=13,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg".to_owned(),
        "$scrypt$ln=18,r=64,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg".to_owned(),
        "$scrypt$ln=63,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg".to_owned(),
        "$pbkdf2-sha256$i=599999$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg".to_owned(),
        "$pbkdf2-sha512$i=209999$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg".to_owned(),
        "$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg".to_owned(),
        "$pbkdf2-sha256$i=4000000000$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg".to_owned(),
    ] {
        assert_eq!(verify("x", &phc).await, Err(Refused::Hash(InputCode::Cost)), "{phc}");
    }
}

#[tokio::test]
async fn an_unknown_string_is_refused() {
    let sound = argon2(Algorithm::Argon2id, 7168, 1, 1);
    for phc in [
        "",
        "correct horse",
        "$2b$10$short",
        "$1$abc$def",
        "$argon2d$v=19$m=7168,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg",
        "$argon2id$v=19$m=7168,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg",
        "$argon2id$v=19$m=7168,t=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg",
        &sound.replace("v=19", "v=99"),
        &"$".repeat(4000),
    ] {
        assert_eq!(verify("x", phc).await, Err(Refused::Hash(InputCode::Hash)), "{phc}");
    }
}

#[tokio::test]
async fn a_hash_made_here_is_verified_here() {
    let passwords = Passwords::new(1);
    let phc = passwords.hash(&tenant("demo"), &password("correct horse")).await.unwrap();
    assert!(phc.starts_with("$argon2id$v=19$m=65536,t=3,p=1$"), "{}", *phc);
    assert_eq!(passwords.verify(&tenant("demo"), &password("correct horse"), &phc).await, Ok(true));
    assert_ne!(*phc, *passwords.hash(&tenant("demo"), &password("correct horse")).await.unwrap());
}

#[tokio::test]
async fn one_tenant_never_has_every_turn() {
    use futures_util::FutureExt;
    let passwords = Passwords::new(2);
    let first = passwords.turn(&tenant("busy")).await.unwrap();
    assert!(passwords.turn(&tenant("busy")).now_or_never().is_none(), "it waits for its own");
    let other = passwords.turn(&tenant("quiet")).now_or_never();
    assert!(matches!(other, Some(Ok(_))), "the other does not");
    drop(first);
    assert!(matches!(passwords.turn(&tenant("busy")).now_or_never(), Some(Ok(_))));
}

proptest! {
    #[test]
    fn no_string_makes_it_panic(text in any::<String>(), tail in "[$a-z0-9=,./]{0,80}") {
        let _ = Stored::read(&text);
        for kind in ["$2b$", "$argon2id$", "$scrypt$", "$pbkdf2-sha256$"] {
            let _ = Stored::read(&format!("{kind}{tail}"));
            let _ = Stored::read(&format!("{kind}{text}"));
        }
    }
}
