//! What every [`Log`] promises, as tests. Run [`all`] with a way to make an empty log.
//!
//! The suite sees a log only through its trait, from threads of its own; it is for tests and
//! panics when a promise is broken. Crashes are not its business: the simulator has those.

use crate::{AppendError, Appended, Batch, Log, ReadError, Record, SnapshotError};
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use types::{Epoch, EventId, limits};

/// Makes an empty log.
pub type New<'a> = &'a dyn Fn() -> Arc<dyn Log>;

/// Every promise, each on a log of its own.
pub fn all(new: New<'_>) {
    starts_empty(&*new());
    appends_in_order(&*new());
    refuses_what_was_decided_on_another_head(&*new());
    takes_a_batch_whole_or_not(&*new());
    takes_pipelined_appends(&*new());
    bounds_its_queue(&*new());
    reads_from_every_cursor(&*new());
    reads_large_histories(&*new());
    tells_subscribers(&*new());
    keeps_order_under_many_writers(new());
    keeps_the_last_good_snapshots(&*new());
    refuses_a_snapshot_of_the_future(&*new());
    appends_while_a_snapshot_is_written(new());
}

fn batch<const N: usize>(events: [&str; N]) -> Batch {
    Batch::new(events.iter().map(|event| Bytes::copy_from_slice(event.as_bytes())).collect())
}

fn id(event: u64) -> EventId {
    EventId::new(event)
}

fn append(log: &dyn Log, expected: u64, batch: Batch) -> Appended {
    log.append(id(expected), batch).wait().expect("it is appended")
}

fn everything(log: &dyn Log) -> Vec<Record> {
    let mut all: Vec<Record> = Vec::new();
    loop {
        let cursor = all.last().map_or(EventId::ZERO, |record| record.id);
        let more = log.read(cursor, 1000).expect("it reads");
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// `gapless_order`, on what a reader got from the beginning.
pub fn assert_gapless(records: &[Record]) {
    for (place, record) in records.iter().enumerate() {
        assert_eq!(record.id.get(), place as u64 + 1, "ids are 1, 2, 3, …");
    }
}

/// An empty log has an epoch, no events, and no snapshot.
pub fn starts_empty(log: &dyn Log) {
    let head = log.head();
    assert_eq!(head.event, EventId::ZERO);
    assert!(head.epoch >= Epoch::new(1), "an epoch is open");
    assert!(log.read(EventId::ZERO, 10).expect("it reads").is_empty());
    assert_eq!(*log.subscribe().borrow(), EventId::ZERO);
    assert_eq!(log.load_snapshot().expect("it answers"), None);
}

/// Events get the next ids, and the head and its chain move with every entry.
pub fn appends_in_order(log: &dyn Log) {
    let empty = log.head();
    let one = append(log, 0, batch(["a"]));
    let after_one = log.head();
    let two = append(log, 1, batch(["b", "", "c"]));
    assert_eq!((one.first, one.last), (id(1), id(1)));
    assert_eq!((two.first, two.last), (id(2), id(4)));
    assert_eq!(two.index, one.index.next());
    let head = log.head();
    assert_eq!((head.event, head.index), (id(4), two.index));
    assert!(empty.chain != after_one.chain && after_one.chain != head.chain);
    let records = everything(log);
    assert_gapless(&records);
    let texts: Vec<&[u8]> = records.iter().map(|record| &*record.bytes).collect();
    assert_eq!(texts, [b"a".as_slice(), b"b", b"", b"c"]);
    assert!(records.iter().all(|record| record.epoch == head.epoch));
}

/// Append is a compare-and-set: neither an older nor a later head will do, and nothing is written.
pub fn refuses_what_was_decided_on_another_head(log: &dyn Log) {
    append(log, 0, batch(["a", "b"]));
    for expected in [0, 1, 3] {
        let refused = log.append(id(expected), batch(["x"])).wait();
        assert_eq!(refused, Err(AppendError::HeadMoved { head: id(2) }));
    }
    assert_eq!(everything(log).len(), 2);
    append(log, 2, batch(["c"]));
}

/// A batch without events, or one that is too large, is refused; the largest is taken.
pub fn takes_a_batch_whole_or_not(log: &dyn Log) {
    assert_eq!(log.append(id(0), batch([])).wait(), Err(AppendError::Empty));
    let large = |bytes: usize| Batch::new(vec![Bytes::from(vec![7; bytes])]);
    let refused = log.append(id(0), large(limits::BATCH_BYTES)).wait();
    assert!(matches!(refused, Err(AppendError::TooLarge { limit, .. }) if limit == limits::BATCH_BYTES));
    assert_eq!(log.head().event, EventId::ZERO);
    let most = limits::BATCH_BYTES - 4096;
    append(log, 0, large(most));
    append(log, 1, batch(["small"]));
    let records = everything(log);
    assert_eq!(records[0].bytes.len(), most);
    assert_eq!(&*records[1].bytes, b"small");
}

/// An append may be queued on a head that is not durable yet.
pub fn takes_pipelined_appends(log: &dyn Log) {
    let futures: Vec<_> =
        (0..limits::BATCHES_IN_FLIGHT as u64).map(|place| log.append(id(place), batch(["e"]))).collect();
    let mut last = None;
    for (place, future) in futures.into_iter().enumerate() {
        let appended = future.wait().expect("it is appended");
        assert_eq!(appended.first.get(), place as u64 + 1);
        assert!(log.head().event >= appended.last, "who has the answer can read it");
        last = Some(appended);
    }
    assert_eq!(log.head().event, last.expect("there was one").last);
}

/// A full queue is an answer, not a wait, and what was refused is not written.
pub fn bounds_its_queue(log: &dyn Log) {
    let (mut head, mut taken, mut busy) = (0, Vec::new(), 0);
    for _ in 0..20 * limits::BATCHES_IN_FLIGHT {
        let mut future = std::pin::pin!(log.append(id(head), batch(["e", "f"])));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(Err(AppendError::Busy { waiting })) => {
                assert_eq!(waiting, limits::BATCHES_IN_FLIGHT);
                busy += 1;
                std::thread::yield_now();
            }
            std::task::Poll::Ready(result) => {
                taken.push(result.expect("only a full queue refuses").last);
                head += 2;
            }
            // The future is dropped here, which does not take the batch back.
            std::task::Poll::Pending => head += 2,
        }
    }
    while log.head().event < id(head) {
        let mut subscription = log.subscribe();
        if *subscription.borrow_and_update() < id(head) {
            std::thread::yield_now();
        }
    }
    let records = everything(log);
    assert_gapless(&records);
    assert_eq!(records.len() as u64, head, "{busy} were refused, and only those");
}

/// A cursor anywhere gives exactly what comes after it; one past the head is an error.
pub fn reads_from_every_cursor(log: &dyn Log) {
    append(log, 0, batch(["1", "2", "3"]));
    append(log, 3, batch(["4"]));
    append(log, 4, batch(["5", "6"]));
    for after in 0..=6_u64 {
        for max in 0..=7_usize {
            let records = log.read(id(after), max).expect("it reads");
            let wanted: Vec<u64> = (after + 1..=6).take(max).collect();
            assert_eq!(records.iter().map(|record| record.id.get()).collect::<Vec<_>>(), wanted);
            for record in records {
                assert_eq!(&*record.bytes, record.id.to_string().as_bytes());
            }
        }
    }
    assert!(matches!(log.read(id(7), 1), Err(ReadError::Ahead { head, .. }) if head == id(6)));
}

/// More than is kept in memory comes back byte for byte, twice.
pub fn reads_large_histories(log: &dyn Log) {
    let event =
        |number: u64| Bytes::from(format!("{number}:").repeat(number as usize % 400 + 1).into_bytes());
    let mut head = 0;
    for count in 1..=60 {
        let events = (1..=count).map(|place| event(head + place)).collect();
        head = append(log, head, Batch::new(events)).last.get();
    }
    for _ in 0..2 {
        let records = everything(log);
        assert_gapless(&records);
        assert_eq!(records.len() as u64, head);
        for record in records {
            assert_eq!(record.bytes, event(record.id.get()), "event {}", record.id);
        }
    }
}

/// A subscriber sees the head move, never past what can be read.
pub fn tells_subscribers(log: &dyn Log) {
    let mut subscription = log.subscribe();
    let appended = append(log, 0, batch(["a", "b"]));
    assert!(subscription.has_changed().expect("the log lives"));
    assert_eq!(*subscription.borrow_and_update(), appended.last);
    assert!(log.append(id(0), batch(["x"])).wait().is_err());
    assert!(!subscription.has_changed().expect("the log lives"), "nothing happened");
}

/// Many threads append; each event is there once, in one order.
pub fn keeps_order_under_many_writers(log: Arc<dyn Log>) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 50;
    let next = Mutex::new(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (log, next) = (&log, &next);
            scope.spawn(move || {
                for number in 0..EACH {
                    let event = format!("{writer}/{number}");
                    let future = {
                        let mut next = next.lock().expect("no writer panics");
                        let future = log.append(id(*next), batch([event.as_str(), "pair"]));
                        *next += 2;
                        future
                    };
                    let appended = future.wait().expect("it is appended");
                    let read = log.read(EventId::new(appended.first.get() - 1), 1).expect("it reads");
                    assert_eq!(&*read[0].bytes, event.as_bytes(), "the answer names its event");
                }
            });
        }
    });
    let records = everything(&*log);
    assert_gapless(&records);
    assert_eq!(records.len() as u64, WRITERS * EACH * 2);
    for writer in 0..WRITERS {
        let prefix = format!("{writer}/");
        let own: Vec<_> =
            records.iter().filter(|record| record.bytes.starts_with(prefix.as_bytes())).collect();
        for (number, record) in own.iter().enumerate() {
            assert_eq!(&*record.bytes, format!("{writer}/{number}").as_bytes());
        }
    }
}

/// The newest snapshot is loaded, also when it was not the last to be saved.
pub fn keeps_the_last_good_snapshots(log: &dyn Log) {
    append(log, 0, batch(["1", "2", "3", "4", "5"]));
    let save = |at: u64, content: &'static [u8]| {
        log.save_snapshot(id(at), Box::new(move |out| out.write_all(content))).expect("it is saved");
    };
    save(1, b"at one");
    save(4, b"at four");
    assert_eq!(log.load_snapshot().expect("it loads"), Some((id(4), b"at four".to_vec())));
    save(3, b"");
    assert_eq!(log.load_snapshot().expect("it loads"), Some((id(4), b"at four".to_vec())));
    save(5, b"at five");
    save(5, b"at five again");
    assert_eq!(log.load_snapshot().expect("it loads"), Some((id(5), b"at five again".to_vec())));
    let given_up: crate::SnapshotWriter = Box::new(|_| Err(std::io::Error::other("gave up")));
    assert!(matches!(log.save_snapshot(id(5), given_up), Err(SnapshotError::Content(_))));
    assert_eq!(log.load_snapshot().expect("it loads"), Some((id(5), b"at five again".to_vec())));
    assert_gapless(&everything(log));
}

/// A snapshot reflects durable events only.
pub fn refuses_a_snapshot_of_the_future(log: &dyn Log) {
    append(log, 0, batch(["1"]));
    let refused = log.save_snapshot(id(2), Box::new(|_| panic!("is not asked for its content")));
    assert!(matches!(refused, Err(SnapshotError::Ahead { at, head }) if at == id(2) && head == id(1)));
}

/// A snapshot that takes its time stops nobody.
pub fn appends_while_a_snapshot_is_written(log: Arc<dyn Log>) {
    append(&*log, 0, batch(["1"]));
    let (tell_begun, begun) = std::sync::mpsc::sync_channel(1);
    let (tell_go_on, go_on) = std::sync::mpsc::sync_channel::<()>(1);
    let slow: crate::SnapshotWriter = Box::new(move |out| {
        out.write_all(b"begun, ")?;
        tell_begun.send(()).map_err(std::io::Error::other)?;
        go_on.recv().map_err(std::io::Error::other)?;
        out.write_all(b"ended")
    });
    std::thread::scope(|scope| {
        let saved = scope.spawn(|| log.save_snapshot(id(1), slow));
        begun.recv().expect("the snapshot begins");
        append(&*log, 1, batch(["2"]));
        assert_eq!(everything(&*log).len(), 2);
        tell_go_on.send(()).expect("the snapshot waits");
        saved.join().expect("no panic").expect("it is saved");
    });
    assert_eq!(log.load_snapshot().expect("it loads"), Some((id(1), b"begun, ended".to_vec())));
}
