//! Whom an image wants to run as: `user`, `uid`, `user:group` or `uid:gid`, by its own files.
//!
//! The files are opened with the image's root as the root of all links, so that an image cannot
//! make us read the host's.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::{io::Read, path::Path};

/// The identity a process is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// The image wants a user that it does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image wants to run as {wanted:?}, which is not in its {file}")]
pub(crate) struct UnknownUser {
    wanted: String,
    file: &'static str,
}

/// More than this of a passwd or group file is not looked at.
const FILE_BYTES: u64 = 1 << 20;

/// Finds the identity in the image with this root.
///
/// # Errors
/// A name is in neither file.
pub(crate) fn resolve(root: &Path, wanted: &str) -> Result<Identity, UnknownUser> {
    if wanted.is_empty() {
        return Ok(Identity::default());
    }
    find(wanted, &read(root, "etc/passwd"), &read(root, "etc/group"))
}

fn find(wanted: &str, passwd: &str, group: &str) -> Result<Identity, UnknownUser> {
    let unknown = |file| UnknownUser { wanted: wanted.to_owned(), file };
    let (user, asked_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let number = user.parse::<u32>().ok();
    let entry =
        rows(passwd).find(|row| row.first() == Some(&user) || (number.is_some() && field(row, 2) == number));
    let uid = match (number, &entry) {
        (Some(uid), _) => uid,
        (None, Some(row)) => field(row, 2).ok_or_else(|| unknown("/etc/passwd"))?,
        (None, None) => return Err(unknown("/etc/passwd")),
    };
    let gid = match asked_group {
        Some(asked) => match asked.parse().ok() {
            Some(gid) => gid,
            None => rows(group)
                .find(|row| row.first() == Some(&asked))
                .and_then(|row| field(&row, 2))
                .ok_or_else(|| unknown("/etc/group"))?,
        },
        None => entry.as_ref().and_then(|row| field(row, 3)).unwrap_or(0),
    };
    let name = entry.as_ref().and_then(|row| row.first().copied());
    let groups = match (asked_group, name) {
        (None, Some(name)) => rows(group)
            .filter(|row| row.get(3).is_some_and(|members| members.split(',').any(|member| member == name)))
            .filter_map(|row| field(&row, 2))
            .collect(),
        _ => Vec::new(),
    };
    Ok(Identity { uid, gid, groups })
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn field(row: &[&str], place: usize) -> Option<u32> {
    row.get(place)?.trim().parse().ok()
}

fn read(root: &Path, path: &str) -> String {
    let open = || -> std::io::Result<String> {
        let dir = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::openat2(dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        let file = std::fs::File::from(file);
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    open().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:1001:\nlogs:x:1002:other,web\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let web = Identity { uid: 1000, gid: 1001, groups: vec![1002] };
        assert_eq!(find("web", PASSWD, GROUP), Ok(web.clone()));
        assert_eq!(find("1000", PASSWD, GROUP), Ok(web));
        assert_eq!(find("web:logs", PASSWD, GROUP), Ok(Identity { uid: 1000, gid: 1002, groups: vec![] }));
        assert_eq!(find("7:8", PASSWD, GROUP), Ok(Identity { uid: 7, gid: 8, groups: vec![] }));
        assert_eq!(find("7", "", ""), Ok(Identity { uid: 7, gid: 0, groups: vec![] }));
    }

    #[test]
    fn a_user_the_image_does_not_have_is_said() {
        assert!(find("nobody", PASSWD, GROUP).expect_err("unknown").to_string().contains("nobody"));
        assert!(find("web:nogroup", PASSWD, GROUP).expect_err("unknown").to_string().contains("/etc/group"));
    }

    #[test]
    fn an_image_cannot_point_at_the_files_of_the_host() {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join("etc")).expect("etc");
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("etc/passwd")).expect("a link");
        assert_eq!(read(root.path(), "etc/passwd"), "", "the link leads to itself inside the image");
        assert!(resolve(root.path(), "daemon").is_err());
    }
}
