#![expect(clippy::float_cmp, reason = "these figures are exact")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::allowance::Allowance;
use crate::decision::Denial;
use crate::keys::{FileStatus, Keys, Scopes, parse_file};
use crate::probe::{Device, DeviceKind};
use crate::request::{Now, Wanted};
use crate::state::throttle::Locks;

const SECOND: Duration = Duration::from_secs(1);
const NOW: Now = Now::at(1_800_000_000);

/// The value of each series of a page.
fn series(page: &str) -> BTreeMap<&str, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name, value.parse().unwrap())).collect()
}

fn page_of(metrics: &Metrics) -> String {
    metrics.page(Figures::default(), Vec::new, Format::OpenMetrics)
}

fn keys(text: &str) -> Keys {
    Keys::new(&parse_file("keys", text.as_bytes()).unwrap())
}

fn long_key(number: usize) -> String {
    format!("key-{number:040}")
}

/// Every kind of refusal: a new one does not compile until it is here.
fn all_denials() -> Vec<Denial> {
    use Denial::*;
    let key = crate::keys::KeyId([0; 16]);
    let scope = Scope { key, granted: Scopes::NONE, needed: Scopes::ALL };
    let all = [
        Missing,
        Invalid,
        CrossOrigin,
        Address(key),
        Profile,
        scope,
        ClientIdTaken,
        Sockets,
        LongHeader,
        ControlCharacter,
        Locked { retry_after: 1 },
        Quota { key, left: Allowance::default() },
        PromptIdTaken(key),
        Unstored,
    ];
    for denial in all {
        match denial {
            Missing
            | Invalid
            | CrossOrigin
            | Address(_)
            | Profile
            | Scope { .. }
            | ClientIdTaken
            | Sockets
            | LongHeader
            | ControlCharacter
            | Locked { .. }
            | Quota { .. }
            | PromptIdTaken(_)
            | Unstored => {}
        }
    }
    all.into()
}

#[test]
fn every_cause_is_told_before_there_is_one() {
    for denial in all_denials() {
        let cause = denial.row(Question::Access).cause;
        assert!(CAUSES.contains(&cause), "{cause}");
    }
    let page = page_of(&Metrics::default());
    for cause in CAUSES {
        let name = format!("comfy_auth_decisions_total{{outcome=\"refused\",cause=\"{cause}\"}}");
        assert_eq!(series(&page)[&*name], 0.0);
    }
}

#[test]
fn each_request_is_counted_once_by_its_answer() {
    let scope = Wanted::Nothing;
    let counted = [Question::Access, Question::ForwardAuth(scope), Question::LogIn(None), Question::LogOut];
    let beside = [Question::LogInByLink, Question::Identity, Question::Introduction, Question::Again];
    for (questions, times) in [(&counted[..], 1.0), (&beside[..], 0.0)] {
        for question in questions {
            let metrics = Metrics::default();
            for denial in all_denials() {
                metrics.refused(denial, *question);
                metrics.answered(&Decision::Denied(denial), *question);
            }
            metrics.answered(&Decision::Exempt, *question);
            let page = page_of(&metrics);
            let of = |labels: &str| series(&page)[&*format!("comfy_auth_decisions_total{{{labels}}}")];
            assert_eq!(of("outcome=\"exempt\",cause=\"\""), times, "{question:?}");
            assert_eq!(of("outcome=\"refused\",cause=\"missing_credential\""), times, "{question:?}");
            assert_eq!(of("outcome=\"refused\",cause=\"locked\""), times, "{question:?}");
        }
    }
}

#[test]
fn prompts_begin_at_zero_and_add_up() {
    let metrics = Metrics::default();
    metrics.prompt_queued(Some("alice"));
    let page = page_of(&metrics);
    let before = series(&page);
    for status in PromptStatus::EACH {
        assert_eq!(PromptStatus::parse(status.name()), Some(status));
        assert_eq!(
            before[&*format!("comfy_auth_prompts_total{{key_label=\"alice\",status=\"{}\"}}", status.name())],
            0.0
        );
    }
    assert_eq!(before["comfy_auth_prompt_seconds_total{key_label=\"alice\"}"], 0.0);
    for (status, seconds) in [("success", 1.5), ("success", 2.0), ("error", 0.25), ("cancelled", 0.0)] {
        metrics.prompt_ended(Some("alice"), PromptStatus::parse(status).unwrap(), Duration::from_secs_f64(seconds));
    }
    metrics.prompt_ended(None, PromptStatus::Interrupted, Duration::ZERO);
    let page = page_of(&metrics);
    let after = series(&page);
    assert_eq!(after["comfy_auth_prompts_total{key_label=\"alice\",status=\"success\"}"], 2.0);
    assert_eq!(after["comfy_auth_prompts_total{key_label=\"alice\",status=\"cancelled\"}"], 1.0);
    assert_eq!(after["comfy_auth_prompts_total{key_label=\"\",status=\"interrupted\"}"], 1.0);
    assert_eq!(after["comfy_auth_prompt_seconds_total{key_label=\"alice\"}"], 3.75);
    assert_eq!(PromptStatus::parse("done"), None);
}

#[test]
fn the_time_of_a_prompt_that_runs_is_told_and_never_goes_back() {
    let metrics = Metrics::default();
    let told = |running: &[(Option<&str>, u32)]| {
        let running = running.iter().map(|(label, seconds)| (label.map(str::to_owned), SECOND * *seconds));
        let page = metrics.page(Figures::default(), || running.collect(), Format::Classic);
        let found = series(&page);
        let of = |label| found.get(&*format!("comfy_auth_prompt_seconds_total{{key_label=\"{label}\"}}")).copied();
        (of("alice"), of(""))
    };
    assert_eq!(told(&[]), (None, None));
    assert_eq!(told(&[(Some("alice"), 3), (Some("alice"), 4), (None, 1)]), (Some(7.0), Some(1.0)));
    // One of alice's prompts has ended, but is not counted yet.
    assert_eq!(told(&[(Some("alice"), 5)]), (Some(7.0), Some(1.0)));
    metrics.prompt_ended(Some("alice"), PromptStatus::Success, SECOND * 4);
    assert_eq!(told(&[(Some("alice"), 5)]), (Some(9.0), Some(1.0)));
    metrics.prompt_ended(Some("alice"), PromptStatus::Success, SECOND * 5);
    metrics.prompt_ended(None, PromptStatus::Success, SECOND * 2);
    assert_eq!(told(&[]), (Some(9.0), Some(2.0)));
}

#[test]
fn a_thousand_labels_are_told_apart() {
    let metrics = Metrics::default();
    for number in 0..MOST + 50 {
        metrics.prompt_ended(Some(&format!("label {number}")), PromptStatus::Success, SECOND);
        metrics.prompt_ended(Some("label 0"), PromptStatus::Success, SECOND); // known, so never another
    }
    let page = page_of(&metrics);
    let found: Vec<_> = series(&page).into_iter().filter(|(name, _)| name.starts_with("comfy_auth_prompts_")).collect();
    assert_eq!(found.len(), MOST + 1);
    assert!(found.contains(&("comfy_auth_prompts_total{key_label=\"other\",status=\"success\"}", 50.0)));
}

#[test]
fn a_label_is_cut_and_escaped() {
    let metrics = Metrics::default();
    metrics.prompt_ended(Some("a\"} 1 \\ b"), PromptStatus::Success, SECOND);
    metrics.prompt_ended(Some(&"é".repeat(100)), PromptStatus::Success, SECOND);
    let page = page_of(&metrics);
    assert!(page.contains("{key_label=\"a\\\"} 1 \\\\ b\",status=\"success\"} 1\n"), "{page}");
    assert!(page.contains(&format!("{{key_label=\"{}\",status", "é".repeat(LONGEST))), "{page}");
}

#[test]
fn ends_are_told_by_label_and_the_first_ones_one_by_one() {
    let mut figures = Figures::default();
    let text = format!(
        "{} a expires=2030-01-02\n{} a expires=2029-01-02\n{} b\n{} c expires=2020-01-01\n{} expires=2031-01-01",
        long_key(0),
        long_key(1),
        long_key(2),
        long_key(3),
        long_key(4)
    );
    figures.look_at(&keys(&text), NOW);
    let [first, last] = [1_862_092_800, 1_925_078_400];
    assert_eq!(figures.ends, [("a".to_owned(), first), (String::new(), last)]);
    assert_eq!(figures.keys_in_force, 4);

    let many = |number| {
        format!(
            "{} label {number} expires=20{:02}-01-01T00:00:{:02}Z\n",
            long_key(number),
            30 + number / 60,
            number % 60
        )
    };
    figures.look_at(&keys(&(0..MOST + 50).map(many).collect::<String>()), NOW);
    assert_eq!(figures.ends.len(), MOST + 1);
    let (others, end) = figures.ends.last().unwrap();
    assert_eq!(others, OTHER);
    assert!(figures.ends[..MOST].iter().all(|(_, sooner)| sooner < end));
}

#[test]
fn what_is_looked_up_is_told() {
    let file = |path: &str, failed| FileStatus {
        path: path.into(),
        modified: Some(SystemTime::UNIX_EPOCH),
        failed,
        revoked: Vec::new(),
    };
    let card = |index| Device {
        name: "A \"card\"".to_owned(),
        kind: DeviceKind::Cuda,
        index: Some(index),
        uuid: None,
        total: 24 << 30,
        free: 1 << 30,
    };
    let figures = || Figures {
        locks: Locks { begun: 3, in_force: 1 },
        keys_in_force: 7,
        ends: vec![("a".to_owned(), 1_900_000_000)],
        files: Arc::new(vec![file("/keys", false), file("C:\\keys", true)]),
        revoked: vec![2, 0],
        sockets: Sockets { with_credential: 2, without: 5 },
        audit_lines_dropped: Some(9),
        store: Some((false, 3)),
        prompt_times: Vec::new(),
        queue: Some(Queue { pending: 4, running: 1 }),
        devices: Arc::new([card(0), card(1)]),
        devices_age: Duration::from_millis(1500),
    };
    for format in [Format::OpenMetrics, Format::Classic] {
        let page = Metrics::default().page(figures(), Vec::new, format);
        let found = series(&page);
        for (name, value) in [
            ("locks_total", 3.0),
            ("locked_addresses", 1.0),
            ("audit_lines_dropped_total", 9.0),
            ("state_servers", 3.0),
            ("state_up", 0.0),
            ("keys_in_force", 7.0),
            ("key_expires_timestamp_seconds{key_label=\"a\"}", 1_900_000_000.0),
            ("key_file_failed{file=\"/keys\"}", 0.0),
            ("key_file_failed{file=\"C:\\\\keys\"}", 1.0),
            ("key_file_revoked_keys{file=\"/keys\"}", 2.0),
            ("key_file_modified_timestamp_seconds{file=\"/keys\"}", 0.0),
            ("open_websockets{credential=\"yes\"}", 2.0),
            ("open_websockets{credential=\"no\"}", 5.0),
            ("queue_prompts{state=\"pending\"}", 4.0),
            ("queue_prompts{state=\"running\"}", 1.0),
            ("device_memory_bytes{index=\"1\",name=\"A \\\"card\\\"\",type=\"cuda\"}", 25_769_803_776.0),
            ("device_memory_free_bytes{index=\"0\",name=\"A \\\"card\\\"\",type=\"cuda\"}", 1_073_741_824.0),
            ("device_memory_age_seconds", 1.5),
        ] {
            assert_eq!(found[&*format!("comfy_auth_{name}")], value, "{name}");
        }
        assert_eq!(page.ends_with("# EOF\n"), format == Format::OpenMetrics);
        assert_eq!(page.contains("# UNIT"), format == Format::OpenMetrics);
        assert_eq!(page.contains("# TYPE comfy_auth_decisions_total counter"), format == Format::Classic);
    }
}

#[test]
fn the_format_that_accept_asks_for() {
    use Format::{Classic, OpenMetrics};
    const OF_PROMETHEUS_2: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const OF_PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                                   application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                                   text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    for (accept, format) in [
        ("", Classic),
        ("*/*", Classic),
        ("text/*", Classic),
        ("text/plain", Classic),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Classic),
        (OF_PROMETHEUS_2, OpenMetrics),
        (OF_PROMETHEUS_3, OpenMetrics),
        ("application/openmetrics-text", OpenMetrics),
        ("Application/OpenMetrics-Text; Version=\"1.0.0\"", OpenMetrics),
        ("application/openmetrics-text; version=1.0.0; charset=\"utf-8\"", OpenMetrics),
        ("application/openmetrics-text; version=0.0.1", Classic),
        ("application/openmetrics-text; version=0.0.1, */*;q=0.1", Classic),
        ("application/openmetrics-text;q=0", Classic),
        ("application/openmetrics-text;q=0.000, text/plain;q=0", Classic),
        ("application/openmetrics-text, text/plain", OpenMetrics),
        ("application/openmetrics-text;q=0.4, text/plain;q=0.5", Classic),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.5", OpenMetrics),
        ("text/plain;version=0.0.4;q=0.3, text/plain;q=0.9, application/openmetrics-text;q=0.5", OpenMetrics),
        ("application/*, text/plain;q=0.5", OpenMetrics),
        ("application/*", OpenMetrics),
        ("application/*, */*", Classic),
        ("application/*;q=0.1, application/openmetrics-text;q=0", Classic),
        ("*/*;q=0.1, application/json", Classic),
        ("x/y;z=\",application/openmetrics-text,\"", Classic),
        ("application/openmetrics-text;q=x, text/plain;q=0.5", OpenMetrics),
        ("application/openmetrics-text;q=nan", OpenMetrics),
        ("application/openmetrics-text;q=-1, text/plain;q=0.5", OpenMetrics),
        ("application, /, ;, openmetrics-text,,", Classic),
    ] {
        assert_eq!(Format::of(accept), format, "{accept}");
    }
}
