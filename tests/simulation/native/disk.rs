//! The disk of native processes: a folder whose changes are watched at each gate, and torn when a process crashes. Only what
//! was synced is sure to survive.

use super::ledger::NativeLedger;
use crate::ledger::id;
use edgesplit_filter::spool::{Contents, read};
use edgesplit_testkit::random::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The change of the disk before which the thread of a spool waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// No change: the thread begins, or pauses.
    Pause,
    Write {
        path: PathBuf,
        at: u64,
        len: u64,
    },
    Sync(PathBuf),
    Remove(PathBuf),
}

impl Gate {
    /// Reads a gate as the process writes it.
    pub fn parse(text: &str) -> Gate {
        let (name, rest) = text.split_once(' ').unwrap_or_default();
        match name {
            "write" => {
                let mut words = rest.splitn(3, ' ');
                let mut number = || words.next().unwrap().parse().unwrap();
                let (len, at) = (number(), number());
                Gate::Write { path: words.next().unwrap().into(), at, len }
            }
            "sync" => Gate::Sync(rest.into()),
            "remove" => Gate::Remove(rest.into()),
            _ => Gate::Pause,
        }
    }
}

/// The changes of one process that a crash may undo.
#[derive(Debug, Default)]
pub struct Unsynced {
    /// Files that are not synced from this byte on.
    writes: BTreeMap<PathBuf, u64>,
    /// New files whose folder is not synced.
    names: BTreeSet<PathBuf>,
    /// Removed files whose folder is not synced, with their contents.
    removed: BTreeMap<PathBuf, Vec<u8>>,
}

/// All files.
#[derive(Debug, Default)]
pub struct Disk {
    /// How many events of each file are durable.
    durable: BTreeMap<PathBuf, u64>,
}

/// The events of a file, and its text as a service would get it.
fn events(file: &[u8]) -> (u64, Vec<u8>) {
    match read(file) {
        Contents::Batch { batch, .. } => (batch.events.len() as u64, batch.events.body(0..batch.events.len())),
        Contents::Nothing | Contents::Foreign => (0, Vec::new()),
    }
}

/// The batch of a file.
fn batch(path: &Path) -> u128 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').map_or(0, |(_, batch)| id(batch.as_bytes()))
}

impl Disk {
    /// A gate is about to be passed.
    pub fn before(&mut self, gate: &Gate, unsynced: &mut Unsynced) {
        match gate {
            Gate::Write { path, at, .. } => {
                if *at > 0 && !self.durable.contains_key(path) {
                    // The file of a process that ended.
                    self.durable.insert(path.clone(), events(&fs::read(path).unwrap_or_default()).0);
                }
            }
            Gate::Remove(path) => {
                if let Ok(contents) = fs::read(path) {
                    unsynced.removed.insert(path.clone(), contents);
                }
            }
            Gate::Pause | Gate::Sync(_) => {}
        }
    }

    /// A gate was passed.
    pub fn after(
        &mut self,
        gate: &Gate,
        failed: bool,
        unsynced: &mut Unsynced,
        (process, ledger): (u64, &mut NativeLedger),
    ) -> Result<(), String> {
        match gate {
            Gate::Write { path, at, .. } => {
                let from = unsynced.writes.entry(path.clone()).or_insert(*at);
                *from = (*from).min(*at);
                if *at == 0 {
                    unsynced.names.insert(path.clone());
                }
            }
            Gate::Sync(path) if !failed && path.is_dir() => {
                let is_inside = |file: &PathBuf| file.parent() == Some(path);
                for file in unsynced.names.extract_if(.., |file| is_inside(file)) {
                    if !unsynced.writes.contains_key(&file) {
                        self.synced(&file, process, ledger)?;
                    }
                }
                for (file, _) in unsynced.removed.extract_if(.., |file, _| is_inside(file)) {
                    ledger.removed(batch(&file));
                }
            }
            Gate::Sync(path) if !failed => {
                unsynced.writes.remove(path);
                if !unsynced.names.contains(path) {
                    self.synced(path, process, ledger)?;
                }
            }
            Gate::Remove(path) => {
                if failed {
                    unsynced.removed.remove(path);
                } else {
                    unsynced.names.remove(path);
                    unsynced.writes.remove(path);
                    self.durable.remove(path);
                }
            }
            Gate::Pause | Gate::Sync(_) => {}
        }
        Ok(())
    }

    fn synced(&mut self, file: &Path, process: u64, ledger: &mut NativeLedger) -> Result<(), String> {
        let (count, body) = events(&fs::read(file).unwrap_or_default());
        let before = self.durable.insert(file.to_owned(), count).unwrap_or(0);
        ledger.synced(process, &body, count.saturating_sub(before))
    }

    /// A process crashed: each change that was not synced may be there, in part or not at all.
    pub fn tear(&mut self, unsynced: Unsynced, rng: &mut Random) {
        for (path, at) in unsynced.writes {
            let Ok(mut file) = fs::read(&path) else { continue };
            let len = file.len();
            file.truncate(rng.range(at.min(len as u64), len as u64) as usize);
            if rng.one_in(2) {
                // The length is on disk before the bytes.
                file.resize(len, 0);
            }
            fs::write(&path, file).unwrap();
        }
        for path in unsynced.names.iter().filter(|_| rng.one_in(2)) {
            let _ = fs::remove_file(path);
        }
        for (path, contents) in unsynced.removed {
            if rng.one_in(2) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, contents).unwrap();
            }
        }
    }

    /// How many files of batches there are.
    pub fn files(root: &Path) -> usize {
        let list = |path: &Path| -> Vec<PathBuf> {
            fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
        };
        let processes = list(root).into_iter().flat_map(|plugin| list(&plugin));
        processes.flat_map(|process| list(&process)).filter(|file| !file.ends_with("lock")).count()
    }
}
