use super::*;

fn prompts(rate: &str, left: u32, reset: Option<u32>) -> Prompts {
    Prompts { rate: Rate::parse(rate).unwrap(), left, reset }
}

fn queued(most: u32, left: u32) -> Queued {
    Queued { most, left }
}

#[test]
fn rate_limit_policy_names_each_limit() {
    for (prompts, queued, expected) in [
        (None, None, None),
        (Some(prompts("60/h", 12, Some(345))), None, Some("\"prompts\";q=60;w=3600")),
        (None, Some(queued(3, 0)), Some("\"queued\";q=3")),
        (Some(prompts("10000/d", 0, None)), Some(queued(1, 1)), Some("\"prompts\";q=10000;w=86400, \"queued\";q=1")),
    ] {
        assert_eq!(Allowance { prompts, queued }.policy().as_deref(), expected);
    }
}

#[test]
fn rate_limit_tells_what_is_left() {
    for (name, prompts, queued, expected) in [
        ("no limit", None, None, None),
        ("some are left", Some(prompts("60/h", 12, Some(345))), None, Some("\"prompts\";r=12;t=345")),
        ("none was queued", Some(prompts("60/h", 60, None)), None, Some("\"prompts\";r=60")),
        ("none is left", Some(prompts("60/h", 0, Some(345))), None, Some("\"prompts\";r=0;t=345")),
        ("all is reserved", Some(prompts("1/h", 0, None)), None, Some("\"prompts\";r=0")),
        ("the queue alone", None, Some(queued(3, 2)), Some("\"queued\";r=2")),
        (
            "both",
            Some(prompts("60/h", 12, Some(345))),
            Some(queued(3, 2)),
            Some("\"prompts\";r=12;t=345, \"queued\";r=2"),
        ),
        (
            "Retry-After is sooner",
            Some(prompts("60/h", 12, Some(345))),
            Some(queued(3, 0)),
            Some("\"prompts\";r=12, \"queued\";r=0"),
        ),
        (
            "both are reached",
            Some(prompts("60/h", 0, Some(345))),
            Some(queued(3, 0)),
            Some("\"prompts\";r=0;t=345, \"queued\";r=0"),
        ),
    ] {
        assert_eq!(Allowance { prompts, queued }.left().as_deref(), expected, "{name}");
    }
}

#[test]
fn the_limit_that_holds_longest_is_told() {
    let rate = Rate::parse("60/h").unwrap();
    for (name, prompts, queued, expected) in [
        ("no limit", None, None, None),
        ("both have room", Some(prompts("60/h", 1, Some(345))), Some(queued(3, 1)), None),
        ("prompts", Some(prompts("60/h", 0, Some(345))), Some(queued(3, 1)), Some((Limit::Prompts(rate), 345))),
        ("queued", Some(prompts("60/h", 1, Some(345))), Some(queued(3, 0)), Some((Limit::Queued(3), SOON))),
        ("both", Some(prompts("60/h", 0, Some(345))), Some(queued(3, 0)), Some((Limit::Prompts(rate), 345))),
        ("reserved", Some(prompts("60/h", 0, None)), None, Some((Limit::Prompts(rate), SOON))),
    ] {
        let expected = expected.map(|(limit, retry_after)| Reached { limit, retry_after });
        assert_eq!(Allowance { prompts, queued }.reached(), expected, "{name}");
    }
}

#[test]
fn people_read_what_the_limit_is_and_when_they_may_go_on() {
    let rate = |rate| Limit::Prompts(Rate::parse(rate).unwrap());
    for (limit, retry_after, expected) in [
        (rate("60/h"), 720, "Your limit is 60 prompts an hour; you may go on in 12 minutes."),
        (rate("1/m"), 1, "Your limit is 1 prompt a minute; you may go on in 1 second."),
        (rate("5/d"), 86_400, "Your limit is 5 prompts a day; you may go on in 24 hours."),
        (rate("5/d"), 7260, "Your limit is 5 prompts a day; you may go on in 2 hours and 1 minute."),
        (
            Limit::Queued(3),
            SOON,
            "Your limit is 3 prompts in the queue at once; you may go on when one of yours has ended.",
        ),
    ] {
        assert_eq!(Reached { limit, retry_after }.in_words(), expected);
    }
}

#[test]
fn times_are_rounded_up_to_what_people_count_in() {
    for (seconds, expected) in [
        (1, "1 second"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (121, "3 minutes"),
        (7140, "119 minutes"),
        (7141, "2 hours"),
        (7200, "2 hours"),
        (7201, "2 hours and 1 minute"),
        (10_860, "3 hours and 1 minute"),
        (50_000, "13 hours and 54 minutes"),
    ] {
        assert_eq!(seconds_in_words(seconds), expected, "{seconds}");
    }
}
