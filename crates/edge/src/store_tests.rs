use super::*;
use rt::{Fault, SimDisk, SimRandom};
use std::collections::BTreeMap;
use types::{
    EnvId, InstanceId, RouteId,
    manifest::ProxyProtocol,
    plan::{Backend, EdgeRoute, RouteMatch},
};

const DIR: &str = "/edge";

/// A plan whose content tells its generation, large enough to be torn.
fn plan(generation: u64) -> EdgePlan {
    let env = EnvId::from_u128(generation.into());
    let backend = |number: u128| Backend {
        instance: InstanceId::from_u128(u128::from(generation) << 8 | number),
        env,
        address: "[fd00::1]:8080".parse().expect("an address"),
        proxy_protocol: None,
    };
    let route = EdgeRoute {
        env,
        matches: RouteMatch::Tls { host: "shop.example".parse().expect("a host name") },
        proxy_protocol: ProxyProtocol::Off,
        backends: (0..20).map(backend).collect(),
    };
    EdgePlan {
        cluster: "here".into(),
        epoch: types::Epoch::new(1),
        generation: Generation::new(generation),
        adoption: None,
        routes: BTreeMap::from([(RouteId::from_u128(1), route)]),
    }
}

fn open(disk: &SimDisk) -> Result<PlanStore, OpenError> {
    PlanStore::open(Arc::new(disk.clone()), Path::new(DIR))
}

#[test]
fn a_plan_is_there_again_after_a_restart() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk).expect("an empty disk");
    assert_eq!(store.name().generation, Generation::ZERO);
    assert!(matches!(store.accept(plan(3)), Ok(Accepted::New(_))));
    assert!(matches!(store.accept(plan(3)), Ok(Accepted::Same)));
    assert_eq!(open(&disk).expect("a good disk").held().map(|held| (**held).clone()), Some(plan(3)));
}

#[test]
fn generation_never_falls() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk).expect("an empty disk");
    store.accept(plan(5)).expect("the first plan");
    assert!(matches!(store.accept(plan(4)), Err(Refused::Misfit(Misfit::Older { .. }))));
    let mut store = open(&disk).expect("a good disk");
    assert!(
        matches!(store.accept(plan(4)), Err(Refused::Misfit(Misfit::Older { .. }))),
        "after a restart too"
    );
    let other = EdgePlan { routes: BTreeMap::new(), ..plan(5) };
    assert!(matches!(store.accept(other), Err(Refused::Differs { .. })));
    assert_eq!(store.name().generation, Generation::new(5));
}

#[test]
fn the_plan_of_another_cluster_is_refused() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk).expect("an empty disk");
    store.accept(plan(5)).expect("the first plan");
    let other = EdgePlan { cluster: "there".into(), ..plan(6) };
    let refused = store.accept(other).expect_err("it is another's");
    assert!(
        refused.to_string().starts_with("it is of log \"there\", which has not adopted plan 5"),
        "{refused}"
    );
    assert_eq!(open(&disk).expect("a good disk").name().generation, Generation::new(5));
}

#[test]
fn a_full_disk_refuses_the_plan_and_keeps_the_one_held() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk).expect("an empty disk");
    store.accept(plan(1)).expect("the first plan");
    disk.set_capacity(Some(disk.used() + 100));
    assert!(matches!(store.accept(plan(2)), Err(Refused::Store(_))));
    assert_eq!(store.name().generation, Generation::new(1));
    disk.set_capacity(None);
    assert!(matches!(store.accept(plan(2)), Ok(Accepted::New(_))), "once there is space, it goes on");
    assert_eq!(open(&disk).expect("a good disk").name().generation, Generation::new(2));
}

#[test]
fn a_plan_of_a_newer_format_stops_the_start() {
    let disk = SimDisk::new(1);
    let mut slot = Slot::open(Arc::new(disk.clone()), Path::new(DIR), FILE).expect("an empty disk");
    slot.store(br#"{"format":2,"plan":"in a shape of its own"}"#).expect("a good disk");
    let error = open(&disk).expect_err("it is newer");
    assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error}");
}

#[test]
fn a_damaged_plan_falls_back_to_the_one_before() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk).expect("an empty disk");
    store.accept(plan(1)).expect("a good disk");
    store.accept(plan(2)).expect("a good disk");
    disk.damage(&Path::new(DIR).join(FILE), |bytes| bytes[200] ^= 1);
    assert_eq!(open(&disk).expect("the one before is whole").name().generation, Generation::new(1));
}

#[test]
fn the_stored_form_of_format_1_is_read() {
    let stored = include_bytes!("../tests/compat/edge-plan.format-1.json");
    let plan = decode(stored, Path::new(FILE)).expect("format 1 is known for ever");
    assert_eq!(plan.generation, Generation::new(17));
    assert_eq!(plan.routes.len(), 2);
}

/// Power goes at any operation, syncs fail, writes are torn; what was accepted is there after it,
/// whole, or something newer that was offered.
#[test]
fn fm_a2_edge_plan_survives_power_loss_on_faulty_disk() {
    const ROUNDS: u64 = 2000;
    let mut crashed_with_a_plan = 0;
    for seed in 0..ROUNDS {
        let (disk, dice) = (SimDisk::new(seed), SimRandom::new(seed));
        let mut acted_on = 0;
        let mut offered = 0;
        for _ in 0..4 {
            let mut store = match open(&disk) {
                Ok(store) => store,
                // The power went while it started.
                Err(_) if !disk.is_powered() => {
                    disk.restart();
                    continue;
                }
                Err(error) => panic!("seed {seed}: {error}"),
            };
            let found = store.name().generation.get();
            assert!(found >= acted_on, "seed {seed}: acted on {acted_on}, found {found}");
            assert!(found <= offered, "seed {seed}: offered up to {offered}, found {found}");
            if found > 0 {
                assert_eq!(**store.held().expect("found"), plan(found), "seed {seed}: it is whole");
            }
            acted_on = acted_on.max(found);
            if dice.percent(30) {
                let fault = if dice.percent(50) { Fault::NoSpace } else { Fault::Io };
                disk.fail_in(1 + dice.below(20), fault);
            }
            disk.fail_in(1 + dice.below(60), Fault::Crash);
            while disk.is_powered() {
                offered += 1;
                if let Ok(Accepted::New(plan)) = store.accept(plan(offered)) {
                    acted_on = plan.generation.get();
                }
            }
            crashed_with_a_plan += u64::from(acted_on > 0);
            disk.clear_faults();
            disk.restart();
        }
    }
    assert!(crashed_with_a_plan > ROUNDS, "the rounds did what they are for: {crashed_with_a_plan}");
}

/// A plan of another log that has adopted this edge's up to a generation.
fn adopting(generation: u64, upto: u64) -> EdgePlan {
    let of = BTreeMap::from([("here".to_owned(), Generation::new(upto))]);
    let (event, since) = (types::EventId::new(3), Generation::new(upto + 1));
    let adoption = Some(types::history::Adoption { event, since, of });
    EdgePlan { cluster: "there".into(), adoption, ..plan(generation) }
}

#[test]
fn another_log_is_followed_once_it_has_adopted_the_plan_held() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk).expect("an empty disk");
    store.accept(plan(5)).expect("the first plan");
    assert!(matches!(store.accept(adopting(6, 4)), Err(Refused::Misfit(Misfit::OtherLog { .. }))));
    assert_eq!(open(&disk).expect("a good disk").name().generation, Generation::new(5));
    assert!(matches!(store.accept(adopting(6, 5)), Ok(Accepted::New(_))));
    let mut store = open(&disk).expect("a good disk");
    assert_eq!(store.name(), adopting(6, 5).name(), "after a restart too");
    assert_eq!(store.name().event.get(), 3);
    assert!(
        matches!(store.accept(plan(900)), Err(Refused::Misfit(Misfit::OtherLog { .. }))),
        "and never back"
    );
    assert!(matches!(store.accept(adopting(7, 5)), Ok(Accepted::New(_))));
}

/// Power goes while another log takes over: whichever plan is there afterwards is whole, and once the
/// edge has acted on one of the new log it never holds one of the old again.
#[test]
fn fm_b_edge_goes_over_to_another_log_whole_or_not_at_all() {
    let mut came_over = 0;
    for seed in 0..1000 {
        let (disk, dice) = (SimDisk::new(seed), SimRandom::new(seed));
        let mut store = open(&disk).expect("an empty disk");
        store.accept(plan(5)).expect("the first plan");
        drop(store);
        let mut acted_on_new = false;
        for _ in 0..3 {
            disk.fail_in(1 + dice.below(60), Fault::Crash);
            if let Ok(mut store) = open(&disk) {
                assert!(!acted_on_new || store.name().cluster == "there", "seed {seed}: it went back");
                acted_on_new |= store.accept(adopting(6, 5)).is_ok();
            }
            disk.clear_faults();
            disk.restart();
        }
        let store = open(&disk).expect("a crash never spoils the plan");
        let held = store.held().expect("one of them");
        assert!(**held == plan(5) && !acted_on_new || **held == adopting(6, 5), "seed {seed}");
        came_over += u32::from(acted_on_new);
    }
    assert!(came_over > 100, "the rounds did what they are for: {came_over}");
}
