//! The key store: where the keys come from, and noticing when a file changes.
//!
//! Files are checked twice a second while a request is in flight, and at the first request after that; there is no watcher
//! thread. A file is parsed as a whole, then swapped in; after a bad new version, the last good keys stay in force, which is
//! logged once. The path is resolved again each time, to see atomic renames and the symlink swaps of Kubernetes' secrets.
//!
//! An error of the system (too many open files, a sharing violation, a missing folder) is not a new version: the file is
//! read again at each check, and the error is logged again each minute.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Keys;
use super::file::{REDACTED, Record, parse_file, parse_flag};
use super::revoked::Revoked;
use crate::error::{ConfigError, may_hold_a_key};
use crate::request::millis;
use crate::secret::{ApiKey, Digest, SHORT_KEY_LENGTH};

/// Least time between two looks at the files.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// How often a lasting error is reported again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// How long an empty file counts as one that is being written.
const WRITING: Duration = Duration::from_secs(10);

/// Largest key file read, in bytes; more than 10,000 of the longest entries.
const MAX_FILE_SIZE: u64 = 16 * 1024 * 1024;

/// Why a version is not in force.
const UNREADABLE: &str = "unreadable";
const INVALID: &str = "invalid";

/// What a look at one file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// A new version is in force.
    Loaded {
        /// The file.
        path: PathBuf,
        /// How many keys it holds.
        keys: usize,
    },
    /// The new version is bad, or the file cannot be read: the last good keys stay in force.
    Kept {
        /// The file.
        path: PathBuf,
        /// `unreadable` or `invalid`.
        cause: &'static str,
        /// One line for the log.
        fault: ConfigError,
    },
}

/// What an operator should fix, though the server may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `short_key`, `readable_by_others` or `all_expired`.
    pub kind: &'static str,
    /// One line for the log.
    pub fault: ConfigError,
}

/// The state of a key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// The file.
    pub path: PathBuf,
    /// When the version that is in force was written.
    pub modified: Option<SystemTime>,
    /// Whether the last look found no usable version, so that this one stays in force.
    pub failed: bool,
    /// When its keys that were revoked elsewhere would expire, in seconds since 1970 (UTC).
    pub revoked: Vec<u64>,
}

/// The keys in force, and their sources.
pub struct KeyStore {
    pub(super) inline: Vec<Record>,
    pub(super) files: Mutex<Vec<WatchedFile>>,
    pub(super) revoked: Mutex<Revoked>,
    /// Kept apart from the files, which are locked while they are read.
    statuses: ArcSwap<Vec<FileStatus>>,
    current: ArcSwap<Keys>,
    /// Next look at the files, in milliseconds of the caller's monotonic clock.
    next_check: AtomicU64,
    /// How many versions of files were loaded.
    loaded: AtomicU64,
}

pub(super) struct WatchedFile {
    pub(super) path: PathBuf,
    /// The version that was judged last.
    stamp: Stamp,
    pub(super) records: Vec<Record>,
    /// When the version in force was written.
    modified: Option<SystemTime>,
    /// Whether the version that was judged last has a fault.
    is_bad: bool,
    /// When an error of the system was last reported.
    said: Option<Duration>,
    /// Since when the file has been empty.
    empty_since: Option<Duration>,
    /// When the keys of the version in force that were revoked elsewhere would expire.
    revoked: Vec<u64>,
    /// When keys expire according to a version that is not in force.
    ends: Vec<(Digest, u64)>,
    spare: Spare,
}

/// A descriptor kept for reading a file when the system has no other left. Otherwise a client could keep a removed key in
/// force by holding all others open.
struct Spare(Option<File>);

/// Why a file gives no keys.
enum Unread {
    /// An error of the system, which says nothing about the file's contents.
    System(ConfigError),
    /// A fault in the contents.
    Bad(Stamp, Vec<ConfigError>),
}

/// What a file holds.
struct Version {
    stamp: Stamp,
    records: Vec<Record>,
    /// Whether it has no bytes at all.
    is_empty: bool,
}

/// Tells one version of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl KeyStore {
    /// Reads all sources.
    ///
    /// # Errors
    /// Every fault of every source. No source at all is a fault, too: an empty store would admit nobody. If you want no
    /// authentication, don't make a store.
    pub fn open(inline: &[ApiKey], paths: &[PathBuf]) -> Result<Self, Vec<ConfigError>> {
        let (records, faults): (Vec<_>, Vec<_>) =
            inline.iter().map(|key| parse_flag(key.expose_secret())).partition(Result::is_ok);
        let records: Vec<_> = records.into_iter().flatten().collect();
        let mut faults: Vec<_> = faults.into_iter().filter_map(Result::err).collect();
        let mut files = Vec::new();
        for path in paths {
            match read_file(path) {
                Ok(version) if version.records.is_empty() => faults.push(no_key(path)),
                Ok(Version { stamp, records, .. }) => {
                    files.push(WatchedFile::new(path.clone(), stamp, records));
                }
                Err(Unread::System(fault)) => faults.push(fault),
                Err(Unread::Bad(_, more)) => faults.extend(more),
            }
        }
        if inline.is_empty() && paths.is_empty() {
            faults.push(ConfigError::new("api_key", "no key given; give a key or a key file"));
        }
        if faults.is_empty() {
            for index in 0..files.len() {
                let (before, rest) = files.split_at(index);
                faults.extend(in_dispute(&rest[0].path, &rest[0].records, &mut sources(&records, before)));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let revoked = Revoked::default();
        Ok(Self {
            current: ArcSwap::from_pointee(union(&records, &files, &revoked)),
            statuses: ArcSwap::from_pointee(files.iter().map(WatchedFile::status).collect()),
            inline: records,
            files: Mutex::new(files),
            revoked: Mutex::new(revoked),
            next_check: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
        })
    }

    /// The keys in force now.
    pub fn current(&self) -> impl Deref<Target = Arc<Keys>> {
        self.current.load()
    }

    /// The files, and how many keys each holds.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().map(|file| (file.path.clone(), file.records.len())).collect()
    }

    /// Whether it is time to look at the files again. `now` is any monotonic clock.
    pub fn is_due(&self, now: Duration) -> bool {
        millis(now) >= self.next_check.load(Ordering::Relaxed)
    }

    /// Makes the next look due at once.
    pub(super) fn look_soon(&self) {
        self.next_check.store(0, Ordering::Relaxed);
    }

    /// How many versions of key files were loaded since the start.
    #[must_use]
    pub fn loaded(&self) -> u64 {
        self.loaded.load(Ordering::Acquire)
    }

    /// Looks at the files; the next look is due half a second later.
    #[cold]
    pub fn look(&self, now: Duration) -> Vec<Reload> {
        // The thread that holds the lock is checking already; the others go on with the keys in force.
        let Ok(mut files) = self.files.try_lock() else { return Vec::new() };
        self.next_check.store(millis(now.saturating_add(CHECK_INTERVAL)), Ordering::Relaxed);
        let mut events = Vec::new();
        let mut has_changed = files.iter().any(|file| !file.ends.is_empty());
        let mut found: Vec<_> = files.iter_mut().map(|file| file.read_again(now, &mut events)).collect();
        // One after the other, since what was in force may contradict what is left.
        while let Some((index, fault)) = first_in_dispute(&self.inline, &files, &found) {
            let version = found[index].take();
            files[index].ends = version.iter().flat_map(|version| ends(&version.records)).collect();
            events.extend(files[index].say(now, INVALID, fault));
            has_changed = true;
        }
        for (file, version) in files.iter_mut().zip(found) {
            if let Some(version) = version {
                events.push(file.accept(version));
                has_changed = true;
            }
        }
        let mut revoked = self.revoked();
        let next = revoked.next.take();
        if has_changed || next.is_some() {
            for file in files.iter_mut() {
                file.revoked = revoked.ends_of(&file.records);
            }
        }
        if has_changed {
            self.current.store(Arc::new(union(&self.inline, &files, &revoked)));
        } else if let Some(next) = next {
            self.current.store(next);
        }
        // Last, so that anyone who sees it finds the new keys.
        let loaded = events.iter().filter(|event| matches!(event, Reload::Loaded { .. })).count();
        self.loaded.fetch_add(loaded as u64, Ordering::Release);
        let statuses: Vec<_> = files.iter().map(WatchedFile::status).collect();
        if **self.statuses.load() != statuses {
            self.statuses.store(Arc::new(statuses));
        }
        events
    }

    /// What the last look at the files found. Never waits for one.
    #[must_use]
    pub fn statuses(&self) -> Arc<Vec<FileStatus>> {
        self.statuses.load_full()
    }

    /// Things an operator should fix: short keys, files that other users of the machine can read.
    /// `now` is in seconds since 1970 (UTC).
    #[must_use]
    pub fn warnings(&self, now: u64) -> Vec<Warning> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut warnings: Vec<_> = self.inline.iter().filter_map(|record| short_key(None, record)).collect();
        for file in files.iter() {
            warnings.extend(readable_by_others(&file.path));
            warnings.extend(all_expired(file, now));
            warnings.extend(file.records.iter().filter_map(|record| short_key(Some(&file.path), record)));
        }
        warnings
    }
}

impl WatchedFile {
    fn new(path: PathBuf, stamp: Stamp, records: Vec<Record>) -> Self {
        Self {
            path,
            records,
            modified: stamp.modified,
            stamp,
            is_bad: false,
            said: None,
            empty_since: None,
            revoked: Vec::new(),
            ends: Vec::new(),
            spare: Spare::take(),
        }
    }

    fn status(&self) -> FileStatus {
        let failed = self.is_bad || self.said.is_some() || self.empty_since.is_some();
        FileStatus { path: self.path.clone(), modified: self.modified, failed, revoked: self.revoked.clone() }
    }

    fn source(&self) -> Source<'_> {
        (Some(&self.path), &self.records)
    }

    /// A new version, if there is one that can be read.
    fn read_again(&mut self, now: Duration, events: &mut Vec<Reload>) -> Option<Version> {
        self.ends.clear();
        if fs::metadata(&self.path).is_ok_and(|metadata| Stamp::of(&metadata) == self.stamp) {
            (self.said, self.empty_since) = (None, None);
            return None;
        }
        match self.spare.read(&self.path) {
            Ok(version) if version.is_empty && self.is_being_written(now) => {
                let is_new = self.empty_since == Some(now);
                events.extend(is_new.then(|| self.keep(UNREADABLE, empty(&self.path))));
                return None;
            }
            Ok(version) => return Some(version),
            Err(Unread::Bad(stamp, faults)) => {
                (self.stamp, self.said, self.empty_since, self.is_bad) = (stamp, None, None, true);
                events.extend(faults.into_iter().next().map(|fault| self.keep(INVALID, fault)));
            }
            Err(Unread::System(fault)) => events.extend(self.say(now, UNREADABLE, fault)),
        }
        None
    }

    /// Whether the file became empty only recently.
    fn is_being_written(&mut self, now: Duration) -> bool {
        now.saturating_sub(*self.empty_since.get_or_insert(now)) < WRITING
    }

    fn accept(&mut self, version: Version) -> Reload {
        (self.modified, self.is_bad) = (version.stamp.modified, false);
        (self.stamp, self.records) = (version.stamp, version.records);
        (self.said, self.empty_since) = (None, None);
        Reload::Loaded { path: self.path.clone(), keys: self.records.len() }
    }

    /// Reports a fault that may end without a new version of the file: at once, then every minute.
    fn say(&mut self, now: Duration, cause: &'static str, fault: ConfigError) -> Option<Reload> {
        let is_due = self.said.is_none_or(|said| now.saturating_sub(said) >= SAY_AGAIN);
        is_due.then(|| {
            self.said = Some(now);
            self.keep(cause, fault)
        })
    }

    fn keep(&self, cause: &'static str, fault: ConfigError) -> Reload {
        Reload::Kept { path: self.path.clone(), cause, fault }
    }
}

impl Spare {
    fn take() -> Self {
        Self(File::open("/dev/null").ok()) // only Unix has it, and only Unix allows so few descriptors
    }

    fn read(&mut self, path: &Path) -> Result<Version, Unread> {
        let mut found = read_file(path);
        if matches!(found, Err(Unread::System(_))) && self.0.take().is_some() {
            found = read_file(path);
        }
        if self.0.is_none() {
            *self = Self::take();
        }
        found
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            #[cfg(unix)]
            inode: (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The keys of all sources. Revoked keys count as expired.
pub(super) fn union(inline: &[Record], files: &[WatchedFile], revoked: &Revoked) -> Keys {
    let mut records: Vec<_> = inline.iter().chain(files.iter().flat_map(|file| &file.records)).cloned().collect();
    revoked.apply(&mut records);
    for (digest, end) in files.iter().flat_map(|file| &file.ends) {
        for record in records.iter_mut().filter(|record| record.digest.ct_eq(digest).into()) {
            let expires = &mut record.attributes.expires;
            *expires = Some(expires.map_or(*end, |before| before.min(*end)));
        }
    }
    Keys::new(&records)
}

/// A source of records: the file, if it is one, and the records.
type Source<'a> = (Option<&'a Path>, &'a [Record]);

fn sources<'a>(inline: &'a [Record], files: &'a [WatchedFile]) -> impl Iterator<Item = Source<'a>> {
    std::iter::once((None, inline)).chain(files.iter().map(WatchedFile::source))
}

/// The first of the new versions that contradicts another file, or a key given without a file.
fn first_in_dispute(
    inline: &[Record],
    files: &[WatchedFile],
    found: &[Option<Version>],
) -> Option<(usize, ConfigError)> {
    let now: Vec<&[Record]> =
        files.iter().zip(found).map(|(file, new)| new.as_ref().map_or(&*file.records, |new| &new.records)).collect();
    (0..files.len()).filter(|&index| found[index].is_some()).find_map(|index| {
        let others = (0..files.len()).filter(|&other| other != index);
        let others = others.map(|other| (Some(&*files[other].path), now[other]));
        let mut others = std::iter::once((None, inline)).chain(others);
        let fault = in_dispute(&files[index].path, now[index], &mut others).into_iter().next()?;
        Some((index, fault))
    })
}

/// When keys expire. A dispute must not prolong the life of a key that is about to expire.
fn ends(records: &[Record]) -> impl Iterator<Item = (Digest, u64)> {
    records.iter().filter_map(|record| Some((record.digest, record.attributes.expires?)))
}

/// The records of a file that other sources contradict.
fn in_dispute(path: &Path, records: &[Record], others: &mut dyn Iterator<Item = Source<'_>>) -> Vec<ConfigError> {
    let ours: HashMap<_, _> = records.iter().map(|record| (*record.digest.expose_secret(), record)).collect();
    let mut faults = Vec::new();
    for (source, records) in others {
        for theirs in records {
            let Some(ours) = ours.get(theirs.digest.expose_secret()) else { continue };
            if ours.attributes != theirs.attributes {
                let detail = match source {
                    Some(path) => format!(
                        "the same key has other attributes in {}:{}; write the same in both, or remove one",
                        path.display(),
                        theirs.line
                    ),
                    None => {
                        "the same key is given without a file, so it opens everything; remove one of the two".to_owned()
                    }
                };
                faults.push(ConfigError::in_key_file(format!("{}:{}", path.display(), ours.line), detail));
            }
        }
    }
    faults
}

fn read_file(path: &Path) -> Result<Version, Unread> {
    let place = path.to_string_lossy();
    let shown = if is_key(&place) { REDACTED.into() } else { place.clone() };
    let system = |error: io::Error| Unread::System(ConfigError::in_key_file(shown.clone(), unreadable(&error)));
    let bad = |stamp, message: String| Err(Unread::Bad(stamp, vec![ConfigError::in_key_file(place.clone(), message)]));
    // Checked before opening: opening a named pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(system)?;
    if !metadata.is_file() {
        return bad(Stamp::of(&metadata), "not a regular file; name a text file with one key a line".to_owned());
    }
    if metadata.len() > MAX_FILE_SIZE {
        return bad(Stamp::of(&metadata), format!("larger than {MAX_FILE_SIZE} bytes; is this a key file?"));
    }
    let mut file = File::open(path).map_err(system)?;
    // Stamped before it is read: a change in between is seen at the next look.
    let stamp = Stamp::of(&file.metadata().map_err(system)?);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    (&mut file).take(MAX_FILE_SIZE).read_to_end(&mut bytes).map_err(system)?;
    match parse_file(&place, &bytes) {
        Ok(records) => Ok(Version { stamp, records, is_empty: bytes.is_empty() }),
        Err(faults) => Err(Unread::Bad(stamp, faults)),
    }
}

fn empty(path: &Path) -> ConfigError {
    let message = "the key file is empty; write a key into it within ten seconds, or it admits nobody";
    ConfigError::in_key_file(path.to_string_lossy(), message)
}

/// A server must not start with such a file, because it would admit nobody.
fn no_key(path: &Path) -> ConfigError {
    let message = "the key file holds no key; write one key a line (`comfy-auth-rs keygen -o FILE` makes one)";
    ConfigError::in_key_file(path.to_string_lossy(), message)
}

/// Whether this seems to be a key, given in place of a file's name.
fn is_key(name: &str) -> bool {
    may_hold_a_key(name) && (name.ends_with('=') || !name.contains(['/', '\\', '.']))
}

fn unreadable(error: &io::Error) -> String {
    use io::ErrorKind::{NotFound, PermissionDenied};
    match error.kind() {
        NotFound => "the key file does not exist; make one with `comfy-auth-rs keygen -o FILE`".to_owned(),
        PermissionDenied => "the key file cannot be read by this user; change its owner or mode".to_owned(),
        _ => format!("the key file cannot be read: {error}"),
    }
}

fn short_key(file: Option<&Path>, record: &Record) -> Option<Warning> {
    let detail =
        format!("the key is shorter than {SHORT_KEY_LENGTH} characters; `comfy-auth-rs keygen` makes a strong one");
    let fault = match file {
        Some(path) => ConfigError::in_key_file(format!("{}:{}", path.to_string_lossy(), record.line), detail),
        None => ConfigError::new("api_key", detail),
    };
    record.short.then_some(Warning { kind: "short_key", fault })
}

fn all_expired(file: &WatchedFile, now: u64) -> Option<Warning> {
    let has_expired = |record: &Record| record.attributes.has_expired(now);
    let detail = "every key in this file has expired, so nobody gets in; `comfy-auth-rs keys \
                  add` makes a new one";
    let fault = || ConfigError::in_key_file(file.path.to_string_lossy(), detail);
    file.records.iter().all(has_expired).then(|| Warning { kind: "all_expired", fault: fault() })
}

#[cfg(unix)]
fn readable_by_others(path: &Path) -> Option<Warning> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let place = path.to_string_lossy();
    let detail = format!("other users can read or change the key file (mode {mode:03o}); run `chmod 600 {place}`");
    let fault = ConfigError::in_key_file(place, detail);
    (mode & 0o077 != 0).then_some(Warning { kind: "readable_by_others", fault })
}

#[cfg(not(unix))]
fn readable_by_others(_path: &Path) -> Option<Warning> {
    None
}

/// The records of a key file that has at least one key.
pub(super) fn records_of_file(path: &Path) -> Result<Vec<Record>, Vec<ConfigError>> {
    match read_file(path) {
        Ok(version) if version.records.is_empty() => Err(vec![no_key(path)]),
        Ok(version) => Ok(version.records),
        Err(Unread::System(fault)) => Err(vec![fault]),
        Err(Unread::Bad(_, faults)) => Err(faults),
    }
}

/// Every fault of a key file, one line each.
#[must_use]
pub fn faults_of_file(path: &Path) -> Vec<String> {
    let faults = records_of_file(path).err().unwrap_or_default();
    faults.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
#[path = "../../tests/units/keys_store.rs"]
mod tests;
