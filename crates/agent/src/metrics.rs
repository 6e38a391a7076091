//! Metrics on a loopback port, in the Prometheus text format. Read-only, bounded, optional.

use crate::{backoff::Backoff, images::Pulls, pressure::Space, supervisor::Counts};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use types::limits;

/// What is shown besides the counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) running: usize,
    pub(crate) supervised: usize,
    pub(crate) generation: u64,
    pub(crate) unconfirmed: usize,
    pub(crate) disk_short: bool,
    pub(crate) space: Option<Space>,
    pub(crate) control_silent: Duration,
    pub(crate) pulls: Pulls,
}

/// The text.
pub(crate) fn render(counts: &Counts, gauges: Gauges) -> String {
    let mut text = String::new();
    let mut line = |kind: &str, name: &str, help: &str, value: u64| {
        text.push_str(&format!(
            "# HELP holdfast_agent_{name} {help}\n# TYPE holdfast_agent_{name} {kind}\nholdfast_agent_{name} {value}\n"
        ));
    };
    line("gauge", "instances_running", "Instances whose process runs.", gauges.running as u64);
    line("gauge", "instances_supervised", "Instances that are looked after.", gauges.supervised as u64);
    line("gauge", "plan_generation", "Generation of the stored plan.", gauges.generation);
    line("gauge", "reports_unconfirmed", "Reports the server has not confirmed.", gauges.unconfirmed as u64);
    line(
        "gauge",
        "disk_short",
        "1 while no new instance is taken for want of space.",
        gauges.disk_short.into(),
    );
    let counters = [
        ("starts_total", "Instances started.", &counts.starts),
        ("start_failures_total", "Starts that failed.", &counts.start_failures),
        ("crashes_total", "Instances that ended by themselves.", &counts.crashes),
        ("oom_kills_total", "Instances killed at their memory cap.", &counts.oom_kills),
        ("adoptions_total", "Running instances adopted at a start of the agent.", &counts.adoptions),
        ("reports_total", "Reports confirmed by the server.", &counts.reports),
        ("link_errors_total", "Calls of the control plane that failed.", &counts.link_errors),
        ("plans_refused_total", "Plans that were not taken.", &counts.plans_refused),
        ("restarts_total", "Starts of instances that had ended by themselves.", &counts.restarts),
        (
            "probe_failures_total",
            "Probes without a good answer, of starting instances too.",
            &counts.probe_failures,
        ),
        (
            "image_failures_total",
            "Tries to start an instance whose image was not to be had.",
            &counts.image_failures,
        ),
    ];
    for (name, help, counter) in counters {
        line("counter", name, help, counter.load(Ordering::Relaxed));
    }
    line("counter", "pulls_total", "Images fetched, or tried to.", gauges.pulls.begun);
    line("counter", "pull_failures_total", "Images that could not be fetched.", gauges.pulls.failed);
    if let Some(Space { free, total }) = gauges.space {
        line("gauge", "disk_free_bytes", "Free space of the data directory's file system.", free);
        line("gauge", "disk_size_bytes", "Size of the data directory's file system.", total);
    }
    let silent = gauges.control_silent.as_secs_f64();
    text.push_str(&format!(
        "# HELP holdfast_agent_control_age_seconds Since the control plane answered; since the start if it never did.\n\
         # TYPE holdfast_agent_control_age_seconds gauge\nholdfast_agent_control_age_seconds {silent:.3}\n"
    ));
    text
}

/// The port for metrics: bound, or waited for. Instances never wait for it.
#[derive(Debug)]
pub(crate) struct Metrics {
    address: SocketAddr,
    listener: Option<TcpListener>,
}

impl Metrics {
    /// Binds the address if it is free.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await;
        if let Err(error) = &listener {
            tracing::error!(%address, %error, "cannot serve metrics; trying again until it works");
        }
        Self { address, listener: listener.ok() }
    }

    /// Where they are served, once they are.
    pub(crate) fn bound(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves the text until dropped, from when the address is free.
    pub(crate) async fn serve(self, text: Arc<dyn Fn() -> String + Send + Sync>) {
        let mut backoff = Backoff::link();
        let mut bound = self.listener;
        let listener = loop {
            if let Some(listener) = bound {
                break listener;
            }
            tokio::time::sleep(backoff.next()).await;
            bound = TcpListener::bind(self.address).await.ok();
            if bound.is_some() {
                tracing::info!(address = %self.address, "metrics are served now");
            }
        };
        serve(listener, text).await;
    }
}

async fn serve(listener: TcpListener, text: Arc<dyn Fn() -> String + Send + Sync>) {
    let turns = Arc::new(Semaphore::new(limits::METRICS_REQUESTS));
    loop {
        let turn = Arc::clone(&turns).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let text = Arc::clone(&text);
        tokio::spawn(async move {
            // A reader that is slow or breaks off gets no more than this.
            let _ = tokio::time::timeout(Duration::from_secs(5), answer(stream, text)).await;
            drop(turn);
        });
    }
}

async fn answer(mut stream: TcpStream, text: Arc<dyn Fn() -> String + Send + Sync>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < limits::METRICS_REQUEST {
        match stream.read(&mut chunk).await? {
            0 => break,
            count => request.extend_from_slice(&chunk[..count]),
        }
    }
    let (status, body) = if request.starts_with(b"GET /metrics ") {
        ("200 OK", text())
    } else {
        ("404 Not Found", "only GET /metrics\n".to_owned())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
