//! What the log costs over the disk it lies on: acknowledged appends per second from one writer and
//! from 64, against bare writes with `fdatasync` of the same size, on the same disk, in the same
//! run. Medians of five, taken in turns so that a change of the machine's mood meets both.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark measures the real clock, disk and threads"
)]

use holdfast_log::{
    Batch, Log, WalLog,
    cluster::{self, Alone, ClusterLog},
    wal::{Options, Wal},
};
use rt::{Disk, RealDisk, ThreadSpawner};
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use types::{EventId, NodeId};

const RUNS: usize = 5;
const RUN: Duration = Duration::from_secs(1);
/// A usual event; its record has 101 bytes more, and the bare write is of the record's size.
const EVENT: usize = 200;
const RECORD: usize = (101 + 4 + EVENT).next_multiple_of(8);

/// Bare sequential writes into reserved space, each followed by `fdatasync`, per second.
fn raw(dir: &Path) -> f64 {
    let path = dir.join("raw");
    let file = RealDisk.create(&path).expect("creates");
    file.allocate(64 << 20).expect("allocates");
    file.sync_data().expect("syncs");
    let bytes = [7; RECORD];
    let (begun, mut count) = (Instant::now(), 0_u64);
    while begun.elapsed() < RUN {
        file.write_at(count * RECORD as u64, &bytes).expect("writes");
        file.sync_data().expect("syncs");
        count += 1;
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    RealDisk.remove(&path).expect("removes");
    rate
}

fn open(dir: &Path) -> WalLog {
    let node = NodeId::from_u128(1);
    let fatal = Box::new(|error: &rt::DiskError| panic!("{error}"));
    WalLog::open_or_create(Arc::new(RealDisk), dir, "bench", node, Options::default(), &ThreadSpawner, fatal)
        .expect("opens")
        .0
}

/// A cluster of one over the same kind of log, that may write.
fn open_cluster(dir: &Path) -> ClusterLog {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    Wal::create(&disk, dir, "bench", NodeId::from_u128(1)).expect("creates");
    let fatal = Box::new(|error: &rt::DiskError| panic!("{error}"));
    let options = cluster::Options::default();
    let opened = ClusterLog::open(disk, dir, options, &ThreadSpawner, Arc::new(Alone), fatal);
    let log = opened.expect("opens").0;
    let mut authority = log.authority();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(authority.wait_for(Option::is_some)).expect("consensus runs");
    log
}

/// Appends per second, each writer waiting for its answer before its next append.
fn appends(dir: &Path, writers: usize, log: Arc<dyn Log>) -> f64 {
    let event = bytes::Bytes::from(vec![7; EVENT]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let begun = Instant::now();
    let next = Arc::new(Mutex::new(EventId::ZERO));
    let count: u64 = runtime.block_on(async {
        let tasks: Vec<_> = (0..writers)
            .map(|_| {
                let (log, next, event) = (Arc::clone(&log), Arc::clone(&next), event.clone());
                tokio::spawn(async move {
                    let mut count = 0;
                    while begun.elapsed() < RUN {
                        let future = {
                            let mut next = next.lock().expect("no writer panics");
                            let future = log.append(*next, Batch::new(vec![event.clone()]));
                            *next = next.next();
                            future
                        };
                        future.await.expect("is appended");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await.expect("no writer panics");
        }
        sum
    });
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    assert_eq!(log.head().event.get(), count, "everything counted is durable");
    drop(log);
    fs::remove_dir_all(dir.join("log")).expect("removes");
    rate
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    fs::create_dir_all(&target).expect("creates");
    let dir = tempfile::Builder::new().prefix("append-").tempdir_in(&target).expect("a directory");
    let mut rates = [const { Vec::new() }; 5];
    let log = dir.path().join("log");
    for _ in 0..RUNS {
        rates[0].push(raw(dir.path()));
        rates[1].push(appends(dir.path(), 1, Arc::new(open(&log))));
        rates[2].push(appends(dir.path(), 64, Arc::new(open(&log))));
        rates[3].push(appends(dir.path(), 1, Arc::new(open_cluster(&log))));
        rates[4].push(appends(dir.path(), 64, Arc::new(open_cluster(&log))));
    }
    let [raw, one, many, cluster_one, cluster_many] = rates.map(median);
    let (single, group) = (one / raw, many / one);
    println!("bare write and fdatasync of {RECORD} bytes  {raw:>10.0} /s");
    println!("append, 1 writer                       {one:>10.0} /s   {single:.2} of the bare disk");
    println!("append, 64 writers                     {many:>10.0} /s   {group:.1} times one writer");
    let (through_one, through_many) = (cluster_one / one, cluster_many / many);
    println!(
        "cluster of one, 1 writer               {cluster_one:>10.0} /s   {through_one:.2} of the bare log"
    );
    println!(
        "cluster of one, 64 writers             {cluster_many:>10.0} /s   {through_many:.2} of the bare log"
    );
    let json = format!(
        "{{\"record_bytes\":{RECORD},\"runs\":{RUNS},\"raw_fdatasync_per_s\":{raw:.0},\
         \"append_1_writer_per_s\":{one:.0},\"append_64_writers_per_s\":{many:.0},\
         \"cluster_1_writer_per_s\":{cluster_one:.0},\"cluster_64_writers_per_s\":{cluster_many:.0},\
         \"ratio_cluster_1_writer_to_log\":{through_one:.3},\
         \"ratio_cluster_64_writers_to_log\":{through_many:.3},\
         \"ratio_1_writer_to_raw\":{single:.3},\"ratio_64_writers_to_1\":{group:.2}}}\n"
    );
    fs::write(target.join("log_append.json"), json).expect("writes");
}
