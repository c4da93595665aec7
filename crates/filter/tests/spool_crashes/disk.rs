//! A disk that tears writes, fills up, and refuses.

use crate::Rng;
use edgesplit_filter::events::event::random_id;
use edgesplit_filter::spool::{Claim, Contents, FileError, FileErrorKind, Files, read};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

/// The condition of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Good,
    /// Writes are cut, and fail.
    Full,
    /// Everything fails.
    Refuses,
    /// The next write or removal is torn by the end of its process.
    CrashesNext,
}

/// All folders, and the locks on them.
#[derive(Debug)]
pub(crate) struct Disk {
    rng: Rng,
    health: Health,
    files: BTreeMap<String, Vec<u8>>,
    locks: BTreeMap<String, u64>,
    dead: HashSet<u64>,
    /// All events that were ever on disk.
    pub(crate) durable: BTreeSet<String>,
    /// Batches whose file was removed: they must never be sent again.
    pub(crate) removed: BTreeSet<String>,
    /// Events that processes had only in memory when they ended.
    pub(crate) lost_with_processes: usize,
}

impl Disk {
    pub(crate) fn new(rng: Rng) -> Disk {
        Disk {
            rng,
            health: Health::Good,
            files: BTreeMap::new(),
            locks: BTreeMap::new(),
            dead: HashSet::new(),
            durable: BTreeSet::new(),
            removed: BTreeSet::new(),
            lost_with_processes: 0,
        }
    }

    pub(crate) fn change_health(&mut self) {
        self.health = match self.rng.below(4) {
            0 => Health::Full,
            1 => Health::Refuses,
            _ => Health::Good,
        };
    }

    pub(crate) fn heal(&mut self) {
        self.health = Health::Good;
    }

    pub(crate) fn crashes_soon(&mut self) {
        self.health = Health::CrashesNext;
    }

    pub(crate) fn is_dead(&self, process: u64) -> bool {
        self.dead.contains(&process)
    }

    /// The process ended: its locks are free.
    pub(crate) fn unlock(&mut self, process: u64) {
        self.locks.retain(|_, holder| *holder != process);
    }

    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }
}

/// The events in a file.
fn events(file: &[u8]) -> Vec<String> {
    let Contents::Batch { batch, .. } = read(file) else { return Vec::new() };
    let body = batch.events.body(0..batch.events.len());
    String::from_utf8(body).unwrap().lines().map(str::to_owned).collect()
}

/// The disk as one process sees it.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) disk: Rc<RefCell<Disk>>,
    pub(crate) process: u64,
}

fn error(is_full: bool) -> FileError {
    let kind = if is_full { FileErrorKind::Full } else { FileErrorKind::Other };
    FileError { kind, message: "simulated".to_owned() }
}

impl Folder {
    /// The folder of this process appears with its first file, locked.
    fn lock_own(disk: &mut Disk, name: &str, process: u64) {
        let folder = name.split('/').next().unwrap().to_owned();
        disk.locks.entry(folder).or_insert(process);
    }
}

impl Files for Folder {
    fn own_name(&self, file: &str) -> String {
        format!("{}/{file}", self.process)
    }

    fn claim(&mut self) -> Claim {
        let disk = &mut *self.disk.borrow_mut();
        if disk.is_dead(self.process) || disk.health == Health::Refuses {
            return Claim { error: Some(error(false)), ..Claim::default() };
        }
        let folders: BTreeSet<String> =
            disk.files.keys().map(|name| name.split('/').next().unwrap().to_owned()).collect();
        let mut claim = Claim::default();
        for folder in folders.into_iter().filter(|folder| *folder != self.process.to_string()) {
            match disk.locks.get(&folder) {
                Some(holder) if *holder != self.process => claim.locked += 1,
                Some(_) => {}
                None => {
                    let files = disk.files.keys().filter(|name| name.split('/').next() == Some(&folder));
                    claim.names.extend(files.cloned());
                    disk.locks.insert(folder, self.process);
                }
            }
        }
        claim
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, FileError> {
        let disk = self.disk.borrow();
        match disk.files.get(name) {
            Some(file) if disk.health != Health::Refuses && !disk.is_dead(self.process) => Ok(file.clone()),
            _ => Err(error(false)),
        }
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), FileError> {
        let disk = &mut *self.disk.borrow_mut();
        if disk.is_dead(self.process) || disk.health == Health::Refuses {
            return Err(error(false));
        }
        Folder::lock_own(disk, name, self.process);
        let file = disk.files.entry(name.to_owned()).or_default();
        assert!(file.len() as u64 >= at, "a write leaves a hole in {name}");
        let before = events(&file[..at as usize]);
        if disk.health != Health::Good && disk.rng.one_in(4) {
            // Not even the old end was cut.
        } else {
            file.truncate(at as usize);
        }
        if disk.health == Health::Good {
            file.extend_from_slice(bytes);
            disk.durable.extend(events(file));
            return Ok(());
        }
        if file.len() as u64 == at {
            file.extend_from_slice(&bytes[..disk.rng.below(bytes.len() as u64 + 1) as usize]);
            if disk.rng.one_in(2) {
                // The length is on disk before the bytes.
                file.resize(at as usize + bytes.len(), 0);
            }
        }
        let after = events(file);
        assert!(before.iter().all(|event| after.contains(event)), "a torn write destroys {name}");
        if disk.health == Health::CrashesNext {
            disk.dead.insert(self.process);
            disk.health = Health::Good;
        }
        Err(error(disk.health == Health::Full))
    }

    fn remove(&mut self, names: &[String]) -> Result<(), FileError> {
        let disk = &mut *self.disk.borrow_mut();
        if disk.is_dead(self.process) || disk.health == Health::Refuses {
            return Err(error(false));
        }
        let crashes = disk.health == Health::CrashesNext;
        for name in names {
            if crashes && disk.rng.one_in(2) {
                continue;
            }
            if disk.files.remove(name).is_some() && !crashes {
                let id = name.rsplit('-').next().unwrap();
                disk.removed.insert(random_id(u128::from_str_radix(id, 16).unwrap()).to_string());
            }
        }
        if crashes {
            disk.dead.insert(self.process);
            disk.health = Health::Good;
            return Err(error(false));
        }
        Ok(())
    }
}
