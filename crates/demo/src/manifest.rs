//! The manifest of the demo's app.

/// What differs between the manifests that the demo and the tests apply.
#[derive(Clone, Copy, Debug)]
pub struct Manifest<'a> {
    /// The image's reference.
    pub image: &'a str,
    /// The server name of the route by name.
    pub host: &'a str,
    /// The port of the route by port.
    pub tcp: u16,
    /// How many instances.
    pub replicas: u32,
}

impl Manifest<'_> {
    /// As a user would write it. The probe is quick, so that nobody waits for one.
    pub fn text(&self) -> String {
        let Self { image, host, tcp, replicas } = self;
        format!(
            r#"schema = 1
app = "demo"

[image]
ref = "{image}"

[processes.web]
memory = "64Mi"
cpu = 0.1
replicas = {replicas}
ports = [{{ name = "http", port = 8080 }}, {{ name = "https", port = 8443 }}]
health = {{ type = "http", port = "http", path = "/ready", interval = "200ms", timeout = "1s", grace = "5s" }}

[[routes]]
host = "{host}"
process = "web"
port = "https"

[[routes]]
process = "web"
port = "http"
mode = "tcp"
listen = {tcp}
"#
        )
    }
}
