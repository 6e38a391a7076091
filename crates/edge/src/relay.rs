//! Carries bytes between a client and a backend until both have said all they have to say.
//!
//! Each direction ends by itself (half-close): an end from one side is passed on once everything
//! before it was, and the other direction goes on. Bytes go from socket to socket through one
//! buffer per thread; only what the other side does not take at once is kept per connection, and
//! nothing more is read until it was taken. So an idle connection holds no buffer at all, and a
//! slow reader slows its writer.
//!
//! How a backend may end, and what the client sees:
//! - it closes: the client gets everything, then the end; the client may go on sending;
//! - it refuses what the client still sends: that is read and dropped, so that the answer it gave
//!   before is not lost in a reset of ours, within `types::limits::EDGE_HALF_CLOSED`;
//! - it resets: the client is reset too. A cut answer never looks like a whole one.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep},
};

/// Large enough for several full segments per system call, small enough to stay in the cache.
const BUFFER: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// One end of a connection through the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected to the edge.
    Client,
    /// Whom the edge connected to.
    Backend,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// How a relayed connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Who ended or broke it first.
    pub first: Side,
    /// Bytes that went to the backend.
    pub to_backend: u64,
    /// Bytes that went to the client.
    pub to_client: u64,
}

/// Carries bytes both ways, `greeting` first to the backend, and answers when it is over.
pub async fn relay(
    client: &TcpStream,
    backend: &TcpStream,
    greeting: Vec<u8>,
    half_closed_wait: Duration,
) -> Ended {
    let mut relay = Relay {
        up: Way::new(Side::Client, greeting),
        down: Way::new(Side::Backend, Vec::new()),
        first: None,
        half_closed: None,
        half_closed_wait,
    };
    poll_fn(|context| relay.poll(context, client, backend)).await;
    Ended {
        first: relay.first.unwrap_or(Side::Client),
        to_backend: relay.up.carried,
        to_client: relay.down.carried,
    }
}

struct Relay {
    up: Way,
    down: Way,
    first: Option<Side>,
    /// Runs from the end of the backend on, and again whenever a byte came since.
    half_closed: Option<(Pin<Box<Sleep>>, u64)>,
    half_closed_wait: Duration,
}

/// One direction.
struct Way {
    source: Side,
    stage: Stage,
    /// Read and not yet taken by the other side, from `sent` on.
    pending: Vec<u8>,
    sent: usize,
    carried: u64,
    /// Who ended it: the source by saying no more, or the other side by taking no more.
    ended_by: Option<Side>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The source may say more.
    Flowing,
    /// The source has ended; what is pending goes out, then the end.
    Ending,
    /// The other side takes no more; what the source says is dropped until it ends.
    Dropping,
    /// Nothing more will come.
    Done,
}

/// The source was reset: nothing can be carried either way any more.
struct Broken;

impl Relay {
    fn poll(&mut self, context: &mut Context<'_>, client: &TcpStream, backend: &TcpStream) -> Poll<()> {
        let down = self.down.poll(context, backend, client);
        self.first = self.first.or(self.down.ended_by);
        let up = self.up.poll(context, client, backend);
        self.first = self.first.or(self.up.ended_by);
        match (down, up) {
            (Poll::Ready(Err(Broken)), _) => {
                reset(client);
                Poll::Ready(())
            }
            (_, Poll::Ready(Err(Broken))) => {
                reset(backend);
                Poll::Ready(())
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Pending) => self.poll_half_closed(context),
            _ => Poll::Pending,
        }
    }

    /// The backend has ended: the client has this long per byte to end as well.
    fn poll_half_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let wait = self.half_closed_wait;
        let carried = self.up.carried;
        let (sleep, seen) =
            self.half_closed.get_or_insert_with(|| (Box::pin(tokio::time::sleep(wait)), carried));
        while sleep.as_mut().poll(context).is_ready() {
            if *seen == carried {
                return Poll::Ready(());
            }
            *seen = carried;
            sleep.as_mut().reset(Instant::now() + wait);
        }
        Poll::Pending
    }
}

impl Way {
    fn new(source: Side, pending: Vec<u8>) -> Self {
        Self { source, stage: Stage::Flowing, pending, sent: 0, carried: 0, ended_by: None }
    }

    /// Carries what can be carried now. Ready when this direction is over.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if self.stage == Stage::Done {
                return Poll::Ready(Ok(()));
            }
            if self.sent < self.pending.len() {
                ready!(self.poll_send(context, to));
                continue;
            }
            if self.stage == Stage::Ending {
                // An error here means the other side is gone already, which its own direction tells.
                let _ = socket2::SockRef::from(to).shutdown(Shutdown::Write);
                self.stage = Stage::Done;
                continue;
            }
            if let Err(Broken) = ready!(self.poll_receive(context, from, to)) {
                return Poll::Ready(Err(Broken));
            }
        }
    }

    /// Sends pending bytes until there are none or the other side takes no more for now.
    fn poll_send(&mut self, context: &mut Context<'_>, to: &TcpStream) -> Poll<()> {
        if ready!(to.poll_write_ready(context)).is_err() {
            self.drop_the_rest();
            return Poll::Ready(());
        }
        match to.try_write(&self.pending[self.sent..]) {
            Ok(count) => {
                self.sent += count;
                self.carried += count as u64;
                if self.sent == self.pending.len() {
                    self.pending = Vec::new();
                    self.sent = 0;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.drop_the_rest(),
        }
        Poll::Ready(())
    }

    /// Reads once and sends it on at once as far as it goes. Only called with nothing pending.
    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
    ) -> Poll<Result<(), Broken>> {
        if ready!(from.poll_read_ready(context)).is_err() {
            return Poll::Ready(self.broken());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let read = match from.try_read(scratch) {
                Ok(0) if self.stage == Stage::Dropping => {
                    self.stage = Stage::Done;
                    return Poll::Ready(Ok(()));
                }
                Ok(0) => {
                    self.stage = Stage::Ending;
                    self.ended_by.get_or_insert(self.source);
                    return Poll::Ready(Ok(()));
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Ready(Ok(())),
                Err(_) => return Poll::Ready(self.broken()),
            };
            if self.stage == Stage::Dropping {
                return Poll::Ready(Ok(()));
            }
            match to.try_write(&scratch[..read]) {
                Ok(count) => {
                    self.carried += count as u64;
                    self.pending.extend_from_slice(&scratch[count..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pending.extend_from_slice(&scratch[..read]);
                }
                Err(_) => self.drop_the_rest(),
            }
            Poll::Ready(Ok(()))
        })
    }

    fn broken(&mut self) -> Result<(), Broken> {
        self.ended_by.get_or_insert(self.source);
        Err(Broken)
    }

    /// The other side takes no more. A backend is read on to its end, so what a client still says
    /// is dropped; what a backend says to a client that is gone ends the direction at once.
    fn drop_the_rest(&mut self) {
        self.ended_by.get_or_insert(self.source.other());
        self.pending = Vec::new();
        self.sent = 0;
        self.stage = match (self.source, self.stage) {
            (Side::Client, Stage::Flowing | Stage::Dropping) => Stage::Dropping,
            _ => Stage::Done,
        };
    }
}

/// Makes the coming close of this socket a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    // If it is gone already there is nobody to tell.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
