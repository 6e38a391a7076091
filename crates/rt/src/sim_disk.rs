//! A disk in memory that behaves as badly as a real one may, and the same way for the same seed.
//!
//! What was written but not synced is kept apart, as a list of changes. A crash decides for each
//! change whether it is there, lost, or torn (some of its sectors, or some of its bytes), each for
//! itself: so changes are reordered too. Names are the same: created, renamed and removed names
//! are changes to their directory until it is synced, and a crash keeps any of them.
//!
//! A sync that fails throws away what it should have written, or keeps some of it, and a later
//! sync that succeeds does not bring it back: so Linux behaves, and so nobody may go on after one.

use crate::{Disk, DiskError, DiskFile, DiskLock, Operation, SimRandom};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

/// The unit that a disk writes whole, most of the time.
const SECTOR: usize = 512;

/// What happens at an operation instead of what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails with `ENOSPC`; a write may have written a part.
    NoSpace,
    /// The operation fails with `EIO`; a write may have written a part, a sync may have synced one.
    Io,
    /// The power goes during the operation. Everything fails until [`SimDisk::restart`].
    Crash,
}

/// A file system in memory with injected faults. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    random: SimRandom,
    files: BTreeMap<u64, File>,
    next_file: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    name_changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    faults: BTreeMap<u64, Fault>,
    next_faults: Vec<(Operation, Fault)>,
    operations: u64,
    faulted: u64,
    /// Counts restarts: a handle from before one is dead.
    life: u64,
    powered: bool,
    capacity: Option<u64>,
}

#[derive(Debug, Default)]
struct File {
    /// What a reader sees.
    current: Vec<u8>,
    /// What certainly survives a crash.
    durable: Vec<u8>,
    /// What was done since.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Link { path: PathBuf, file: u64 },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, file: u64 },
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Link { path, .. } | Self::Unlink { path } | Self::Rename { to: path, .. } => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link { path, file } => {
                names.insert(path.clone(), *file);
            }
            Self::Unlink { path } => {
                names.remove(path);
            }
            Self::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                if content.len() < offset + bytes.len() {
                    content.resize(offset + bytes.len(), 0);
                }
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::Length(length) => content.resize(*length, 0),
        }
    }

    /// Applies what a crash leaves of it.
    fn apply_torn(&self, content: &mut Vec<u8>, random: &SimRandom) {
        let Self::Write { offset, bytes } = self else {
            if random.percent(50) {
                self.apply(content);
            }
            return;
        };
        let end = offset + bytes.len();
        match random.below(4) {
            0 => self.apply(content),
            // Lost. The file may have grown all the same, and reads as zeroes there.
            1 => {
                if random.percent(50) && content.len() < end {
                    content.resize(end, 0);
                }
            }
            2 => {
                let mut start = *offset;
                while start < end {
                    let stop = (start / SECTOR + 1) * SECTOR;
                    let stop = stop.min(end);
                    if random.percent(50) {
                        let piece = bytes[start - offset..stop - offset].to_vec();
                        Self::Write { offset: start, bytes: piece }.apply(content);
                    }
                    start = stop;
                }
            }
            _ => {
                let cut = random.below(bytes.len() as u64 + 1) as usize;
                let piece = if random.percent(70) {
                    Self::Write { offset: *offset, bytes: bytes[..cut].to_vec() }
                } else {
                    Self::Write { offset: offset + cut, bytes: bytes[cut..].to_vec() }
                };
                piece.apply(content);
            }
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.changes.push(change);
    }

    fn sync(&mut self) {
        for change in self.changes.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that fails: some changes reach the disk, and no later sync brings the others.
    fn fail_sync(&mut self, random: &SimRandom) {
        for change in self.changes.drain(..) {
            change.apply_torn(&mut self.durable, random);
        }
    }
}

/// How the changes of a crash come out: nothing of them, all of them, or any mixture.
#[derive(Clone, Copy)]
enum Outcome {
    Lost,
    Kept,
    Mixed,
}

impl Inner {
    /// Counts an operation and says what is to happen to it.
    fn begin(
        &mut self,
        operation: Operation,
        path: &Path,
        life: Option<u64>,
    ) -> Result<Option<Fault>, DiskError> {
        let error = |kind: &'static str| Err(DiskError::new(operation, path, io::Error::other(kind)));
        if !self.powered {
            return error("the power is off");
        }
        if life.is_some_and(|life| life != self.life) {
            return error("the file was opened before the power went");
        }
        self.operations += 1;
        let mut fault = self.faults.remove(&self.operations);
        if fault.is_none()
            && let Some(place) = self.next_faults.iter().position(|(next, _)| *next == operation)
        {
            fault = Some(self.next_faults.remove(place).1);
        }
        self.faulted += u64::from(fault.is_some());
        if fault == Some(Fault::Crash) {
            self.powered = false;
        }
        Ok(fault)
    }

    /// As [`Self::begin`], for operations that a fault stops altogether.
    fn begin_whole(&mut self, operation: Operation, path: &Path, life: Option<u64>) -> Result<(), DiskError> {
        match self.begin(operation, path, life)? {
            None => Ok(()),
            Some(fault) => Err(DiskError::new(operation, path, fault.error())),
        }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[file].current.len() as u64).sum()
    }

    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    fn crash(&mut self) {
        let outcome = match self.random.below(10) {
            0 => Outcome::Lost,
            1 => Outcome::Kept,
            _ => Outcome::Mixed,
        };
        for file in self.files.values_mut() {
            for change in std::mem::take(&mut file.changes) {
                match outcome {
                    Outcome::Lost => {}
                    Outcome::Kept => change.apply(&mut file.durable),
                    Outcome::Mixed => change.apply_torn(&mut file.durable, &self.random),
                }
            }
            file.current.clone_from(&file.durable);
        }
        for change in std::mem::take(&mut self.name_changes) {
            let keep = match outcome {
                Outcome::Lost => false,
                Outcome::Kept => true,
                Outcome::Mixed => self.random.percent(50),
            };
            if keep {
                change.apply(&mut self.durable_names);
            }
        }
        self.names.clone_from(&self.durable_names);
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
        self.locks.clear();
        self.life += 1;
        self.powered = true;
    }

    fn rename_change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn dir_of(&self, path: &Path, operation: Operation) -> Result<(), DiskError> {
        match path.parent() {
            Some(dir) if dir.as_os_str().is_empty() || self.dirs.contains(dir) => Ok(()),
            _ => Err(DiskError::new(operation, path, io::ErrorKind::NotFound.into())),
        }
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::NoSpace => io::Error::from_raw_os_error(28),
            Self::Io => io::Error::from_raw_os_error(5),
            Self::Crash => io::Error::other("the power went"),
        }
    }
}

impl SimDisk {
    /// An empty disk. The seed decides what crashes and failed syncs leave.
    pub fn new(seed: u64) -> Self {
        let mut dirs = BTreeSet::new();
        dirs.insert(PathBuf::from("/"));
        Self {
            inner: Arc::new(Mutex::new(Inner {
                random: SimRandom::new(seed),
                files: BTreeMap::new(),
                next_file: 1,
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                name_changes: Vec::new(),
                dirs,
                locks: BTreeSet::new(),
                faults: BTreeMap::new(),
                next_faults: Vec::new(),
                operations: 0,
                faulted: 0,
                life: 0,
                powered: true,
                capacity: None,
            })),
        }
    }

    /// How many operations were asked of it so far.
    pub fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// How many operations have failed because of a fault or for lack of space.
    pub fn faulted(&self) -> u64 {
        self.inner().faulted
    }

    /// The `n`-th operation from now (1 is the next) fails this way.
    pub fn fail_in(&self, n: u64, fault: Fault) {
        let mut inner = self.inner();
        let at = inner.operations + n.max(1);
        inner.faults.insert(at, fault);
    }

    /// The next operation of this kind fails this way.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        self.inner().next_faults.push((operation, fault));
    }

    /// Takes back faults that have not happened yet.
    pub fn clear_faults(&self) {
        let mut inner = self.inner();
        inner.faults.clear();
        inner.next_faults.clear();
    }

    /// Whether the power is on; off between an injected crash and [`Self::restart`].
    pub fn is_powered(&self) -> bool {
        self.inner().powered
    }

    /// Cuts the power, if it is still on, and brings the machine back. Loses, tears and reorders
    /// what was not synced. Open files are dead afterwards, locks are free, and faults that have
    /// not happened yet are taken back.
    pub fn restart(&self) {
        let mut inner = self.inner();
        inner.crash();
        inner.faults.clear();
        inner.next_faults.clear();
    }

    /// Kills the process, while the machine goes on: open files are dead and locks are free, but
    /// what was written and not synced is still there to be read, and still not durable.
    pub fn kill(&self) {
        let mut inner = self.inner();
        assert!(inner.powered, "without power there is no process to kill");
        inner.locks.clear();
        inner.life += 1;
        inner.faults.clear();
        inner.next_faults.clear();
    }

    /// How many bytes all files together may have; `None` for no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.inner().capacity = bytes;
    }

    /// Bytes in all files.
    pub fn used(&self) -> u64 {
        self.inner().used()
    }

    /// Changes bytes behind everyone's back, durably: the disk has rotted.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner();
        let file = inner.names[path];
        let file = inner.files.get_mut(&file).expect("every name has a file");
        file.sync();
        change(&mut file.durable);
        file.current.clone_from(&file.durable);
    }

    /// A disk with the same content, on its own from now on: all of it durable, no locks, no faults.
    pub fn copy(&self) -> Self {
        let copy = Self::new(0);
        let source = self.inner();
        let mut inner = copy.inner();
        inner.dirs.clone_from(&source.dirs);
        inner.names.clone_from(&source.names);
        inner.durable_names.clone_from(&source.names);
        inner.next_file = source.next_file;
        for file in source.names.values() {
            let content = source.files[file].current.clone();
            inner
                .files
                .insert(*file, File { durable: content.clone(), current: content, changes: Vec::new() });
        }
        drop(inner);
        copy
    }

    /// The names of all files, with their sizes.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let inner = self.inner();
        inner
            .names
            .iter()
            .map(|(path, file)| (path.clone(), inner.files[file].current.len() as u64))
            .collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }

    fn open_any(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let mut inner = self.inner();
        inner.begin_whole(Operation::Open, path, None)?;
        let Some(file) = inner.names.get(path).copied() else {
            return Err(DiskError::new(Operation::Open, path, io::ErrorKind::NotFound.into()));
        };
        Ok(self.handle(file, inner.life, path))
    }

    fn handle(&self, file: u64, life: u64, path: &Path) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), file, life, path: path.to_path_buf() })
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.open_any(path)
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.open_any(path)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let mut inner = self.inner();
        inner.begin_whole(Operation::Create, path, None)?;
        inner.dir_of(path, Operation::Create)?;
        if inner.names.contains_key(path) {
            return Err(DiskError::new(Operation::Create, path, io::ErrorKind::AlreadyExists.into()));
        }
        let file = inner.next_file;
        inner.next_file += 1;
        inner.files.insert(file, File::default());
        inner.rename_change(NameChange::Link { path: path.to_path_buf(), file });
        Ok(self.handle(file, inner.life, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut inner = self.inner();
        inner.begin_whole(Operation::Rename, from, None)?;
        let Some(file) = inner.names.get(from).copied() else {
            return Err(DiskError::new(Operation::Rename, from, io::ErrorKind::NotFound.into()));
        };
        assert_eq!(from.parent(), to.parent(), "a rename stays in its directory");
        inner.rename_change(NameChange::Rename { from: from.into(), to: to.into(), file });
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let mut inner = self.inner();
        inner.begin_whole(Operation::Remove, path, None)?;
        if !inner.names.contains_key(path) {
            return Err(DiskError::new(Operation::Remove, path, io::ErrorKind::NotFound.into()));
        }
        inner.rename_change(NameChange::Unlink { path: path.into() });
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        let mut inner = self.inner();
        inner.begin_whole(Operation::List, dir, None)?;
        if !inner.dirs.contains(dir) {
            return Err(DiskError::new(Operation::List, dir, io::ErrorKind::NotFound.into()));
        }
        let paths = inner.names.keys().chain(inner.dirs.iter());
        let inside = paths.filter(|path| path.parent() == Some(dir) && path.as_path() != dir);
        let mut names: Vec<String> =
            inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Directories are durable at once: losing an empty directory teaches nothing that losing the
    /// files in it does not.
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut inner = self.inner();
        inner.begin_whole(Operation::CreateDir, dir, None)?;
        inner.dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut inner = self.inner();
        inner.begin_whole(Operation::SyncDir, dir, None)?;
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut inner.name_changes).into_iter().partition(|change| change.dir() == Some(dir));
        for change in synced {
            change.apply(&mut inner.durable_names);
        }
        inner.name_changes = rest;
        Ok(())
    }

    fn lock(&self, path: &Path, _holder: &str) -> Result<Box<dyn DiskLock>, DiskError> {
        let mut inner = self.inner();
        inner.begin_whole(Operation::Lock, path, None)?;
        inner.dir_of(path, Operation::Lock)?;
        if !inner.locks.insert(path.to_path_buf()) {
            return Err(DiskError::new(Operation::Lock, path, io::ErrorKind::WouldBlock.into()));
        }
        Ok(Box::new(SimLock { disk: self.clone(), life: inner.life, path: path.to_path_buf() }))
    }

    fn free_space(&self, dir: &Path) -> Result<u64, DiskError> {
        let mut inner = self.inner();
        inner.begin_whole(Operation::Space, dir, None)?;
        Ok(inner.room())
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        let mut inner = self.inner();
        inner.begin_whole(Operation::Open, path, None)?;
        Ok(inner.names.contains_key(path) || inner.dirs.contains(path))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    life: u64,
    path: PathBuf,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        if inner.life == self.life {
            inner.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: u64,
    life: u64,
    path: PathBuf,
}

impl SimFile {
    fn error(&self, operation: Operation, source: io::Error) -> DiskError {
        DiskError::new(operation, &self.path, source)
    }

    /// Does a change or the part of it that a fault leaves.
    fn change(&self, operation: Operation, grows_to: usize, change: Change) -> Result<(), DiskError> {
        let mut inner = self.disk.inner();
        let mut fault = inner.begin(operation, &self.path, Some(self.life))?;
        let room = inner.room();
        let Inner { files, random, faulted, .. } = &mut *inner;
        let file = files.get_mut(&self.file).expect("a file lives as long as its handles in this life");
        if fault.is_none() && (grows_to.saturating_sub(file.current.len())) as u64 > room {
            fault = Some(Fault::NoSpace);
            *faulted += 1;
        }
        let Some(fault) = fault else {
            file.change(change);
            return Ok(());
        };
        if let Change::Write { offset, bytes } = change {
            let part = random.below(bytes.len() as u64 + 1).min(room) as usize;
            if part > 0 {
                file.change(Change::Write { offset, bytes: bytes[..part].to_vec() });
            }
        }
        Err(self.error(operation, fault.error()))
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> Result<u64, DiskError> {
        let mut inner = self.disk.inner();
        inner.begin_whole(Operation::Read, &self.path, Some(self.life))?;
        Ok(inner.files[&self.file].current.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let mut inner = self.disk.inner();
        inner.begin_whole(Operation::Read, &self.path, Some(self.life))?;
        let content = &inner.files[&self.file].current;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let read = buffer.len().min(content.len() - start);
        buffer[..read].copy_from_slice(&content[start..start + read]);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let offset = usize::try_from(offset).expect("a simulated file fits the address space");
        let change = Change::Write { offset, bytes: bytes.to_vec() };
        self.change(Operation::Write, offset + bytes.len(), change)
    }

    fn allocate(&self, length: u64) -> Result<(), DiskError> {
        let length = usize::try_from(length).expect("a simulated file fits the address space");
        if self.size()? as usize >= length {
            return Ok(());
        }
        self.change(Operation::Allocate, length, Change::Length(length))
    }

    fn set_len(&self, length: u64) -> Result<(), DiskError> {
        let length = usize::try_from(length).expect("a simulated file fits the address space");
        self.change(Operation::SetLength, length, Change::Length(length))
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        let mut inner = self.disk.inner();
        let fault = inner.begin(Operation::Sync, &self.path, Some(self.life))?;
        let Inner { files, random, .. } = &mut *inner;
        let file = files.get_mut(&self.file).expect("a file lives as long as its handles in this life");
        match fault {
            None => {
                file.sync();
                Ok(())
            }
            // The power went first: what was to be synced is torn by the restart.
            Some(Fault::Crash) => Err(self.error(Operation::Sync, Fault::Crash.error())),
            Some(fault) => {
                file.fail_sync(random);
                Err(self.error(Operation::Sync, fault.error()))
            }
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
