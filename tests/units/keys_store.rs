use super::*;
use crate::request::Now;

const NOW: u64 = 1_800_000_000;

const SECOND: Duration = Duration::from_secs(1);

fn store(path: &Path) -> KeyStore {
    KeyStore::open(&[], &[path.to_owned()]).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn admits(store: &KeyStore, key: &str) -> bool {
    store.current().verify(key.as_bytes(), Now::at(NOW)).is_ok()
}

/// Replaces a file as editors and deployment tools do: whole, by rename.
fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(next, path).unwrap();
}

#[test]
fn flags_and_files_are_a_union() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    fs::write(&path, "from-file\nshared\n").unwrap();
    let flags = ["from-flag", "shared"].map(|key| ApiKey::new(key.into()));
    let store = KeyStore::open(&flags, &[path]).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(store.current().in_force(Now::at(NOW)), 3);
    assert!(admits(&store, "from-file") && admits(&store, "from-flag") && admits(&store, "shared"));
}

#[test]
fn refuses_missing_empty_and_irregular_files_and_no_source() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::write(&empty, "").unwrap();
    for path in [dir.path().join("missing"), dir.path().to_owned(), empty] {
        assert!(KeyStore::open(&[], &[path]).is_err());
    }
    assert!(KeyStore::open(&[], &[]).is_err());
}

#[test]
fn looks_at_files_twice_a_second_and_swaps_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    fs::write(&path, "old\n").unwrap();
    let store = store(&path);
    assert!(store.look(SECOND).is_empty());
    replace(&path, "new\nother\n");
    assert!(!store.is_due(SECOND + CHECK_INTERVAL / 2), "too early to look");
    assert!(admits(&store, "old"));
    assert!(store.is_due(SECOND + CHECK_INTERVAL));
    assert_eq!(store.look(SECOND + CHECK_INTERVAL), [Reload::Loaded { path, keys: 2 }]);
    assert!(admits(&store, "new") && !admits(&store, "old"));
}

#[test]
fn keeps_the_last_good_keys_and_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    fs::write(&path, "good\n").unwrap();
    let store = store(&path);
    replace(&path, "bad\x07key\n");
    assert!(matches!(store.look(SECOND)[..], [Reload::Kept { .. }]));
    assert!(store.look(SECOND * 2).is_empty());
    fs::remove_file(&path).unwrap();
    assert!(matches!(store.look(SECOND * 3)[..], [Reload::Kept { .. }]));
    assert!(store.look(SECOND * 4).is_empty());
    assert!(admits(&store, "good"));
    replace(&path, "mended\n");
    assert!(matches!(store.look(SECOND * 5)[..], [Reload::Loaded { .. }]));
    assert!(admits(&store, "mended") && !admits(&store, "good"));
}

#[cfg(unix)]
#[test]
fn an_error_of_the_system_is_no_version() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    fs::write(&path, "removed\nkept\n").unwrap();
    let store = store(&path);
    // Links in a circle: the name exists, but cannot be opened.
    fs::rename(&path, dir.path().join("aside")).unwrap();
    symlink(&path, &path).unwrap();
    let mut said = Vec::new();
    for second in 1..=120 {
        said.extend(store.look(SECOND * second).iter().map(|_| second));
    }
    assert_eq!(said, [1, 61], "again each minute");
    assert!(admits(&store, "removed"), "the last good keys");
    replace(&path, "kept\n");
    assert!(matches!(store.look(SECOND * 121)[..], [Reload::Loaded { .. }]));
    assert!(admits(&store, "kept") && !admits(&store, "removed"));
}

#[test]
fn an_empty_file_is_being_written_and_one_without_keys_admits_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    fs::write(&path, "good\n").unwrap();
    let store = store(&path);
    replace(&path, "");
    assert!(matches!(store.look(SECOND)[..], [Reload::Kept { .. }]), "once");
    assert!(store.look(SECOND * 5).is_empty() && store.look(SECOND * 10).is_empty());
    assert!(admits(&store, "good"));
    assert!(matches!(store.look(SECOND * 11)[..], [Reload::Loaded { keys: 0, .. }]));
    assert!(!admits(&store, "good"));
    assert!(store.look(SECOND * 12).is_empty());
    replace(&path, "good\n");
    assert!(matches!(store.look(SECOND * 13)[..], [Reload::Loaded { keys: 1, .. }]));
    replace(&path, "# nobody\n");
    assert!(matches!(store.look(SECOND * 14)[..], [Reload::Loaded { keys: 0, .. }]));
    assert!(!admits(&store, "good"));
}

#[cfg(unix)]
#[test]
fn follows_a_symlink_swap() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for version in ["v1", "v2"] {
        fs::create_dir(path(version)).unwrap();
        fs::write(path(version).join("keys"), format!("key-of-{version}\n")).unwrap();
    }
    symlink("v1", path("..data")).unwrap();
    symlink("..data/keys", path("keys")).unwrap();
    let store = store(&path("keys"));
    symlink("v2", path("..tmp")).unwrap();
    fs::rename(path("..tmp"), path("..data")).unwrap();
    assert!(matches!(store.look(SECOND)[..], [Reload::Loaded { .. }]));
    assert!(admits(&store, "key-of-v2") && !admits(&store, "key-of-v1"));
}

#[cfg(unix)]
#[test]
fn warns_of_short_keys_and_readable_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    fs::write(&path, "# one\nshort\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = store(&path).warnings(NOW);
    let lines: Vec<_> = warnings.iter().map(|warning| (warning.kind, warning.fault.to_string())).collect();
    assert!(lines[0].0 == "readable_by_others" && lines[0].1.contains("mode 644"), "{lines:?}");
    assert!(lines[1].0 == "short_key" && lines[1].1.contains(":2: the key is shorter"), "{lines:?}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(store(&path).warnings(NOW).len(), 1);
}

#[test]
fn a_key_in_place_of_a_file_is_not_shown() {
    for (name, shown) in [
        ("0123456789abcdef0123456789abcdef", false),
        ("0123456789abcdef/0123456789abcdef0123456789abcdef=", false),
        ("nowhere.txt", true),
        ("/nowhere/0123456789abcdef0123456789abcdef", true),
        ("0123456789abcdef0123456789abcdef.txt", true),
    ] {
        let fault = &faults_of_file(Path::new(name))[0];
        assert_eq!(fault.contains("0123") || fault.contains("nowhere"), shown, "{fault}");
        assert!(fault.contains("does not exist"), "{fault}");
    }
}

#[test]
fn files_that_contradict_each_other() {
    const KEY: &str = "a-key-of-thirty-two-characters-and-more";
    let folder = tempfile::tempdir().unwrap();
    let paths = [folder.path().join("one"), folder.path().join("other")];
    let write =
        |number: usize, text: &str| fs::write(&paths[number], format!("{KEY} {text}\nelse-{number}{text}\n")).unwrap();
    write(0, "scope=run");
    write(1, "scope=run");
    let store = KeyStore::open(&[], &paths).unwrap();
    let may = |store: &KeyStore| {
        store.current().verify(KEY.as_bytes(), Now::at(NOW)).ok().map(|key| key.attributes().scopes.to_string())
    };
    let mut clock = Duration::from_secs(1);
    let mut look = || {
        clock += Duration::from_secs(120);
        store.look(clock)
    };
    assert_eq!(may(&store).as_deref(), Some("run"));

    write(0, "scope=view");
    let events = look();
    assert!(
        matches!(&events[..], [Reload::Kept { fault, .. }] if fault.to_string().contains("other attributes")),
        "{events:?}"
    );
    assert_eq!(may(&store).as_deref(), Some("run"), "the last good version counts");
    assert_eq!(look(), events, "and it is said again");

    write(1, "scope=view");
    assert_eq!(look().len(), 2, "both are loaded");
    assert_eq!(may(&store).as_deref(), Some("view"));

    write(0, "");
    write(1, "");
    assert_eq!(look().len(), 2, "both at once");
    assert_eq!(may(&store).as_deref(), Some("all"));

    write(0, "expires=2020-01-01");
    assert!(matches!(look()[..], [Reload::Kept { .. }]));
    assert_eq!(may(&store), None, "a key that is to end does not outlive the dispute");
    write(0, "");
    look();
    assert_eq!(may(&store).as_deref(), Some("all"));

    write(0, "scope=run");
    write(1, "scope=view");
    assert!(look().iter().all(|event| matches!(event, Reload::Kept { .. })), "neither is right");
    assert_eq!(may(&store).as_deref(), Some("all"));
    assert!(KeyStore::open(&[], &paths).is_err(), "nor does a server start");
    assert!(KeyStore::open(&[ApiKey::new(KEY.to_owned())], &paths[..1]).is_err(), "nor with the key itself");
}
