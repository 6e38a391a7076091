//! Asking an instance whether it is ready, and judging the answers.
//!
//! ```text
//!            first success                 PROBE_FAILURES failures
//!  waiting ───────────────▶ ready ───────────────────────────────▶ unready
//!     │                       ▲            one success                │ │
//!     │ grace over            └───────────────────────────────────────┘ │ grace over
//!     ▼                                                                 ▼
//!  HealthTimeout: ended and started again                           HealthLost: the same
//! ```
//!
//! [`Judge`] is plain state and gets the time told; [`ask`] does one probe.

use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use types::{
    limits,
    manifest::{Health, HealthKind},
    plan::Reason,
};

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing new.
    Same,
    /// It is ready now.
    Ready,
    /// It is not ready any more.
    Unready(String),
    /// It has had its time: it is to be ended.
    End(Reason, String),
}

/// Where an instance stands.
#[derive(Clone, Debug)]
enum Standing {
    Waiting { since: Instant },
    Ready { failures: u32 },
    Unready { since: Instant },
}

/// Judges one run of an instance by its answers.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    standing: Standing,
    interval: Duration,
    grace: Duration,
}

impl Judge {
    /// Of an instance that was just started.
    pub(crate) fn fresh(health: &Health, now: Instant) -> Self {
        Self {
            standing: Standing::Waiting { since: now },
            interval: health.interval.into(),
            grace: health.grace.into(),
        }
    }

    /// Of an instance that was ready when it was last seen.
    pub(crate) fn was_ready(health: &Health, now: Instant) -> Self {
        Self { standing: Standing::Ready { failures: 0 }, ..Self::fresh(health, now) }
    }

    /// How long to wait before the next probe.
    pub(crate) fn pause(&self) -> Duration {
        let fast = Duration::from(limits::PROBE_FIRST);
        match self.standing {
            Standing::Waiting { .. } => fast.min(self.interval),
            Standing::Ready { failures: 0 } => self.interval,
            // In doubt one asks sooner, so that a sick instance is left, or let back in, quickly.
            Standing::Ready { .. } | Standing::Unready { .. } => (fast * 4).min(self.interval),
        }
    }

    /// Takes an answer: `Err` says what was wrong.
    pub(crate) fn take(&mut self, answer: Result<(), String>, now: Instant) -> Verdict {
        match (&mut self.standing, answer) {
            (Standing::Ready { failures }, Ok(())) => {
                *failures = 0;
                Verdict::Same
            }
            (_, Ok(())) => {
                self.standing = Standing::Ready { failures: 0 };
                Verdict::Ready
            }
            (Standing::Ready { failures }, Err(why)) => {
                *failures += 1;
                if *failures < limits::PROBE_FAILURES {
                    return Verdict::Same;
                }
                self.standing = Standing::Unready { since: now };
                Verdict::Unready(why)
            }
            (Standing::Waiting { since }, Err(why)) if now.duration_since(*since) >= self.grace => {
                Verdict::End(Reason::HealthTimeout, format!("not ready within {:?}: {why}", self.grace))
            }
            (Standing::Unready { since }, Err(why)) if now.duration_since(*since) >= self.grace => {
                Verdict::End(Reason::HealthLost, format!("no answer for {:?}: {why}", self.grace))
            }
            (_, Err(_)) => Verdict::Same,
        }
    }
}

/// Probes once, within the probe's own bound.
///
/// # Errors
/// What was wrong, for people.
pub(crate) async fn ask(health: &Health, address: Ipv6Addr, port: u16) -> Result<(), String> {
    let target = SocketAddr::from((address, port));
    let work = async {
        let stream =
            TcpStream::connect(target).await.map_err(|error| format!("connect to {target}: {error}"))?;
        match health.kind {
            HealthKind::Tcp => Ok(()),
            HealthKind::Http => get(stream, target, health.path.as_deref().unwrap_or("/")).await,
        }
    };
    let bound = Duration::from(health.timeout);
    tokio::time::timeout(bound, work)
        .await
        .unwrap_or_else(|_| Err(format!("{target}: no answer within {bound:?}")))
}

async fn get(mut stream: TcpStream, target: SocketAddr, path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(format!("{path:?} is not a path"));
    }
    let failed = |error: std::io::Error| format!("GET {path}: {error}");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: holdfast-probe\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.contains(&b'\n') && head.len() < limits::PROBE_HEAD {
        match stream.read(&mut chunk).await.map_err(failed)? {
            0 => break,
            count => head.extend_from_slice(&chunk[..count]),
        }
    }
    match status(&head) {
        Some(200..=399) => Ok(()),
        Some(other) => Err(format!("GET {path}: status {other}")),
        None => Err(format!("GET {path}: not an HTTP answer")),
    }
}

/// The status of `HTTP/1.1 200 OK`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    let code = rest.split_ascii_whitespace().nth(1)?;
    (code.len() == 3).then(|| code.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::DurationMs;

    fn health() -> Health {
        Health {
            kind: HealthKind::Http,
            port: "http".parse().expect("a name"),
            path: Some("/ready".into()),
            interval: DurationMs::from_secs(5),
            timeout: DurationMs::from_ms(300),
            grace: DurationMs::from_secs(10),
        }
    }

    fn bad() -> Result<(), String> {
        Err("refused".into())
    }

    #[test]
    fn an_instance_is_ready_at_the_first_answer_and_unready_after_three_misses() {
        let start = Instant::now();
        let mut judge = Judge::fresh(&health(), start);
        assert_eq!(judge.take(bad(), start), Verdict::Same);
        assert!(judge.pause() < Duration::from_millis(100));
        assert_eq!(judge.take(Ok(()), start), Verdict::Ready);
        assert_eq!(judge.take(Ok(()), start), Verdict::Same);
        assert_eq!(judge.pause(), Duration::from_secs(5));
        assert_eq!(judge.take(bad(), start), Verdict::Same);
        assert_eq!(judge.take(bad(), start), Verdict::Same);
        assert_eq!(judge.take(bad(), start), Verdict::Unready("refused".into()));
        assert_eq!(judge.take(bad(), start), Verdict::Same, "said once");
        assert_eq!(judge.take(Ok(()), start), Verdict::Ready);
    }

    #[test]
    fn grace_ends_the_waiting_and_the_sick() {
        let start = Instant::now();
        let mut judge = Judge::fresh(&health(), start);
        let late = start + Duration::from_secs(10);
        assert!(matches!(judge.take(bad(), late), Verdict::End(Reason::HealthTimeout, _)));
        let mut judge = Judge::was_ready(&health(), start);
        for _ in 0..3 {
            judge.take(bad(), start);
        }
        assert!(matches!(judge.take(bad(), late), Verdict::End(Reason::HealthLost, _)));
    }

    #[test]
    fn a_status_is_read_from_the_first_line_only() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\nX: HTTP/1.1 500\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for wrong in [&b"SSH-2.0-x\r\n"[..], b"", b"HTTP/1.1 abc\r\n", b"HTTP/1.1 99999 x\r\n", b"\xff\xfe"] {
            assert_eq!(status(wrong), None);
        }
    }

    async fn serve(answer: &'static [u8]) -> u16 {
        let listener = tokio::net::TcpListener::bind("[::1]:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 512];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
                if answer.is_empty() {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn probes_tell_good_answers_from_bad_ones_and_from_none() {
        let good = serve(b"HTTP/1.1 200 OK\r\n\r\n").await;
        assert_eq!(ask(&health(), Ipv6Addr::LOCALHOST, good).await, Ok(()));
        let bad = serve(b"HTTP/1.1 503 No\r\n\r\n").await;
        assert!(ask(&health(), Ipv6Addr::LOCALHOST, bad).await.expect_err("503").contains("503"));
        let hangs = serve(b"").await;
        assert!(ask(&health(), Ipv6Addr::LOCALHOST, hangs).await.expect_err("hangs").contains("within"));
        let tcp = Health { kind: HealthKind::Tcp, ..health() };
        assert_eq!(ask(&tcp, Ipv6Addr::LOCALHOST, hangs).await, Ok(()));
    }
}
