//! The whole way with the real image store: a registry on loopback, `umoci`, `skopeo`.

use super::*;
use std::process::{Child, Command, Stdio};
use types::plan::Reason;

/// A registry that can be killed and started again on the same port and storage.
struct Registry {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Registry {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        Self { dir: tempfile::tempdir().expect("a directory"), port, process: None }
    }

    fn start(&mut self) {
        let dir = self.dir.path();
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{}\n",
            dir.join("storage").display(),
            self.port
        );
        std::fs::write(dir.join("config.yml"), config).expect("written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        self.process = Some(process);
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "the registry never answered");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Makes an image that runs a web server as user 1000, pushes it, and pins it.
    fn push(&self, name: &str, page: &str) -> PinnedImage {
        let root = self.dir.path().join(name);
        std::fs::create_dir_all(root.join("bin")).expect("the root");
        std::fs::create_dir_all(root.join("www")).expect("the root");
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        std::fs::write(root.join("www/index.html"), page).expect("written");
        let layout = self.dir.path().join("layout");
        let image = format!("{}:{name}", layout.display());
        if !layout.exists() {
            must("umoci", &["init", "--layout", &layout.to_string_lossy()]);
        }
        must("umoci", &["new", "--image", &image]);
        must("umoci", &["insert", "--image", &image, &root.to_string_lossy(), "/"]);
        let run = ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]
            .map(|word| format!("--config.cmd={word}"));
        let mut args = vec!["config", "--image", &image, "--config.user=1000:1000"];
        args.extend(run.iter().map(String::as_str));
        must("umoci", &args);
        let reference = format!("127.0.0.1:{}/test/{name}:1", self.port);
        let digest = self.dir.path().join("digest");
        let to = format!("docker://{reference}");
        let from = format!("oci:{image}");
        must(
            "skopeo",
            &["copy", "--dest-tls-verify=false", "--digestfile", &digest.to_string_lossy(), &from, &to],
        );
        let digest = std::fs::read_to_string(digest).expect("skopeo wrote it");
        PinnedImage { reference, digest: digest.trim().parse().expect("a digest") }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

fn must(program: &str, args: &[&str]) {
    let done = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn fm_k_without_its_registry_what_runs_runs_on_and_what_is_cached_starts() {
    let mut registry = Registry::new();
    registry.start();
    let (cached, missing) = (registry.push("cached", "cached"), registry.push("missing", "missing"));
    let mut host = Host::new();
    host.real_images = true;
    let numbers = [number(), number(), number()];
    let of = |place: usize, image: &PinnedImage| {
        let mut spec = web(numbers[place]);
        spec.image = image.clone();
        spec.command = Vec::new();
        (InstanceId::from_u128(numbers[place]), Desired::Running, spec)
    };
    let (first, second, third) = (of(0, &cached), of(1, &cached), of(2, &missing));
    host.start_agent().await;
    host.control.declare(1, std::slice::from_ref(&first));
    host.control.wait_ready(first.0).await;
    assert!(fetch(&first.2, "/").await.expect("it answers").contains("cached"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.pid(first.0))).expect("it runs");
    assert!(status.contains("Uid:\t1000\t1000") && status.contains("CapEff:\t0000000000000000"), "{status}");
    let pid = host.pid(first.0);

    registry.kill();
    host.control.declare(2, &[first.clone(), second.clone(), third.clone()]);
    host.control.wait_ready(second.0).await;
    let waits = |change: &Change| matches!(change, Change::Waiting { reason: Reason::ImageUnavailable, .. });
    host.control.wait_for(third.0, "waiting for its image", waits).await;
    assert_eq!(host.pid(first.0), pid, "what runs is left alone");

    registry.start();
    host.control.wait_ready(third.0).await;
    assert!(fetch(&third.2, "/").await.expect("it answers").contains("missing"));
}
