//! A client on one of the machines: one connection for each call, nothing sent twice, and what is known
//! when no answer came.

use crate::net::Host;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

/// Where the API of a member listens that only its own machine reaches.
pub const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The code of a problem.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// No answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Certainly nothing arrived.
    NotSent(String),
    /// It was sent, at least in part.
    Unknown(String),
}

/// What is asked.
pub struct Call<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: Option<&'a Value>,
}

/// Asks the member on this machine.
pub fn call(host: &Host, call: &Call<'_>, patience: Duration) -> Result<Answer, Lost> {
    let deadline = Instant::now() + patience;
    let stream = connect(host, API, patience)?;
    exchange(&stream, &stream, call, deadline)
}

/// Asks the member on this machine over TLS, at the address by which others reach it.
pub fn call_over_tls(
    host: &Host,
    tls: &Arc<ClientConfig>,
    call: &Call<'_>,
    patience: Duration,
) -> Result<Answer, Lost> {
    let deadline = Instant::now() + patience;
    let address = SocketAddr::new(host.address().into(), API.port());
    let stream = connect(host, address, patience)?;
    let name = rustls::pki_types::ServerName::from(address.ip());
    let session = ClientConnection::new(tls.clone(), name).expect("a session");
    let clone = stream.try_clone().map_err(|error| Lost::NotSent(error.to_string()))?;
    exchange(StreamOwned::new(session, clone), &stream, call, deadline)
}

fn connect(host: &Host, address: SocketAddr, patience: Duration) -> Result<TcpStream, Lost> {
    let connected = host.inside(|| TcpStream::connect_timeout(&address, patience));
    connected.map_err(|error| Lost::NotSent(error.to_string()))
}

fn exchange(
    mut stream: impl Read + Write,
    socket: &TcpStream,
    call: &Call<'_>,
    deadline: Instant,
) -> Result<Answer, Lost> {
    let lost = |error: std::io::Error| Lost::Unknown(error.to_string());
    let mut text =
        format!("{} {} HTTP/1.1\r\nhost: holdfast\r\nconnection: close\r\n", call.method, call.path);
    call.headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    match call.body {
        Some(body) => {
            // A text is a form as a browser writes it.
            let (kind, body) = match body {
                Value::String(form) => ("x-www-form-urlencoded", form.clone()),
                body => ("json", body.to_string()),
            };
            let length = body.len();
            text.push_str(&format!(
                "content-type: application/{kind}\r\ncontent-length: {length}\r\n\r\n{body}"
            ));
        }
        None => text.push_str("\r\n"),
    }
    stream.write_all(text.as_bytes()).map_err(lost)?;
    let mut whole = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Lost::Unknown("no whole answer in time".into()));
        }
        socket.set_read_timeout(Some(left)).map_err(lost)?;
        match stream.read(&mut piece).map_err(lost)? {
            0 => break,
            count => whole.extend_from_slice(&piece[..count]),
        }
    }
    read(&whole).ok_or_else(|| Lost::Unknown("the answer is not whole".into()))
}

/// A whole answer, of a body that ends where the connection does.
fn read(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &bytes[end + 4..];
    let length = headers.iter().find(|(name, _)| name == "content-length");
    if length.is_some_and(|(_, length)| length.parse() != Ok(body.len())) {
        return None;
    }
    let is_page = headers.iter().any(|(name, kind)| name == "content-type" && kind.starts_with("text/html"));
    let body = match body {
        [] => Value::Null,
        page if is_page => Value::String(String::from_utf8_lossy(page).into_owned()),
        json => serde_json::from_slice(json).ok()?,
    };
    Some(Answer { status, headers, body })
}
