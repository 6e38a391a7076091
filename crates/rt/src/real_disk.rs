//! The file system of the machine.

use crate::{Disk, DiskError, DiskFile, DiskLock, Operation};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// How much is written at once when space is reserved.
static ZEROES: [u8; 256 << 10] = [0; 256 << 10];
/// Who may read a new file: its owner. What is kept through this door are plans, reports, the log
/// and secrets, and none of them is for other users of the machine, not even while it is written.
const FILE_MODE: u32 = 0o600;

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
}

#[derive(Debug)]
struct RealLock(#[expect(dead_code, reason = "the lock is held as long as the file is open")] File);

impl DiskLock for RealLock {}

fn at<'a>(operation: Operation, path: &'a Path) -> impl FnOnce(io::Error) -> DiskError + 'a {
    move |source| DiskError::new(operation, path, source)
}

fn boxed(file: File, path: &Path) -> Box<dyn DiskFile> {
    Box::new(RealFile { file, path: path.to_path_buf() })
}

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        opened.map(|file| boxed(file, path)).map_err(at(Operation::Open, path))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        File::open(path).map(|file| boxed(file, path)).map_err(at(Operation::Open, path))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path);
        opened.map(|file| boxed(file, path)).map_err(at(Operation::Create, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        fs::rename(from, to).map_err(at(Operation::Rename, from))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        fs::remove_file(path).map_err(at(Operation::Remove, path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(dir)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        };
        list().map_err(at(Operation::List, dir))
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        fs::create_dir_all(dir).map_err(at(Operation::CreateDir, dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(at(Operation::SyncDir, dir))
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DiskLock>, DiskError> {
        let lock = || -> io::Result<File> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Only told to people; the lock holds without it, on a full disk for instance.
            let _best_effort = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
            Ok(file)
        };
        lock().map(|file| Box::new(RealLock(file)) as Box<dyn DiskLock>).map_err(at(Operation::Lock, path))
    }

    fn free_space(&self, dir: &Path) -> Result<u64, DiskError> {
        let stat =
            rustix::fs::statvfs(dir).map_err(|errno| DiskError::new(Operation::Space, dir, errno.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        path.try_exists().map_err(at(Operation::Open, path))
    }
}

impl RealDisk {
    /// What of the file system that `dir` is on can be used, free or not, in bytes: what `df` goes by.
    ///
    /// # Errors
    /// The system does not say.
    pub fn usable_space(&self, dir: &Path) -> Result<u64, DiskError> {
        let stat =
            rustix::fs::statvfs(dir).map_err(|errno| DiskError::new(Operation::Space, dir, errno.into()))?;
        let blocks = stat.f_blocks.saturating_sub(stat.f_bfree).saturating_add(stat.f_bavail);
        Ok(blocks.saturating_mul(stat.f_frsize))
    }
}

impl DiskFile for RealFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.file.metadata().map(|data| data.len()).map_err(at(Operation::Read, &self.path))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(at(Operation::Read, &self.path)(error)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all_at(bytes, offset).map_err(at(Operation::Write, &self.path))
    }

    fn allocate(&self, length: u64) -> Result<(), DiskError> {
        let old = self.size()?;
        if length <= old {
            return Ok(());
        }
        let error = at(Operation::Allocate, &self.path);
        // fallocate says at once whether there is space, in few extents. Alone it leaves extents
        // marked as unwritten, and every first write into one makes fdatasync commit metadata; so
        // zeroes are written too. A file system without fallocate only gets the zeroes.
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), old, length - old) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(error(errno.into())),
        }
        let mut offset = old;
        while offset < length {
            let piece = ZEROES.len().min(usize::try_from(length - offset).unwrap_or(usize::MAX));
            self.file.write_all_at(&ZEROES[..piece], offset).map_err(at(Operation::Allocate, &self.path))?;
            offset += piece as u64;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), DiskError> {
        self.file.set_len(length).map_err(at(Operation::SetLength, &self.path))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(at(Operation::Sync, &self.path))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
