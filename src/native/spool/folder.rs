//! The files of a spool: a folder for each process, with a lock that ends with the process.
//!
//! ```text
//! DIR/<plugin>/<process>/lock                    locked as long as the process lives
//! DIR/<plugin>/<process>/<sealed at>-<batch>     a batch
//! ```

use edgesplit_filter::spool::{Claim, FileError, FileErrorKind, Files};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";

/// The most bytes of a file that are read: more than any batch with its frames.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// How many folders of processes that ended are locked at a time: each takes a file descriptor of the proxy.
const CLAIMED_FOLDERS_MAX: usize = 256;

/// Events name visitors: only the proxy's user may read them.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The folder of a plugin, as one process sees it.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// The name of this process's folder.
    own: String,
    /// The lock on it, once it exists.
    own_lock: Option<File>,
    /// Whether its name is on disk.
    is_own_synced: bool,
    /// The folders of processes that ended, with the locks on them.
    claimed: BTreeMap<String, File>,
    /// Folders of live processes that were counted.
    counted: HashSet<String>,
}

impl Folder {
    /// The folder at `root` for the process called `own`. It is created with the first batch.
    pub(super) fn new(root: PathBuf, own: String) -> Folder {
        Folder { root, own, own_lock: None, is_own_synced: false, claimed: BTreeMap::new(), counted: HashSet::new() }
    }

    fn create_root(&self) -> Result<(), FileError> {
        let created = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.root);
        created.map_err(|error| failed("create", &self.root, &error))
    }

    /// Creates the folder of this process. It appears locked, so no other process takes it for an orphan.
    fn create_own(&mut self) -> Result<(), FileError> {
        self.create_root()?;
        let (hidden, folder) = (self.root.join(format!(".{}", self.own)), self.root.join(&self.own));
        let mut create = || -> Result<(), Error> {
            if self.own_lock.is_none() {
                DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&hidden)?;
                let lock = open_lock(&hidden)?;
                lock.try_lock()?;
                fs::rename(&hidden, &folder)?;
                self.own_lock = Some(lock);
            }
            sync_folder(&self.root)
        };
        create().map_err(|error| failed("create", &folder, &error))?;
        self.is_own_synced = true;
        Ok(())
    }

    /// Locks the folder of a process that ended, and lists its files.
    fn claim_one(&mut self, name: &str, claim: &mut Claim) -> Result<(), Error> {
        let folder = self.root.join(name);
        let lock = open_lock(&folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                claim.locked += u64::from(self.counted.insert(name.to_owned()));
                return Ok(());
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        claim
            .names
            .extend(names(&folder)?.into_iter().filter(|file| file != LOCK).map(|file| format!("{name}/{file}")));
        self.claimed.insert(name.to_owned(), lock);
        Ok(())
    }

    /// Removes folders of processes that ended, once they are empty.
    fn remove_empty(&mut self) {
        let root = self.root.clone();
        self.claimed.retain(|name, _| !remove_if_empty(&root.join(name)));
    }

    fn write_file(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let path = self.root.join(name);
        let file = OpenOptions::new().write(true).create(at == 0).truncate(false).mode(FILE_MODE).open(&path)?;
        file.set_len(at)?;
        file.write_all_at(bytes, at)?;
        file.sync_data()?;
        match path.parent() {
            Some(folder) if at == 0 => sync_folder(folder),
            _ => Ok(()),
        }
    }
}

impl Files for Folder {
    fn own_name(&self, file: &str) -> String {
        format!("{}/{file}", self.own)
    }

    fn claim(&mut self) -> Claim {
        let mut claim = Claim::default();
        self.remove_empty();
        let found =
            self.create_root().and_then(|()| names(&self.root).map_err(|error| failed("list", &self.root, &error)));
        let found = found.unwrap_or_else(|error| {
            claim.error = Some(error);
            Vec::new()
        });
        self.counted.retain(|name| found.contains(name));
        for name in found {
            if self.claimed.len() >= CLAIMED_FOLDERS_MAX {
                break;
            }
            if name.starts_with('.') || name == self.own || self.claimed.contains_key(&name) {
                continue;
            }
            match self.claim_one(&name, &mut claim) {
                Ok(()) => {}
                // Another process has just removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let error = failed("lock", &self.root.join(&name), &error);
                    claim.error.get_or_insert(error);
                }
            }
        }
        claim
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, FileError> {
        let path = self.root.join(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        read.map_err(|error| failed("read", &path, &error))?;
        Ok(bytes)
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), FileError> {
        let is_own = name.split('/').next() == Some(&self.own);
        if is_own && !self.is_own_synced {
            self.create_own()?;
        }
        self.write_file(name, at, bytes).map_err(|error| {
            if is_own && error.kind() == ErrorKind::NotFound && !self.root.join(&self.own).exists() {
                // It was removed: the next write creates it again.
                (self.own_lock, self.is_own_synced) = (None, false);
            }
            failed("write", &self.root.join(name), &error)
        })
    }

    fn remove(&mut self, names: &[String]) -> Result<(), FileError> {
        let mut result = Ok(());
        for name in names {
            let path = self.root.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => result = Err(failed("remove", &path, &error)),
                _ => {}
            }
        }
        for folder in names.iter().filter_map(|name| name.split('/').next()).collect::<BTreeSet<&str>>() {
            let folder = self.root.join(folder);
            match sync_folder(&folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => result = Err(failed("sync", &folder, &error)),
                _ => {}
            }
        }
        result
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.remove_empty();
        if self.own_lock.is_some() {
            remove_if_empty(&self.root.join(&self.own));
        }
    }
}

fn open_lock(folder: &Path) -> Result<File, Error> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(folder.join(LOCK))
}

/// The names in a folder.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

/// Removes a folder that has only its lock. True if it is gone.
fn remove_if_empty(folder: &Path) -> bool {
    match names(folder) {
        Ok(names) if names.iter().all(|name| name == LOCK) => {}
        Ok(_) => return false,
        Err(error) => return error.kind() == ErrorKind::NotFound,
    }
    // Another process may have opened the lock by now: it then holds a lock on nothing.
    let _ = fs::remove_file(folder.join(LOCK));
    fs::remove_dir(folder).is_ok()
}

/// Puts the names in a folder on disk.
fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder)?.sync_all()
}

fn failed(verb: &str, path: &Path, error: &Error) -> FileError {
    let kind = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => FileErrorKind::Full,
        ErrorKind::NotFound => FileErrorKind::Missing,
        _ => FileErrorKind::Other,
    };
    FileError { kind, message: format!("cannot {verb} {}: {error}", path.display()) }
}
