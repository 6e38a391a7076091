//! Reading what an instance said: the last lines, and what comes.
//!
//! The monitor writes `time stream F text` for a whole line and `… P text` for a part of one; it
//! starts its file anew when that is full, and the text before is gone, except that of earlier
//! runs, which is kept in one more file. What is handed out is the text alone, as it was said.

use crate::config::InstancePlaces;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};
use types::limits;

/// Text read at once while following.
const CHUNK: u64 = 64 << 10;

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// What is there now.
    Now,
    /// What comes as well, until the instance is collected.
    Collected,
}

/// The text of an instance: its last lines, within [`limits::LOG_ANSWER`], and then what comes.
pub(crate) fn read(own: InstancePlaces, tail_lines: u32, until: Until) -> BoxStream<'static, Bytes> {
    let mut follower = Follower::open(own);
    let first = follower.tail(tail_lines as usize);
    let first = stream::iter((!first.is_empty()).then(|| Bytes::from(first)));
    match until {
        Until::Now => first.boxed(),
        Until::Collected => first.chain(follower.rest()).boxed(),
    }
}

struct Follower {
    own: InstancePlaces,
    file: Option<File>,
    /// The bytes of a line that has not ended yet.
    broken: Vec<u8>,
}

impl Follower {
    fn open(own: InstancePlaces) -> Self {
        let file = File::open(own.log()).ok();
        Self { own, file, broken: Vec::new() }
    }

    /// The last lines there are; the file is left at its end.
    fn tail(&mut self, lines: usize) -> Vec<u8> {
        let bound = limits::LOG_ANSWER.bytes();
        let newest =
            self.file.as_mut().map(|file| last_bytes(file, bound).unwrap_or_default()).unwrap_or_default();
        let whole = newest.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        self.broken = newest[whole..].to_vec();
        let mut text = render(&newest[..whole]);
        if count_lines(&text) < lines
            && (newest.len() as u64) < bound
            && let Ok(mut before) = File::open(self.own.log_before())
        {
            let mut earlier =
                render(&last_bytes(&mut before, bound - newest.len() as u64).unwrap_or_default());
            earlier.append(&mut text);
            text = earlier;
        }
        keep_last_lines(text, lines)
    }

    /// What comes, until nothing more can come.
    fn rest(self) -> BoxStream<'static, Bytes> {
        stream::unfold(self, |mut follower| async move {
            loop {
                match follower.step() {
                    Some(text) if !text.is_empty() => return Some((Bytes::from(text), follower)),
                    Some(_) => tokio::time::sleep(Duration::from(limits::LOG_POLL)).await,
                    None => return None,
                }
            }
        })
        .boxed()
    }

    /// What has come since; empty if nothing. `None`: the instance was collected.
    fn step(&mut self) -> Option<Vec<u8>> {
        let Some(file) = &mut self.file else {
            self.file = File::open(self.own.log()).ok();
            return (self.file.is_some() || self.own.dir().exists()).then(Vec::new);
        };
        let mut fresh = Vec::new();
        // An unreadable file is like one that has nothing more: the next one is looked for below.
        let _ = Read::by_ref(file).take(CHUNK).read_to_end(&mut fresh);
        if fresh.is_empty() {
            if is_replaced(file, &self.own.log()) {
                self.file = None;
            }
            return Some(Vec::new());
        }
        self.broken.extend_from_slice(&fresh);
        let whole = self.broken.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        let rest = self.broken.split_off(whole);
        let lines = std::mem::replace(&mut self.broken, rest);
        Some(render(&lines))
    }
}

fn is_replaced(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() != named.ino(),
        _ => true,
    }
}

fn last_bytes(file: &mut File, bound: u64) -> io::Result<Vec<u8>> {
    let size = file.seek(SeekFrom::End(0))?;
    let from = size.saturating_sub(bound);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    Read::by_ref(file).take(size - from).read_to_end(&mut bytes)?;
    if from > 0 {
        // It begins inside a line.
        let first = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |place| place + 1);
        bytes.drain(..first);
    }
    Ok(bytes)
}

/// The text of whole lines of the monitor's format.
fn render(lines: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines.len());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (_time, _stream, tag, said) = (parts.next(), parts.next(), parts.next(), parts.next());
        let Some(said) = said else { continue };
        let said = said.strip_suffix(b"\n").unwrap_or(said);
        text.extend_from_slice(said);
        if tag != Some(b"P") {
            text.push(b'\n');
        }
    }
    text
}

fn count_lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

fn keep_last_lines(mut text: Vec<u8>, lines: usize) -> Vec<u8> {
    let all = count_lines(&text);
    if all > lines {
        let skipped = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(all - lines - 1);
        let from = skipped.map_or(0, |(place, _)| place + 1);
        text.drain(..from);
    }
    if lines == 0 { Vec::new() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Places;
    use std::io::Write;
    use types::InstanceId;

    fn said(word: &str) -> String {
        format!("2026-11-20T22:20:19.461297084+00:00 stdout F {word}\n")
    }

    fn own(dir: &tempfile::TempDir) -> InstancePlaces {
        let own = Places::new(dir.path()).instance(InstanceId::from_u128(1));
        std::fs::create_dir_all(own.dir()).expect("a directory");
        own
    }

    async fn all(own: &InstancePlaces, lines: u32) -> String {
        let parts: Vec<Bytes> = read(own.clone(), lines, Until::Now).collect().await;
        String::from_utf8(parts.concat()).expect("text")
    }

    #[tokio::test]
    async fn the_last_lines_are_read_across_runs_and_parts_are_joined() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = own(&dir);
        assert_eq!(all(&own, 10).await, "", "nothing said yet");
        std::fs::write(own.log_before(), said("one") + &said("two")).expect("written");
        std::fs::write(own.log(), "t stdout P thr\nt stdout P e\nt stdout F e\nt stderr F fo ur\n")
            .expect("written");
        assert_eq!(all(&own, 10).await, "one\ntwo\nthree\nfo ur\n");
        assert_eq!(all(&own, 3).await, "two\nthree\nfo ur\n");
        assert_eq!(all(&own, 1).await, "fo ur\n");
        assert_eq!(all(&own, 0).await, "");
    }

    #[tokio::test]
    async fn following_crosses_a_replaced_file_and_ends_with_the_instance() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = own(&dir);
        std::fs::write(own.log(), said("old")).expect("written");
        let mut text = read(own.clone(), 0, Until::Collected);
        let mut log = std::fs::OpenOptions::new().append(true).open(own.log()).expect("open");
        write!(log, "{}", said("new")).expect("written");
        assert_eq!(text.next().await.as_deref(), Some(&b"new\n"[..]));
        write!(log, "{}", said("last of this file")).expect("written");
        std::fs::write(own.dir().join("log.tmp"), said("next file")).expect("written");
        std::fs::rename(own.dir().join("log.tmp"), own.log()).expect("renamed");
        assert_eq!(text.next().await.as_deref(), Some(&b"last of this file\n"[..]));
        assert_eq!(text.next().await.as_deref(), Some(&b"next file\n"[..]));
        std::fs::remove_dir_all(own.dir()).expect("removed");
        assert_eq!(text.next().await, None);
    }

    #[tokio::test]
    async fn an_answer_is_bounded() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = own(&dir);
        std::fs::write(own.log(), said(&"x".repeat(1000)).repeat(3000)).expect("written");
        let text = all(&own, u32::MAX).await;
        assert!(!text.is_empty() && (text.len() as u64) <= limits::LOG_ANSWER.bytes());
    }
}
