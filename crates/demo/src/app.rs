//! The program inside the demo's image: a small server that can be made to misbehave on request.
//!
//! It serves the same pages over HTTP on port 8080 and over TLS on port 8443. It is linked
//! statically, so the image holds this one file and `/etc/demo` (version, certificate, key).
//! What it promises, because the demo's "no request may fail" leans on it:
//!
//! - after SIGTERM nothing new is accepted, but whatever was accepted is served;
//! - a keep-alive connection is told `Connection: close` with its next answer, so its client
//!   moves elsewhere instead of running into a closed socket;
//! - it exits with 0 when the last connection is gone, at the latest when `LINGER` is over.
//!
//! | page | answer |
//! |---|---|
//! | `/` | version, host name and process id |
//! | `/ready` | 200 when ready, 503 while stopping or in the `unready` image |
//! | `/version` | the version alone |
//! | `/echo` | the request's body |
//! | `/crash` | none: the process aborts |
//! | `/hang` | none, and none to anything from then on |
//! | `/eat` | 200, then memory is taken until the kernel ends the process |

use std::{
    fs, io,
    net::{Ipv6Addr, SocketAddr},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

const PLAIN_PORT: u16 = 8080;
const TLS_PORT: u16 = 8443;
/// The largest request head that is read.
const HEAD_BYTES: usize = 8 << 10;
/// The largest body that `/echo` returns.
const BODY_BYTES: usize = 64 << 10;
/// How long idle connections may stay after SIGTERM; below the platform's grace of 10 s.
const LINGER: Duration = Duration::from_secs(4);
/// How long a TLS client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// One bite of `/eat`.
const BITE: usize = 1 << 20;

/// What the image says about itself, read once at start from `/etc/demo`.
struct App {
    version: String,
    host: String,
    broken: Option<String>,
    hanging: AtomicBool,
    stopping: watch::Receiver<Option<Instant>>,
}

fn main() -> ExitCode {
    let (stop, stopping) = watch::channel(None);
    let app = Arc::new(App {
        version: setting("version")
            .or_else(|| std::env::var("DEMO_VERSION").ok())
            .unwrap_or("unversioned".into()),
        host: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        broken: setting("broken").or_else(|| std::env::var("DEMO_BROKEN").ok()),
        hanging: AtomicBool::new(false),
        stopping,
    });
    if app.broken.as_deref() == Some("exit") {
        eprintln!("demo-app {}: this version is broken on purpose and ends at start", app.version);
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail("cannot start its threads", &error),
    };
    match runtime.block_on(serve(app, stop)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("cannot serve", &error),
    }
}

fn fail(what: &str, error: &io::Error) -> ExitCode {
    eprintln!("demo-app: {what}: {error}");
    ExitCode::FAILURE
}

/// A file of `/etc/demo`, trimmed.
fn setting(name: &str) -> Option<String> {
    fs::read_to_string(format!("/etc/demo/{name}")).ok().map(|text| text.trim().to_owned())
}

/// Serves both ports until SIGTERM, then until the last connection is gone or `LINGER` is over.
async fn serve(app: Arc<App>, stop: watch::Sender<Option<Instant>>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let plain = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, PLAIN_PORT))).await?;
    let secure = match acceptor()? {
        Some(acceptor) => {
            Some((TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, TLS_PORT))).await?, acceptor))
        }
        None => None,
    };
    println!("demo-app {} serves on {PLAIN_PORT}, pid {}", app.version, std::process::id());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            accepted = plain.accept() => take(&mut connections, &app, None, accepted),
            accepted = accept_secure(secure.as_ref()) => {
                take(&mut connections, &app, secure.as_ref().map(|(_, acceptor)| acceptor.clone()), accepted);
            }
            Some(_) = connections.join_next() => {}
        }
    }
    let last = Instant::now() + LINGER;
    stop.send_replace(Some(last));
    accept_backlog(&mut connections, &app, &plain, secure.as_ref()).await;
    drop((plain, secure));
    // A second more than idle connections get, for an answer that is under way at the last moment.
    let drained =
        timeout_at(last + Duration::from_secs(1), async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        eprintln!("demo-app: {} connections were still open at the end of the wait", connections.len());
    }
    Ok(())
}

/// The TLS side, if the image holds a certificate.
fn acceptor() -> io::Result<Option<TlsAcceptor>> {
    let (certificate, key) = ("/etc/demo/cert.pem", "/etc/demo/key.pem");
    if !fs::exists(certificate)? {
        return Ok(None);
    }
    let chain: Vec<CertificateDer> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(io::Error::other)?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

async fn accept_secure(secure: Option<&(TcpListener, TlsAcceptor)>) -> io::Result<(TcpStream, SocketAddr)> {
    match secure {
        Some((listener, _)) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Takes what the kernel had accepted before the listeners close: those clients saw a connection.
async fn accept_backlog(
    connections: &mut JoinSet<()>,
    app: &Arc<App>,
    plain: &TcpListener,
    secure: Option<&(TcpListener, TlsAcceptor)>,
) {
    let now = Duration::from_millis(1);
    while let Ok(accepted) = timeout(now, plain.accept()).await {
        take(connections, app, None, accepted);
    }
    while let Ok(accepted) = timeout(now, accept_secure(secure)).await {
        take(connections, app, secure.map(|(_, acceptor)| acceptor.clone()), accepted);
    }
}

fn take(
    connections: &mut JoinSet<()>,
    app: &Arc<App>,
    acceptor: Option<TlsAcceptor>,
    accepted: io::Result<(TcpStream, SocketAddr)>,
) {
    let Ok((stream, _)) = accepted else { return };
    let app = Arc::clone(app);
    connections.spawn(async move {
        // A client that goes away is that client's business; there is nobody to tell.
        let _ = stream.set_nodelay(true);
        let _ = match acceptor {
            None => converse(&app, stream).await,
            Some(acceptor) => match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => converse(&app, stream).await,
                Ok(Err(_)) | Err(_) => Ok(()),
            },
        };
    });
}

/// One request, as far as this server cares.
struct Request {
    path: String,
    body: Vec<u8>,
    keep: Keep,
}

/// Whether a connection outlives an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Alive,
    Close,
}

/// Answers requests on one connection until the client, an error or SIGTERM ends it.
async fn converse(app: &App, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = next_request(app, &mut stream, &mut buffer).await? {
        let (status, body) = answer(app, &request).await;
        // Asked after the answer was made: a request that SIGTERM overtakes is told to move too.
        let stopping = app.stopping.borrow().is_some();
        let keep = if stopping { Keep::Close } else { request.keep };
        let connection = if keep == Keep::Alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).await?;
        stream.flush().await?;
        if keep == Keep::Close {
            break;
        }
    }
    stream.shutdown().await
}

/// Reads one whole request; `None` when the client is done or the wait after SIGTERM is over.
async fn next_request(
    app: &App,
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Request>> {
    let mut stopping = app.stopping.clone();
    loop {
        if let Some(request) = parse(buffer)? {
            return Ok(Some(request));
        }
        let deadline = *stopping.borrow_and_update();
        let mut chunk = [0; 4096];
        let read = async {
            match deadline {
                None => tokio::select! {
                    read = stream.read(&mut chunk) => Some(read),
                    _ = stopping.changed() => None,
                },
                Some(deadline) => Some(timeout_at(deadline, stream.read(&mut chunk)).await.unwrap_or(Ok(0))),
            }
        };
        match read.await {
            None => continue,
            Some(Ok(0)) => return Ok(None),
            Some(Ok(length)) => buffer.extend_from_slice(&chunk[..length]),
            Some(Err(error)) => return Err(error),
        }
    }
}

/// Takes one whole request off the front of `buffer`; `None` while more is to come.
fn parse(buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if buffer.len() > HEAD_BYTES { Err(io::Error::other("head too long")) } else { Ok(None) };
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or("/").to_owned();
    let header = |wanted: &str| {
        head.split("\r\n").skip(1).filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_ascii_lowercase())
        })
    };
    let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    if length > BODY_BYTES {
        return Err(io::Error::other("body too long"));
    }
    if buffer.len() < end + 4 + length {
        return Ok(None);
    }
    let keep = if header("connection").as_deref() == Some("close") { Keep::Close } else { Keep::Alive };
    let body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Ok(Some(Request { path, body, keep }))
}

async fn answer(app: &App, request: &Request) -> (&'static str, Vec<u8>) {
    if app.hanging.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    let path = request.path.split('?').next().unwrap_or("/");
    match path {
        "/" => {
            let text = format!("version={} host={} pid={}\n", app.version, app.host, std::process::id());
            ("200 OK", text.into_bytes())
        }
        "/version" => ("200 OK", format!("{}\n", app.version).into_bytes()),
        "/ready" if app.stopping.borrow().is_some() => ("503 Service Unavailable", b"stopping\n".to_vec()),
        "/ready" if app.broken.is_some() => ("503 Service Unavailable", b"broken on purpose\n".to_vec()),
        "/ready" => ("200 OK", b"ready\n".to_vec()),
        "/echo" => ("200 OK", request.body.clone()),
        "/crash" => std::process::abort(),
        "/hang" => {
            app.hanging.store(true, Ordering::Relaxed);
            std::future::pending().await
        }
        "/eat" => {
            std::thread::spawn(eat);
            ("200 OK", format!("host={} eats\n", app.host).into_bytes())
        }
        _ => ("404 Not Found", b"no such page\n".to_vec()),
    }
}

/// Takes memory and touches every page of it until the kernel ends the process.
fn eat() {
    // The answer to the request goes out first.
    std::thread::sleep(Duration::from_millis(100));
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(vec![eaten.len() as u8 | 1; BITE]);
        std::hint::black_box(&eaten);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_whole_and_the_next_one_stays() {
        let mut buffer = b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhel".to_vec();
        assert!(parse(&mut buffer).expect("sound so far").is_none());
        buffer.extend_from_slice(b"loGET / HTTP/1.1\r\nConnection: Close\r\n\r\n");
        let first = parse(&mut buffer).expect("sound").expect("whole");
        assert_eq!((first.path.as_str(), first.body.as_slice()), ("/echo", b"hello".as_slice()));
        assert!(first.keep == Keep::Alive);
        let second = parse(&mut buffer).expect("sound").expect("whole");
        assert!(second.path == "/" && second.keep == Keep::Close && buffer.is_empty());
    }

    #[test]
    fn a_head_without_end_is_refused() {
        assert!(parse(&mut vec![b'a'; HEAD_BYTES + 1]).is_err());
    }
}
