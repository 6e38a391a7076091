//! The share of rounds of clusters that every test run takes, and the proof that they would notice
//! mistakes.

use holdfast_sim::cluster::{Mistake, Round, Tally, cluster_round};
use std::ops::Range;

/// So many rounds a test run takes, in two tests. `CLUSTER_SEEDS` says otherwise.
fn seeds(part: u64) -> Range<u64> {
    let all: u64 =
        std::env::var("CLUSTER_SEEDS").map_or(100, |text| text.parse().expect("CLUSTER_SEEDS is a number"));
    part * all / 2..(part + 1) * all / 2
}

fn hold(part: u64) {
    let seeds = seeds(part);
    let count = seeds.end - seeds.start;
    let mut sum = Tally::default();
    for seed in seeds {
        let Round { violation, story, tally, .. } = cluster_round(seed, None, &None);
        assert!(violation.is_none(), "seed {seed}: {violation:?}\n{}", story.join("\n"));
        sum = sum.plus(&tally);
    }
    // The rounds must have been what they claim to be; a handful of them shows nothing of the kind.
    if count >= 50 {
        // These are rarer than that; `make sim` asks for them as well.
        let rare = ["old_identities_refused", "recoveries_cut_short"];
        let never = sum.never().into_iter().filter(|kind| !rare.contains(kind));
        assert_eq!(never.collect::<Vec<_>>(), Vec::<&str>::new(), "{sum}");
        assert!(sum.kills + sum.power_losses > 2 * count && sum.pauses > count / 2, "{sum}");
        assert!(sum.cuts_one_way + sum.cuts_off > count / 2, "{sum}");
        assert!(sum.authorities > 2 * count && sum.promoted > count / 10, "{sum}");
        assert!(sum.answered > 50 * count && sum.unknown + sum.unheard > count, "{sum}");
        assert!(sum.read > 2 * count && sum.lost > count && sum.doubled > count, "{sum}");
    }
}

#[test]
fn every_invariant_of_a_cluster_holds_1() {
    hold(0);
}

#[test]
fn every_invariant_of_a_cluster_holds_2() {
    hold(1);
}

#[test]
fn a_round_of_a_cluster_is_the_same_each_time() {
    for seed in 0..8 {
        let (one, other) = (cluster_round(seed, None, &None), cluster_round(seed, None, &None));
        assert_eq!(one, other, "seed {seed}");
    }
    assert_ne!(cluster_round(1, None, &None).trace, cluster_round(2, None, &None).trace);
}

/// The mistake is noticed within 200 rounds, by this invariant if one is named.
fn noticed(mistake: Mistake, by: Option<&str>) {
    let found = (0..200).find_map(|seed| {
        let violation = cluster_round(seed, Some(mistake), &None).violation?;
        by.is_none_or(|by| by == violation.invariant).then_some((seed, violation))
    });
    let (seed, violation) = found.expect("noticed");
    println!("{mistake:?} is noticed at seed {seed}: {violation}");
}

#[test]
fn an_answer_before_the_sync_is_noticed() {
    noticed(Mistake::AckBeforeSync, None);
}

#[test]
fn a_vote_that_is_not_stored_is_noticed() {
    noticed(Mistake::VoteNotStored, None);
}

#[test]
fn an_epoch_that_is_not_checked_is_noticed() {
    noticed(Mistake::EpochNotChecked, Some("one_authority"));
}

#[test]
fn a_tail_that_is_kept_is_noticed() {
    noticed(Mistake::TailKept, None);
}

#[test]
fn a_lease_that_is_trusted_is_noticed() {
    noticed(Mistake::LeaseTrusted, Some("linearizable"));
}

#[test]
fn a_leader_that_resumes_is_noticed() {
    noticed(Mistake::LeaderResumes, Some("one_authority"));
}

fn holds(seed: u64) {
    let round = cluster_round(seed, None, &None);
    assert!(round.violation.is_none(), "{:?}\n{}", round.violation, round.story.join("\n"));
}

/// Found in the simulator itself: the refusal of an older copy is an answer too, and was taken for a sign that
/// the copy was heard.
#[test]
fn an_older_copy_is_refused_by_an_answer() {
    let round = cluster_round(369, None, &None);
    assert!(round.violation.is_none(), "{:?}\n{}", round.violation, round.story.join("\n"));
    assert!(round.tally.old_identities_refused > 0, "{}", round.tally);
}

/// Found by the simulator: commands that came while the lead was lost for a moment kept the writer from
/// ever taking another.
#[test]
fn a_leader_that_was_cut_off_for_a_moment_writes_again() {
    holds(594);
    holds(713);
}

/// Found by the simulator: a node remembered why the lead had been handed to it, and said so again in an epoch
/// that nobody had asked for.
#[test]
fn a_word_of_an_operator_is_for_one_epoch() {
    holds(355);
}
