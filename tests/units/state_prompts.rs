use super::*;
use crate::keys::Quota;
use crate::state::limits::Limits;

const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::unnecessary_wraps, reason = "as the ledger has it")]
fn asker(number: u8) -> Option<Arc<Asker>> {
    Some(Arc::new(Asker { key: KeyId([number; 16]), who: Who::default(), client: None, traceparent: None }))
}

#[test]
fn a_prompt_belongs_to_who_queued_it_until_it_ends() {
    let prompts = Prompts::default();
    prompts.queued("a", asker(1), None);
    prompts.queued("b", asker(2), None);
    assert_eq!(prompts.started("a", SECOND), asker(1));
    assert_eq!(prompts.cancelled("a"), None, "it runs");
    assert_eq!(prompts.finished("b"), None, "it waits");
    let ended = prompts.finished("a").expect("it ran");
    assert_eq!((ended.asker.clone(), ended.seconds(SECOND * 4)), (asker(1), Some(SECOND * 3)));
    assert_eq!(prompts.cancelled("b").expect("it waited").asker, asker(2));
    assert_eq!(prompts.drain(), []);
}

#[test]
fn several_may_have_the_same_id() {
    let prompts = Prompts::default();
    for number in [1, 2] {
        prompts.queued("same", asker(number), None);
    }
    assert_eq!(prompts.started("same", SECOND), asker(1));
    assert_eq!(prompts.cancelled("same").expect("the other waits").asker, asker(2));
    assert_eq!(prompts.finished("same").expect("the first ran").asker, asker(1));
}

#[test]
fn what_was_queued_past_us_is_nobodys() {
    let prompts = Prompts::default();
    assert_eq!(prompts.started("unknown", SECOND), None);
    assert_eq!(prompts.finished("unknown").expect("it ran").asker, None);
}

#[test]
fn what_runs_is_interrupted() {
    let prompts = Prompts::default();
    prompts.queued("runs", asker(1), None);
    prompts.queued("waits", asker(1), None);
    prompts.started("runs", SECOND);
    prompts.interrupted(KeyId([9; 16]));
    assert_eq!(prompts.finished("runs").expect("it ran").interrupted_by, Some(KeyId([9; 16])));
    assert_eq!(prompts.cancelled("waits").expect("it waited").interrupted_by, None);
}

#[test]
fn a_turn_is_over_when_its_prompt_ends() {
    let (limits, quota) = (Limits::default(), Quota { prompts: None, queued: Some(3) });
    let left = || limits.allowance("a", quota, 0).queued.map(|queued| queued.left);
    let prompts = Prompts::default();
    for (id, expected) in [("runs", Some(2)), ("waits", Some(1)), ("stays", Some(0))] {
        prompts.queued(
            id,
            asker(1),
            limits.reserve(KeyId([1; 16]), "a", quota, 0).ok().and_then(|mut ticket| ticket.queued(0)),
        );
        assert_eq!(left(), expected);
    }
    prompts.started("runs", SECOND);
    assert_eq!(left(), Some(0), "it runs");
    prompts.finished("runs");
    assert_eq!(left(), Some(1));
    prompts.cancelled("waits");
    assert_eq!(left(), Some(2));
    assert_eq!(prompts.drain().len(), 1);
    assert_eq!(left(), Some(3));
}
