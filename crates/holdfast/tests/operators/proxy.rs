//! A proxy between the command line and a server, that cuts a connection where a test says, and keeps a
//! book of what was asked.
//!
//! A request is read whole before any of it is passed on, and so is an answer: so a cut at a byte is a cut
//! at that byte, whatever pieces the network made of it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Where a connection is cut. Of a head or a body, so many thousandths are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is taken, and nothing is read.
    Taken,
    /// In the head of the request.
    Head(u32),
    /// In its body.
    Body(u32),
    /// The request is whole, and nobody waits for the answer.
    Sent,
    /// The server has answered, and nothing of that is passed on.
    Done,
    /// In the head of the answer.
    AnswerHead(u32),
    /// In its body.
    AnswerBody(u32),
    /// The answer is whole.
    Answered,
}

/// How it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Reset,
    Finish,
    /// Nothing more comes, until whoever waits gives up.
    Silence,
}

/// Which connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    None,
    /// Those that change something.
    Writes,
    /// Those, and all that come after the first of them.
    WritesAndAfter,
    /// All.
    All,
}

/// A cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub which: Which,
    pub place: Place,
    pub how: How,
}

impl Cut {
    pub const NONE: Self = Self { which: Which::None, place: Place::Taken, how: How::Reset };
}

/// What one proxy has seen.
#[derive(Debug, Default)]
struct Book {
    /// The first line of each request.
    lines: Vec<String>,
    begun: bool,
}

/// A proxy for one server. Nobody is taken any more when it is dropped.
pub struct Proxy {
    pub url: String,
    book: Arc<Mutex<Book>>,
    accepting: tokio::task::JoinHandle<()>,
}

/// How long a connection that is silent is kept.
const SILENCE: Duration = Duration::from_secs(20);

impl Proxy {
    /// Passes connections on to this address, and cuts some of them.
    pub async fn start(to: SocketAddr, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let book = Arc::<Mutex<Book>>::default();
        let kept = Arc::clone(&book);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                // What the peers do is theirs: a connection that fails has ended.
                tokio::spawn(async move { pass(client, to, cut, &kept).await.ok() });
            }
        });
        Self { url, book, accepting }
    }

    /// The first line of each request that was read here.
    pub fn heard(&self) -> Vec<String> {
        lock(&self.book).lines.clone()
    }

    /// Those of them that change something.
    pub fn writes(&self) -> Vec<String> {
        self.heard().into_iter().filter(|line| is_write(line)).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_write(line: &str) -> bool {
    !line.starts_with("GET ") && !line.contains("plan=true") && !line.contains("?explain")
}

/// A message of HTTP: where its head ends, and all of it.
struct Message {
    head: usize,
    bytes: Vec<u8>,
}

async fn message(from: &mut TcpStream) -> std::io::Result<Message> {
    let mut bytes = Vec::new();
    loop {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            if bytes.len() >= head + length.map_or(0, |length| length.trim().parse().expect("a number")) {
                return Ok(Message { head, bytes });
            }
        }
        if from.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

impl Message {
    /// So many thousandths of the head, and never all of it.
    fn in_head(&self, thousandths: u32) -> &[u8] {
        &self.bytes[..part(self.head, thousandths)]
    }

    /// The head, so many thousandths of the body, and never all of it.
    fn in_body(&self, thousandths: u32) -> &[u8] {
        &self.bytes[..self.head + part(self.bytes.len() - self.head, thousandths)]
    }
}

fn part(whole: usize, thousandths: u32) -> usize {
    (whole * thousandths as usize / 1000).min(whole.saturating_sub(1))
}

async fn pass(mut client: TcpStream, to: SocketAddr, cut: Cut, book: &Mutex<Book>) -> std::io::Result<()> {
    let after = cut.which == Which::WritesAndAfter && lock(book).begun;
    if cut.place == Place::Taken && (cut.which == Which::All || after) {
        end(vec![&mut client], cut.how).await;
        return Ok(());
    }
    let asked = message(&mut client).await?;
    let line = String::from_utf8_lossy(&asked.bytes).lines().next().unwrap_or_default().to_owned();
    let writes = is_write(&line);
    {
        let mut book = lock(book);
        book.begun |= writes;
        book.lines.push(line);
    }
    let is_cut = match cut.which {
        Which::None => false,
        Which::Writes => writes,
        Which::WritesAndAfter => writes || after,
        Which::All => true,
    };
    let Some(place) = is_cut.then_some(cut.place) else { return through(client, to, &asked).await };
    if place == Place::Taken {
        end(vec![&mut client], cut.how).await;
        return Ok(());
    }
    let mut server = TcpStream::connect(to).await?;
    let request = match place {
        Place::Head(part) => asked.in_head(part),
        Place::Body(part) => asked.in_body(part),
        _ => &asked.bytes,
    };
    server.write_all(request).await?;
    if matches!(place, Place::Head(_) | Place::Body(_) | Place::Sent) {
        end(vec![&mut client, &mut server], cut.how).await;
        return Ok(());
    }
    let answer = message(&mut server).await?;
    let passed = match place {
        Place::AnswerHead(part) => answer.in_head(part),
        Place::AnswerBody(part) => answer.in_body(part),
        Place::Answered => &answer.bytes,
        _ => &[],
    };
    client.write_all(passed).await?;
    end(vec![&mut client], cut.how).await;
    Ok(())
}

/// One request and its answer, as if nobody were between.
async fn through(mut client: TcpStream, to: SocketAddr, asked: &Message) -> std::io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    server.write_all(&asked.bytes).await?;
    // Also streams, which have no end of their own.
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn end(mut streams: Vec<&mut TcpStream>, how: How) {
    if how == How::Silence {
        let first = streams.remove(0);
        // Until whoever waits gives up; nobody hears of the other end either.
        let mut nowhere = tokio::io::sink();
        tokio::time::timeout(SILENCE, tokio::io::copy(first, &mut nowhere)).await.ok();
        return;
    }
    for stream in streams {
        match how {
            How::Reset => {
                // Dropped with this, a connection is reset.
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                set_linger(stream, linger);
            }
            How::Finish => {
                // One that is gone has ended already.
                stream.shutdown().await.ok();
            }
            How::Silence => unreachable!("waited for above"),
        }
    }
}

fn set_linger(stream: &TcpStream, linger: libc::linger) {
    use std::os::fd::AsRawFd as _;
    let size = libc::socklen_t::try_from(size_of::<libc::linger>()).expect("a few bytes");
    // SAFETY: the descriptor is open while the stream is borrowed, and the value is of the size said.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size,
        )
    };
    assert_eq!(set, 0, "a socket takes its option");
}
