//! As much of an HTTP client as the load needs: one GET at a time, kept alive or not, plain or
//! over TLS with the demo's authority as the only trusted one.

use crate::{Failure, Outcome};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName},
    },
};

/// Where requests go, and how.
#[derive(Clone)]
pub struct Target {
    /// The edge's listener.
    pub address: SocketAddr,
    /// The name to ask for, and how to verify the answer; `None` is plain HTTP.
    pub tls: Option<(ServerName<'static>, TlsConnector)>,
}

impl Target {
    /// Plain HTTP at a loopback port.
    pub fn plain(port: u16) -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), tls: None }
    }

    /// TLS at a loopback port, for `host`, trusting only the certificate `authority`.
    ///
    /// # Errors
    /// The certificate or the name is not sound.
    pub fn tls(port: u16, host: &str, authority: &[u8]) -> Outcome<Self> {
        let fail = |error: String| Failure::new("prepare a TLS client", error);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.to_vec())).map_err(|error| fail(error.to_string()))?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fail(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every handshake is a full one: a resumed session would hide a wrong certificate.
        config.resumption = tokio_rustls::rustls::client::Resumption::disabled();
        let name = ServerName::try_from(host.to_owned()).map_err(|error| fail(error.to_string()))?;
        let tls = Some((name, TlsConnector::from(Arc::new(config))));
        Ok(Self { tls, ..Self::plain(port) })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Refused, reset, or the certificate is not what it should be.
    pub async fn connect(&self) -> io::Result<Wire> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some((name, connector)) => Box::new(connector.connect(name.clone(), stream).await?),
        };
        Ok(Wire { stream, buffer: Vec::new(), opened: Instant::now() })
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    opened: Instant,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// What was sent.
    pub body: Vec<u8>,
    /// The server said `Connection: close`: this connection takes no further request.
    pub closes: bool,
}

impl Wire {
    /// How long it has been open.
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Asks for a page and reads the whole answer.
    ///
    /// # Errors
    /// The connection ends before the answer does, or the answer is not HTTP.
    pub async fn get(&mut self, path: &str) -> io::Result<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: demo\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        loop {
            if let Some(answer) = parse(&mut self.buffer)? {
                return Ok(answer);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "closed before the answer was whole",
                ));
            }
        }
    }

    /// Ends the connection from this side, politely.
    pub async fn close(mut self) {
        // What matters has been answered; a peer that is gone already is closed too.
        self.stream.shutdown().await.ok();
    }
}

fn parse(buffer: &mut Vec<u8>) -> io::Result<Option<Answer>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("not an HTTP answer"))?;
    let header = |wanted: &str| {
        let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find_map(|(name, value)| (name == wanted).then(|| value.trim().to_owned()))
    };
    let length: usize = header("content-length")
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| io::Error::other("an answer without content-length"))?;
    if buffer.len() < end + 4 + length {
        return Ok(None);
    }
    let closes = header("connection").is_some_and(|value| value == "close");
    let body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Ok(Some(Answer { status, body, closes }))
}

/// One GET on a connection of its own.
///
/// # Errors
/// The page does not answer within the time, or not with HTTP.
pub async fn get_once(target: &Target, path: &str, within: Duration) -> Outcome<Answer> {
    let ask = async {
        let mut wire = target.connect().await?;
        let answer = wire.get(path).await?;
        wire.close().await;
        Ok::<_, io::Error>(answer)
    };
    match timeout(within, ask).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::new(format!("GET {path} at {}", target.address), error)),
        Err(_) => Err(Failure::new(format!("GET {path} at {}", target.address), "no answer in time")),
    }
}

/// [`get_once`] for code that is not asynchronous, over plain HTTP at `HOST:PORT`.
///
/// # Errors
/// As [`get_once`].
pub fn get_plain(address: &str, path: &str, within: Duration) -> Outcome<Answer> {
    let address = address.parse().map_err(|error| Failure::new(address, error))?;
    get_blocking(&Target { address, tls: None }, path, within)
}

/// [`get_once`] for code that is not asynchronous.
///
/// # Errors
/// As [`get_once`].
pub fn get_blocking(target: &Target, path: &str, within: Duration) -> Outcome<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("start a client", error))?;
    runtime.block_on(get_once(target, path, within))
}
