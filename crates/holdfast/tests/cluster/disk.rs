//! A small disk that can be filled.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A small disk; nothing of it is left when it is dropped.
pub struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    pub fn new(mebibytes: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-disk-").tempdir().expect("a directory");
        let size = format!("size={mebibytes}m");
        mount("mount", &["-t", "tmpfs", "-o", &size, "holdfast-test"], dir.path());
        Self { dir }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Leaves not one byte.
    pub fn fill(&self) {
        let mut file = File::create(self.dir.path().join("fill")).expect("a file");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    pub fn clear(&self) {
        std::fs::remove_file(self.dir.path().join("fill")).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open on it is being killed.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

fn mount(program: &str, arguments: &[&str], at: &Path) {
    let status = Command::new(program).args(arguments).arg(at).status().expect("it runs");
    assert!(status.success(), "{program} {arguments:?}: this needs root");
}
