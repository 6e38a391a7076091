//! What happened in a round, so that everyone can see that it was worth running.

use std::fmt;

macro_rules! tally {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// What happened in a round, or in many.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each counts what its name says")]
        pub struct Tally {
            $($(#[$about])* pub $name: u64,)*
        }

        impl Tally {
            /// Both together.
            #[must_use]
            pub fn plus(self, other: &Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }

            fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

tally! {
    /// Times that something befell the cluster.
    troubles,
    kills,
    power_losses,
    /// Of these, in the middle of an operation of the disk.
    power_losses_in_write,
    /// Of these, of all machines at once.
    power_losses_of_all,
    starts,
    /// Recoveries that cut a torn tail.
    tails_cut,
    cuts_one_way,
    cuts_off,
    /// Times that messages became slow, lost and doubled.
    storms,
    pauses,
    clock_jumps,
    slow_disks,
    full_disks,
    bad_disks,
    /// Operations of a disk that failed by a fault or for lack of space.
    disk_faults,
    stops,
    snapshots,
    fences,
    promoted,
    not_promoted,
    handed_over,
    not_handed_over,
    voters_added,
    learners_added,
    removed,
    /// Of these, the one that led.
    leaders_removed,
    disks_lost,
    /// Members that were started again from an older copy, or from nothing, under their old id.
    old_identities,
    /// Of their messages, those that were refused.
    old_identities_refused,
    majorities_lost,
    recovered,
    /// Recoveries that were cut short by a power loss and begun again.
    recoveries_cut_short,
    messages,
    lost,
    doubled,
    /// Times that a node came to decide.
    authorities,
    answered,
    unavailable,
    /// Of these, for lack of space.
    no_space,
    unknown,
    /// Calls without an answer.
    unheard,
    read,
    events,
    polls,
    /// Simulated milliseconds.
    ms,
}

impl Tally {
    /// What has never happened: over many rounds, a defect of the harness.
    pub fn never(&self) -> Vec<&'static str> {
        self.each().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.each();
        for (place, (name, count)) in each.iter().enumerate() {
            let before = if place % 6 == 0 { "\n  " } else { ", " };
            write!(f, "{before}{} {count}", name.replace('_', " "))?;
        }
        Ok(())
    }
}
