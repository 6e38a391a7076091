//! Frames: a length, a request's id, a kind, and bytes.
//!
//! ```text
//!   u32 length │ u64 id │ u8 kind │ length bytes        all numbers little endian
//! ```
//!
//! A message longer than [`limits::PEER_PIECE`] goes in pieces, each a frame with [`MORE`] set in its
//! kind but the last. One such message is under way at a time; between its pieces go short ones, one
//! each, so that neither kind starves. The frame itself has no version: the greeting in it has, and a
//! refusal is plain text, so that members of any two versions can tell each other why they part.

use bytes::{Bytes, BytesMut};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use types::limits;

/// Length, id and kind.
const HEADER: usize = 13;
/// Set in the kind of every piece of a message but the last.
const MORE: u8 = 0x80;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Who calls. The first one on a connection.
    Hello = 1,
    /// The caller is known and may ask.
    Welcome = 2,
    /// The connection ends; why, in plain text.
    Parting = 3,
    /// A request.
    Request = 4,
    /// Its answer.
    Answer = 5,
    /// The request was not taken; why, in plain text.
    Refusal = 6,
    /// A sign of life, which is answered.
    Ping = 7,
    /// That answer.
    Pong = 8,
    /// One that is no member asks to be made one. The first and only one on a connection.
    Join = 9,
    /// It is one now; what it needs.
    Admitted = 10,
    /// It may be one now; why that is not known, in plain text.
    Unclear = 11,
}

impl Kind {
    fn read(code: u8) -> Option<Self> {
        let all = [
            Self::Hello,
            Self::Welcome,
            Self::Parting,
            Self::Request,
            Self::Answer,
            Self::Refusal,
            Self::Ping,
            Self::Pong,
            Self::Join,
            Self::Admitted,
            Self::Unclear,
        ];
        all.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// One message.
#[derive(Debug)]
pub(super) struct Frame {
    pub id: u64,
    pub kind: Kind,
    pub bytes: Bytes,
    /// Whether anybody still waits for what it leads to.
    pub flight: Option<Arc<Flight>>,
}

impl Frame {
    pub fn new(id: u64, kind: Kind, bytes: impl Into<Bytes>) -> Self {
        Self { id, kind, bytes: bytes.into(), flight: None }
    }
}

/// What became of a request so far. It is shared by whoever asked and whoever sends.
#[derive(Debug, Default)]
pub(super) struct Flight {
    sent: AtomicBool,
    forgotten: AtomicBool,
}

impl Flight {
    /// Whether any of it may have left this member.
    pub fn is_sent(&self) -> bool {
        self.sent.load(SeqCst)
    }

    /// Nobody waits for it any more: if it has not left, it need not.
    pub fn forget(&self) {
        self.forgotten.store(true, SeqCst);
    }

    /// Says that it leaves now. False if it need not.
    fn leave(&self) -> bool {
        self.sent.store(true, SeqCst);
        !self.forgotten.load(SeqCst)
    }
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The connection broke or ended.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// It is as if nobody were there.
    #[error("nothing was heard for {}", limits::PEER_SILENCE)]
    Silent,
    /// A frame longer than any may be.
    #[error("a frame of {length} bytes, and {most} is the most")]
    TooLong { length: usize, most: usize },
    /// A message longer than any may be, all pieces together.
    #[error("a message of more than {most} bytes")]
    TooMuch { most: usize },
    /// A kind that no frame has.
    #[error("a frame of kind {0}")]
    Unknown(u8),
    /// A piece of one message in the middle of another.
    #[error("pieces of two messages are mixed")]
    Mixed,
}

/// Puts messages together from what is read.
#[derive(Debug)]
pub(super) struct Reader {
    most: usize,
    unfinished: Option<(u64, Kind, BytesMut)>,
}

impl Reader {
    /// Takes messages of at most so many bytes.
    pub fn new(most: usize) -> Self {
        Self { most, unfinished: None }
    }

    /// The next message. What was read is lost if this is dropped before it is done.
    pub async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<Frame, FrameError> {
        loop {
            let mut header = [0; HEADER];
            exactly(from, &mut header).await?;
            if let Some(frame) = self.piece(header, from).await? {
                return Ok(frame);
            }
        }
    }

    async fn piece(
        &mut self,
        header: [u8; HEADER],
        from: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Frame>, FrameError> {
        let (length, rest) = header.split_first_chunk::<4>().expect("a header is longer");
        let (id, rest) = rest.split_first_chunk::<8>().expect("a header is longer");
        let (length, id, code) = (u32::from_le_bytes(*length) as usize, u64::from_le_bytes(*id), rest[0]);
        let most = limits::PEER_PIECE.min(self.most);
        if length > most {
            return Err(FrameError::TooLong { length, most });
        }
        let kind = Kind::read(code & !MORE).ok_or(FrameError::Unknown(code))?;
        let is_part = code & MORE != 0 || self.unfinished.as_ref().is_some_and(|(begun, ..)| *begun == id);
        if !is_part {
            let mut bytes = BytesMut::zeroed(length);
            exactly(from, &mut bytes).await?;
            return Ok(Some(Frame::new(id, kind, bytes)));
        }
        let (begun, whose, gathered) = self.unfinished.get_or_insert_with(|| (id, kind, BytesMut::new()));
        if *begun != id || *whose != kind {
            return Err(FrameError::Mixed);
        }
        let start = gathered.len();
        if start + length > self.most {
            return Err(FrameError::TooMuch { most: self.most });
        }
        gathered.resize(start + length, 0);
        exactly(from, &mut gathered[start..]).await?;
        if code & MORE != 0 {
            return Ok(None);
        }
        Ok(self.unfinished.take().map(|(id, kind, bytes)| Frame::new(id, kind, bytes)))
    }
}

async fn exactly(from: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<(), FrameError> {
    let read = timeout(limits::PEER_SILENCE.into(), from.read_exact(buffer)).await;
    read.map_err(|_| FrameError::Silent)?.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            FrameError::Broken(io::Error::new(error.kind(), "the other side closed it"))
        }
        _ => FrameError::Broken(error),
    })?;
    Ok(())
}

/// Where messages are left to be sent.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    short: mpsc::Sender<Frame>,
    long: mpsc::Sender<Frame>,
}

/// The other end of an [`Outbox`].
#[derive(Debug)]
pub(super) struct Queue {
    short: mpsc::Receiver<Frame>,
    long: mpsc::Receiver<Frame>,
}

/// A queue of at most [`limits::PEER_REQUESTS`] short and as many long messages.
pub(super) fn outbox() -> (Outbox, Queue) {
    let (short_in, short) = mpsc::channel(limits::PEER_REQUESTS);
    let (long_in, long) = mpsc::channel(limits::PEER_REQUESTS);
    (Outbox { short: short_in, long: long_in }, Queue { short, long })
}

impl Outbox {
    fn lane(&self, frame: &Frame) -> &mpsc::Sender<Frame> {
        if frame.bytes.len() > limits::PEER_PIECE { &self.long } else { &self.short }
    }

    /// Leaves a message. False if there is no room, or the connection has ended.
    pub fn offer(&self, frame: Frame) -> bool {
        self.lane(&frame).try_send(frame).is_ok()
    }

    /// Leaves a message as soon as there is room.
    pub async fn send(&self, frame: Frame) {
        // When the connection has ended, nobody waits for it either.
        let _ended = self.lane(&frame).send(frame).await;
    }
}

/// Writes what is left in the outbox until nobody can leave anything any more.
pub(super) async fn write(mut queue: Queue, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut long: Option<Frame> = None;
    let mut scratch = Vec::with_capacity(HEADER);
    loop {
        let mut short = None;
        if long.is_some() {
            short = queue.short.try_recv().ok();
        } else {
            tokio::select! {
                biased;
                Some(frame) = queue.short.recv() => short = Some(frame),
                Some(frame) = queue.long.recv() => long = begin(frame),
                else => return to.shutdown().await,
            }
        }
        if let Some(frame) = short.and_then(begin) {
            piece(&mut to, &mut scratch, &frame, &frame.bytes, 0).await?;
        }
        if long.is_none() {
            long = queue.long.try_recv().ok().and_then(begin);
        }
        if let Some(frame) = &mut long {
            let part = frame.bytes.split_to(frame.bytes.len().min(limits::PEER_PIECE));
            let more = if frame.bytes.is_empty() { 0 } else { MORE };
            piece(&mut to, &mut scratch, frame, &part, more).await?;
            if more == 0 {
                long = None;
            }
        }
        if long.is_none() && queue.short.is_empty() && queue.long.is_empty() {
            patient(to.flush()).await?;
        }
    }
}

/// Lets a message go, unless nobody waits for it any more.
fn begin(frame: Frame) -> Option<Frame> {
    frame.flight.as_ref().is_none_or(|flight| flight.leave()).then_some(frame)
}

async fn piece(
    to: &mut (impl AsyncWrite + Unpin),
    scratch: &mut Vec<u8>,
    frame: &Frame,
    bytes: &[u8],
    more: u8,
) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).expect("a piece is short");
    scratch.clear();
    scratch.extend_from_slice(&length.to_le_bytes());
    scratch.extend_from_slice(&frame.id.to_le_bytes());
    scratch.push(frame.kind as u8 | more);
    // One write, so that a short message is one record of TLS and one packet.
    scratch.extend_from_slice(bytes);
    patient(to.write_all(scratch)).await
}

/// Writes one message at once: the greeting, or why there is none.
pub(super) async fn write_one(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    piece(to, &mut Vec::new(), frame, &frame.bytes, 0).await?;
    patient(to.flush()).await
}

async fn patient(write: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let silence: Duration = limits::PEER_SILENCE.into();
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the other side reads nothing");
    timeout(silence, write).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    fn header(length: u32, id: u64, kind: u8) -> Vec<u8> {
        [&length.to_le_bytes()[..], &id.to_le_bytes(), &[kind]].concat()
    }

    #[tokio::test]
    async fn messages_of_every_length_arrive_as_they_were() {
        let (near, mut far) = duplex(4096);
        let (outbox, queue) = outbox();
        let piece = limits::PEER_PIECE;
        let lengths = [0, 1, piece - 1, piece, piece + 1, 2 * piece, 10 * piece + 7];
        for (id, length) in (1..).zip(lengths) {
            assert!(outbox.offer(Frame::new(id, Kind::Request, vec![id as u8; length])));
        }
        drop(outbox);
        let writing = tokio::spawn(write(queue, near));
        let mut reader = Reader::new(limits::PEER_MESSAGE);
        let mut arrived = Vec::new();
        for _ in lengths {
            let frame = reader.read(&mut far).await.expect("a message");
            assert!(frame.bytes.iter().all(|byte| u64::from(*byte) == frame.id));
            arrived.push((frame.id, frame.bytes.len()));
        }
        writing.await.expect("no panic").expect("written");
        assert!(matches!(reader.read(&mut far).await, Err(FrameError::Broken(_))), "closed at the end");
        arrived.sort_unstable();
        assert_eq!(arrived, (1..).zip(lengths).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_short_message_overtakes_a_long_one() {
        // Room for less than a piece: the writer stands still until somebody reads.
        let (near, mut far) = duplex(1024);
        let (outbox, queue) = outbox();
        assert!(outbox.offer(Frame::new(1, Kind::Request, vec![1; limits::PEER_MESSAGE])));
        let writing = tokio::spawn(write(queue, near));
        let mut start = [0; HEADER];
        exactly(&mut far, &mut start).await.expect("it has begun");
        assert!(outbox.offer(Frame::new(2, Kind::Request, &b"alive"[..])));
        let mut reader = Reader::new(limits::PEER_MESSAGE);
        assert!(reader.piece(start, &mut far).await.expect("a piece").is_none());
        assert_eq!(reader.read(&mut far).await.expect("a message").id, 2);
        let gathered = reader.unfinished.as_ref().map(|(_, _, bytes)| bytes.len());
        assert!(gathered.expect("the long one") <= 2 * limits::PEER_PIECE, "of {}", limits::PEER_MESSAGE);
        drop(outbox);
        assert_eq!(reader.read(&mut far).await.expect("a message").bytes.len(), limits::PEER_MESSAGE);
        writing.await.expect("no panic").expect("written");
    }

    #[tokio::test]
    async fn a_length_is_refused_before_there_is_memory_for_it() {
        let mut reader = Reader::new(limits::PEER_MESSAGE);
        for kind in [Kind::Request as u8, Kind::Request as u8 | MORE] {
            let header = header(u32::MAX, 7, kind);
            // No byte of its content ever comes, and none is waited for.
            let read = reader.read(&mut header.as_slice()).await;
            assert!(matches!(read, Err(FrameError::TooLong { .. })), "{read:?}");
            assert!(reader.unfinished.is_none());
        }
    }

    #[tokio::test]
    async fn a_message_cannot_grow_past_the_limit_piece_by_piece() {
        let piece = limits::PEER_PIECE;
        let mut reader = Reader::new(3 * piece);
        let frame = [header(piece as u32, 7, Kind::Request as u8 | MORE), vec![0; piece]].concat();
        let stream = frame.repeat(4);
        let read = reader.read(&mut stream.as_slice()).await;
        assert!(matches!(read, Err(FrameError::TooMuch { .. })), "{read:?}");
        assert_eq!(reader.unfinished.map(|(_, _, bytes)| bytes.len()), Some(3 * piece));
    }

    #[tokio::test]
    async fn what_no_member_sends_is_refused() {
        let more = Kind::Request as u8 | MORE;
        let mixed = [header(1, 1, more), vec![0], header(1, 2, more), vec![0]].concat();
        let read = Reader::new(100).read(&mut mixed.as_slice()).await;
        assert!(matches!(read, Err(FrameError::Mixed)), "{read:?}");
        let read = Reader::new(100).read(&mut header(0, 1, 99).as_slice()).await;
        assert!(matches!(read, Err(FrameError::Unknown(99))), "{read:?}");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_sent() {
        let (near, mut far) = duplex(4096);
        let (outbox, queue) = outbox();
        let forgotten = Arc::new(Flight::default());
        forgotten.forget();
        let frame = Frame { flight: Some(forgotten), ..Frame::new(1, Kind::Request, &b"late"[..]) };
        assert!(outbox.offer(frame));
        assert!(outbox.offer(Frame::new(2, Kind::Request, &b"wanted"[..])));
        drop(outbox);
        tokio::spawn(write(queue, near));
        assert_eq!(Reader::new(100).read(&mut far).await.expect("a message").id, 2);
    }
}
