use super::*;

#[test]
fn prompts_are_a_number_and_a_unit() {
    for (value, most, window, seconds, words) in [
        ("60/h", 60, Window::Hour, 3600, "60 prompts an hour"),
        ("1/m", 1, Window::Minute, 60, "1 prompt a minute"),
        ("10000/d", 10_000, Window::Day, 86_400, "10000 prompts a day"),
    ] {
        let rate = Rate::parse(value).unwrap();
        assert_eq!((rate.most, rate.window, rate.window.seconds()), (most, window, seconds));
        assert_eq!((rate.to_string().as_str(), rate.in_words().as_str()), (value, words));
    }
    for value in [
        "",
        "60",
        "60/w",
        "60/H",
        "60/s",
        "0/h",
        "060/h",
        "10001/h",
        "+60/h",
        "-1/h",
        "/h",
        "60/",
        "60/h/h",
        "60/hour",
        "6 0/h",
        "\u{666}0/h",
        "1e3/h",
        "99999999999999999999/h",
    ] {
        let fault = Rate::parse(value).unwrap_err();
        assert!(fault.starts_with("prompts= takes 1 to 10000 prompts a minute, hour or day"), "{value}: {fault}");
    }
}

#[test]
fn queued_is_a_number() {
    for (value, expected) in [("1", 1), ("3", 3), ("10000", 10_000)] {
        assert_eq!(parse_queued(value), Ok(expected));
    }
    for value in ["", "0", "03", "+3", "-3", "3.5", "10001", "3/h", "99999999999999999999", " 3"] {
        let fault = parse_queued(value).unwrap_err();
        assert!(fault.starts_with("queued= takes a number of prompts from 1 to 10000, not "), "{value}: {fault}");
    }
}

#[test]
fn one_limit_is_a_limit() {
    let (prompts, queued) = (Rate::parse("1/d").ok(), Some(10_000));
    assert!(!Quota::default().is_limited());
    assert!(Quota { prompts, queued: None }.is_limited() && Quota { prompts: None, queued }.is_limited());
}
