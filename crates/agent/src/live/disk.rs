//! A host whose disk is really full.

use super::*;
use types::plan::Reason;

#[tokio::test]
async fn fm_j1_a_full_disk_stops_new_instances_only_and_mends_by_itself() {
    let mut host = Host::new();
    host.small_disk = Some(Small::mount(host.data()));
    let numbers = [number(), number()];
    let [old, new] = numbers.map(|number| (InstanceId::from_u128(number), Desired::Running, web(number)));
    host.start_agent().await;
    host.control.declare(1, std::slice::from_ref(&old));
    host.control.wait_ready(old.0).await;
    let pid = host.pid(old.0);
    let ballast = host.data().join("ballast");
    let room = crate::pressure::space(&host.data()).expect("it is mounted").free;
    std::fs::write(&ballast, vec![1; room as usize - (1 << 20)]).expect("written");
    let control = Arc::clone(&host.control);
    wait_until("the lease says so", || {
        let leases = control.leases.lock().expect("no test panics here");
        leases.last().is_some_and(|lease| lease.pressure == Some(Reason::DiskFull))
    })
    .await;
    host.control.declare(2, &[old.clone(), new.clone()]);
    let waits = |change: &Change| matches!(change, Change::Waiting { reason: Reason::DiskFull, .. });
    host.control.wait_for(new.0, "waiting for space", waits).await;
    assert!(fetch(&old.2, "/").await.is_ok(), "what runs runs on");
    std::fs::remove_file(&ballast).expect("removed");
    host.control.wait_ready(new.0).await;
    assert_eq!(host.pid(old.0), pid);
    let leases = control.leases.lock().expect("no test panics here");
    assert_eq!(leases.last().expect("there are leases").pressure, None);
}
