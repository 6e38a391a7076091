//! Promotions and elections during which the power of a machine goes, at every single operation of its
//! disk: what was not synced is lost or torn, and afterwards the authority is wholly old or wholly new.

use holdfast_sim::cluster::{Cut, CutShort, Victim, When, cut_short, slow_epoch};
use log::cluster::{Failover, Promotion};

/// What the dice leave of unsynced writes is tried so often at each operation.
const SEEDS: u64 = 3;
/// More operations than any of these takes.
const MOST: u64 = 200;

/// Cuts the power at each operation there is, and holds each to everything it promises.
fn at_each(cut: impl Fn(u64) -> Cut, first: u64, expected: impl Fn(&CutShort) -> bool) -> (u64, u64) {
    let (mut operations, mut moved) = (0, 0);
    for operation in first..MOST {
        let mut happened = false;
        for seed in 0..SEEDS {
            let came = cut_short(seed * MOST + operation, cut(operation));
            let story = || came.round.story.join("\n");
            assert!(
                came.round.violation.is_none(),
                "{operation}, {seed}: {:?}\n{}",
                came.round.violation,
                story()
            );
            assert!(
                expected(&came),
                "{operation}, {seed}: {:?}, moved: {}\n{}",
                came.said,
                came.moved,
                story()
            );
            happened |= came.happened;
            moved += u64::from(came.moved);
        }
        if !happened {
            println!("{operations} operations; moved {moved} times of {}", SEEDS * (operations + 1));
            return (operations, moved);
        }
        operations += 1;
    }
    panic!("no end of operations");
}

/// Whoever was told that it succeeded, must find it so.
fn true_to_its_word(came: &CutShort) -> bool {
    !matches!(came.said, Some(Promotion::Succeeded(_))) || came.moved
}

fn during(victim: Victim, failover: Failover) -> (u64, u64) {
    let cut = |operation| Cut { failover, victim, when: When::During(operation) };
    at_each(cut, 1, true_to_its_word)
}

#[test]
fn fm_p2_power_loss_of_the_candidate_at_each_write_leaves_the_old_or_the_new_authority() {
    let (operations, moved) = during(Victim::Candidate, Failover::Operator);
    assert!(operations >= 10, "a promotion writes a vote, its epoch and a note of both: {operations}");
    assert!(moved > 0 && moved < SEEDS * (operations + 1), "old as well as new: {moved}");
}

#[test]
fn fm_p2_power_loss_of_a_voter_at_each_write_leaves_the_old_or_the_new_authority() {
    let (operations, moved) = during(Victim::Voter, Failover::Operator);
    assert!(operations >= 10 && moved > 0, "{operations} operations, moved {moved} times");
}

#[test]
fn fm_p2_power_loss_at_each_write_of_an_election_leaves_one_authority() {
    let (operations, _) = during(Victim::Candidate, Failover::Automatic);
    assert!(operations >= 10, "{operations}");
}

#[test]
fn fm_p3_power_loss_of_everybody_after_a_promotion_keeps_the_new_authority() {
    for victim in [Victim::Candidate, Victim::Voter] {
        let cut = |operation| Cut { failover: Failover::Operator, victim, when: When::After(operation) };
        let stays = |came: &CutShort| came.moved && matches!(came.said, Some(Promotion::Succeeded(_)));
        let (operations, _) = at_each(cut, 0, stays);
        assert!(operations >= 1, "{operations}");
    }
}

#[test]
fn an_epoch_that_is_slow_to_be_committed_is_opened_once() {
    let mut slow = 0;
    for seed in 0..12 {
        let came = slow_epoch(seed, false);
        let story = came.round.story.join("\n");
        assert!(came.round.violation.is_none(), "{seed}: {:?}\n{story}", came.round.violation);
        assert!(
            !came.happened || came.opened == 1,
            "{seed}: {} epochs of one promotion\n{story}",
            came.opened
        );
        slow += u64::from(came.happened);
    }
    assert!(slow >= 3, "{slow}");
}

#[test]
fn a_leader_whose_epoch_came_to_nothing_can_lead_again() {
    let mut lost = 0;
    for seed in 0..12 {
        let came = slow_epoch(seed, true);
        let story = came.round.story.join("\n");
        assert!(came.round.violation.is_none(), "{seed}: {:?}\n{story}", came.round.violation);
        assert!(came.leads_again, "{seed}\n{story}");
        lost += u64::from(came.happened);
    }
    assert!(lost >= 3, "{lost}");
}
