//! What the settings refuse.

use std::os::unix::fs::PermissionsExt;

use super::*;

const SOUND: &str = r#"
database = "sqlite:db/siv.db"
key_store = "dir:keys"
root_key = "file:root/root.key"
realm = "eu"
public_url = "https://vault.example"
[public]
address = "127.0.0.1:8443"
[private]
address = "127.0.0.1:8081"
"#;

fn load(text: &str) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("siv.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Settings::load(&path).map_err(|error| error.to_string())
}

#[test]
fn a_sound_file_is_taken_and_plain_capture_is_off() {
    let settings = load(SOUND).unwrap();
    assert!(!settings.plain_capture && !settings.development);
    assert_eq!(settings.limits, Limits::default());
    let sealed = load(&SOUND.replace("file:root/root.key", "sealed")).unwrap();
    assert_eq!(sealed.root_key, RootKey::Sealed);
}

#[test]
fn a_node_serves_on_after_it_was_asked_to_end_only_where_that_is_set() {
    assert_eq!(load(SOUND).unwrap().drain, Duration::ZERO);
    let with = |seconds: &str| load(&format!("drain_seconds = {seconds}\n{SOUND}"));
    assert_eq!(with("5").unwrap().drain, Duration::from_secs(5));
    for wrong in ["301", "-1", "\"5s\""] {
        let refusal = with(wrong).unwrap_err();
        assert!(refusal.contains("drain_seconds: set it to a whole number from 0 to 300"), "{refusal}");
    }
}

#[test]
fn each_unsafe_setting_is_refused_in_one_line_that_names_it() {
    for (from, to, key) in [
        ("sqlite:db/siv.db", "sqlite:db/siv.db?synchronous=off", "database"),
        ("sqlite:db/siv.db", "sqlite::memory:", "database"),
        ("sqlite:db/siv.db", "postgres://db/siv", "database"),
        ("sqlite:db/siv.db", "postgres://localhost,otherhost/siv", "database"),
        ("sqlite:db/siv.db", "postgres://localhost/siv?options=-cfsync%3Doff", "database"),
        ("realm = \"eu\"", "realm = \"eu\"\nmigration_lock = true", "migration_lock"),
        ("dir:keys", "dir:db/keys", "key_store"),
        ("dir:keys", "dir:.", "key_store"),
        ("dir:keys", "postgres://db.example/keys", "key_store"),
        ("dir:keys", "postgres://a,b/keys", "key_store"),
        ("dir:keys", "sqlite:keys.db", "key_store"),
        ("file:root/root.key", "file:db/root.key", "root_key"),
        ("file:root/root.key", "file:keys/root.key", "root_key"),
        ("file:root/root.key", "systemd:../up", "root_key"),
        ("file:root/root.key", "sealed:later", "root_key"),
        ("127.0.0.1:8081", "0.0.0.0:8081", "private"),
        ("127.0.0.1:8443", "0.0.0.0:8443", "public"),
        ("127.0.0.1:8443", "127.0.0.1:8081", "private"),
        ("https://vault.example", "http://vault.example", "public_url"),
        ("https://vault.example", "https://vault.example/", "public_url"),
        ("realm = \"eu\"", "realm = \"eu\"\ncolour = 1", "colour"),
        ("realm = \"eu\"", "", "realm"),
        ("realm = \"eu\"", "realm = \"eu\"\ntrusted_proxies = [\"0.0.0.0/0\"]", "trusted_proxies"),
        ("realm = \"eu\"", "realm = \"eu\"\ntrusted_proxies = [\"10.0.0.1/32\", \"2000::/3\"]", "trusted_proxies"),
        ("[private]", "[limits]\nrequests = 0\n[private]", "limits"),
        ("\"127.0.0.1:8081\"", "\"127.0.0.1:8081\"\ntls_key = \"k\"", "private"),
    ] {
        let refusal = load(&SOUND.replacen(from, to, 1)).unwrap_err();
        assert!(refusal.contains(key), "{to}: {refusal}");
        assert_eq!(refusal.lines().count(), 1, "{refusal}");
    }
}

#[test]
fn a_setting_of_the_wrong_shape_is_named_with_its_line_and_what_it_may_be() {
    for (from, to, line, key, allowed) in [
        ("realm = \"eu\"", "log_level = \"loud\"\nrealm = \"eu\"", 5, "log_level", "\"debug\""),
        ("realm = \"eu\"", "realm = \"EU\"", 5, "realm", "small letters"),
        ("realm = \"eu\"", "realm = \"eu\"\nkek_rotation_days = 0", 6, "kek_rotation_days", "1 to 65535"),
        (
            "realm = \"eu\"",
            "realm = \"eu\"\ntrusted_proxies = [\n  \"10.0.0.0/99\"\n]",
            7,
            "trusted_proxies",
            "10.0.0.5/32",
        ),
        ("127.0.0.1:8443", "localhost:21443", 8, "public.address", "names of hosts"),
        ("[private]", "[limits]\nrequests = -1\n[private]", 10, "limits.requests", "1 or more"),
        ("[private]", "[limits]\nrequest_seconds = \"many\"\n[private]", 10, "limits.request_seconds", "1 to 300"),
    ] {
        let refusal = load(&SOUND.replacen(from, to, 1)).unwrap_err();
        assert!(refusal.contains(&format!("line {line}: {key}: ")) && refusal.contains(allowed), "{to}: {refusal}");
        assert_eq!(refusal.lines().count(), 1, "{refusal}");
    }
    for (from, to, what) in [
        ("[private]\naddress = \"127.0.0.1:8081\"", "[private]", "private.address is missing: set it to an IP"),
        ("[public]\naddress = \"127.0.0.1:8443\"\n", "", "public is missing: set it to a table"),
        ("database = \"sqlite:db/siv.db\"", "", "database is missing: set it to \"sqlite:"),
        ("realm = \"eu\"", "realm = eu", "line 5: this is not TOML"),
        ("realm = \"eu\"", "realm = \"eu\"\nrealm = \"eu\"", "line 6: a setting comes twice"),
        ("[private]", "[limits]\ncredential_per_second = 0\n[private]", "limits.credential_per_second: set it to"),
    ] {
        let refusal = load(&SOUND.replacen(from, to, 1)).unwrap_err();
        assert!(refusal.contains(what), "{to}: {refusal}");
    }
}

#[test]
fn a_refusal_never_repeats_a_value() {
    let canary = "3f9c1e7a5b2d48f0a6c4e2b1";
    let with_password = format!("postgres://siv:{canary}@db.example/siv");
    for (from, to) in [
        ("file:root/root.key", canary),
        ("sqlite:db/siv.db", canary),
        ("sqlite:db/siv.db", &with_password),
        ("\"eu\"", &format!("[\"{canary}\"]")),
    ] {
        let refusal = load(&SOUND.replacen(from, to, 1)).unwrap_err();
        assert!(!refusal.contains(canary), "{refusal}");
    }
}

#[test]
fn a_database_of_many_nodes_is_taken_and_never_shown() {
    let address = "postgres://siv:3f9c1e7a@db.example/siv?sslmode=verify-full";
    let text = SOUND.replacen("sqlite:db/siv.db", address, 1);
    let settings = load(&text).unwrap();
    assert!(matches!(settings.database, Database::Postgres { migration_lock: true, .. }));
    assert!(!format!("{settings:?}").contains("3f9c1e7a"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("siv.toml");
    std::fs::write(&path, &text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refusal = Settings::load(&path).unwrap_err().to_string();
    assert!(refusal.starts_with("database") && refusal.contains("chmod 0600"), "{refusal}");
    let settings = load(&text.replacen("realm", "migration_lock = false\nrealm", 1)).unwrap();
    assert!(matches!(settings.database, Database::Postgres { migration_lock: false, .. }));
}

#[test]
fn a_key_store_of_many_nodes_is_another_database_than_that_of_the_values() {
    let with =
        |rows: &str, keys: &str| load(&SOUND.replacen("sqlite:db/siv.db", rows, 1).replacen("dir:keys", keys, 1));
    let (rows, keys) = ("postgres://siv:3f9c1e7a@localhost/siv", "postgres://siv:3f9c1e7a@localhost/siv_keys");
    let settings = with(rows, keys).unwrap();
    assert!(matches!(settings.key_store, KeyStore::Postgres { migration_lock: true, .. }));
    assert!(!format!("{settings:?}").contains("3f9c1e7a"));
    let refusal = with(rows, "postgres://keys@127.0.0.1:5432/siv").unwrap_err();
    assert!(refusal.starts_with("key_store") && refusal.contains("another database"), "{refusal}");
    // The root key lies in no folder of theirs, whatever it is called.
    assert!(with("sqlite:db/siv.db", keys).is_ok() && with(rows, "dir:keys").is_ok());
}

#[test]
fn a_folder_others_can_open_is_refused() {
    for (name, key) in [("keys", "key_store"), ("db", "database")] {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join(name);
        std::fs::create_dir(&own).unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("siv.toml");
        std::fs::write(&path, SOUND).unwrap();
        let refusal = Settings::load(&path).unwrap_err().to_string();
        assert!(refusal.starts_with(key) && refusal.contains("chmod 0700"), "{refusal}");
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(Settings::load(&path).is_ok(), "{name}");
    }
}

#[test]
fn the_sample_has_every_key_and_is_understood() {
    let sample = include_str!("../../../docs/siv.toml");
    let document: Document = toml::from_str(sample).unwrap();
    let settings = Settings::from_document(document, Path::new("/etc/siv")).unwrap();
    assert_eq!(settings.limits, Limits::default(), "the sample shows the defaults");
    for key in ["database", "key_store", "root_key", "realm", "node", "public_url", "plain_capture", "log_level"] {
        assert!(sample.lines().any(|line| line.split('=').next().is_some_and(|name| name.trim() == key)), "{key}");
    }
}
