//! The limits, whatever requests come and however time passes.

#![allow(clippy::unwrap_used)]

use comfy_auth_rs::keys::{KeyId, Quota, Rate, Window};
use comfy_auth_rs::state::limits::{Limits, Ticket, Turn};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const START: u64 = 1_800_000_000_000;
const KEY: KeyId = KeyId([1; 16]);

/// The next event.
#[derive(Debug, Clone)]
enum Step {
    /// Milliseconds pass.
    Wait(u64),
    /// A prompt arrives, by one of the user's keys.
    Arrive(usize),
    /// ComfyUI queues one that has arrived.
    Queue(Index),
    /// One ends, is cancelled or refused, or its request is aborted.
    End(Index),
}

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![0..2000_u64, 20_000..70_000_u64, select(vec![59_999, 60_000, 3_599_999, 3_600_000])];
    prop_oneof![
        2 => wait.prop_map(Step::Wait),
        5 => (0..2_usize).prop_map(Step::Arrive),
        4 => any::<Index>().prop_map(Step::Queue),
        2 => any::<Index>().prop_map(Step::End),
    ]
}

fn quota() -> impl Strategy<Value = Quota> {
    let rate = (1..6_u32, select(vec![Window::Minute, Window::Hour, Window::Day]));
    let rate = proptest::option::weighted(0.8, rate.prop_map(|(most, window)| Rate { most, window }));
    (rate, proptest::option::of(1..4_u32)).prop_map(|(prompts, queued)| Quota { prompts, queued })
}

/// Everything that happened so far, and no clever code.
#[derive(Default)]
struct Model {
    reserved: u32,
    queued: u32,
    times: Vec<u64>,
}

impl Model {
    /// How many are in the window that ends at `now`, or reserved.
    fn prompts(&self, window: Window, now: u64) -> u32 {
        let length = window.seconds() * 1000;
        let inside = self.times.iter().filter(|time| **time + length > now && **time <= now).count();
        self.reserved + u32::try_from(inside).unwrap()
    }

    fn refuses(&self, quota: Quota, now: u64) -> bool {
        quota.prompts.is_some_and(|rate| self.prompts(rate.window, now) >= rate.most)
            || quota.queued.is_some_and(|most| self.reserved + self.queued >= most)
    }

    /// Whole seconds until fewer count than now, or than the limit, if no more arrive.
    fn reset(&self, rate: Rate, now: u64) -> Option<u32> {
        let goal = self.prompts(rate.window, now).min(rate.most);
        // Reserved places stay; queued prompts leave at these moments.
        let leave = self.times.iter().map(|time| time + rate.window.seconds() * 1000).filter(|leaves| *leaves > now);
        let enough = leave.filter(|leaves| self.prompts(rate.window, *leaves) < goal).min();
        enough.map(|leaves| u32::try_from((leaves - now).div_ceil(1000)).unwrap())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn judged_as_by_one_who_forgets_nothing(quotas in [quota(), quota()], steps in vec(step(), 1..120)) {
        let (limits, mut model, mut now) = (Limits::default(), Model::default(), START);
        let (mut arrived, mut queued): (Vec<Ticket>, Vec<Turn>) = Default::default();
        for step in steps {
            match step {
                Step::Wait(millis) => now += millis,
                Step::Arrive(key) => {
                    let refused = model.refuses(quotas[key], now);
                    let left = limits.allowance("a", quotas[key], now);
                    match limits.reserve(KEY, "a", quotas[key], now) {
                        Ok(ticket) => {
                            prop_assert!(!refused && left.reached().is_none());
                            arrived.push(ticket);
                            model.reserved += 1;
                        }
                        Err(told) => {
                            prop_assert!(refused && told.reached().is_some());
                            prop_assert_eq!(told, left);
                        }
                    }
                }
                Step::Queue(index) if !arrived.is_empty() => {
                    queued.push(arrived.swap_remove(index.index(arrived.len())).queued(now).unwrap());
                    model.reserved -= 1;
                    model.queued += 1;
                    model.times.push(now);
                }
                Step::End(index) if arrived.len() + queued.len() > 0 => {
                    let index = index.index(arrived.len() + queued.len());
                    if index < arrived.len() {
                        drop(arrived.swap_remove(index));
                        model.reserved -= 1;
                    } else {
                        drop(queued.swap_remove(index - arrived.len()));
                        model.queued -= 1;
                    }
                }
                Step::Queue(_) | Step::End(_) => {}
            }
            for quota in quotas {
                let left = limits.allowance("a", quota, now);
                if let (Some(rate), Some(prompts)) = (quota.prompts, left.prompts) {
                    prop_assert_eq!(prompts.left, rate.most.saturating_sub(model.prompts(rate.window, now)));
                    prop_assert_eq!(prompts.reset, model.reset(rate, now));
                }
                let places = quota.queued.map(|most| most.saturating_sub(model.reserved + model.queued));
                prop_assert_eq!(left.queued.map(|queued| queued.left), places);
            }
        }
    }

    #[test]
    fn no_window_ever_holds_more_and_no_more_wait_or_run(quota in quota(), steps in vec(step(), 1..200)) {
        let (limits, mut now) = (Limits::default(), START);
        let (mut arrived, mut queued): (Vec<Ticket>, Vec<Turn>) = Default::default();
        let mut times: Vec<u64> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(millis) => now += millis,
                Step::Arrive(_) => arrived.extend(limits.reserve(KEY, "a", quota, now).ok()),
                Step::Queue(index) if !arrived.is_empty() => {
                    queued.extend(arrived.swap_remove(index.index(arrived.len())).queued(now));
                    times.push(now);
                }
                Step::End(index) if !queued.is_empty() => drop(queued.swap_remove(index.index(queued.len()))),
                Step::Queue(_) | Step::End(_) => {}
            }
            prop_assert!(quota.queued.is_none_or(|most| arrived.len() + queued.len() <= most as usize));
        }
        if let Some(Rate { most, window }) = quota.prompts {
            // Any window that holds more than the limit would begin with one of them.
            for (index, first) in times.iter().enumerate() {
                let inside = times[index..].iter().filter(|time| **time < first + window.seconds() * 1000).count();
                prop_assert!(inside <= most as usize, "{inside} from {first} on");
            }
        }
    }

    #[test]
    fn one_who_waits_as_long_as_is_said_gets_in_and_gets_it_all(
        most in 1..8_u32,
        window in select(vec![Window::Minute, Window::Hour, Window::Day]),
        pauses in vec(0..90_000_u64, 0..20),
    ) {
        let quota = Quota { prompts: Some(Rate { most, window }), queued: None };
        let (limits, mut now, mut admitted) = (Limits::default(), START, 0);
        let ask = |now: u64| {
            let refused = limits.reserve(KEY, "a", quota, now).map(|mut ticket| drop(ticket.queued(now)));
            refused.err().map(|left| u64::from(left.reached().unwrap().retry_after))
        };
        for pause in pauses {
            now += pause;
            ask(now);
        }
        // From now on, a prompt comes as soon as one is allowed. A second of each window is lost, because times are
        // whole seconds.
        let end = now + 3 * (window.seconds() + 1) * 1000;
        while now < end {
            prop_assert!(admitted <= 4 * most, "no limit at all");
            match ask(now) {
                None => admitted += 1,
                Some(seconds) => {
                    now += seconds * 1000;
                    prop_assert_eq!(ask(now), None, "refused after waiting");
                    admitted += 1;
                }
            }
        }
        prop_assert!(admitted >= 2 * most, "{admitted} in three windows");
    }
}
