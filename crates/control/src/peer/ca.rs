//! The cluster's own certificate authority, and what a member shows of it to others.
//!
//! ```text
//! peer/                for its owner only, as are the files
//!   ca.pem             the authority's certificate; its name is the cluster's id
//!   ca.key             its key: whoever has it can be any member
//!   member.pem         this member's certificate, which names it and nothing else
//!   member.key         that certificate's key
//! ```
//!
//! These certificates have no end. One that expired would stop a cluster in which nothing is wrong; who is
//! a member is decided by the log, and asked at every connection. What clients are shown ends: [`super::shown`].

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rt::{Disk, DiskError, Operation, RealDisk};
use rustls::{
    CertificateError, ClientConfig, RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier, verify_server_name},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{ParsedCertificate, WebPkiClientVerifier},
};
use sha2::{Digest, Sha256};
use std::{
    fmt, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use types::{NodeId, Timestamp, limits};

const DIR: &str = "peer";
const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const MEMBER: &str = "member.pem";
const MEMBER_KEY: &str = "member.key";
/// The folder is for its owner.
const DIR_MODE: u32 = 0o700;

/// Why there is no authority, no certificate or no use of one.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A key or certificate could not be made.
    #[error("cannot make {what}: {why}")]
    Make {
        /// What.
        what: &'static str,
        /// What the library says.
        why: String,
    },
    /// A file is missing.
    #[error("{} is missing; {way_on}", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What to do.
        way_on: &'static str,
    },
    /// A file is not what it should be.
    #[error("{} is not usable: {why}; {way_on}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        way_on: &'static str,
    },
}

const ISSUE_AGAIN: &str = "have a member of the cluster issue this one a certificate again";
const ASK_ANOTHER: &str = "certificates can be issued by a member that has it, or take it from a backup";
const RESTORE: &str = "take both ca.pem and ca.key from another member or a backup";

/// The name that a member's certificate holds.
pub fn member_name(node: NodeId) -> String {
    format!("{}.member", node.to_string().replace('_', "-").to_ascii_lowercase())
}

pub(super) fn server_name(node: NodeId) -> ServerName<'static> {
    ServerName::try_from(member_name(node)).expect("letters, digits, a hyphen and a dot")
}

/// Whether a certificate, whose origin is known by then, names this member.
pub(super) fn names(certificate: &CertificateDer<'_>, node: NodeId) -> bool {
    let parsed = ParsedCertificate::try_from(certificate);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, &server_name(node)).is_ok())
}

/// The authority of one cluster. Whoever holds it can make members.
pub struct Authority {
    cluster: String,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority for this cluster.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn make(cluster: &str, now: Timestamp) -> Result<Self, CaError> {
        let fail = |error: rcgen::Error| CaError::Make { what: "an authority", why: error.to_string() };
        let key = KeyPair::generate().map_err(fail)?;
        let params = authority_params(cluster, now);
        let certificate = params.self_signed(&key).map_err(fail)?.pem();
        Ok(Self { cluster: cluster.to_owned(), certificate, issuer: Issuer::new(params, key) })
    }

    /// The authority that lies in a data directory.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is another cluster's.
    pub fn load(data_dir: &Path, cluster: &str) -> Result<Self, CaError> {
        let dir = data_dir.join(DIR);
        let read = |name| read_text(&dir.join(name), RESTORE);
        let missing = |name| CaError::Missing { path: dir.join(name), way_on: ASK_ANOTHER };
        let certificate = read(CA)?.ok_or_else(|| missing(CA))?;
        let key = read(CA_KEY)?.ok_or_else(|| missing(CA_KEY))?;
        Self::from_parts(cluster, [certificate, key]).map_err(|error| match error {
            CaError::Unusable { path, why, .. } => {
                CaError::Unusable { path: dir.join(path), why, way_on: RESTORE }
            }
            error => error,
        })
    }

    /// Keeps it in a data directory. The certificate is written last: without one there is no authority.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, data_dir: &Path) -> Result<(), CaError> {
        let dir = private_dir(data_dir)?;
        rt::replace_file(&RealDisk, &dir.join(CA_KEY), self.issuer.key().serialize_pem().as_bytes())?;
        rt::replace_file(&RealDisk, &dir.join(CA), self.certificate.as_bytes())?;
        Ok(())
    }

    /// As it came from another member: its certificate and its key, both in PEM.
    ///
    /// # Errors
    /// They do not belong together, or are another cluster's.
    pub fn from_parts(cluster: &str, [certificate, key]: [String; 2]) -> Result<Self, CaError> {
        let unusable = |name: &str, why: String| unusable(Path::new(name), why);
        let key = KeyPair::from_pem(&key).map_err(|error| unusable(CA_KEY, error.to_string()))?;
        // The time in these parameters is of no use: the certificate exists.
        let issuer = Issuer::new(authority_params(cluster, Timestamp::ZERO), key);
        let authority = Self { cluster: cluster.to_owned(), certificate, issuer };
        // What it makes must be taken for its own, or certificates would be made that open nothing.
        let issued = authority.issue(NodeId::from_u128(0), Timestamp::ZERO)?;
        issued.verify().map_err(|(_, why)| {
            let why = format!("it is not the certificate of {CA_KEY} and of cluster {cluster} ({why})");
            unusable(CA, why)
        })?;
        Ok(authority)
    }

    /// Its certificate and its key, in PEM: what [`Self::from_parts`] takes.
    pub fn parts(&self) -> [String; 2] {
        [self.certificate.clone(), self.issuer.key().serialize_pem()]
    }

    /// A certificate and key for a member.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn issue(&self, node: NodeId, now: Timestamp) -> Result<Identity, CaError> {
        let mut params = named(vec![member_name(node)])?;
        valid(&mut params, now);
        params.distinguished_name.push(DnType::CommonName, node.to_string());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = self.sign(params)?;
        Ok(Identity {
            cluster: self.cluster.clone(),
            node,
            authority: self.certificate.clone(),
            certificate,
            key,
        })
    }

    /// What the API is served with under these names, addresses or host names: a certificate that ends
    /// after [`limits::API_CERTIFICATE_LIFE`] and is no member's, and the authority's.
    ///
    /// # Errors
    /// The system gives no randomness, or a name is none.
    pub fn issue_for(&self, names: Vec<String>, now: Timestamp) -> Result<ServerConfig, CaError> {
        let mut params = named(names)?;
        valid(&mut params, now);
        let life = Duration::from_millis(now.plus(limits::API_CERTIFICATE_LIFE).as_ms());
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + life;
        params.distinguished_name.push(DnType::CommonName, "Holdfast API");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (certificate, key) = self.sign(params)?;
        api_config([&certificate, &self.certificate], &key)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<(String, String), CaError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(unmade)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(unmade)?.pem();
        Ok((certificate, key.serialize_pem()))
    }
}

fn named(names: Vec<String>) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::new(names).map_err(unmade)?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

fn unmade(error: rcgen::Error) -> CaError {
    CaError::Make { what: "a certificate", why: error.to_string() }
}

fn authority_params(cluster: &str, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    valid(&mut params, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, cluster);
    params
}

/// From a while ago, for clocks differ, and with "no well-defined expiration date" as RFC 5280 has it
/// in 4.1.2.5, by the day.
fn valid(params: &mut CertificateParams, now: Timestamp) {
    let since = Duration::from_millis(now.minus(limits::PEER_CLOCK_BEHIND).as_ms());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since;
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
}

/// What a member shows to others, and by what it knows them.
#[derive(Clone)]
pub struct Identity {
    cluster: String,
    node: NodeId,
    authority: String,
    certificate: String,
    key: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Identity");
        shown.field("cluster", &self.cluster).field("node", &self.node).finish_non_exhaustive()
    }
}

impl Identity {
    /// As it came from the member that issued it: all three in PEM.
    ///
    /// # Errors
    /// They do not belong together.
    pub fn from_parts(
        cluster: String,
        node: NodeId,
        [authority, certificate, key]: [String; 3],
    ) -> Result<Self, CaError> {
        let identity = Self { cluster, node, authority, certificate, key };
        identity.verify().map_err(|(name, why)| unusable(Path::new(name), why))?;
        Ok(identity)
    }

    /// The identity that lies in a data directory; none if none was ever put there.
    ///
    /// # Errors
    /// It cannot be read, is incomplete, or is another member's.
    pub fn load(data_dir: &Path, cluster: &str, node: NodeId) -> Result<Option<Self>, CaError> {
        let dir = data_dir.join(DIR);
        let read = |name| read_text(&dir.join(name), ISSUE_AGAIN);
        let Some(certificate) = read(MEMBER)? else { return Ok(None) };
        let needed = |name| {
            let missing = || CaError::Missing { path: dir.join(name), way_on: ISSUE_AGAIN };
            read(name).and_then(|text| text.ok_or_else(missing))
        };
        let (authority, key) = (needed(CA)?, needed(MEMBER_KEY)?);
        let identity = Self { cluster: cluster.to_owned(), node, authority, certificate, key };
        identity.verify().map_err(|(name, why)| unusable(&dir.join(name), why))?;
        Ok(Some(identity))
    }

    /// Keeps it in a data directory. The certificate is written last: without one there is none.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, data_dir: &Path) -> Result<(), CaError> {
        let dir = private_dir(data_dir)?;
        for (name, text) in [(CA, &self.authority), (MEMBER_KEY, &self.key), (MEMBER, &self.certificate)] {
            rt::replace_file(&RealDisk, &dir.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// Whose it is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The authority's certificate, the member's, and the member's key: what [`Self::from_parts`] takes.
    pub fn parts(&self) -> [&str; 3] {
        [&self.authority, &self.certificate, &self.key]
    }

    /// What tells this cluster's authority from all others.
    ///
    /// # Errors
    /// Its certificate is none.
    pub fn fingerprint(&self) -> Result<[u8; 32], CaError> {
        fingerprint_of(&self.authority)
    }

    /// What connections are made with.
    ///
    /// # Errors
    /// The parts do not belong together.
    pub fn tls(&self) -> Result<Tls, CaError> {
        self.verify().map_err(|(name, why)| unusable(Path::new(name), why))
    }

    /// What the API is served with where there is no authority: this very certificate.
    ///
    /// # Errors
    /// The parts do not belong together.
    pub fn api(&self) -> Result<ServerConfig, CaError> {
        api_config([&self.certificate, &self.authority], &self.key)
    }

    /// Builds everything, and so finds out whether the parts belong together. An error says which file
    /// is to blame.
    fn verify(&self) -> Result<Tls, (&'static str, String)> {
        let blame = |name| move |error: &dyn fmt::Display| (name, error.to_string());
        let (ca, member, key) = (blame(CA), blame(MEMBER), blame(MEMBER_KEY));
        let root = CertificateDer::from_pem_slice(self.authority.as_bytes()).map_err(|error| ca(&error))?;
        // The authority's too, so that one that knows only its fingerprint can tell.
        let shown = vec![member_der(&self.certificate).map_err(|error| member(&error))?, root.clone()];
        let own = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let own = own.map_err(|error| member(&error))?;
        let private = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| key(&error))?;
        let mut roots = RootCertStore::empty();
        roots.add(root).map_err(|error| ca(&error))?;
        let (roots, provider) = (Arc::new(roots), provider());
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| ca(&error))?;
        servers
            .verify_server_cert(&own, &[], &server_name(self.node), &[], UnixTime::now())
            .map_err(|error| (MEMBER, self.explain(&error)))?;
        // One without a certificate may ask to be made a member, and nothing else: see `serve`.
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| ca(&error))?;
        // Both sides are of this project: the newest version of TLS is all that is needed.
        let versions = &[&rustls::version::TLS13];
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| key(&error))?
            .with_client_cert_verifier(clients)
            .with_single_cert(shown, private.clone_key())
            .map_err(|error| key(&error))?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| key(&error))?
            .with_webpki_verifier(servers)
            .with_client_auth_cert(vec![own], private)
            .map_err(|error| key(&error))?;
        // Every connection proves both names anew.
        client.resumption = rustls::client::Resumption::disabled();
        server.send_tls13_tickets = 0;
        let (cluster, node, mode) = (self.cluster.clone(), self.node, String::new());
        Ok(Tls { cluster, node, mode, server: Arc::new(server), client: Arc::new(client) })
    }

    fn explain(&self, error: &rustls::Error) -> String {
        use CertificateError::{NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext};
        match error {
            rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
                format!("it does not name this member, {}", self.node)
            }
            rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
                "it is from a time that this machine's clock says is still to come".to_owned()
            }
            error => format!("{CA} did not issue it ({error})"),
        }
    }
}

/// How clients are served. They are anybody's, so TLS 1.2 is still spoken; nothing older is.
fn api_config(chain: [&str; 2], key: &str) -> Result<ServerConfig, CaError> {
    let blame = |name| move |error: &dyn fmt::Display| unusable(Path::new(name), error.to_string());
    let (member, blamed) = (blame(MEMBER), blame(MEMBER_KEY));
    let shown: Result<Vec<_>, _> = chain.into_iter().map(member_der).collect();
    let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| blamed(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| blamed(&error))?
        .with_no_client_auth()
        .with_single_cert(shown.map_err(|error| member(&error))?, private)
        .map_err(|error| blamed(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn member_der(pem: &str) -> Result<CertificateDer<'static>, rustls::pki_types::pem::Error> {
    CertificateDer::from_pem_slice(pem.as_bytes())
}

/// What tells an authority from all others: SHA-256 over its certificate.
fn fingerprint_of(pem: &str) -> Result<[u8; 32], CaError> {
    let certificate = member_der(pem).map_err(|error| unusable(Path::new(CA), error.to_string()))?;
    Ok(Sha256::digest(&certificate).into())
}

fn unusable(path: &Path, why: String) -> CaError {
    CaError::Unusable { path: path.to_path_buf(), why, way_on: ISSUE_AGAIN }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// How a member connects to others, and others to it.
#[derive(Clone, Debug)]
pub struct Tls {
    pub(super) cluster: String,
    pub(super) node: NodeId,
    pub(super) mode: String,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

impl Tls {
    /// The same, for a member that runs in this mode. Members of different modes refuse each other.
    #[must_use]
    pub fn in_mode(mut self, mode: &str) -> Self {
        mode.clone_into(&mut self.mode);
        self
    }

    /// The same, as one that says it is of another cluster or another member. For tests of those who
    /// must not believe it.
    #[doc(hidden)]
    #[must_use]
    pub fn claiming(mut self, cluster: &str, node: NodeId) -> Self {
        self.cluster = cluster.to_owned();
        self.node = node;
        self
    }
}

fn private_dir(data_dir: &Path) -> Result<PathBuf, DiskError> {
    let dir = data_dir.join(DIR);
    RealDisk.create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(DIR_MODE))
        .map_err(|source| DiskError::new(Operation::CreateDir, &dir, source))?;
    RealDisk.sync_dir(data_dir)?;
    Ok(dir)
}

fn read_text(path: &Path, way_on: &'static str) -> Result<Option<String>, CaError> {
    let bytes = match RealDisk.read(path) {
        Err(error) if error.is_not_found() => return Ok(None),
        read => read?,
    };
    let text = String::from_utf8(bytes).map_err(|_| CaError::Unusable {
        path: path.to_path_buf(),
        why: "it is not text".into(),
        way_on,
    })?;
    Ok(Some(text))
}
