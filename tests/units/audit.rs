use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::file::LogFile;
use super::queue::{CAPACITY, Queue};
use super::*;
use crate::keys::Keys;

const AT: u64 = 1_795_856_400_007;
const LONG: Duration = Duration::from_secs(60);

fn text(line: &Line) -> String {
    let mut text = Vec::new();
    line.write(&mut text);
    String::from_utf8(text).expect("ASCII")
}

/// A line with a text that is not cut.
fn text_of(file: &str) -> String {
    text(&Line::new(AT, Event::KeysRead, Fields { file: Some(file.to_owned()), ..Fields::default() }))
}

fn refusal(client: u32, agent: &str) -> Line {
    let client = Some(std::net::Ipv4Addr::from(client).into());
    let user_agent = Some(agent.to_owned());
    Line::new(AT, Event::Refused, Fields { cause: Some("c"), count: Some(1), client, user_agent, ..Fields::default() })
}

fn queue_takes(queue: &Queue) -> Vec<Line> {
    queue.take(Duration::ZERO).lines
}

#[test]
fn lines_have_their_fields_in_a_fixed_order() {
    let keys =
        Keys::new(&crate::keys::parse_file("f", b"0123456789abcdef0123456789abcdef \"A\" user=alice").expect("good"));
    let who = keys.in_force_at(crate::request::Now::at(0)).next().map(Who::from).expect("one");
    let id = who.key.clone().expect("an id");
    let fields = Fields {
        cause: Some("cause"),
        count: Some(2),
        who,
        client: Some([10, 1, 2, 3].into()),
        method: Some("POST".into()),
        route: Some("/prompt".into()),
        scope: Some("run".into()),
        source: Some("cookie"),
        origin: Some("https://a".into()),
        user_agent: Some("agent".into()),
        by: Some("by".into()),
        prompt_id: Some("id".into()),
        seconds: Some(Seconds(Duration::from_micros(18_218_900))),
        status: Some("success"),
        outputs: Some(4),
        traceparent: Some("trace".into()),
        file: Some("file".into()),
        keys: Some(3),
        kind: Some(Event::RefusedForeign),
        version: Some("1"),
    };
    let expected = format!(
        r#"{{"time": "2026-11-28T09:00:00.007Z", "event": "prompt_finished", "outcome": "success", "cause": "cause", "count": 2, "key": "{id}", "label": "A", "user": "alice", "client": "10.1.2.3", "method": "POST", "route": "/prompt", "scope": "run", "source": "cookie", "origin": "https://a", "user_agent": "agent", "by": "by", "prompt_id": "id", "seconds": 18.218, "status": "success", "outputs": 4, "traceparent": "trace", "file": "file", "keys": 3, "kind": "refused_foreign", "version": "1"}}"#
    );
    assert_eq!(text(&Line::new(AT, Event::PromptFinished, fields)), expected + "\n");
}

#[test]
fn outcomes_follow_from_what_happened() {
    let outcome = |event, fields| text(&Line::new(AT, event, fields)).split('"').nth(11).map(str::to_owned);
    let status = |status| Fields { status: Some(status), ..Fields::default() };
    for (event, fields, expected) in [
        (Event::LogIn, Fields::default(), "success"),
        (Event::Refused, Fields::default(), "failure"),
        (Event::Lock, Fields::default(), "failure"),
        (Event::PromptFinished, status("success"), "success"),
        (Event::PromptFinished, status("error"), "failure"),
        (Event::PromptFinished, status("interrupted"), "failure"),
        (Event::PromptUnfinished, Fields::default(), "unknown"),
        (Event::KeysRead, Fields::default(), "success"),
        (Event::KeysRead, Fields { cause: Some("invalid"), ..Fields::default() }, "failure"),
    ] {
        assert_eq!(outcome(event, fields).as_deref(), Some(expected), "{event:?}");
    }
}

proptest! {
    #[test]
    fn no_text_ends_its_line_or_its_field(agent in any::<String>(), label in any::<String>(), id in "\\PC*|[\\x00-\\xff]*") {
        let who = Who { label: Some(label.clone()), ..Who::default() };
        let fields = Fields { user_agent: Some(agent.clone()), who, prompt_id: Some(id.clone()), ..Fields::default() };
        let text = text(&Line::new(AT, Event::Admitted, fields));
        let line = text.strip_suffix('\n').expect("its end");
        prop_assert!(line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
        let read: serde_json::Value = serde_json::from_str(line).expect("JSON");
        for (name, whole, most) in [("user_agent", &agent, 256), ("label", &label, 256), ("prompt_id", &id, 128)] {
            let kept = read[name].as_str().expect("a text");
            prop_assert!(whole.starts_with(kept));
            let written = |text: &str| {
                let line = text_of(text);
                line.len() - text_of("").len()
            };
            prop_assert!(written(kept) <= most);
            let next = whole[kept.len()..].chars().next();
            let is_cut_too_soon = next.is_some_and(|next| written(&[kept, &next.to_string()].concat()) <= most);
            prop_assert!(!is_cut_too_soon);
        }
        prop_assert_eq!(read.as_object().expect("an object").len(), 6);
    }
}

#[test]
fn a_flood_of_refusals_displaces_nothing_else() {
    let queue = Queue::default();
    for client in 0..5000 {
        queue.push(refusal(client, "a"));
    }
    for _ in 0..100 {
        queue.push(Line::new(AT, Event::Lock, Fields::default()));
        queue.push(Line::new(AT, Event::Admitted, Fields::default()));
    }
    let work = queue.take(Duration::ZERO);
    let count = |event| work.lines.iter().filter(|line| line.event == event).count();
    assert!((1000..1100).contains(&count(Event::Refused)), "the reserve, and little more");
    let mut with_key = refusal(1, "a");
    with_key.fields.who.key = Some("k".to_owned());
    queue.push(with_key);
    assert_eq!(queue_takes(&queue).len(), 1, "strangers use up nothing of those who have a key");
    assert_eq!((count(Event::Lock), count(Event::Admitted)), (100, 100));
    let missing = u64::try_from(5000 - count(Event::Refused)).expect("few");
    assert_eq!(work.missing.into_iter().collect::<Vec<_>>(), [(Event::Refused, missing)]);
    assert_eq!(queue.dropped(), missing);
}

#[test]
fn a_flood_of_admitted_requests_leaves_room_for_locks_and_log_ins() {
    let queue = Queue::default();
    for _ in 0..CAPACITY {
        queue.push(Line::new(AT, Event::Admitted, Fields::default()));
    }
    queue.push(Line::new(AT, Event::Lock, Fields::default()));
    queue.push(Line::new(AT, Event::LogOut, Fields::default()));
    let lines = queue_takes(&queue);
    assert_eq!(
        lines[lines.len() - 2..].iter().map(|line| line.event).collect::<Vec<_>>(),
        [Event::Lock, Event::LogOut]
    );
    for _ in 0..CAPACITY {
        queue.push(Line::new(AT, Event::LogIn, Fields::default()));
    }
    queue.push(Line::new(AT, Event::Lock, Fields::default()));
    let lines = queue_takes(&queue);
    assert_eq!(lines.last().map(|line| line.event), Some(Event::Lock), "a flood of log-ins leaves room for locks");
    for _ in 0..3 * CAPACITY {
        queue.push(Line::new(AT, Event::Lock, Fields::default()));
    }
    assert_eq!(queue_takes(&queue).len(), CAPACITY, "bounded");
}

#[test]
fn refusals_that_are_alike_share_a_line() {
    let queue = Queue::default();
    for agent in ["first", "second", "third"] {
        queue.push(refusal(1, agent));
    }
    queue.push(refusal(2, "first"));
    let lines = queue_takes(&queue);
    let told: Vec<_> = lines.iter().map(|line| (line.fields.count, line.fields.user_agent.as_deref())).collect();
    assert_eq!(told, [(Some(3), Some("first")), (Some(1), Some("first"))]);
    queue.push(refusal(1, "later"));
    assert_eq!(queue_takes(&queue).len(), 1, "what was taken is written already");
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    (folder, path)
}

fn admitted(route: &str) -> Line {
    Line::new(AT, Event::Admitted, Fields { route: Some(route.to_owned()), ..Fields::default() })
}

fn routes(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("readable");
    let route = |line: &str| Some(serde_json::from_str::<serde_json::Value>(line).ok()?["route"].as_str()?.to_owned());
    text.lines().filter_map(route).collect()
}

#[test]
fn what_was_told_is_written_in_order() {
    let (_folder, path) = folder();
    let audit = Audit::open(&path).expect("a new file");
    for number in 0..1000 {
        audit.tell(admitted(&number.to_string()));
    }
    assert!(audit.flush(LONG));
    assert_eq!(routes(&path), (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!((audit.dropped(), audit.news()), (0, None));
}

#[test]
fn a_line_that_breaks_off_is_ended() {
    let (_folder, path) = folder();
    fs::write(&path, "{\"event\": \"adm").expect("writable");
    let audit = Audit::open(&path).expect("a file");
    audit.tell(admitted("next"));
    assert!(audit.flush(LONG));
    let text = fs::read_to_string(&path).expect("readable");
    assert!(text.starts_with("{\"event\": \"adm\n{\"time\": "), "{text}");
}

#[test]
fn a_rename_is_followed() {
    let (folder, path) = folder();
    let audit = Audit::open(&path).expect("a new file");
    audit.tell(admitted("before"));
    assert!(audit.flush(LONG));
    let rotated = folder.path().join("audit.jsonl.1");
    fs::rename(&path, &rotated).expect("moved");
    audit.tell(admitted("after"));
    assert!(audit.flush(LONG));
    assert_eq!((routes(&rotated), routes(&path)), (vec!["before".to_owned()], vec!["after".to_owned()]));
    fs::remove_file(&path).expect("removed");
    fs::write(&path, "").expect("made by someone else");
    audit.tell(admitted("again"));
    assert!(audit.flush(LONG));
    assert_eq!(routes(&path), ["again"]);
}

/// The news, as soon as there is some.
fn news_of(audit: &Audit) -> String {
    let until = Instant::now() + LONG;
    loop {
        match audit.news() {
            Some(news) => return news,
            None => assert!(Instant::now() < until, "nothing is said"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_cannot_be_written_is_kept_and_said_once() {
    let (folder, path) = folder();
    let audit = Audit::open(&path).expect("a new file");
    audit.tell(admitted("before"));
    assert!(audit.flush(LONG));
    // A folder is in its place, so nothing is written: neither there nor where the name was.
    fs::rename(&path, folder.path().join("old")).expect("moved");
    fs::create_dir(&path).expect("made");
    audit.tell(admitted("kept"));
    assert!(!audit.flush(Duration::from_millis(300)));
    let news = news_of(&audit);
    assert!(news.contains("audit.jsonl cannot be written"), "{news}");
    assert_eq!(audit.news(), None);
    fs::remove_dir(&path).expect("removed");
    assert!(audit.flush(LONG));
    assert_eq!(routes(&path), ["kept"]);
    assert!(news_of(&audit).ends_with("is written again"));
}

#[cfg(unix)]
#[test]
fn it_is_for_its_owner_alone_and_no_link() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let (folder, path) = folder();
    drop(Audit::open(&path).expect("a new file"));
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let link = folder.path().join("link");
    symlink(&path, &link).expect("a link");
    let none = folder.path().join("none").join("audit");
    for (name, path, expected) in [
        ("a link", &*link, "not a regular file"),
        ("a folder", folder.path(), "not a regular file"),
        ("no folder", &none, "its folder"),
    ] {
        let fault = Audit::open(path).err().unwrap_or_else(|| panic!("{name}"));
        assert!(fault.setting == "audit" && fault.detail.contains(expected), "{name}: {fault}");
    }
}

#[test]
fn what_was_written_in_part_is_written_whole_to_a_new_file() {
    let (folder, path) = folder();
    let mut file = LogFile::open(&path).expect("a new file");
    file.add(b"first\nsecond\n");
    file.pretend_to_have_written(b"first\nsec");
    fs::rename(&path, folder.path().join("old")).expect("moved");
    file.write().expect("written");
    assert_eq!(fs::read_to_string(&path).expect("readable"), "second\n");
}

#[test]
fn prompts_that_never_ended_are_told_at_the_next_start() {
    let (_folder, path) = folder();
    let mut file = fs::File::create(&path).expect("writable");
    for (event, id) in [
        ("prompt_queued", "ended"),
        ("prompt_started", "ended"),
        ("prompt_queued", "running"),
        ("prompt_queued", "waiting"),
        ("prompt_queued", "cancelled"),
        ("prompt_finished", "ended"),
        ("prompt_started", "running"),
        ("prompt_cancelled", "cancelled"),
        ("prompt_queued", "told"),
        ("prompt_unfinished", "told"),
    ] {
        writeln!(file, r#"{{"event": "{event}", "key": "k", "label": "L", "prompt_id": "{id}"}}"#).expect("writable");
    }
    write!(file, r#"{{"event": "prompt_queued", "prompt_id": "bro"#).expect("writable");
    let audit = Audit::open(&path).expect("a file");
    audit.tell(admitted("new"));
    assert!(audit.flush(LONG));
    let text = fs::read_to_string(&path).expect("readable");
    let unfinished: Vec<serde_json::Value> =
        text.lines().skip(11).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told: Vec<_> = unfinished.iter().map(|line| (&line["event"], &line["prompt_id"], &line["label"])).collect();
    let (event, label) = (&serde_json::json!("prompt_unfinished"), &serde_json::json!("L"));
    assert_eq!(
        told[..2],
        [(event, &serde_json::json!("running"), label), (event, &serde_json::json!("waiting"), label)]
    );
    assert_eq!(told.len(), 3);
    // Another server that writes to the same file has prompts of its own.
    let mut file = fs::OpenOptions::new().append(true).open(&path).expect("writable");
    writeln!(file, r#"{{"event": "prompt_queued", "prompt_id": "of the first"}}"#).expect("writable");
    let second = Audit::open(&path).expect("a file");
    second.tell(admitted("second"));
    assert!(second.flush(LONG));
    let text = fs::read_to_string(&path).expect("readable");
    assert_eq!(text.matches("of the first").count(), 1);
}
