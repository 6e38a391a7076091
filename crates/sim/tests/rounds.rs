//! The share of rounds that every test run takes, and the proof that they would notice mistakes.

use holdfast_sim::{round, rounds};
use log::wal::Mistake;

/// `SEEDS=20000` runs the full number; a test run takes its share of 2,000, in four tests.
fn seeds(part: u64) -> std::ops::Range<u64> {
    let all: u64 = std::env::var("SEEDS").map_or(2000, |text| text.parse().expect("SEEDS is a number"));
    part * all / 4..(part + 1) * all / 4
}

fn hold(part: u64) {
    let seeds = seeds(part);
    let rounds_run = seeds.end - seeds.start;
    let tally = match rounds(seeds, None) {
        Ok(tally) => tally,
        Err((seed, violation)) => panic!("seed {seed}: {violation}"),
    };
    // The rounds must have been what they claim to be; a handful of them shows nothing of the kind.
    if rounds_run >= 50 {
        assert!(tally.crashes > rounds_run && tally.crashes_in_recovery > rounds_run / 10, "{tally:?}");
        assert!(tally.tails_cut > rounds_run / 10 && tally.no_space > rounds_run / 10, "{tally:?}");
        assert!(tally.unknown > tally.unknown_kept && tally.unknown_kept > rounds_run / 50, "{tally:?}");
        assert!(tally.sealed > rounds_run / 10 && tally.acked > 20 * rounds_run, "{tally:?}");
    }
}

#[test]
fn append_only_gapless_order_and_acked_is_durable_hold_1() {
    hold(0);
}

#[test]
fn append_only_gapless_order_and_acked_is_durable_hold_2() {
    hold(1);
}

#[test]
fn append_only_gapless_order_and_acked_is_durable_hold_3() {
    hold(2);
}

#[test]
fn append_only_gapless_order_and_acked_is_durable_hold_4() {
    hold(3);
}

#[test]
fn a_round_is_the_same_each_time() {
    for seed in 0..20 {
        assert_eq!(round(seed, None), round(seed, None));
    }
}

/// In how many of 500 rounds a mistake is noticed.
fn noticed(mistake: Mistake) -> usize {
    (0..500).filter(|seed| round(*seed, Some(mistake)).is_err()).count()
}

#[test]
fn answering_before_the_sync_is_noticed() {
    let noticed = noticed(Mistake::AnswerBeforeSync);
    assert!(noticed > 100, "{noticed} of 500");
}

#[test]
fn an_ignored_checksum_is_noticed() {
    let noticed = noticed(Mistake::ChecksumIgnored);
    assert!(noticed > 10, "{noticed} of 500");
}

#[test]
fn a_tail_that_is_not_cut_is_noticed() {
    let noticed = noticed(Mistake::TailNotCut);
    assert!(noticed > 3, "{noticed} of 500");
}

/// Found by the 20,000: a failed sync of the archive's directory, a kill, and a start that removed
/// the plain segment before the archived one had its name for good.
#[test]
fn a_sealed_segment_is_removed_only_when_its_archive_is_durable() {
    assert_eq!(round(18457, None).map(|_| ()), Ok(()));
}
