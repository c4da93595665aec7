//! The spool: the outbox's batches on a disk, for hosts that have one. It survives the process: the next one delivers them.
//!
//! ```text
//! outbox in shared data ──read──▶ Spool::commit ──▶ Files: a file per batch, in a folder per process
//!          ▲                                               │
//!          └───────────── take in ◀─── orphans ────────────┘
//! ```
//!
//! The spool follows the outbox's index, as another VM would: it writes new batches and their changes, and removes the
//! files of batches that left. A batch is delivered whether or not it is on disk yet, and is freed on acknowledgement
//! either way. Folders of processes that ended are orphans: whichever process locks one first puts its batches into
//! its own outbox, as far as there is room. All I/O is behind [`Files`].

mod commit;
mod contents;
mod take_in;

pub use contents::{Contents, Spooled, read};

use crate::events::outbox::index_key;
use crate::events::slot::slot_key;
use crate::host::{SetError, Shared};
use crate::plugin_config::OutboxLimits;
use std::collections::{BTreeMap, VecDeque};

/// How many batches of other processes are taken in at a time.
pub const TAKE_INS_PER_COMMIT_MAX: usize = 16;

/// How many files of other processes wait to be taken in. Further ones are left to later processes.
pub const WAITING_FILES_MAX: usize = 65_536;

/// How long the spool leaves the disk alone after an error.
pub const RETRY_AFTER_MS: i64 = 1_000;

/// How often the spool looks for folders of processes that ended.
pub const CLAIM_EVERY_MS: i64 = 10_000;

/// The shared data of the process.
pub trait Values {
    /// Reads a value.
    fn get(&self, key: &str) -> Shared;
    /// Writes a value, unless it was written since it was read with `cas`.
    ///
    /// # Errors
    /// [`SetError::Stale`] if it was.
    fn set(&self, key: &str, value: &[u8], cas: u32) -> Result<(), SetError>;
}

/// The files of a spool: one for each batch, in a folder of this process.
pub trait Files {
    /// The name of a file in the folder of this process. Names sort like `file`.
    fn own_name(&self, file: &str) -> String;
    /// Locks the folders of processes that ended, as far as there are new ones.
    fn claim(&mut self) -> Claim;
    /// Reads a file.
    ///
    /// # Errors
    /// It could not be read.
    fn read(&self, name: &str) -> Result<Vec<u8>, FileError>;
    /// Replaces everything from byte `at` on by `bytes`. If `at` is 0 and there is no such file, makes one. All of it is on
    /// disk when this returns.
    ///
    /// # Errors
    /// Any part of it may have happened, except that bytes before `at` are as they were.
    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), FileError>;
    /// Removes files. A missing file is no error.
    ///
    /// # Errors
    /// Some may still be there.
    fn remove(&mut self, names: &[String]) -> Result<(), FileError>;
}

/// The folders that were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// The files in the folders that were locked now, in any order.
    pub names: Vec<String>,
    /// Folders that a live process has locked, and that were not counted before.
    pub locked: u64,
    /// The first problem, if there was one. A later call tries again.
    pub error: Option<FileError>,
}

/// The reason why files could not be read or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// The kind of problem.
    pub kind: FileErrorKind,
    /// The cause, for the log.
    pub message: String,
}

/// The kinds of problems with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileErrorKind {
    /// The disk, or the part of it that may be used, is full.
    Full,
    /// There is no such file.
    Missing,
    /// Any other.
    Other,
}

/// The counts of a spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that are on disk, counted when they are.
    pub durable_events: u64,
    /// Events of other processes that were put into the outbox.
    pub recovered_events: u64,
    /// Files whose end was torn, and cut.
    pub torn: u64,
    /// Writes for which the disk was full, and batches of other processes that can never fit into the outbox.
    pub full: u64,
    /// Other errors of the disk.
    pub disk: u64,
    /// Files of another version, which are left alone.
    pub version: u64,
    /// Folders of live processes, which are left alone.
    pub locked: u64,
}

impl Counts {
    /// Adds the counts of another time.
    pub fn add(&mut self, other: &Counts) {
        self.durable_events += other.durable_events;
        self.recovered_events += other.recovered_events;
        self.torn += other.torn;
        self.full += other.full;
        self.disk += other.disk;
        self.version += other.version;
        self.locked += other.locked;
    }

    /// The names of the counts behind `edgesplit.<plugin>.`, with their values.
    pub fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("spool.durable_events", self.durable_events),
            ("spool.recovered_events", self.recovered_events),
            ("spool.locked_folders", self.locked),
            ("errors.spool_torn", self.torn),
            ("errors.spool_full", self.full),
            ("errors.spool_disk", self.disk),
            ("errors.spool_version", self.version),
        ]
    }
}

/// The spool of one plugin in one process.
#[derive(Debug)]
pub struct Spool<F> {
    files: F,
    index_key: String,
    slot_key: String,
    limits: OutboxLimits,
    /// Identifies the spool among the VMs that hold leases.
    holder: u64,
    /// The batches of the outbox that have a file, by their ids.
    filed: BTreeMap<u128, Filed>,
    /// Files of other processes, the oldest first.
    waiting: VecDeque<String>,
    claimed_ms: Option<i64>,
    retry_at_ms: i64,
    counts: Counts,
    problem: Option<String>,
}

/// The file of a batch, as far as it is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filed {
    name: String,
    len: u64,
    events: u32,
    next: u32,
    part_max: u32,
}

impl<F: Files> Spool<F> {
    /// The spool of the outbox whose keys in shared data begin with `prefix`.
    pub fn new(files: F, prefix: &str, limits: OutboxLimits, holder: u64) -> Spool<F> {
        Spool {
            files,
            index_key: index_key(prefix),
            slot_key: slot_key(prefix),
            limits,
            holder,
            filed: BTreeMap::new(),
            waiting: VecDeque::new(),
            claimed_ms: None,
            retry_at_ms: i64::MIN,
            counts: Counts::default(),
            problem: None,
        }
    }

    /// The last commit, before the spool is closed.
    pub fn finish(&mut self, values: &impl Values, now_ms: i64) {
        self.retry_at_ms = i64::MIN;
        self.waiting.clear();
        self.claimed_ms = Some(now_ms);
        self.commit(values, now_ms);
    }

    /// The counts since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// The problem with the disk since the last call, if there was one.
    pub fn take_problem(&mut self) -> Option<String> {
        self.problem.take()
    }

    /// Whether work is left that no change of the outbox will announce.
    pub fn is_behind(&self) -> bool {
        self.retry_at_ms > i64::MIN || !self.waiting.is_empty()
    }

    /// Counts an error, and leaves the disk alone for a while.
    fn fail(&mut self, error: FileError, now_ms: i64) {
        match error.kind {
            FileErrorKind::Full => self.counts.full += 1,
            FileErrorKind::Missing | FileErrorKind::Other => self.counts.disk += 1,
        }
        self.problem = Some(error.message);
        self.retry_at_ms = now_ms.saturating_add(RETRY_AFTER_MS);
    }
}
