//! What the tests play on: an edge, a control plane in the same process, backends that say who
//! they are, and clients that check whom they reached.

use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use holdfast_edge::{Config, ControlLink, Edge, Handle, LinkError, Plans};
use rt::RealDisk;
use std::{
    collections::BTreeMap,
    io,
    net::{Ipv6Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use types::{
    EnvId, Generation, InstanceId, RouteId,
    manifest::ProxyProtocol,
    plan::{Backend, EdgePlan, EdgeRoute, Lease, RouteMatch},
};

/// Longer than anything here takes; reached only when something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a fact, and names it when it does not come.
pub async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let start = Instant::now();
    while !fact() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A control plane: hands out its newest plan, keeps the leases it was told.
#[derive(Debug)]
pub struct Control {
    plan: watch::Sender<Option<EdgePlan>>,
    pub leases: Mutex<Vec<Lease>>,
    pub up: AtomicBool,
    pub streams: AtomicU64,
}

impl Control {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            plan: watch::Sender::new(None),
            leases: Mutex::default(),
            up: AtomicBool::new(true),
            streams: AtomicU64::new(0),
        })
    }

    pub fn publish(&self, plan: EdgePlan) {
        self.plan.send_replace(Some(plan));
    }

    /// The last lease, if there was one.
    pub fn lease(&self) -> Option<Lease> {
        self.leases.lock().expect("not poisoned").last().cloned()
    }

    pub fn acknowledged(&self) -> u64 {
        self.lease().map_or(0, |lease| lease.generation.get())
    }

    /// Goes away with every stream, or comes back.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, SeqCst);
        self.plan.send_modify(|_| {});
    }
}

/// The link to a [`Control`].
pub struct ToControl(pub Arc<Control>);

impl ControlLink for ToControl {
    fn plans(&self, held: types::history::Held) -> BoxFuture<'_, Result<Plans, LinkError>> {
        async move {
            if !self.0.up.load(SeqCst) {
                return Err(LinkError::new("the control plane is away"));
            }
            self.0.streams.fetch_add(1, SeqCst);
            let state = (Arc::clone(&self.0), self.0.plan.subscribe(), held.generation, false);
            let plans = futures_util::stream::unfold(state, |(control, mut plans, after, over)| async move {
                if over {
                    return None;
                }
                loop {
                    let newest = plans.borrow_and_update().clone();
                    if !control.up.load(SeqCst) {
                        let lost = Err(LinkError::new("the stream was cut"));
                        return Some((lost, (control, plans, after, true)));
                    }
                    // Whatever differs is offered, older ones too: refusing them is the edge's part.
                    match newest {
                        Some(plan) if plan.generation != after => {
                            let after = plan.generation;
                            return Some((Ok(plan), (control, plans, after, false)));
                        }
                        _ => plans.changed().await.ok()?,
                    }
                }
            });
            Ok(plans.boxed())
        }
        .boxed()
    }

    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Generation, LinkError>> {
        async move {
            if !self.0.up.load(SeqCst) {
                return Err(LinkError::new("the control plane is away"));
            }
            self.0.leases.lock().expect("not poisoned").push(lease);
            Ok(self.0.plan.borrow().as_ref().map_or(Generation::ZERO, |plan| plan.generation))
        }
        .boxed()
    }
}

/// A running edge.
pub struct Running {
    pub handle: Handle,
    pub shutdown: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Running {
    pub fn tls(&self) -> SocketAddr {
        self.handle.tls_address().expect("the tests listen for TLS")
    }

    /// The value of one line of the metrics.
    pub fn metric(&self, line: &str) -> u64 {
        let metrics = self.handle.metrics();
        let found = metrics.lines().find_map(|each| each.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {line} in {metrics}")).parse().expect("a number")
    }

    pub fn result(&self, result: &str) -> u64 {
        self.metric(&format!("holdfast_edge_connections_total{{result=\"{result}\"}}"))
    }

    pub fn of(&self, name: &str, instance: InstanceId) -> u64 {
        self.metric(&format!("holdfast_edge_{name}{{instance=\"{instance}\"}}"))
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("the edge does not panic");
    }
}

pub fn config(dir: &Path) -> Config {
    let mut config = Config::new(dir);
    config.listen_tls = Some(loopback(0));
    config.listen_tcp_address = Ipv6Addr::LOCALHOST.into();
    config.metrics = None;
    config.drain_wait = Duration::from_secs(5);
    config
}

pub fn start(config: Config, control: Option<&Arc<Control>>) -> Running {
    let link = control.map(|control| Arc::new(ToControl(Arc::clone(control))) as Arc<dyn ControlLink>);
    let edge = Edge::start(config, Arc::new(RealDisk), link).expect("it starts");
    let (handle, shutdown) = (edge.handle(), CancellationToken::new());
    let task = tokio::spawn(edge.run(shutdown.clone()));
    Running { handle, shutdown, task }
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(loopback(0)).expect("there are free ports");
    listener.local_addr().expect("bound").port()
}

pub fn env(number: u128) -> EnvId {
    EnvId::from_u128(number)
}

pub fn instance(number: u128) -> InstanceId {
    InstanceId::from_u128(number)
}

pub fn tls_route(env: EnvId, host: &str, backends: Vec<Backend>) -> EdgeRoute {
    let matches = RouteMatch::Tls { host: host.parse().expect("a host name") };
    EdgeRoute { env, matches, proxy_protocol: ProxyProtocol::Off, backends }
}

pub fn tcp_route(env: EnvId, listen: u16, backends: Vec<Backend>) -> EdgeRoute {
    EdgeRoute { env, matches: RouteMatch::Tcp { listen }, proxy_protocol: ProxyProtocol::Off, backends }
}

pub fn plan(generation: u64, routes: Vec<EdgeRoute>) -> EdgePlan {
    let ids = (1..).map(RouteId::from_u128);
    EdgePlan {
        cluster: "test".into(),
        epoch: types::Epoch::new(1),
        generation: Generation::new(generation),
        adoption: None,
        routes: ids.zip(routes).collect::<BTreeMap<_, _>>(),
    }
}

/// A backend of some instance: every connection is told `instance env`, then echoed.
pub struct Server {
    pub backend: Backend,
    stop: CancellationToken,
}

impl Server {
    pub async fn tls(number: u128, env: EnvId) -> Self {
        Self::serve(number, env, loopback(0), Some(acceptor())).await
    }

    pub async fn plain(number: u128, env: EnvId) -> Self {
        Self::serve(number, env, loopback(0), None).await
    }

    pub async fn plain_at(number: u128, env: EnvId, address: SocketAddr) -> Self {
        Self::serve(number, env, address, None).await
    }

    async fn serve(number: u128, env: EnvId, address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("bound");
        let backend = Backend { instance: instance(number), env, address, proxy_protocol: None };
        let (stop, greeting) = (CancellationToken::new(), who(&backend));
        let stopped = stop.clone();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                stream.set_nodelay(true).expect("an open socket");
                let (tls, greeting) = (tls.clone(), greeting.clone());
                tokio::spawn(stopped.clone().run_until_cancelled_owned(async move {
                    // Clients of these tests break off as they like.
                    let _ = match tls {
                        None => echo(stream, &greeting).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => echo(stream, &greeting).await,
                            Err(error) => Err(error),
                        },
                    };
                }));
            }
        }));
        Self { backend, stop }
    }

    /// Ends it and every connection to it.
    pub fn kill(&self) {
        self.stop.cancel();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a backend says first.
pub fn who(backend: &Backend) -> String {
    format!("{} {}\n", backend.instance, backend.env)
}

async fn echo(stream: impl AsyncRead + AsyncWrite, greeting: &str) -> io::Result<()> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    writing.write_all(greeting.as_bytes()).await?;
    tokio::io::copy(&mut reading, &mut writing).await?;
    writing.shutdown().await
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["*.test".into()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the key fits the certificate");
    TlsAcceptor::from(Arc::new(config))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Takes any certificate: who answers is told by what it says.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

mod any_certificate {
    use super::AnyCertificate;
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    impl ServerCertVerifier for AnyCertificate {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

/// How a TLS client speaks.
#[derive(Clone, Copy, Default)]
pub struct Speech {
    /// The size of its TLS records.
    pub fragment: Option<usize>,
    /// Says no server name.
    pub nameless: bool,
}

pub async fn tls_connect(edge: SocketAddr, host: &str, speech: Speech) -> io::Result<TlsStream<TcpStream>> {
    tls_over(TcpStream::connect(edge).await?, host, speech).await
}

pub async fn tls_over(stream: TcpStream, host: &str, speech: Speech) -> io::Result<TlsStream<TcpStream>> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider())))
        .with_no_client_auth();
    config.max_fragment_size = speech.fragment;
    config.enable_sni = !speech.nameless;
    stream.set_nodelay(true)?;
    let host = host.to_owned().try_into().expect("a server name");
    TlsConnector::from(Arc::new(config)).connect(host, stream).await
}

/// Reads what the backend says of itself.
pub async fn read_who(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut said = Vec::new();
    while said.last() != Some(&b'\n') {
        said.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(said).expect("it speaks text"))
}

/// One whole TLS connection; answers who it reached, after an echo that came back right.
pub async fn visit(edge: SocketAddr, host: &str) -> io::Result<String> {
    let mut stream = tls_connect(edge, host, Speech::default()).await?;
    let who = read_who(&mut stream).await?;
    check_echo(&mut stream, b"hello, it is me").await?;
    Ok(who)
}

/// One whole TCP connection; as [`visit`].
pub async fn visit_tcp(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let who = read_who(&mut stream).await?;
    check_echo(&mut stream, b"hello, it is me").await?;
    Ok(who)
}

pub async fn check_echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &[u8]) -> io::Result<()> {
    stream.write_all(text).await?;
    stream.flush().await?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await?;
    assert_eq!(back, text, "what comes back is what was sent");
    Ok(())
}

/// Says some bytes and answers how the connection ends: everything that came until then.
pub async fn say_and_wait(edge: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(edge).await.expect("the edge accepts");
    stream.write_all(bytes).await.expect("the edge reads");
    let mut back = Vec::new();
    let read =
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut back)).await.expect("it is closed in time");
    match read {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    back
}
