//! The keys of one request that did not admit it.

use crate::check::{self, Context, lockout};
use crate::credential::Source;
use crate::decision::{Denial, Grant};
use crate::exempt::Exemption;
use crate::request::{Question, Request};
use crate::secret::Digest;

/// In the order in which they were found.
#[derive(Default)]
pub struct Tried<'k>(Vec<Key<'k>>);

enum Key<'k> {
    /// Its place and digest; no digest if it can't be a key.
    Wrong(Source, Option<Digest>),
    /// A valid one, which the lock of its address holds back.
    HeldBack(Grant<'k>),
}

impl<'k> Tried<'k> {
    /// How many there are.
    pub fn how_many(&self) -> usize {
        self.0.len()
    }

    /// Adds a wrong one.
    pub fn wrong(&mut self, source: Source, digest: Option<Digest>) {
        self.0.push(Key::Wrong(source, digest));
    }

    /// Adds a valid one that is held back.
    pub fn held_back(&mut self, grant: Grant<'k>) {
        self.0.push(Key::HeldBack(grant));
    }

    /// Counts wrong ones, then evaluates valid ones while evaluations are left; `refused` is the refusal so far.
    ///
    /// # Errors
    /// The gravest refusal.
    #[cold]
    pub fn settle<R: Request>(&self, context: &Context<'_, 'k, R>, refused: Denial) -> Result<Grant<'k>, Denial> {
        let Context { policy, request, question, .. } = *context;
        let exemption = || policy.exemptions.of(request.route(), &request.method());
        match question {
            // Such a request was admitted before a handler could ask: by the first that was held back and
            // passes the other checks, or by none.
            Question::Identity | Question::Introduction if exemption() == Exemption::None => {
                return self.right().find(|grant| check::but_lock_out(grant, context).is_ok()).ok_or(refused);
            }
            Question::Access if exemption() == Exemption::AsksItself => return Err(refused),
            _ if question.is_quiet() => return Err(refused),
            _ => {}
        }
        let refused = self.count(context).err().map_or(refused, |locked| refused.graver(locked));
        self.right().find(|grant| check::held_back(grant, context)).ok_or(refused)
    }

    /// Counts wrong ones, even if the request also presents a valid one.
    ///
    /// # Errors
    /// [`Denial::Locked`].
    #[cold]
    pub fn count<R: Request>(&self, context: &Context<'_, '_, R>) -> Result<(), Denial> {
        let wrong = |key: &Key<'k>| if let Key::Wrong(source, digest) = key { Some((*source, *digest)) } else { None };
        lockout::count(self.0.iter().filter_map(wrong), context)
    }

    fn right(&self) -> impl Iterator<Item = Grant<'k>> {
        self.0.iter().filter_map(|key| if let Key::HeldBack(grant) = key { Some(*grant) } else { None })
    }
}
