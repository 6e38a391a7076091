use super::*;
use crate::{backend::Open, connection::Outcome};
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use types::{
    EnvId,
    manifest::ProxyProtocol,
    plan::{EdgeRoute, RouteMatch},
};

const ENV: EnvId = EnvId::from_u128(1);

fn backend(number: u64) -> Backend {
    let address = SocketAddr::new([127, 0, 0, 1].into(), 1 + (number % 60_000) as u16);
    Backend { instance: InstanceId::from_u128(number.into()), env: ENV, address, proxy_protocol: None }
}

fn route(listen: u16, backends: Vec<Backend>) -> EdgeRoute {
    EdgeRoute { env: ENV, matches: RouteMatch::Tcp { listen }, proxy_protocol: ProxyProtocol::Off, backends }
}

fn plan(generation: u64, routes: Vec<EdgeRoute>) -> EdgePlan {
    EdgePlan {
        cluster: "here".into(),
        epoch: types::Epoch::new(1),
        generation: Generation::new(generation),
        adoption: None,
        routes: (1..).map(RouteId::from_u128).zip(routes).collect(),
    }
}

/// Lets the other threads end, also when an assertion fails.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Each plan has one instance of its own. Once a generation is acknowledged, the instances of all
/// plans before it are never opened again, and what is open on them is said to be draining.
#[test]
fn acked_means_unused() {
    const GENERATIONS: u64 = 3000;
    let (switch, over) = (Switch::new(), AtomicBool::new(false));
    switch.change(&plan(1, vec![route(1, vec![backend(1)])]));
    std::thread::scope(|scope| {
        let _end = EndOnDrop(&over);
        for _ in 0..3 {
            scope.spawn(|| {
                let mut open = Vec::new();
                while !over.load(SeqCst) {
                    let table = switch.table();
                    let target = &table.by_port(1).expect("every plan has it").ways[0].target;
                    std::thread::yield_now();
                    let new = Open::new(Arc::clone(&target.tally));
                    drop(table);
                    open.push(new);
                    open.truncate(3);
                }
            });
        }
        let mut settled: BTreeMap<u64, (Arc<Tally>, u64)> = BTreeMap::new();
        let mut checked = 0;
        for generation in 2..=GENERATIONS {
            switch.change(&plan(generation, vec![route(1, vec![backend(generation)])]));
            let acknowledged = switch.acknowledged().get();
            let draining = switch.draining();
            for shown in switch.shown() {
                let number = shown.tally.instance.as_u128() as u64;
                if number >= acknowledged {
                    continue;
                }
                let opened = shown.tally.opened.load(Relaxed);
                let (_, before) = settled.entry(number).or_insert((Arc::clone(&shown.tally), opened));
                assert_eq!(*before, opened, "{number} was opened after {acknowledged} was acknowledged");
                let open = shown.tally.open();
                assert!(open == 0 || draining.contains(&shown.tally.instance), "{number} has {open} open");
                checked += 1;
            }
        }
        assert!(checked > GENERATIONS, "the acknowledgement moved on: {checked}");
    });
    assert_eq!(switch.acknowledged(), Generation::new(GENERATIONS));
    assert_eq!(switch.draining(), []);
    assert!(switch.shown().len() <= limits::EDGE_RETIRED + 1, "old instances are forgotten");
}

#[test]
fn a_held_table_holds_its_successors_back() {
    let switch = Switch::new();
    switch.change(&plan(1, vec![]));
    let first = switch.table();
    switch.change(&plan(2, vec![]));
    let second = switch.table();
    switch.change(&plan(3, vec![]));
    assert_eq!((switch.acknowledged().get(), switch.generation().get()), (1, 3));
    drop(first);
    assert_eq!(switch.acknowledged().get(), 2);
    drop(second);
    assert_eq!(switch.acknowledged().get(), 3);
}

#[test]
fn what_is_known_of_a_backend_outlives_tables() {
    let switch = Switch::new();
    switch.change(&plan(1, vec![route(1, vec![backend(1), backend(2)])]));
    let target = Arc::clone(&switch.table().by_port(1).expect("it is there").ways[0].target);
    target.refused(switch.now_ms());
    let open = Open::new(Arc::clone(&target.tally));
    switch.change(&plan(2, vec![route(1, vec![backend(2)])]));
    assert_eq!(switch.draining(), [backend(1).instance]);
    switch.change(&plan(3, vec![route(1, vec![backend(1)])]));
    assert_eq!(switch.draining(), [], "it is in the plan again");
    let again = Arc::clone(&switch.table().by_port(1).expect("it is there").ways[0].target);
    assert!(Arc::ptr_eq(&target, &again) && again.is_ejected());
    drop(open);
    assert_eq!(again.tally.closed.load(Relaxed), 1);
}

#[test]
fn a_table_keeps_environments_and_names_apart() {
    let foreign = Backend { env: EnvId::from_u128(2), ..backend(2) };
    let switch = Switch::new();
    let routes = vec![route(1, vec![foreign.clone(), backend(1)]), route(1, vec![backend(3)])];
    let left_out = switch.change(&plan(1, routes));
    assert_eq!(left_out.len(), 2);
    assert!(left_out[0].to_string().contains("may not serve"), "{}", left_out[0]);
    assert!(left_out[1].to_string().contains("claims the port 1"), "{}", left_out[1]);
    let table = switch.table();
    let reachable: Vec<_> = table.instances().collect();
    assert_eq!(reachable, [backend(1).instance]);
    assert!(switch.shown().iter().all(|shown| shown.tally.instance != foreign.instance));
}

#[test]
fn every_outcome_has_its_own_counter() {
    for (place, outcome) in Outcome::ALL.iter().enumerate() {
        assert_eq!(*outcome as usize, place, "{}", outcome.as_str());
    }
}
