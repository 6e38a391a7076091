//! Places in the course of an act at which a test may end or stop this very process.
//!
//! Between two of them lies one step that may or may not have happened when a process dies. In a build
//! with debug assertions, `HOLDFAST_KILL_AT` names a file; while it holds the name of a boundary, the
//! process that reaches it removes the file and sends itself SIGKILL. A number after the name lets it be
//! reached so often first, and a last word `stop` sends SIGSTOP instead. Nothing of this is in a release.
//!
//! ```text
//! promotion.told 3        the third answer of a voter kills
//! handover.caught_up stop the process stands still there until somebody has it go on
//! ```
//!
//! Not the `fail` crate: it has no action that kills, its points are free text that nobody checks, and
//! what is armed is read once at the start, so that each boundary would need processes of its own.

macro_rules! boundaries {
    ($($(#[$what:meta])* $variant:ident = $name:literal,)*) => {
        /// A boundary. See the top of this file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Boundary {
            $($(#[$what])* $variant,)*
        }

        impl Boundary {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// What a test calls it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

boundaries! {
    /// The candidate of a promotion is about to ask the first voter.
    PromotionAsked = "promotion.asked",
    /// One more voter has answered the candidate, or is silent.
    PromotionTold = "promotion.told",
    /// A majority would vote for the candidate.
    PromotionValidated = "promotion.validated",
    /// The epoch of the candidate is committed, and nobody was told.
    PromotionSucceeded = "promotion.succeeded",
    /// A voter is asked whether it would vote.
    PromiseAsked = "promise.asked",
    /// A confirmation stands in the journal, and nothing was done yet.
    ActConfirmed = "act.confirmed",
    /// What came of an act stands in the journal, and nobody was told.
    ActEnded = "act.ended",
    /// A candidate's own vote is not durable yet.
    VoteOwn = "vote.own",
    /// It is durable, and nobody was asked for another.
    VoteOwnDurable = "vote.own.durable",
    /// A voter's vote for another is not durable yet.
    VoteGiven = "vote.given",
    /// It is durable, and was not answered.
    VoteGivenDurable = "vote.given.durable",
    /// An election is won, and the entry that opens the epoch is not handed over.
    EpochOpening = "epoch.opening",
    /// It is handed over to the log of the new leader, and not durable anywhere.
    EpochAppended = "epoch.appended",
    /// It is durable at the new leader, and not known to be committed.
    EpochDurable = "epoch.durable",
    /// It is durable at another member, and not acknowledged.
    EpochCopied = "epoch.copied",
    /// It is committed, as the new leader knows.
    EpochCommitted = "epoch.committed",
    /// It is committed, as another member has learnt.
    EpochLearned = "epoch.learned",
    /// The target of a handover knows why it is to lead.
    HandoverTold = "handover.told",
    /// The target has noted why it is to lead, and not answered.
    HandoverExpected = "handover.expected",
    /// What was under way at the old leader is answered; it begins nothing new.
    HandoverDrained = "handover.drained",
    /// The target has everything.
    HandoverCaughtUp = "handover.caught_up",
    /// The target is asked to stand, and has not begun.
    HandoverTaking = "handover.taking",
    /// The target has answered that it stands.
    HandoverAsked = "handover.asked",
    /// The epoch of the target is committed at the old leader.
    HandoverTaken = "handover.taken",
    /// A record is known to be damaged, and nobody was asked for what is lost.
    RepairBegun = "repair.begun",
    /// Some of what is lost was given, and lies aside.
    RepairTaken = "repair.taken",
    /// Everything is there, and the damaged files are kept.
    RepairKept = "repair.kept",
    /// It is durable that the damaged files are to be replaced.
    RepairMarked = "repair.marked",
    /// One of them is replaced.
    RepairReplaced = "repair.replaced",
    /// All are, and what says that they are to be is still there.
    RepairDone = "repair.done",
    /// One that asked to join is a member, and was not told.
    MemberAdmitted = "member.admitted",
    /// A write was read and let in, and is not handed to the sequencer.
    WriteReceived = "write.received",
    /// A batch with a request is decided, and not handed to the log.
    WriteDecided = "write.decided",
    /// Such a batch is durable, and nobody was told.
    WriteDurable = "write.durable",
    /// The verdict on a write is known to its handler, and not answered.
    WriteAnswered = "write.answered",
    /// An act was explained, and its token is not handed out yet.
    ActExplained = "act.explained",
    /// The token of an act is used up, and its confirmation stands nowhere yet.
    ActJudged = "act.judged",
    /// An act was done, and what came of it does not stand in the journal.
    ActDone = "act.done",
    /// The command line has a request id for a write, and has sent nothing.
    CallBegun = "call.begun",
    /// It was shown what an act would do, and nobody has confirmed it.
    CallExplained = "call.explained",
    /// It knows what came of a write, and has told nobody.
    CallAnswered = "call.answered",
}

impl Boundary {
    /// Says that this process is here. It may not survive that; see the top of this file.
    #[inline]
    pub fn reached(self) {
        #[cfg(debug_assertions)]
        armed::look(self);
    }
}

#[cfg(debug_assertions)]
mod armed {
    use super::Boundary;
    use rustix::process::{Signal, getpid, kill_process};
    use std::{
        fs,
        path::PathBuf,
        sync::{Mutex, OnceLock, PoisonError},
    };

    /// What a file asks for: which boundary, how often it is reached until then, and to stand still only.
    fn asked(text: &str) -> Option<(&str, u32, bool)> {
        let mut words = text.split_whitespace();
        let name = words.next()?;
        let rest: Vec<&str> = words.collect();
        let times = rest.iter().find_map(|word| word.parse().ok()).unwrap_or(1);
        Some((name, times, rest.contains(&"stop")))
    }

    pub(super) fn look(at: Boundary) {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        // Two that are reached at once count one after the other.
        static COUNTING: Mutex<()> = Mutex::new(());
        let Some(file) = FILE.get_or_init(|| std::env::var_os("HOLDFAST_KILL_AT").map(PathBuf::from)) else {
            return;
        };
        let _counting = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
        let text = fs::read_to_string(file).unwrap_or_default();
        let Some((name, times, stops)) = asked(&text).filter(|(name, ..)| *name == at.name()) else { return };
        if times > 1 {
            let stop = if stops { "stop" } else { "" };
            fs::write(file, format!("{name} {} {stop}", times - 1)).expect("whoever armed it wrote it too");
            return;
        }
        fs::remove_file(file).expect("whoever armed it wrote it too");
        tracing::warn!(boundary = name, stops, "a test ends this process here");
        let signal = if stops { Signal::STOP } else { Signal::KILL };
        kill_process(getpid(), signal).expect("a process may signal itself");
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::collections::BTreeSet;

        #[test]
        fn a_file_says_where_how_often_and_how() {
            assert_eq!(asked(""), None);
            assert_eq!(asked("vote.own\n"), Some(("vote.own", 1, false)));
            assert_eq!(asked("promotion.told 3"), Some(("promotion.told", 3, false)));
            assert_eq!(asked("act.ended 2 stop"), Some(("act.ended", 2, true)));
        }

        #[test]
        fn each_boundary_has_a_name_of_its_own() {
            let names: BTreeSet<&str> = Boundary::ALL.iter().map(|boundary| boundary.name()).collect();
            assert_eq!(names.len(), Boundary::ALL.len());
        }
    }
}
