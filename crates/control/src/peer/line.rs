//! The line to one member: one connection, made when something is to be asked, and again when it broke.
//!
//! ```text
//!            asked                     greeted
//!   waiting ───────► connecting ─────────────────► open ──┐ idle: closed until the next question
//!      ▲                 │ cannot, or refused       │     │
//!      └── after a wait ─┴──────────────────────────┴─────┘ broke: what waits fails
//! ```

use super::{
    ca::{Tls, server_name},
    frame::{Flight, Frame, FrameError, Kind, Outbox, Queue, Reader, outbox, write, write_one},
    greeting::Greeting,
    transport::Record,
};
use bytes::Bytes;
use log::cluster::TransportError;
use rustls::{AlertDescription, CertificateError};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use types::{NodeId, limits};

type Stream = TlsStream<TcpStream>;

/// A question for a member.
#[derive(Debug)]
pub(super) struct Ask {
    pub message: Bytes,
    pub flight: Arc<Flight>,
    pub answer: Answer,
}

type Answer = oneshot::Sender<Result<Bytes, TransportError>>;

impl Ask {
    fn fail(self, error: TransportError) {
        // Whoever asked may be gone.
        let _gone = self.answer.send(Err(error));
    }
}

/// What one member is asked through.
pub(super) struct Line {
    pub to: NodeId,
    pub address: String,
    pub tls: Tls,
    pub record: Record,
    pub asks: mpsc::Receiver<Ask>,
}

/// How an open connection ended.
enum Ended {
    /// Nobody asked for long.
    Idle,
    /// Nobody ever will.
    Unused,
    /// It broke, and why.
    Broken { why: String, was_of_use: bool },
}

impl Line {
    /// Asks what is left to it, until nobody can leave anything any more.
    pub async fn run(mut self) {
        let mut rest = Rest::default();
        while let Some(ask) = self.asks.recv().await {
            if ask.answer.is_closed() {
                continue;
            }
            if let Some(why) = rest.why_not_yet() {
                ask.fail(TransportError::Unreachable(why));
                continue;
            }
            let reached = timeout(limits::PEER_CONNECT.into(), self.connect());
            let reached = reached.await.unwrap_or_else(|_| {
                let why = format!("no connection to {} within {}", self.address, limits::PEER_CONNECT);
                Err(TransportError::Unreachable(why))
            });
            let stream = match reached {
                Ok(stream) => stream,
                Err(error) => {
                    self.record.failed(&error.to_string());
                    // Whoever is told of it while it rests is told that it cannot be reached, once.
                    rest.begin(match &error {
                        TransportError::Unreachable(why) => why.clone(),
                        other => other.to_string(),
                    });
                    ask.fail(error.clone());
                    while let Ok(waiting) = self.asks.try_recv() {
                        waiting.fail(error.clone());
                    }
                    continue;
                }
            };
            self.record.connected();
            let ended = self.carry(stream, ask).await;
            self.record.disconnected();
            match ended {
                Ended::Idle => rest = Rest::default(),
                Ended::Unused => return,
                Ended::Broken { why, was_of_use } => {
                    self.record.failed(&why);
                    if was_of_use {
                        rest = Rest::default();
                    }
                    rest.begin(why);
                }
            }
        }
    }

    /// A connection to the very member that is meant, which knows who calls.
    async fn connect(&self) -> Result<Stream, TransportError> {
        let unreachable =
            |error: &io::Error| TransportError::Unreachable(format!("{}: {error}", self.address));
        if self.address.is_empty() {
            return Err(TransportError::Unreachable("no address of it is known".into()));
        }
        let stream = TcpStream::connect(&self.address).await.map_err(|error| unreachable(&error))?;
        // What is short must not wait for more.
        let _best_effort = stream.set_nodelay(true);
        let connector = TlsConnector::from(Arc::clone(&self.tls.client));
        let connected = connector.connect(server_name(self.to), stream).await;
        let mut stream = connected.map_err(|error| self.explain(&error))?;
        let Tls { cluster, node, mode, .. } = self.tls.clone();
        let greeting = Greeting { cluster, node, mode };
        let greeted = write_one(&mut stream, &Frame::new(0, Kind::Hello, greeting.encode())).await;
        // One that refuses may have closed before it heard a word; what it said is there to be read.
        let heard = Reader::new(limits::PEER_HELLO).read(&mut stream).await;
        match heard {
            Ok(Frame { kind: Kind::Welcome, .. }) => {
                greeted.map(|()| stream).map_err(|error| unreachable(&error))
            }
            Ok(Frame { kind: Kind::Parting, bytes, .. }) => Err(TransportError::Refused(text(&bytes))),
            Ok(Frame { kind, .. }) => {
                Err(TransportError::Refused(format!("it answers a greeting with {kind:?}")))
            }
            Err(FrameError::Broken(error)) => Err(self.explain(&error)),
            Err(error) => Err(TransportError::Unreachable(format!("{}: {error}", self.address))),
        }
    }

    /// What TLS says, in words that help.
    fn explain(&self, error: &io::Error) -> TransportError {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let (to, address) = (self.to, &self.address);
        TransportError::Refused(match inner {
            None => return TransportError::Unreachable(format!("{address}: {error}")),
            Some(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                format!("what answers at {address} is not member {to}: its certificate names another")
            }
            Some(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => {
                format!(
                    "what answers at {address} is of another cluster: another authority issued its certificate"
                )
            }
            Some(rustls::Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::BadCertificate,
            )) => {
                format!(
                    "{to} at {address} is of another cluster: its authority did not issue this member's certificate"
                )
            }
            Some(other) => format!("{to} at {address}: {other}"),
        })
    }

    /// Asks over an open connection until it ends. Whatever still waits then is told.
    async fn carry(&mut self, stream: Stream, first: Ask) -> Ended {
        let (reading, writing) = tokio::io::split(stream);
        let (outbox, queue) = outbox();
        let waiting = Waiting::default();
        waiting.ask(&outbox, first);
        let ended = tokio::select! {
            // Reading first: what the other side says of the end is better than that it came.
            biased;
            why = hear(reading, &waiting, &self.record) => Err(why),
            error = send(queue, writing) => Err(error),
            ended = leave(&mut self.asks, &waiting, &outbox) => Ok(ended),
        };
        let why = match &ended {
            Err(why) => why.clone(),
            Ok(_) => "this member has closed the connection".to_owned(),
        };
        waiting.fail(&why);
        ended.unwrap_or_else(|why| Ended::Broken { why, was_of_use: waiting.was_of_use() })
    }
}

/// Leaves questions to be sent, and a sign of life now and then.
async fn leave(asks: &mut mpsc::Receiver<Ask>, waiting: &Waiting, outbox: &Outbox) -> Ended {
    let mut ping = interval(limits::PEER_PING.into());
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = Instant::now();
    loop {
        tokio::select! {
            ask = asks.recv() => match ask {
                Some(ask) => {
                    asked = Instant::now();
                    waiting.ask(outbox, ask);
                }
                None => return Ended::Unused,
            },
            _ = ping.tick() => {
                if waiting.sweep() == 0 && asked.elapsed() >= Duration::from(limits::PEER_IDLE) {
                    return Ended::Idle;
                }
                // Without room something else is on its way, and is a sign of life too.
                let _sent = outbox.offer(Frame::new(0, Kind::Ping, Bytes::new()));
            }
        }
    }
}

async fn send(queue: Queue, to: WriteHalf<Stream>) -> String {
    match write(queue, to).await {
        Err(error) => format!("the connection broke: {error}"),
        // The outbox lives as long as this does.
        Ok(()) => "this member has closed the connection".to_owned(),
    }
}

/// Hands out answers until the connection ends; says why it did.
async fn hear(mut from: ReadHalf<Stream>, waiting: &Waiting, record: &Record) -> String {
    let mut reader = Reader::new(limits::PEER_MESSAGE);
    loop {
        let frame = match reader.read(&mut from).await {
            Ok(frame) => frame,
            Err(error) => return error.to_string(),
        };
        match frame.kind {
            Kind::Answer => waiting.answer(frame.id, Ok(frame.bytes)),
            Kind::Refusal => waiting.answer(frame.id, Err(TransportError::Refused(text(&frame.bytes)))),
            Kind::Pong => {}
            Kind::Parting => return format!("refused: {}", text(&frame.bytes)),
            kind => return format!("it answers with {kind:?}"),
        }
        record.heard();
    }
}

/// Plain text of another member, as long as it should be.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|each| !each.is_control())
        .take(limits::DETAIL_CHARS)
        .collect()
}

/// Questions without an answer.
#[derive(Default)]
struct Waiting(Mutex<Questions>);

#[derive(Default)]
struct Questions {
    last: u64,
    open: BTreeMap<u64, (Arc<Flight>, Answer)>,
    answered: bool,
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Questions> {
        self.0.lock().expect("no code panics while it holds this lock")
    }

    fn ask(&self, outbox: &Outbox, ask: Ask) {
        if self.lock().open.len() >= limits::PEER_REQUESTS && self.sweep() >= limits::PEER_REQUESTS {
            let why = format!("{} questions to it wait for an answer", limits::PEER_REQUESTS);
            return ask.fail(TransportError::Unreachable(why));
        }
        let mut questions = self.lock();
        questions.last += 1;
        let id = questions.last;
        let flight = Some(Arc::clone(&ask.flight));
        questions.open.insert(id, (ask.flight, ask.answer));
        drop(questions);
        let frame = Frame { flight, ..Frame::new(id, Kind::Request, ask.message) };
        if !outbox.offer(frame) {
            let why = format!("{} messages to it wait to be sent", limits::PEER_REQUESTS);
            self.settle(id, Err(TransportError::Unreachable(why)));
        }
    }

    fn answer(&self, id: u64, answer: Result<Bytes, TransportError>) {
        self.lock().answered = true;
        self.settle(id, answer);
    }

    /// An answer that comes too late is for nobody.
    fn settle(&self, id: u64, answer: Result<Bytes, TransportError>) {
        let question = self.lock().open.remove(&id);
        if let Some((_, to)) = question {
            let _gone = to.send(answer);
        }
    }

    /// Drops the questions that nobody waits for any more; says how many are left.
    fn sweep(&self) -> usize {
        let mut questions = self.lock();
        questions.open.retain(|_, (_, answer)| !answer.is_closed());
        questions.open.len()
    }

    fn was_of_use(&self) -> bool {
        self.lock().answered
    }

    fn fail(&self, why: &str) {
        let open = std::mem::take(&mut self.lock().open);
        for (flight, answer) in open.into_values() {
            let error = match flight.is_sent() {
                true => TransportError::Lost(why.to_owned()),
                false => TransportError::Unreachable(why.to_owned()),
            };
            let _gone = answer.send(Err(error));
        }
    }
}

/// The wait after a failure, in which nothing is tried.
#[derive(Default)]
struct Rest {
    length: Option<Duration>,
    until: Option<Instant>,
    why: String,
}

impl Rest {
    fn begin(&mut self, why: String) {
        let (least, most) = (limits::PEER_RETRY_MIN.into(), limits::PEER_RETRY_MAX.into());
        let length = self.length.map_or(least, |length| (length * 2).min(most));
        self.length = Some(length);
        self.until = Some(Instant::now() + length);
        self.why = why;
    }

    fn why_not_yet(&self) -> Option<String> {
        let left = self.until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some(format!("{} (tried again in {} ms)", self.why, left.as_millis().max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    fn ask(message: &'static [u8]) -> (Ask, oneshot::Receiver<Result<Bytes, TransportError>>) {
        let (answer, told) = oneshot::channel();
        (Ask { message: Bytes::from_static(message), flight: Arc::default(), answer }, told)
    }

    #[tokio::test]
    async fn what_was_never_sent_is_told_from_what_may_have_been_heard() {
        let (near, mut far) = duplex(4096);
        let (outbox, queue) = outbox();
        let waiting = Waiting::default();
        let (first, first_told) = ask(b"sent");
        waiting.ask(&outbox, first);
        let writing = tokio::spawn(write(queue, near));
        Reader::new(100).read(&mut far).await.expect("it was sent");
        // The writer is gone, as when the connection broke a moment ago; the question comes too late.
        writing.abort();
        let _aborted = writing.await;
        let (second, second_told) = ask(b"left");
        waiting.ask(&outbox, second);
        waiting.fail("broke");
        assert_eq!(first_told.await.expect("told"), Err(TransportError::Lost("broke".into())));
        assert!(matches!(second_told.await.expect("told"), Err(TransportError::Unreachable(_))));
    }

    #[tokio::test]
    async fn what_still_stands_in_the_queue_was_never_sent() {
        let (outbox, _nobody_writes) = outbox();
        let waiting = Waiting::default();
        let (asked, told) = ask(b"left");
        waiting.ask(&outbox, asked);
        waiting.fail("broke");
        assert_eq!(told.await.expect("told"), Err(TransportError::Unreachable("broke".into())));
    }

    #[tokio::test]
    async fn places_of_those_who_left_are_free_again() {
        let (outbox, _nobody_writes) = outbox();
        let waiting = Waiting::default();
        for _ in 0..limits::PEER_REQUESTS {
            let (asked, left) = ask(b"impatient");
            waiting.ask(&outbox, asked);
            drop(left);
        }
        let (asked, mut told) = ask(b"patient");
        waiting.ask(&outbox, asked);
        assert_eq!(waiting.lock().open.len(), 0, "the queue itself is full");
        assert!(matches!(told.try_recv().expect("told"), Err(TransportError::Unreachable(_))));
    }
}
