use super::*;
use crate::allowance::{Limit, SOON};

const START: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;

fn quota(prompts: &str, queued: u32) -> Quota {
    Quota { prompts: Rate::parse(prompts).ok(), queued: Some(queued).filter(|queued| *queued > 0) }
}

/// A prompt that has been queued, and has ended.
fn prompt(limits: &Limits, quota: Quota, now: u64) {
    assert!(limits.reserve("a", quota, now).ok().unwrap().queued(now).is_some());
}

fn refusal(limits: &Limits, quota: Quota, now: u64) -> Option<(Limit, u32)> {
    let left = limits.reserve("a", quota, now).err()?;
    left.reached().map(|reached| (reached.limit, reached.retry_after))
}

#[test]
fn each_prompt_leaves_after_the_window() {
    let (limits, two) = (Limits::default(), quota("2/m", 0));
    let limit = Limit::Prompts(two.prompts.unwrap());
    prompt(&limits, two, START);
    prompt(&limits, two, START + 20_500);
    for (name, now, expected) in [
        ("at once", START + 20_500, Some((limit, 40))),
        ("rounded up", START + 20_501, Some((limit, 40))),
        ("at the end of the window", START + MINUTE - 1, Some((limit, 1))),
        ("after it", START + MINUTE, None),
    ] {
        assert_eq!(refusal(&limits, two, now), expected, "{name}");
    }
    prompt(&limits, two, START + MINUTE);
    assert_eq!(refusal(&limits, two, START + MINUTE), Some((limit, 21)), "until the second one leaves: 20.5 s");
    assert_eq!(refusal(&limits, two, START + MINUTE + 20_500), None);
}

#[test]
fn a_reserved_place_counts_at_once_and_for_as_long_as_it_is_held() {
    let (limits, one) = (Limits::default(), quota("1/m", 0));
    let held = limits.reserve("a", one, START).ok();
    let limit = Limit::Prompts(one.prompts.unwrap());
    assert_eq!(refusal(&limits, one, START), Some((limit, SOON)), "nobody knows when");
    assert_eq!(refusal(&limits, one, START + 2 * MINUTE), Some((limit, SOON)));
    drop(held);
    assert_eq!(refusal(&limits, one, START), None, "it was given back");
    let mut late = limits.reserve("a", one, START).ok().unwrap();
    assert!(late.queued(START + 50_000).is_some());
    assert_eq!(refusal(&limits, one, START + MINUTE), Some((limit, 50)), "it counts from when it was queued");
}

#[test]
fn what_waits_or_runs_has_a_place_until_it_ends() {
    let (limits, two) = (Limits::default(), quota("", 2));
    let mut first = limits.reserve("a", two, START).ok().unwrap();
    let mut second = limits.reserve("a", two, START).ok().unwrap();
    assert_eq!(refusal(&limits, two, START), Some((Limit::Queued(2), SOON)), "both are reserved");
    let turn = first.queued(START);
    assert!(turn.is_some() && first.queued(START).is_none(), "once");
    drop(first);
    assert_eq!(
        refusal(&limits, two, START),
        Some((Limit::Queued(2), SOON)),
        "one is queued, after its request has ended"
    );
    second.give_back();
    assert_eq!(refusal(&limits, two, START), None, "one was refused by ComfyUI");
    assert!(second.queued(START).is_none(), "its request has ended");
    drop(second);
    drop(turn);
    let left = limits.allowance("a", two, START).queued.unwrap().left;
    assert_eq!(left, 2, "each place is given back once");
}

#[test]
fn a_prompt_that_has_ended_still_counts_in_its_window() {
    let (limits, both) = (Limits::default(), quota("2/h", 1));
    prompt(&limits, both, START);
    let left = limits.allowance("a", both, START);
    assert_eq!((left.prompts.unwrap().left, left.prompts.unwrap().reset), (1, Some(3600)));
    assert_eq!(left.queued.unwrap().left, 1);
}

#[test]
fn keys_of_one_user_share_the_set_and_are_judged_by_their_own_limits() {
    let (limits, many, few) = (Limits::default(), quota("5/h", 0), quota("2/m", 0));
    for _ in 0..4 {
        prompt(&limits, many, START);
    }
    assert_eq!(refusal(&limits, few, START), Some((Limit::Prompts(few.prompts.unwrap()), 60)));
    assert_eq!(refusal(&limits, few, START + MINUTE), None);
    prompt(&limits, few, START + MINUTE);
    assert!(refusal(&limits, many, START + MINUTE).is_some());
    assert!(limits.reserve("b", many, START).is_ok(), "another user has another set");
}

#[test]
fn what_was_never_queued_leaves_all() {
    let limits = Limits::default();
    let left = limits.allowance("a", quota("60/h", 3), START);
    let prompts = Some(Prompts { rate: Rate::parse("60/h").unwrap(), left: 60, reset: None });
    assert_eq!(left, Allowance { prompts, queued: Some(Queued { most: 3, left: 3 }) });
    assert_eq!(limits.allowance("a", Quota::default(), START), Allowance::default());
}

#[test]
fn memory_is_bounded() {
    let (limits, most) = (Limits::default(), quota("10000/m", 0));
    for round in 0..4 {
        for _ in 0..MOST_PROMPTS {
            prompt(&limits, most, START + round * MINUTE);
        }
        assert!(refusal(&limits, most, START + round * MINUTE).is_some());
        assert_eq!(limits.lock()["a"].admitted.0.len(), MOST_PROMPTS as usize);
    }
    let day = quota("10000/d", 0);
    let (_, seconds) = refusal(&limits, day, START + 3 * MINUTE).unwrap();
    assert_eq!(seconds, 24 * 60 * 60, "what was dropped is older than what is waited for");
    let tomorrow = START + 25 * 60 * MINUTE;
    drop(limits.reserve("b", most, tomorrow));
    assert_eq!(limits.lock().keys().collect::<Vec<_>>(), ["b"], "nothing of the other is left");
    let _held = limits.reserve("c", most, tomorrow).ok();
    drop(limits.reserve("d", most, tomorrow));
    assert_eq!(limits.lock().len(), 2, "c has a place");
}

#[test]
fn a_clock_that_is_ahead_or_missing_opens_nothing() {
    let (limits, one) = (Limits::default(), quota("1/m", 0));
    prompt(&limits, one, START + 1000);
    assert_eq!(refusal(&limits, one, START).map(|(_, seconds)| seconds), Some(61));
    let limits = Limits::default();
    prompt(&limits, one, u64::MAX);
    assert!(refusal(&limits, one, u64::MAX).is_some());
}
