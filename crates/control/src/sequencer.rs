//! The sequencer: one writer that turns a queue of commands into one batch of events.
//!
//! It decides every command against the durable state plus an overlay of what it decided before and
//! the log has not confirmed yet. Readers never see the overlay. It is plain data and functions:
//! the server drives it from a task, the simulator from a loop over a disk that fails.
//!
//! Invariants:
//! - `request_runs_once`: a request id is settled against the overlay, so two copies in one batch
//!   are told apart as well as two copies a day apart.
//! - what is answered was decided at or before `watermark`, and may be answered only once the log
//!   is durable up to there; that holds for refusals and for repeated answers too.
//! - a batch always fits into the log: what one command writes is bounded, and so is when a batch
//!   is closed.

use domain::{
    Actor, Command, Context, Done, Envelope, Event, Rejection, Settled, State, Verdict, codec, settle,
};
use log::Batch;
use types::{Epoch, EventId, RequestId, Timestamp, limits};

/// A command that waits to be decided.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What is wanted.
    pub command: Command,
    /// By whom.
    pub actor: Actor,
    /// The event of the state by which the asker was let in; none if nobody had to be.
    pub judged: Option<EventId>,
    /// The request and the SHA-256 of its body, if it came from outside.
    pub request: Option<(RequestId, [u8; 32])>,
    /// The event a reconciler acts on.
    pub cause: Option<EventId>,
}

/// What to tell the asker once the log is durable up to the watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Executed {
        /// What it made.
        done: Done,
        /// Its last event, or the head it was found to hold at already.
        event: EventId,
        /// It had been decided before; nothing was done now.
        replayed: bool,
    },
    /// A rule said no.
    Refused {
        /// The problem code.
        code: String,
        /// The answer, word for word.
        text: String,
        /// Where the verdict stands; none when the id itself was not acceptable.
        event: Option<EventId>,
        /// It had been decided before.
        replayed: bool,
    },
}

/// A batch and the answers that wait for it.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What the log is to compare its head with.
    pub expected: EventId,
    /// The events, encoded; empty when nothing is to be written.
    pub batch: Batch,
    /// The same events, decoded.
    pub envelopes: Vec<Envelope>,
    /// One for each proposal, in order.
    pub outcomes: Vec<Outcome>,
    /// The state after the batch: what readers may see once it is durable.
    pub state: State,
}

/// The one writer. See the top of this file.
#[derive(Clone, Debug)]
pub struct Sequencer {
    overlay: State,
    epoch: Epoch,
}

impl Sequencer {
    /// A sequencer that goes on from `durable` under the authority of `epoch`.
    pub fn new(durable: State, epoch: Epoch) -> Self {
        Self { overlay: durable, epoch }
    }

    /// Throws the overlay away and goes on from `durable`.
    pub fn reset(&mut self, durable: State) {
        self.overlay = durable;
    }

    /// The event everything decided so far needs to be durable.
    pub fn watermark(&self) -> EventId {
        self.overlay.head
    }

    /// Decides proposals in order, until all are decided or the batch is full. Returns what was
    /// decided; proposals beyond `outcomes.len()` are left for the next batch.
    pub fn decide(&mut self, proposals: &[Proposal], now: Timestamp, random: impl Fn() -> u128) -> Decided {
        let expected = self.overlay.head;
        let mut envelopes = Vec::new();
        let mut encoded = Vec::new();
        let mut outcomes = Vec::with_capacity(proposals.len());
        let mut bytes = 0;
        // The log's own time never runs backwards, whatever the clock does.
        let now = now.max(self.overlay.at);
        for proposal in proposals.iter().take(limits::BATCH_COMMANDS) {
            if bytes > limits::BATCH_BYTES / 2 {
                break;
            }
            let Proposal { command, actor, judged, request, cause } = proposal;
            let (actor, judged, request, cause) = (*actor, *judged, *request, *cause);
            let context = Context { now, actor, judged, request, cause, random: random() };
            let outcome = match settle(&self.overlay, command, &context) {
                Settled::Before(decided) => repeated(decided.verdict, decided.event),
                Settled::Unacceptable(rejection) => refused(&rejection, None),
                Settled::Now { events, outcome } => match self.write(events, &context) {
                    Ok(sealed) => {
                        let written = (!sealed.is_empty()).then_some(self.overlay.head);
                        for (envelope, stored) in sealed {
                            bytes += stored.len();
                            encoded.push(stored.into());
                            envelopes.push(envelope);
                        }
                        match outcome {
                            Ok(done) => Outcome::Executed { done, event: self.overlay.head, replayed: false },
                            Err(rejection) => refused(&rejection, written),
                        }
                    }
                    Err(rejection) => refused(&rejection, None),
                },
            };
            outcomes.push(outcome);
        }
        Decided { expected, batch: Batch::new(encoded), envelopes, outcomes, state: self.overlay.clone() }
    }

    /// Applies the events of one command to the overlay, and encodes them: all, or none if the log
    /// could not take them.
    fn write(
        &mut self,
        events: Vec<Event>,
        context: &Context,
    ) -> Result<Vec<(Envelope, Vec<u8>)>, Rejection> {
        let before = self.overlay.clone();
        let mut sealed = Vec::with_capacity(events.len());
        let mut bytes = 0;
        for event in events {
            let envelope = self.seal(event, context);
            self.overlay.apply(&envelope);
            let stored = codec::encode(&envelope);
            bytes += stored.len();
            if stored.len() > limits::EVENT_BYTES || bytes > limits::BATCH_BYTES / 2 {
                self.overlay = before;
                let what = "bytes of what one command writes".to_owned();
                return Err(Rejection::TooMany { what, limit: limits::EVENT_BYTES as u64 });
            }
            sealed.push((envelope, stored));
        }
        Ok(sealed)
    }

    fn seal(&self, event: Event, context: &Context) -> Envelope {
        Envelope {
            id: self.overlay.head.next(),
            epoch: self.epoch,
            at: context.now,
            actor: context.actor,
            request: context.request.map(|(request, _)| request),
            cause: context.cause,
            sequence: self.overlay.next_sequence(event.subject()),
            event,
        }
    }
}

fn refused(rejection: &Rejection, event: Option<EventId>) -> Outcome {
    Outcome::Refused { code: rejection.code().into(), text: rejection.to_string(), event, replayed: false }
}

fn repeated(verdict: Verdict, event: EventId) -> Outcome {
    match verdict {
        Verdict::Executed(done) => Outcome::Executed { done, event, replayed: true },
        Verdict::Refused { code, text } => {
            Outcome::Refused { code, text, event: Some(event), replayed: true }
        }
        Verdict::Voided => unreachable!("a voided request is unacceptable, never repeated"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::NewToken;

    fn begin(cluster: String) -> Proposal {
        let owner = NewToken { name: "owner".parse().expect("a name"), hash: [1; 32], expires: None };
        let org = "main".parse().expect("a name");
        let command = Command::Bootstrap { cluster, org, owner };
        Proposal { command, actor: Actor::System, judged: None, request: None, cause: None }
    }

    #[test]
    fn an_event_that_is_too_large_is_refused_and_leaves_nothing() {
        let mut sequencer = Sequencer::new(State::default(), Epoch::new(1));
        let large = begin("x".repeat(limits::EVENT_BYTES));
        let decided = sequencer.decide(&[large, begin("small".into())], Timestamp::from_ms(1), || 7);
        assert!(
            matches!(&decided.outcomes[0], Outcome::Refused { code, event: None, .. } if code == "too_many")
        );
        assert!(matches!(decided.outcomes[1], Outcome::Executed { .. }), "{:?}", decided.outcomes);
        assert_eq!((decided.state.cluster.as_str(), decided.envelopes[0].id), ("small", EventId::new(1)));
    }
}
