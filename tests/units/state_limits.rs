use super::*;
use crate::allowance::{Limit, SOON};

const START: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;
const KEY: KeyId = KeyId([1; 16]);

fn quota(prompts: &str, queued: u32) -> Quota {
    Quota { prompts: Rate::parse(prompts).ok(), queued: Some(queued).filter(|queued| *queued > 0) }
}

/// A prompt that has been queued, and has ended.
fn prompt(limits: &Limits, quota: Quota, now: u64) {
    assert!(limits.reserve(KEY, "a", quota, now).ok().unwrap().queued(now).is_some());
}

fn refusal(limits: &Limits, quota: Quota, now: u64) -> Option<(Limit, u32)> {
    let left = limits.reserve(KEY, "a", quota, now).err()?;
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
    let held = limits.reserve(KEY, "a", one, START).ok();
    let limit = Limit::Prompts(one.prompts.unwrap());
    assert_eq!(refusal(&limits, one, START), Some((limit, SOON)), "nobody knows when");
    assert_eq!(refusal(&limits, one, START + 2 * MINUTE), Some((limit, SOON)));
    drop(held);
    assert_eq!(refusal(&limits, one, START), None, "it was given back");
    let mut late = limits.reserve(KEY, "a", one, START).ok().unwrap();
    assert!(late.queued(START + 50_000).is_some());
    assert_eq!(refusal(&limits, one, START + MINUTE), Some((limit, 50)), "it counts from when it was queued");
}

#[test]
fn what_waits_or_runs_has_a_place_until_it_ends() {
    let (limits, two) = (Limits::default(), quota("", 2));
    let mut first = limits.reserve(KEY, "a", two, START).ok().unwrap();
    let mut second = limits.reserve(KEY, "a", two, START).ok().unwrap();
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
    assert!(limits.reserve(KEY, "b", many, START).is_ok(), "another user has another set");
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
        assert_eq!(limits.lock().by_subject["a"].admitted.0.len(), MOST_PROMPTS as usize);
    }
    let day = quota("10000/d", 0);
    let (_, seconds) = refusal(&limits, day, START + 3 * MINUTE).unwrap();
    assert_eq!(seconds, 24 * 60 * 60, "what was dropped is older than what is waited for");
    let tomorrow = START + 25 * 60 * MINUTE;
    drop(limits.reserve(KEY, "b", most, tomorrow));
    assert_eq!(limits.lock().by_subject.keys().collect::<Vec<_>>(), ["b"], "nothing of the other is left");
    let _held = limits.reserve(KEY, "c", most, tomorrow).ok();
    drop(limits.reserve(KEY, "d", most, tomorrow));
    assert_eq!(limits.lock().by_subject.len(), 2, "c has a place");
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

/// A prompt of another machine.
fn elsewhere(limits: &Limits, time: u64, id: u64, now: u64) -> bool {
    limits.merge("a", Admission { time, id, key: KEY }, now)
}

#[test]
fn the_union_of_what_all_machines_queued_counts() {
    let (limits, three) = (Limits::default(), quota("3/m", 0));
    prompt(&limits, three, START + 10_000);
    assert!(elsewhere(&limits, START, 1, START + 10_000) && !elsewhere(&limits, START, 1, START + 10_000));
    assert!(elsewhere(&limits, START + 5000, 2, START + 10_000));
    let limit = Limit::Prompts(three.prompts.unwrap());
    assert_eq!(refusal(&limits, three, START + 10_000), Some((limit, 50)));
    assert_eq!(refusal(&limits, three, START + MINUTE), None, "the first has left");
    assert_eq!(limits.prompts(START + 10_000).len(), 3);
    let day = 24 * 60 * MINUTE;
    assert_eq!(limits.prompts(START + day).len(), 2, "one is over");
    assert!(!elsewhere(&limits, START, 3, START + day), "old news");
}

#[test]
fn what_is_queued_here_is_told_and_what_is_learnt_is_not() {
    let (limits, one) = (Limits::default(), quota("1/m", 0));
    prompt(&limits, one, START);
    elsewhere(&limits, START, 1, START);
    let (version, told) = limits.0.changes.since(0).unwrap();
    assert_eq!((version, told.len()), (1, 1));
    assert!(matches!(told[0].fact, Fact::Prompt { key: KEY, time: START, .. }));
    let kept = limits.prompts(START);
    assert!(kept.iter().any(|kept| Fact::Prompt { key: KEY, time: kept.time, id: kept.id } == told[0].fact));
}

#[test]
fn while_the_store_is_away_what_is_left_is_divided() {
    for (name, limit, before, machines, expected) in [
        ("alone", 6, 0, 1, 6),
        ("of three", 6, 0, 3, 2),
        ("of what is left", 6, 3, 3, 1),
        ("not below one", 2, 0, 4096, 1),
        ("not below one of what is left", 6, 5, 3, 1),
        ("nothing is left", 6, 6, 3, 0),
        ("more than that was queued", 6, 7, 3, 0),
        ("of nobody", 6, 0, 0, 6),
    ] {
        let (limits, quota) = (Limits::default(), quota(&format!("{limit}/h"), 0));
        (0..before).for_each(|id| _ = elsewhere(&limits, START, id, START));
        limits.divide(Some(machines), START + 1000);
        for left in (1..=expected).rev() {
            assert_eq!(limits.allowance("a", quota, START + 1000).prompts.unwrap().left, left, "{name}");
            prompt(&limits, quota, START + 1000);
        }
        assert!(refusal(&limits, quota, START + 1000).is_some(), "{name}");
        limits.divide(None, START + 2000);
        let left = limits.allowance("a", quota, START + 2000).prompts.unwrap().left;
        let counted = u32::try_from(before).unwrap() + expected;
        assert_eq!(left, 6_u32.min(limit).saturating_sub(counted), "{name}: it is back");
    }
}

#[test]
fn one_who_is_refused_meanwhile_is_told_when_there_is_room() {
    let (limits, four) = (Limits::default(), quota("4/m", 0));
    elsewhere(&limits, START, 1, START);
    elsewhere(&limits, START + 10_000, 2, START + 10_000);
    limits.divide(Some(2), START + 20_000);
    limits.divide(Some(7), START + 25_000); // it is still away
    let limit = Limit::Prompts(four.prompts.unwrap());
    prompt(&limits, four, START + 20_000);
    // One of the two that were left is for this machine. When the first two have left, so is one more.
    assert_eq!(refusal(&limits, four, START + 20_000), Some((limit, 50)));
    assert_eq!(refusal(&limits, four, START + MINUTE), Some((limit, 10)), "three are left, and half of that is one");
    assert_eq!(refusal(&limits, four, START + MINUTE + 10_000), None);
    let held = limits.reserve(KEY, "a", four, START + MINUTE + 10_000).ok();
    assert_eq!(refusal(&limits, four, START + MINUTE + 10_000), Some((limit, 10)), "that is when its own one leaves");
    drop(held);
}

#[test]
fn what_others_say_fills_no_memory() {
    let limits = Limits::default();
    let most = u64::from(MOST_PROMPTS);
    for id in 0..2 * most {
        let is_kept = elsewhere(&limits, START + id % 7, id, START + 10);
        assert!(is_kept || id >= most);
    }
    assert_eq!(limits.prompts(START + 10).len(), MOST_PROMPTS as usize);
}
