use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::keys::gone;
use crate::metrics::Figures;

const UNIX: u64 = 1_800_000_000;
const NOW: Now = Now::at(UNIX);
const WEEK: u64 = 7 * 24 * 60 * 60;

struct Server {
    keys: KeyStore,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn server(text: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    fs::write(&path, text).unwrap();
    let keys = KeyStore::open(&[], std::slice::from_ref(&path)).unwrap();
    Server { keys, path, _folder: folder }
}

fn id(key: &str) -> KeyId {
    KeyId::of(&crate::secret::Digest::of(key.as_bytes()))
}

impl Server {
    fn revocation(&self, key: &str, now: u64) -> Revocation {
        Revocation::new(self.keys.current().known(id(key)).unwrap(), now, now)
    }

    fn admits(&self, key: &str) -> bool {
        self.keys.current().verify(key.as_bytes(), NOW).is_ok()
    }

    fn look(&self, second: u64) {
        self.keys.look(Duration::from_secs(second));
    }
}

#[test]
fn a_revoked_key_is_an_unknown_one_from_the_next_look_on_which_is_due_at_once() {
    let server = server("one\ntwo\n");
    server.look(100);
    assert!(!server.keys.is_due(Duration::from_secs(100)));
    assert_eq!(server.keys.revoke(&[server.revocation("one", UNIX)], NOW), 1);
    assert!(server.admits("one") && server.keys.is_due(Duration::ZERO), "who is in flight is noted first");
    let before = Arc::clone(&server.keys.current());
    server.look(100);
    assert!(!server.admits("one") && server.admits("two"));
    let after = server.keys.current();
    let causes: Vec<_> = gone(&before, NOW, &after, NOW).iter().map(|gone| (gone.key.id(), gone.cause)).collect();
    assert_eq!(causes, [(id("one"), "revoked")]);
    assert!(after.by_id(id("one"), NOW).is_none());
    assert!(after.known(id("one")).is_some(), "what is said of it can be verified");
    assert_eq!(server.keys.loaded(), 0, "no file was read");
}

#[test]
fn it_stays_one_whatever_a_file_says() {
    let server = server("one\ntwo\n");
    server.keys.revoke(&[server.revocation("one", UNIX)], NOW);
    for (second, text) in [(1, "two\n"), (2, "two\none expires=2099-01-01\n"), (3, "one\n")] {
        fs::write(&server.path, text).unwrap();
        server.look(second);
        assert!(!server.admits("one"), "{text:?}");
    }
    assert_eq!(server.keys.loaded(), 3);
    assert_eq!(server.keys.revoke(&[server.revocation("one", UNIX)], NOW), 0, "that is no news");
}

#[test]
fn nothing_is_built_again_for_what_is_no_news() {
    let server = server("one\ntwo\n");
    let revocation = server.revocation("one", UNIX);
    server.keys.revoke(&[revocation], NOW);
    server.look(1);
    let before = Arc::as_ptr(&server.keys.current());
    server.keys.revoke(&[revocation, server.revocation("one", UNIX + WEEK)], NOW);
    assert!(!server.keys.is_due(Duration::from_secs(1)));
    server.look(2);
    assert_eq!(Arc::as_ptr(&server.keys.current()), before);
}

#[test]
fn while_a_machine_has_it_that_is_said_again_each_week() {
    let server = server("one\ntwo\n");
    let [one, two] = ["one", "two"].map(|key| server.revocation(key, UNIX));
    server.keys.revoke(&[one, two], NOW);
    server.look(1);
    assert_eq!(server.keys.renew_revocations(NOW), []);
    fs::write(&server.path, "two\n").unwrap();
    server.look(2);
    let later = Now::at(UNIX + WEEK);
    let renewed = server.keys.renew_revocations(later);
    let expected = two.renewed(server.keys.current().known(two.key).unwrap(), later.unix).unwrap().fact();
    assert_eq!(renewed, [expected]);
    assert_eq!(server.keys.renew_revocations(later), [], "once");
    let mut known = server.keys.revocations(later);
    known.sort_unstable();
    let mut all = [one.fact(), expected];
    all.sort_unstable();
    assert_eq!(known, all);
}

#[test]
fn tells_which_are_still_in_a_file_without_having_expired_there() {
    let server = server("one alice\n\ntwo bob expires=2020-01-01\nthree\n");
    let revocations = ["one", "two"].map(|key| server.revocation(key, UNIX));
    server.keys.revoke(&revocations, NOW);
    let unheeded = server.keys.unheeded_revocations(NOW);
    let unheeded: Vec<_> = unheeded.into_iter().map(|key| (key.path, key.line, key.key, key.label)).collect();
    assert_eq!(unheeded, [(server.path.clone(), 1, id("one"), Some("alice".to_owned()))]);
    server.look(0);
    let revoked_keys = || {
        let mut figures = Figures { files: server.keys.statuses(), ..Figures::default() };
        figures.look_at(&server.keys.current(), NOW);
        figures.revoked
    };
    assert_eq!(revoked_keys(), [1]);
    fs::write(&server.path, "one alice expires=2020-01-01\nthree\n").unwrap();
    server.look(1);
    assert_eq!(server.keys.unheeded_revocations(NOW).len(), 0);
    assert_eq!(revoked_keys(), [0]);
}

#[test]
fn a_key_of_a_file_is_revoked_by_its_id() {
    let server = server("one\ntwo\n");
    let two = id("two").to_string();
    let record = revocation(&server.path, &two, UNIX).unwrap().unwrap();
    let expected = server.revocation("two", UNIX).fact();
    assert_eq!(Fact::read(&record, NOW), Some((expected.0, Some(expected.1))));
    assert!(revocation(&server.path, &two[..8], UNIX).unwrap().is_none());
    fs::write(&server.path, "").unwrap();
    assert!(revocation(&server.path, &two, UNIX).is_err());
}
