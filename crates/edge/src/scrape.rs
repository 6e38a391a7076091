//! Answers `GET /metrics`, for Prometheus and for people. Meant for loopback: it knows no callers.

use crate::{edge::Shared, listen, meter};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use types::limits::{METRICS_REQUEST, METRICS_REQUESTS};

/// One request and its answer.
const EXCHANGE: Duration = Duration::from_secs(5);

/// Serves metrics on an address until `stop`.
pub async fn serve(shared: Arc<Shared>, address: SocketAddr, stop: CancellationToken) {
    let Some(listener) = listen::bind_patiently(address, &stop).await else { return };
    if let Ok(bound) = listener.local_addr() {
        // Set once: this task is the only one that binds.
        let _ = shared.metrics_address.set(bound);
    }
    let room = Arc::new(Semaphore::new(METRICS_REQUESTS));
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                // A caller that is too slow or gone has only itself to tell.
                let _ = timeout(EXCHANGE, answer(&shared, stream)).await;
                drop(permit);
            });
        }
    }
}

async fn answer(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(512);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > METRICS_REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, body) = match line {
        b"GET /metrics HTTP/1.1" | b"GET /metrics HTTP/1.0" => ("200 OK", meter::render(shared)),
        _ => ("404 Not Found", "There is only GET /metrics.\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
    stream.shutdown().await
}
