//! Properties of every parser, and of the whole decision against a small, obvious model.

#![allow(clippy::unwrap_used, clippy::format_collect, clippy::struct_excessive_bools)]

mod requests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, Engine as _};
use comfy_auth_rs::client::{ClientField, TrustedProxies};
use comfy_auth_rs::credential::authorization::{self, Token};
use comfy_auth_rs::credential::{Source, cookie, query, url_prefix, x_api_key};
use comfy_auth_rs::decide::{Policy, decide};
use comfy_auth_rs::decision::Decision;
use comfy_auth_rs::exempt::{Application, Exemption, Exemptions, Route};
use comfy_auth_rs::inject::inject_script;
use comfy_auth_rs::keys::{
    Attributes, Entry, Keys, Quota, Rate, Scope, Scopes, Window, parse_file, parse_flag, write_line,
};
use comfy_auth_rs::legible::is_legible;
use comfy_auth_rs::origin::{OwnOrigins, Page, page};
use comfy_auth_rs::request::{Field, Now, Question, takes_html};
use comfy_auth_rs::scope::Table;
use comfy_auth_rs::secret::Digest;
use comfy_auth_rs::session;
use comfy_auth_rs::state::State;
use ipnet::IpNet;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::collection::{hash_set, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use requests::{Request, get};

const COMFYUI: Application = Application::ComfyUi { require_ws: false };

const NOW: u64 = 1_800_000_000;

/// A key in plain text: visible ASCII, but not a comment, a digest, or like an attribute.
fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[!-<>-~]{1,40}", "[0-9][!-<>-~]{1,20}={1,2}"]
        .prop_filter("a comment or a digest", |key| !key.starts_with(['#']) && !key.starts_with("sha256:"))
}

fn any_label() -> impl Strategy<Value = String> {
    prop_oneof![
        "[^\\pC\\pZ]([^\\pC\n]{0,20}[^\\pC\\pZ])?",
        "[a-z]{1,5}( [\"a=\u{a0}-]{1,4}){0,3}",
        "\"?[a-z]{0,3}[- ]?(scope|user|role)[=\u{ff1d} ]{0,2}view\"?",
    ]
    .prop_map(|label| label.trim_matches(' ').to_owned())
    .prop_filter("empty", |label| !label.is_empty())
}

/// A label as in files from before there were attributes.
fn label() -> impl Strategy<Value = Option<String>> {
    const SIGNS: &str = "=\u{ff1d}\u{fe66}\u{a78a}\u{2550}";
    let plain = format!("[^\\pC\\pZ\"{SIGNS}]([^\\pC\n{SIGNS}]{{0,20}}[^\\pC\\pZ{SIGNS}])?");
    prop_oneof![Just(None), proptest::string::string_regex(&plain).unwrap().prop_map(Some)]
}

fn block() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u32>(), 0..=32_u8).prop_map(|(bits, length)| IpNet::new(Ipv4Addr::from(bits).into(), length));
    let v6 = (any::<u128>(), 0..=128_u8).prop_map(|(bits, length)| IpNet::new(Ipv6Addr::from(bits).into(), length));
    prop_oneof![v4, v6].prop_map(|block| block.unwrap().trunc())
}

/// What a line may say about a key.
fn attributes() -> impl Strategy<Value = Attributes> {
    let scopes = subsequence(Scope::EACH.to_vec(), 1..=5).prop_map(Scopes::granted);
    let expires =
        proptest::option::of(prop_oneof![0..=253_402_300_800_u64, (0..=2_932_897_u64).prop_map(|day| day * 86_400)]);
    let from = proptest::collection::btree_set(block(), 0..4).prop_map(|blocks| blocks.into_iter().collect());
    let user = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}".prop_filter("default", |user| !user.eq_ignore_ascii_case("default"));
    let window = select(&[Window::Minute, Window::Hour, Window::Day][..]);
    let rate = (1..=10_000_u32, window).prop_map(|(most, window)| Rate { most, window });
    let quota = (proptest::option::of(rate), proptest::option::of(1..=10_000_u32));
    (scopes, expires, from, proptest::option::of(user), quota).prop_map(
        |(scopes, expires, from, user, (prompts, queued))| Attributes {
            scopes,
            expires,
            from,
            user,
            quota: Quota { prompts, queued },
        },
    )
}

fn keys(all: &[&str]) -> Keys {
    Keys::new(&parse_file("keys", all.join("\n").as_bytes()).unwrap())
}

/// What an `Authorization` value was read as.
fn read(value: &str) -> Result<(Source, String), &'static str> {
    match authorization::parse(value) {
        Token::Absent => Err("absent"),
        Token::Malformed => Err("malformed"),
        Token::Key(source, plain) => Ok((source, plain.expose_secret().to_owned())),
    }
}

fn query_keys(text: &str) -> Vec<String> {
    query::parse(text).map(|plain| plain.expose_secret().to_owned()).collect()
}

proptest! {
    #[test]
    fn key_file_any_bytes_are_keys_or_faults(bytes in vec(prop_oneof![any::<u8>(), select(&b"#\r\n \tak\xef"[..])], 0..200)) {
        let lines = bytes.split(|byte| *byte == b'\n').count();
        match parse_file("keys", &bytes) {
            Ok(records) => {
                prop_assert!(records.windows(2).all(|pair| pair[0].line < pair[1].line));
                prop_assert!(records.iter().all(|record| (1..=lines).contains(&record.line)));
            }
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                for fault in faults {
                    let fault = fault.to_string();
                    prop_assert!(fault.starts_with("keys:") && !fault.contains(['\n', '\r']), "{}", fault);
                }
            }
        }
    }

    #[test]
    fn key_file_round_trip(
        entries in hash_set(key(), 1..8).prop_flat_map(|keys| {
            let rest = vec((label(), any::<bool>(), "[ \t]{0,2}", "[ \t]{1,3}", 0..3_usize), keys.len());
            (Just(keys), rest).prop_map(|(keys, rest)| keys.into_iter().zip(rest).collect::<Vec<_>>())
        }),
        bom in any::<bool>(),
        crlf in any::<bool>(),
        last_line_ends in any::<bool>(),
    ) {
        let mut lines = Vec::new();
        let mut expected = Vec::new();
        for (key, (label, hashed, margin, gap, comments)) in entries {
            lines.extend(["# a comment", "", " \t"].map(str::to_owned).into_iter().take(comments));
            let digest = Digest::of(key.as_bytes());
            let hex: String = digest.expose_secret().iter().map(|byte| format!("{byte:02x}")).collect();
            let written = if hashed { format!("sha256:{hex}") } else { key.clone() };
            lines.push(format!("{margin}{written}{}{margin}", label.iter().map(|label| gap.clone() + label).collect::<String>()));
            expected.push((*digest.expose_secret(), label, lines.len(), !hashed && key.len() < 32));
        }
        let mut text = if bom { "\u{feff}" } else { "" }.to_owned() + &lines.join(if crlf { "\r\n" } else { "\n" });
        if last_line_ends {
            text.push('\n');
        }
        let found: Vec<_> = parse_file("keys", text.as_bytes())
            .unwrap()
            .into_iter()
            .map(|record| (*record.digest.expose_secret(), record.label, record.line, record.short))
            .collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn key_file_lines_that_were_written_are_read_again(
        key in key(),
        label in proptest::option::of(any_label()),
        attributes in attributes(),
    ) {
        match write_line(&key, label.as_deref(), &attributes) {
            Ok(line) => {
                let records = parse_file("keys", line.as_bytes()).unwrap();
                prop_assert_eq!(records.len(), 1);
                prop_assert_eq!(*records[0].digest.expose_secret(), *Digest::of(key.as_bytes()).expose_secret());
                prop_assert_eq!(&records[0].label, &label);
                prop_assert_eq!(&records[0].attributes, &attributes);
            }
            Err(faults) => {
                prop_assert!(label.is_some_and(|label| label.contains('"')), "{:?}", faults);
            }
        }
    }

    /// Whatever is around it, an attribute counts or the line is a fault. No key is left open by mistake.
    #[test]
    fn key_file_a_scope_is_never_lost(
        before in prop_oneof![".{0,6}", "[ \"'a=-]{0,6}", Just(String::new())],
        name in select(&["scope", "Scope", "SCOPE", "scope\u{301}", "s.c.o.p.e", "\u{ff53}\u{ff43}\u{ff4f}\u{ff50}\u{ff45}"][..]),
        sign in select(&["=", "\u{ff1d}", " =", " = ", "= ", "=\u{a0}"][..]),
        after in prop_oneof![Just(String::new()), ".{0,6}", "[ \"',a=-]{0,6}"],
    ) {
        let text = format!("key label {before}{name}{sign}view{after}").replace('\n', " ");
        if let Ok(records) = parse_file("keys", text.as_bytes()) {
            let is_in_parts = name.contains(['.', '\u{301}']) && before.contains(char::is_alphabetic);
            let is_longer_word = before.ends_with(char::is_alphabetic) || is_in_parts;
            prop_assert!(is_longer_word || records[0].attributes.scopes == Scopes::granted([Scope::View]), "{}", text);
        }
    }

    #[test]
    fn key_file_faults_never_hold_the_key(
        secret in "[A-Z]{12}",
        fault in select(&["{}\u{e9}", "\u{7}{}", "sha256:{}", "{} label\u{7}", "{}\n{}", "{} {}\u{1b}[0m", "{}\0",
            "{}=", "{}=x {}", "{} a -scope=view", "{} =", "{} \"{} scope=view", "\u{7}{} \"{}\" x role=y",
            "{} {}\u{a0}scope=view", "{} scope=view {}"][..]),
    ) {
        let text = fault.replace("{}", &secret);
        for fault in parse_file("keys", text.as_bytes()).unwrap_err() {
            prop_assert!(!fault.to_string().contains(&secret));
        }
        if let Err(fault) = parse_flag(&text) {
            prop_assert!(!fault.to_string().contains(&secret));
        }
    }

    #[test]
    fn flag_takes_what_a_key_file_takes(key in key(), text in ".{0,20}") {
        let digest = *Digest::of(key.as_bytes()).expose_secret();
        prop_assert_eq!(*parse_flag(&key).unwrap().digest.expose_secret(), digest);
        let visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        prop_assert_eq!(parse_flag(&text).is_ok(), visible && !text.starts_with("sha256:") && text != "[redacted]");
    }

    #[test]
    fn keys_admit_exactly_themselves(all in hash_set(key(), 1..20), other in ".{0,40}") {
        let keys = keys(&all.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(keys.in_force(Now::at(NOW)), all.len());
        for key in &all {
            let entry = keys.verify(key.as_bytes(), Now::at(NOW)).ok().unwrap();
            prop_assert_eq!(keys.by_id(entry.id(), Now::at(NOW)).map(Entry::id), Some(entry.id()));
        }
        prop_assert_eq!(keys.verify(other.as_bytes(), Now::at(NOW)).is_ok(), all.contains(&other));
    }

    #[test]
    fn authorization_any_text(value in prop_oneof![".*", "[Bb](earer|asic)[ \t]{0,2}.*"]) {
        match read(&value) {
            Ok((Source::Bearer, key)) => {
                prop_assert!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(value.trim_end_matches([' ', '\t']).ends_with(&key));
            }
            Ok((source, key)) => prop_assert!(source == Source::Basic && !key.is_empty()),
            Err(_) => {}
        }
    }

    #[test]
    fn authorization_round_trip(key in key(), user in "[^:]{0,9}", password in ".{1,20}", gap in "[ \t]{1,3}", padded in any::<bool>()) {
        for scheme in ["Bearer", "bearer", "BEARER", "bEARER"] {
            prop_assert_eq!(read(&format!("{scheme}{gap}{key}")), Ok((Source::Bearer, key.clone())));
        }
        let pair = format!("{user}:{password}");
        let encoded = if padded { BASE64_STANDARD.encode(pair) } else { BASE64_STANDARD_NO_PAD.encode(pair) };
        prop_assert_eq!(read(&format!("Basic{gap}{encoded}")), Ok((Source::Basic, password)));
    }

    #[test]
    fn authorization_of_other_schemes_is_absent(scheme in "[A-Za-z0-9-]{1,8}", rest in ".*") {
        prop_assume!(!scheme.eq_ignore_ascii_case("bearer") && !scheme.eq_ignore_ascii_case("basic"));
        prop_assert_eq!(read(&format!("{scheme} {rest}")), Err("absent"));
        prop_assert_eq!(read(&scheme), Err("absent"));
    }

    #[test]
    fn header_is_its_trimmed_value(value in "[ \t]{0,2}.*[ \t]{0,2}") {
        let found = x_api_key::parse(&value).map(|plain| plain.expose_secret().to_owned());
        let trimmed = value.trim_matches([' ', '\t']);
        prop_assert_eq!(found.as_deref(), (!trimmed.is_empty()).then_some(trimmed));
    }

    #[test]
    fn query_any_text(text in prop_oneof![".*", "((api_key|token|%61pi_key|x)?=?[^&]{0,4}&?){0,6}"]) {
        prop_assert!(query_keys(&text).iter().all(|key| !key.is_empty()));
        let rest = query::without_credentials(&text);
        prop_assert!(query_keys(&rest).is_empty(), "{:?}", rest);
        prop_assert_eq!(query::without_credentials(&rest), rest.clone());
        prop_assert!(rest.len() <= text.len());
    }

    #[test]
    fn query_round_trip(pairs in vec((select(&["api_key", "token", "prompt_id", "Token", "api_key2"][..]), ".{0,12}"), 0..6)) {
        let encode = |pairs: &[(&str, String)]| form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let is_ours = |pair: &&(&str, String)| ["api_key", "token"].contains(&pair.0);
        // No key holds a space, so a `+` that was not encoded means itself.
        let keys = pairs.iter().filter(is_ours).map(|pair| pair.1.replace(' ', "+"));
        let expected: Vec<_> = keys.filter(|key| !key.is_empty()).collect();
        let others: Vec<_> = pairs.iter().filter(|pair| !is_ours(pair)).cloned().collect();
        prop_assert_eq!(query_keys(&encode(&pairs)), expected);
        prop_assert_eq!(query::without_credentials(&encode(&pairs)), encode(&others));
    }

    #[test]
    fn url_prefix_any_text(path in prop_oneof![".*", "(/key)?(/(key|%2e|\\.|[a-z%]{0,3})?){0,6}"]) {
        if let Some((key, left)) = url_prefix::parse(&path) {
            prop_assert!(!["", ".", ".."].contains(&key.expose_secret()));
            prop_assert!(left.starts_with('/') && left.len() < path.len());
            prop_assert!(path.starts_with("/key/") && (path.ends_with(left) || left == "/"));
        }
    }

    #[test]
    fn url_prefix_round_trip(key in key(), all in any::<bool>(), left in "(/[!-~]{0,5}){1,3}") {
        prop_assume!(![".", ".."].contains(&key.as_str()));
        let write = |byte: u8| match byte {
            b'/' | b'%' | b'?' | b'#' => format!("%{byte:02X}"),
            _ if all => format!("%{byte:02x}"),
            _ => char::from(byte).to_string(),
        };
        let path = format!("/key/{}{left}", key.bytes().map(write).collect::<String>());
        let found = url_prefix::parse(&path).map(|(key, left)| (key.expose_secret().to_owned(), left));
        prop_assert_eq!(found, Some((key, left.as_str())));
    }

    #[test]
    fn cookie_any_text(value in ".*", host in proptest::option::of(".*")) {
        let name = cookie::Name::at(host.as_deref().and_then(cookie::port));
        prop_assert!(name.to_string().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
        for found in cookie::parse(&value).map(|(_, value)| value) {
            prop_assert!(!found.is_empty() && !found.contains(';') && value.contains(found));
        }
    }

    #[test]
    fn cookie_round_trip(
        port in any::<u16>(),
        host in "([a-z.]{1,8}|[0-9]{1,3}\\.1\\.2\\.3|\\[[0-9a-f:]{2,9}\\])",
        before in vec("[a-z]{1,9}=[!-:<-~]{0,5}", 0..3),
        value in "[A-Za-z0-9_-]{1,9}",
        gap in "[ \t]{0,2}",
    ) {
        let name = cookie::Name::at(cookie::port(&format!("{host}:{port}")));
        prop_assert_eq!(name.to_string(), format!("comfyui_session_{port}"));
        prop_assert_eq!(cookie::Name::at(cookie::port(&host)).to_string(), "comfyui_session");
        let pairs: Vec<_> = before.into_iter().chain([format!("{name}={value}"), format!("{name}x=no")]).collect();
        let text = pairs.join(&format!(";{gap}"));
        prop_assert_eq!(cookie::parse(&text).collect::<Vec<_>>(), [(name, value.as_str())]);
    }

    #[test]
    fn session_any_text_is_none(text in prop_oneof![".*", "[A-Za-z0-9_-]{98}"]) {
        prop_assert!(session::verify(&text, &keys(&["right"]), Now::at(NOW)).is_none());
    }

    #[test]
    fn session_round_trip(all in hash_set(key(), 2..5), place in any::<Index>(), character in "[A-Za-z0-9_=-]", at in any::<Index>()) {
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let keys = keys(&all);
        let entry = keys.verify(place.get(&all).as_bytes(), Now::at(NOW)).ok().unwrap();
        let value = session::issue(entry, session::BROWSER, NOW);
        let (found, _) = session::verify(&value, &keys, Now::at(NOW)).unwrap();
        prop_assert_eq!((found.key, found.expires), (entry.id(), NOW + session::BROWSER.as_secs()));
        let at = at.index(value.len());
        let forged = format!("{}{character}{}", &value[..at], &value[at + 1..]);
        prop_assert_eq!(session::verify(&forged, &keys, Now::at(NOW)).is_some(), forged == value);
    }

    #[test]
    fn exempt_any_pattern_is_taken_or_named(pattern in prop_oneof![".*", "[/^][a-z*()\\[\\]{}+?\\\\.]{0,8}"], path in "(/[a-z]{0,4}){0,3}") {
        match Exemptions::new(Application::Own, &[&pattern]) {
            Ok(exemptions) => {
                prop_assert!(pattern.starts_with(['/', '^']));
                prop_assert_eq!(exemptions.of(Route::Unmatched, "GET"), Exemption::None);
                let _ = exemptions.of(Route::Path(&path), "POST");
            }
            Err(faults) => {
                prop_assert_eq!(faults.len(), 1);
                prop_assert!(!faults[0].to_string().contains('\n'));
            }
        }
    }

    #[test]
    fn exempt_stars_stand_for_any_characters(
        parts in vec("[a-z/.{}()+-]{0,4}", 1..4),
        between in vec("[a-z/.{}-]{0,4}", 3),
        other in "/[a-z/.{}()+-]{0,8}",
    ) {
        let pattern = format!("/{}", parts.join("*"));
        let filled: String = parts.iter().zip(&between).map(|(part, between)| format!("{part}{between}")).collect();
        let filled = format!("/{}", filled.strip_suffix(between[parts.len() - 1].as_str()).unwrap());
        let exempt = |path: &str| Exemptions::new(Application::Own, &[&pattern]).unwrap().of(Route::Path(path), "POST") == Exemption::Open;
        prop_assert!(exempt(&filled), "{} {}", pattern, filled);
        if !pattern.contains('*') {
            prop_assert_eq!(exempt(&other), other == pattern);
        }
    }

    #[test]
    fn exempt_never_a_file_outside_its_mount(
        prefix in select(&["", "/extensions/x", "/docs", "/mine"][..]),
        before in "[a-z/]{0,6}",
        dots in select(&["../", "..\\", "./", "\0", "\n", "\\"][..]),
        after in "[a-z/]{0,6}\\.(js|html|json|png)",
    ) {
        let exemptions = Exemptions::new(COMFYUI, &["/*", "^.*"]).unwrap();
        let slash = if before.is_empty() || dots.starts_with(['\0', '\n', '\\']) { "" } else { "/" };
        let file = format!("{before}{slash}{dots}{after}");
        prop_assert_eq!(exemptions.of(Route::Static { prefix, file: &file }, "GET"), Exemption::None, "{:?}", file);
    }

    #[test]
    fn exempt_nothing_that_begins_with_a_dot(
        prefix in select(&["", "/extensions/x", "/extensions", "/docs", "/templates/y"][..]),
        before in "([a-z.~]{1,3}/){0,2}",
        name in "\\.[a-z.~0-9]{1,6}",
        after in "(/[a-z.]{1,3}){0,2}\\.(js|html|json|png)",
    ) {
        let exemptions = Exemptions::new::<&str>(COMFYUI, &[]).unwrap();
        let file = format!("{before}{name}{after}");
        prop_assert_eq!(exemptions.of(Route::Static { prefix, file: &file }, "GET"), Exemption::None, "{:?}", file);
    }

    #[test]
    fn exempt_writes_only_where_somebody_said_so(
        method in select(&["POST", "PUT", "PATCH", "DELETE", "get", ""][..]),
        path in prop_oneof!["(/api)?/(health|ws|auth_login\\.html|auth_inject\\.js|index\\.html|docs/x|templates/x)?", "/.*"],
        file in ".*\\.js",
    ) {
        let exemptions = Exemptions::new::<&str>(COMFYUI, &[]).unwrap();
        prop_assume!(!path.ends_with("/auth_session"));
        prop_assert_eq!(exemptions.of(Route::Path(&path), method), Exemption::None);
        prop_assert_eq!(exemptions.of(Route::Static { prefix: "", file: &file }, method), Exemption::None);
    }

    #[test]
    fn legible_but_for_one_control_character(
        before in "[^\\p{C}\\p{Zl}\\p{Zp}\u{fffd}?]{0,12}",
        after in "[^\\p{C}\\p{Zl}\\p{Zp}\u{fffd}?]{0,12}",
        control in "[\\p{Cc}\\p{Zl}\\p{Zp}]",
        name in select(&["", "/ws?clientId=", "/ws?a=b&%63lientI%64="][..]),
        times in 0..3,
    ) {
        let plain = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let control = (0..times).fold(control, |text, _| plain(&text));
        let (legible, view) = ([name, &plain(&before), &plain(&after)].concat(), format!("/view?filename={control}"));
        let illegible = [name, &plain(&before), &control, &plain(&after)].concat();
        prop_assert!(is_legible(&legible) && is_legible(&view), "{legible:?} {view:?}");
        prop_assert!(!is_legible(&illegible), "{illegible:?}");
    }

    #[test]
    fn client_any_text(
        peer in any::<IpAddr>(),
        name in select(&["X-Forwarded-For", "Forwarded"][..]),
        text in prop_oneof![".*", "([0-9a-f.:\\[\\] ,]|10\\.0\\.0\\.1){0,40}", "(for=|[0-9.:_;,\\[\\]\" \\\\]|10\\.0\\.0\\.1){0,40}"],
        behind in select(&["192.0.2.1", "192.0.2.1, 10.0.0.2"][..]),
    ) {
        let field = ClientField::parse(name).unwrap();
        prop_assert_eq!(TrustedProxies::default().client(peer, &field, &text), peer.to_canonical());
        let trusted = TrustedProxies::parse(&["10.0.0.0/8"]).unwrap();
        let client = trusted.client(peer, &field, &text);
        prop_assert!(trusted.contains(peer) || client == peer.to_canonical());
        // Whatever a client sends, what a proxy adds to it counts.
        let proxy = IpAddr::from([10, 0, 0, 1]);
        let added = if name == "Forwarded" { format!("for={}", behind.replace(", ", ", for=")) } else { behind.to_owned() };
        let client = trusted.client(proxy, &field, &format!("{text}, {added}"));
        prop_assert_eq!(client, IpAddr::from([192, 0, 2, 1]));
    }

    #[test]
    fn client_is_the_nearest_that_is_not_trusted(
        chain in vec(prop_oneof![(1..=3_u8).prop_map(|n| [10, 0, 0, n]), any::<[u8; 4]>()], 1..6),
        spoofed in ".{0,8}",
        spellings in vec(0..4_usize, 6),
        in_forwarded in any::<bool>(),
    ) {
        // From the server to the client: the peer, then what each hop wrote.
        let trusted = TrustedProxies::parse(&["10.0.0.0/8"]).unwrap();
        let chain: Vec<_> = chain.into_iter().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))).collect();
        let expected = chain.iter().find(|address| !trusted.contains(**address));
        let written: Vec<_> = chain[1..].iter().zip(spellings).map(|(address, spelling)| match (in_forwarded, address, spelling) {
            (false, IpAddr::V4(v4), 0) => v4.to_ipv6_mapped().to_string(),
            (false, IpAddr::V4(v4), 1) => format!("[{}]:80", v4.to_ipv6_mapped()),
            (false, _, 2) => format!(" {address}:4711"),
            (false, ..) => format!("{address}\t"),
            (true, IpAddr::V4(v4), 0) => format!("for=\"[{}]\"; proto=https", v4.to_ipv6_mapped()),
            (true, IpAddr::V4(v4), 1) => format!(" by=_me;host=\"a,;\\\"b\";FOR=\"[{}]:80\"\t", v4.to_ipv6_mapped()),
            (true, _, 2) => format!(" For=\"{address}:_port\""),
            (true, ..) => format!("for={address}"),
        }).collect();
        let field = ClientField::parse(if in_forwarded { "Forwarded" } else { "X-Real-IP" }).unwrap();
        // What the client wrote comes before its address. Nobody looks further than junk.
        let front = if expected.is_some() { spoofed } else { "192.0.2.1,junk".to_owned() };
        let value = [front].into_iter().chain(written.into_iter().rev()).collect::<Vec<_>>().join(",");
        prop_assert_eq!(trusted.client(chain[0], &field, &value), *expected.unwrap_or(chain.last().unwrap()), "{:?}", value);
    }

    #[test]
    fn trusted_proxies_any_text(block in ".*", address in any::<Ipv6Addr>(), bits in 0..=128_u8) {
        let _ = TrustedProxies::parse(&[block]);
        let trusted = TrustedProxies::parse(&[format!("{address}/{bits}")]).unwrap();
        prop_assert!(trusted.contains(IpAddr::V6(address)) || address.to_ipv4_mapped().is_some());
    }

    #[test]
    fn origin_any_text(origin in prop_oneof![".*", "https?://.*"], host in ".*") {
        let from = get().without(Field::Host).with(Field::Host, &host).with(Field::Origin, &origin);
        let page_of = |request: &Request| page(&OwnOrigins::default(), request);
        let same = page_of(&from) == Page::Own;
        prop_assert_ne!(page_of(&from), Page::Unknown);
        let (_, authority) = origin.split_once("://").unwrap_or_default();
        let name = |authority: &str| authority.rsplit_once(':').map_or(authority, |(name, _)| name).to_lowercase();
        prop_assert!(!same || name(authority) == name(&host) || authority.eq_ignore_ascii_case(&host));
        let elsewhere = page_of(&from.clone().with(Field::SecFetchSite, "cross-site"));
        prop_assert!([Page::SameHost, Page::Foreign].contains(&elsewhere));
        // What can be named is then ours, and nothing else.
        match OwnOrigins::parse(&[&origin]) {
            Ok(own) => prop_assert_eq!(page(&own, &from), Page::Own),
            Err(faults) => {
                prop_assert!(!same && page_of(&from) == Page::Foreign, "{:?}", origin);
                prop_assert!(faults.len() == 1 && !faults[0].to_string().contains('\n'));
            }
        }
    }

    #[test]
    fn origin_of_the_host_is_ours_and_no_other(host in "[a-z0-9.-]{1,12}", port in 1..=u16::MAX, other in "[a-z0-9.-]{1,12}", other_port in 1..=u16::MAX) {
        let host_field = format!("{host}:{port}");
        let here = get().without(Field::Host).with(Field::Host, host_field);
        let same = |origin: &str| page(&OwnOrigins::default(), &here.clone().with(Field::Origin, origin)) == Page::Own;
        for scheme in ["http", "https"] {
            let [ours, theirs, elsewhere] = [(&host, port), (&other, port), (&host, other_port)]
                .map(|(name, port)| same(&format!("{scheme}://{name}:{port}")));
            prop_assert!(ours);
            prop_assert_eq!(theirs, other == host);
            prop_assert_eq!(elsewhere, other_port == port);
        }
        for forged in [
            format!("http://{host}.evil:{port}"),
            format!("http://{host}@evil:{port}"),
            format!("ftp://{host}:{port}"),
            format!("{host}:{port}"),
            format!("//{host}:{port}"),
        ] {
            prop_assert!(!same(&forged), "{}", forged);
        }
    }

    #[test]
    fn inject_adds_the_tag_once_and_changes_nothing_else(page in vec(any::<u8>(), 0..200)) {
        adds_the_tag_once(&page)?;
    }

    #[test]
    fn inject_into_anything_like_html(pieces in vec(select(&[
        "<!DOCTYPE html>", "<html>", "<html lang='a>b'>", "<HEAD>", "<head\n>", "<header>", "<!-- ", "-->", "--!>",
        "<!-->", "<script>", "</script>", "'", "\"", ">", "<", " ", "\n", "x", "\u{feff}", "<body>", "<?xml?>",
    ][..]), 0..12)) {
        let page = pieces.concat();
        let at = adds_the_tag_once(page.as_bytes())?;
        let before = &page[..at];
        prop_assert!(before.is_empty() || before.ends_with(['>', ' ', '\n', '\u{feff}']), "{:?}", page);
        let comment_is_closed = |begin| before[begin..].contains("-->") || before[begin..].contains("--!>");
        prop_assert!(before.rfind("<!--").is_none_or(comment_is_closed), "{:?}", page);
        prop_assert!(!before.contains("<body>") || before.contains("<!") || before.contains("<?"), "{:?}", page);
    }

    #[test]
    fn inject_goes_directly_behind_the_head_tag(
        before in "(\u{feff})?([ \n]|<!doctype html>|<!-- [a-z<>\"' ]{0,9} -->){0,3}(<html( lang=[a-z]{1,4}| data-x=\"[a-z<>' ]{0,5}\"| class='[a-z<>\" ]{0,5}'){0,2}>)?[ \n]{0,2}",
        head in "<(head|HEAD|Head)( data-x=\"[a-z<>' ]{0,5}\"){0,1}>",
        after in ".{0,40}",
    ) {
        let page = format!("{before}{head}{after}");
        prop_assert_eq!(adds_the_tag_once(page.as_bytes())?, before.len() + head.len(), "{:?}", page);
    }
}

/// Checks it, and returns where the tag went.
fn adds_the_tag_once(page: &[u8]) -> Result<usize, TestCaseError> {
    const TAG: &[u8] = b"<script src=\"a.js\"></script>";
    let injected = inject_script(page, "a.js");
    prop_assert_eq!(injected.len(), page.len() + TAG.len());
    let at = (0..=page.len()).find(|&at| injected[at..].starts_with(TAG)).unwrap();
    prop_assert_eq!([&injected[..at], &injected[at + TAG.len()..]].concat(), page);
    Ok(at)
}

/// A credential of one source, as a client may send it, right or wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Presented {
    Nothing,
    Empty,
    Wrong,
    Malformed,
    Right,
}

/// What a request presents, in the order in which the sources are read.
#[derive(Debug, Clone)]
struct Case {
    authorization: Vec<Presented>,
    header: Vec<Presented>,
    query: Vec<Presented>,
    url_prefix: Vec<Presented>,
    /// `Malformed` is a forged one, `Wrong` one of a removed key.
    cookie: Presented,
    method: &'static str,
    upgrade: bool,
    site: Option<&'static str>,
    mode: Option<&'static str>,
    destination: Option<&'static str>,
    origin: Option<&'static str>,
    preflight: bool,
    accept: Option<&'static str>,
    route: Route<'static>,
    takes_over: bool,
    address: bool,
    cookies: [String; 2],
}

const ROUTES: [Route<'_>; 12] = [
    Route::Unmatched,
    Route::Path("/"),
    Route::Path("/prompt"),
    Route::Path("/api/prompt"),
    Route::Path("/health"),
    Route::Path("/ws"),
    Route::Path("/api/ws"),
    Route::Path("/auth_login.html"),
    Route::Path("/auth_session"),
    Route::Static { prefix: "", file: "assets/index.js" },
    Route::Static { prefix: "/extensions/node", file: "x" },
    Route::Static { prefix: "/images", file: "x.png" },
];

impl Case {
    fn is_read(&self) -> bool {
        ["GET", "HEAD"].contains(&self.method)
    }

    /// The whole decision, in the words of the design.
    fn model(&self) -> &'static str {
        if self.method == "OPTIONS" && self.preflight {
            return "preflight";
        }
        let presented: Vec<_> =
            [&self.authorization, &self.header, &self.query, &self.url_prefix].into_iter().flatten().collect();
        let has = |what| presented.contains(&&what);
        if self.authorization.iter().chain(&self.header).any(|field| *field == Presented::Right) {
            return "key";
        }
        let ours = match self.site {
            Some(site) => ["same-origin", "none"].contains(&site),
            None => self.origin == Some("http://comfy:8188"),
        };
        let embeds =
            self.site.is_some() && !ours && (self.mode, self.destination) != (Some("navigate"), Some("document"));
        let refused = match self.cookie {
            Presented::Right if (self.is_read() || self.method == "OPTIONS") && !self.upgrade && !embeds => {
                return "cookie";
            }
            Presented::Right if !((self.is_read() || self.method == "OPTIONS") && !self.upgrade) && ours => {
                return "cookie";
            }
            _ if has(Presented::Right) => return "key",
            Presented::Right => "cross_origin",
            _ if has(Presented::Wrong) || has(Presented::Malformed) => "invalid_credential",
            _ => "missing_credential",
        };
        let exempt = match self.route {
            Route::Path("/auth_session") => ["POST", "DELETE"].contains(&self.method),
            Route::Path("/auth_login.html") | Route::Static { prefix: "" | "/extensions/node", .. } => self.is_read(),
            Route::Path("/health") if self.is_read() => refused == "missing_credential",
            Route::Path("/ws" | "/api/ws") if self.is_read() => {
                let foreign = match self.origin {
                    Some("http://comfy:8188" | "http://comfy:8189") => false,
                    Some(_) => !self.site.is_some_and(|site| ["same-origin", "none"].contains(&site)),
                    None => self.site.is_some_and(|site| !["same-origin", "none"].contains(&site)),
                };
                if foreign {
                    return "cross_origin";
                }
                if self.takes_over {
                    return "client_id_taken";
                }
                true
            }
            _ => false,
        };
        if exempt { "anonymous" } else { refused }
    }

    /// Rule 4, for a refused request.
    fn model_redirects(&self, cause: &str) -> bool {
        ["missing_credential", "invalid_credential"].contains(&cause)
            && self.is_read()
            && !self.upgrade
            && (self.route == Route::Path("/") || self.accept.is_some_and(|accept| accept.contains("html")))
    }
}

impl Case {
    /// The request for the server.
    fn request(&self) -> Request {
        let mut request = get().without(Field::Host).with(Field::Host, "comfy:8188");
        request.method = self.method;
        request.route = self.route;
        request.takes_over = self.takes_over;
        request.client = self.address.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut write = |field, all: &[Presented], right: &str, malformed: &str| {
            for presented in all {
                let value = match presented {
                    Presented::Nothing => continue,
                    Presented::Empty => String::new(),
                    Presented::Wrong => right.replace("right", "wrong"),
                    Presented::Malformed => malformed.to_owned(),
                    Presented::Right => right.to_owned(),
                };
                request.fields.push((field, value));
            }
        };
        write(Field::Authorization, &self.authorization, "Bearer right", "Basic ???");
        write(Field::XApiKey, &self.header, "right", "ri ght");
        let cookie = match self.cookie {
            Presented::Nothing => None,
            Presented::Empty => Some("comfyui_session_8188=".to_owned()),
            Presented::Malformed => Some("comfyui_session_8188=forged".to_owned()),
            Presented::Wrong => Some(format!("comfyui_session_8188={}", self.cookies[1])),
            Presented::Right => Some(format!("a=b; comfyui_session_8188={}", self.cookies[0])),
        };
        let others = [
            (Field::Cookie, cookie.as_deref()),
            (Field::Origin, self.origin),
            (Field::SecFetchSite, self.site),
            (Field::SecFetchMode, self.mode),
            (Field::SecFetchDest, self.destination),
            (Field::Upgrade, self.upgrade.then_some("websocket")),
            (Field::Accept, self.accept),
            (Field::AccessControlRequestMethod, self.preflight.then_some("POST")),
        ];
        request.fields.extend(others.iter().filter_map(|(field, value)| Some((*field, (*value)?.to_owned()))));
        let query = self.query.iter().map(|presented| match presented {
            Presented::Nothing => "x=1",
            Presented::Empty => "api_key=",
            Presented::Wrong => "token=wrong",
            Presented::Malformed => "api_key=%ff",
            Presented::Right => "token=right",
        });
        request.query = Some(query.collect::<Vec<_>>().join("&"));
        let url_keys = self.url_prefix.iter().filter_map(|presented| match presented {
            Presented::Nothing | Presented::Empty => None,
            Presented::Wrong => Some("wrong"),
            Presented::Malformed => Some("\u{fffd}"),
            Presented::Right => Some("right"),
        });
        request.url_keys = url_keys.map(str::to_owned).collect();
        request
    }
}

fn case() -> impl Strategy<Value = Case> {
    use Presented::{Empty, Malformed, Nothing, Right, Wrong};
    let several = || subsequence(vec![Empty, Wrong, Malformed, Right, Wrong], 0..=2);
    let rarely_right = || prop_oneof![3 => Just(vec![]), 2 => several()];
    let cookie = prop_oneof![select(vec![Nothing, Empty, Wrong, Malformed]), Just(Right)];
    let methods = select(vec!["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]);
    let browser = (
        proptest::option::of(select(vec!["same-origin", "none", "same-site", "cross-site"])),
        proptest::option::of(select(vec!["navigate", "no-cors"])),
        proptest::option::of(select(vec!["document", "image"])),
        proptest::option::of(select(vec!["http://comfy:8188", "http://comfy:8189", "http://evil:8188", "null"])),
        proptest::option::of(select(vec!["*/*", "text/html", "application/json"])),
    );
    let flags = any::<[bool; 4]>();
    let credentials = (rarely_right(), rarely_right(), rarely_right(), rarely_right(), cookie);
    (credentials, methods, browser, flags, select(&ROUTES[..])).prop_map(
        |((authorization, header, query, url_prefix, cookie), method, browser, flags, route)| {
            let (site, mode, destination, origin, accept) = browser;
            let [upgrade, preflight, takes_over, address] = flags;
            let cookies = Default::default();
            Case {
                authorization,
                header,
                query,
                url_prefix,
                cookie,
                method,
                upgrade,
                site,
                mode,
                destination,
                origin,
                preflight,
                accept,
                route,
                takes_over,
                address,
                cookies,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn decision_is_the_models(mut case in case()) {
        let (keys, gone) = (keys(&["right", "right-too"]), keys(&["gone"]));
        let issue = |keys: &Keys, key: &[u8]| session::issue(keys.verify(key, Now::at(NOW)).ok().unwrap(), session::BROWSER, NOW);
        case.cookies = [issue(&keys, b"right"), issue(&gone, b"gone")];
        let exemptions = Exemptions::new::<&str>(COMFYUI, &[]).unwrap();
        let (state, own_origins) = (State::default(), OwnOrigins::default());
        let policy = Policy {
            keys: &keys, state: &state, exemptions: &exemptions, scopes: &Table::ComfyUi, own_origins: &own_origins, trace: None
        };
        let now = Now { monotonic: Duration::from_secs(1), ..Now::at(NOW) };
        let decision = decide(&policy, &case.request(), Question::Access, now);
        let word = match decision {
            Decision::Granted(grant) if grant.source == Source::Cookie => "cookie",
            Decision::Granted(_) => "key",
            Decision::Exempt | Decision::ExemptSocket => "anonymous",
            Decision::Preflight => "preflight",
            Decision::Denied(denial) | Decision::SentToLogin(denial) => denial.row(Question::Access).cause,
        };
        prop_assert_eq!(word, case.model());
        prop_assert_eq!(matches!(decision, Decision::SentToLogin(_)), case.model_redirects(word));
    }
}

proptest! {
    #[test]
    fn accept_any_text(accept in prop_oneof![".*", "(text/html|\\*/\\*|,|;|q=[01]| ){0,8}"]) {
        prop_assert!(!takes_html(&get().with(Field::Accept, &accept)) || accept.to_ascii_lowercase().contains("html"));
    }

    #[test]
    fn accept_names_html_among_others(
        others in vec(select(&["*/*", "image/png", "text/plain;q=0.5", "application/json", "text/htmlx"][..]), 0..4),
        html in select(&["text/html", "Text/HTML", "application/xhtml+xml", "text/html;level=1", "text/html;q=0.1"][..]),
        place in any::<Index>(),
        gap in "[ \t]{0,2}",
    ) {
        let separator = format!(",{gap}");
        let leads = |ranges: &[&str]| takes_html(&get().with(Field::Accept, ranges.join(&separator)));
        prop_assert!(!leads(&others));
        let mut all = others;
        all.insert(place.index(all.len() + 1), html);
        prop_assert!(leads(&all));
    }
}
