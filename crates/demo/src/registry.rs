//! A `docker-registry` on loopback, and pushes into it with `skopeo`.

use crate::{Failure, Outcome, Process, free_ports, image::run};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A registry with a storage of its own.
pub struct Registry {
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Registry {
    /// Starts one on a free port; its storage is below `dir`.
    ///
    /// # Errors
    /// `docker-registry` is missing or does not come up.
    pub fn start(dir: &Path) -> Outcome<Self> {
        let [port] = free_ports()?;
        let storage = dir.join("registry");
        let config = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\n\
             storage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            storage.display()
        );
        fs::create_dir_all(&storage)
            .and_then(|()| fs::write(dir.join("registry.yml"), config))
            .map_err(|error| Failure::new("write the registry's configuration", error))?;
        let mut registry = Self { dir: dir.to_owned(), port, process: None };
        registry.resume()?;
        Ok(registry)
    }

    /// Starts it again on its port.
    ///
    /// # Errors
    /// It does not come up.
    pub fn resume(&mut self) -> Outcome {
        let config = self.dir.join("registry.yml");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config);
        let mut process = Process::start(&self.dir, "registry", &mut command)?;
        process.wait_until("its port", Duration::from_secs(15), || {
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it.
    pub fn kill_hard(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill_hard();
        }
    }

    /// What to put before an image's name.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Copies a tag of an OCI layout to `NAME:TAG` and returns the reference.
    ///
    /// # Errors
    /// `skopeo` is missing or fails.
    pub fn push(&self, layout: &Path, tag: &str, name: &str) -> Outcome<String> {
        let reference = format!("{}/{name}:{tag}", self.address());
        run(Command::new("skopeo").args([
            "copy",
            "--quiet",
            "--insecure-policy",
            "--dest-tls-verify=false",
            &format!("oci:{}:{tag}", layout.display()),
            &format!("docker://{reference}"),
        ]))?;
        Ok(reference)
    }

    /// The digest behind a reference.
    ///
    /// # Errors
    /// `skopeo` is missing or fails.
    pub fn digest(&self, reference: &str) -> Outcome<String> {
        let said = run(Command::new("skopeo").args([
            "inspect",
            "--tls-verify=false",
            "--format",
            "{{.Digest}}",
            &format!("docker://{reference}"),
        ]))?;
        Ok(said.trim().to_owned())
    }
}
