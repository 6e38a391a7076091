//! What tests of images need: images made on the spot, a real registry, and one that misbehaves.
//! Used by the tests of the agent as well.
#![allow(dead_code, reason = "each test file uses its own part")]

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use types::Digest;

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// A layer as it is stored, and what it unpacks to.
pub struct Layer {
    pub packed: Vec<u8>,
    pub diff_id: Digest,
}

impl Layer {
    /// A gzipped archive of files.
    pub fn files(files: &[(&str, &str)]) -> Self {
        let mut to = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            to.append_data(&mut header, path, text.as_bytes()).expect("in memory");
        }
        Self::gzip(&to.into_inner().expect("in memory"))
    }

    /// A gzipped archive.
    pub fn gzip(archive: &[u8]) -> Self {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(archive).expect("in memory");
        Self { packed: to.finish().expect("in memory"), diff_id: digest(archive) }
    }
}

/// The platform tests run on, in the words of images.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An OCI layout that is written to.
pub struct Layout {
    pub path: PathBuf,
    entries: Vec<Value>,
}

impl Layout {
    pub fn new(path: PathBuf) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).expect("made");
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
        let mut layout = Self { path, entries: Vec::new() };
        layout.write_index();
        layout
    }

    fn write_index(&mut self) {
        let index = json!({"schemaVersion": 2, "manifests": self.entries});
        fs::write(self.path.join("index.json"), index.to_string()).expect("written");
    }

    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    pub fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        fs::write(self.blob_path(&digest), bytes).expect("written");
        digest
    }

    /// Writes an image and returns the digest of its manifest.
    pub fn image(&mut self, tag: &str, layers: &[Layer]) -> Digest {
        self.image_for(tag, layers, architecture())
    }

    pub fn image_for(&mut self, tag: &str, layers: &[Layer], architecture: &str) -> Digest {
        let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Entrypoint": ["/bin/app"], "Cmd": ["serve"], "Env": ["A=b"], "User": "1000:1000",
                       "WorkingDir": "/srv", "StopSignal": "SIGQUIT", "Labels": {"tag": tag}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                       "digest": self.blob(&layer.packed), "size": layer.packed.len()})
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                       "digest": self.blob(config.as_bytes()), "size": config.len()},
            "layers": layers,
        })
        .to_string();
        let digest = self.blob(manifest.as_bytes());
        self.tag(tag, "application/vnd.oci.image.manifest.v1+json", &digest, manifest.len());
        digest
    }

    /// Writes an index over images for platforms, tags it, and returns its digest.
    pub fn index(&mut self, tag: &str, images: &[(&str, &Digest)]) -> Digest {
        let entries: Vec<Value> = images
            .iter()
            .map(|(architecture, digest)| {
                let size = fs::metadata(self.blob_path(digest)).expect("written").len();
                json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
                       "platform": {"os": "linux", "architecture": architecture}})
            })
            .collect();
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string();
        let digest = self.blob(index.as_bytes());
        self.tag(tag, kind, &digest, index.len());
        digest
    }

    fn tag(&mut self, tag: &str, kind: &str, digest: &Digest, size: usize) {
        self.entries.push(json!({"mediaType": kind, "digest": digest, "size": size,
            "annotations": {"org.opencontainers.image.ref.name": tag}}));
        self.write_index();
    }

    pub fn reference(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.path.display())
    }
}

/// A real registry on loopback with its storage in a directory. Killed when dropped.
pub struct Registry {
    process: Child,
    pub port: u16,
}

impl Registry {
    pub fn start(dir: &Path) -> Self {
        // Another process may take the port between our look and the registry's start: then again.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
            let config = dir.join("registry.yml");
            let text = format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem:\n    \
                 rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
                dir.join("storage").display()
            );
            fs::write(&config, text).expect("written");
            let process = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("docker-registry is installed (make setup)");
            let mut registry = Self { process, port };
            if registry.comes_up() {
                return registry;
            }
        }
        panic!("docker-registry does not come up");
    }

    fn comes_up(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            if self.process.try_wait().expect("a child").is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Copies a tag of a layout into the registry with every digest kept; returns its reference.
    pub fn push(&self, layout: &Layout, tag: &str, name: &str) -> String {
        let reference = format!("127.0.0.1:{}/{name}:{tag}", self.port);
        let output = Command::new("skopeo")
            .args([
                "copy",
                "--quiet",
                "--insecure-policy",
                "--all",
                "--preserve-digests",
                "--dest-tls-verify=false",
            ])
            .arg(layout.reference(tag))
            .arg(format!("docker://{reference}"))
            .output()
            .expect("skopeo is installed (make setup)");
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
        reference
    }

    pub fn kill(&mut self) {
        let _already_gone = self.process.kill();
        self.process.wait().expect("a child");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a misbehaving registry answers.
pub enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A status and no more.
    Status(&'static str),
    /// Bytes without end, with the beginning given.
    Endless(Vec<u8>),
    /// Half of these bytes, though all are promised; then the connection ends.
    Cut(Vec<u8>),
    /// Whoever asks without this token is sent to get it at `/token`.
    NeedsToken(Vec<u8>),
}

/// A registry of our own that answers each path as told.
pub struct Fake {
    pub port: u16,
    pub asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

const TOKEN: &str = "a-token-of-the-test";

impl Fake {
    pub fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end, answer) = (asked.clone(), stop.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), answer, count) = (stream, answer.clone(), count.clone()) else { return };
                std::thread::spawn(move || {
                    // The other side closes when it has had enough: an error here is its right.
                    let _closed = serve(stream, port, &count, &*answer);
                });
            }
        });
        Self { port, asked, stop }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _wakes_the_listener = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(
    mut stream: TcpStream,
    port: u16,
    count: &AtomicUsize,
    answer: &dyn Fn(&str) -> Answer,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).take(64 << 10).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut authorized = false;
    for line in lines {
        let line = line?;
        authorized |= line.to_ascii_lowercase().contains(&format!("bearer {TOKEN}"));
        if line.is_empty() {
            break;
        }
    }
    count.fetch_add(1, Ordering::SeqCst);
    let head = |stream: &mut TcpStream, status: &str, more: &str| {
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n")
    };
    let whole = |stream: &mut TcpStream, bytes: &[u8]| {
        head(stream, "200 OK", &format!("Content-Length: {}\r\n", bytes.len()))?;
        stream.write_all(bytes)
    };
    let challenge = format!(
        "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"test\"\r\nContent-Length: 0\r\n"
    );
    if path.starts_with("/token") {
        return whole(&mut stream, json!({"token": TOKEN}).to_string().as_bytes());
    }
    if path == "/v2/" {
        return head(&mut stream, "401 Unauthorized", &challenge);
    }
    match answer(&path) {
        Answer::Bytes(bytes) => whole(&mut stream, &bytes),
        Answer::Status(status) => head(&mut stream, status, "Content-Length: 0\r\n"),
        Answer::NeedsToken(bytes) if authorized => whole(&mut stream, &bytes),
        Answer::NeedsToken(_) => head(&mut stream, "401 Unauthorized", &challenge),
        Answer::Cut(bytes) => {
            head(&mut stream, "200 OK", &format!("Content-Length: {}\r\n", bytes.len()))?;
            stream.write_all(&bytes[..bytes.len() / 2])
        }
        Answer::Endless(start) => {
            head(&mut stream, "200 OK", "")?;
            stream.write_all(&start)?;
            loop {
                stream.write_all(&[b' '; 64 << 10])?;
            }
        }
    }
}
