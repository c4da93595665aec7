//! Spools on the disk of this machine.

use super::*;
use edgesplit_filter::events::outbox::{BatchHeader, Lease, Outbox, SendPolicy, Settlement};
use edgesplit_filter::events::slot::{EncodedBatch, slot_key};
use edgesplit_filter::shared_data::Record;
use edgesplit_filter::spool::{Contents, read};
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const NOW_MS: i64 = 1_700_000_000_000;

/// Names the folder for the part of a test that runs in a process of its own.
const CHILD: &str = "EDGESPLIT_SPOOL_CHILD";

/// A folder that ends with its test.
struct TestFolder(PathBuf);

impl TestFolder {
    fn new(name: &str) -> TestFolder {
        let path = std::env::temp_dir().join(format!("edgesplit-spool-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TestFolder(path)
    }

    /// A spool as the process called `process` opens it.
    fn spool(&self, process: &str) -> Spool<Folder> {
        let folder = Folder::new(self.0.join("shop"), process.to_owned());
        Spool::new(folder, "edgesplit/shop", OutboxLimits::default(), 77)
    }

    fn thread(&self, store: &'static Store) -> Arc<SpoolThread> {
        let spool = Some(self.0.to_str().unwrap().to_owned());
        let limits = OutboxLimits { max_batches: 4_096, spool, ..OutboxLimits::default() };
        let random = RandomState::new().hash_one("a process");
        SpoolThread::open(store, "shop", &limits, u128::from(random) << 64).unwrap().unwrap()
    }

    /// All files of batches.
    fn files(&self) -> Vec<PathBuf> {
        let list = |path: &Path| std::fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
        let files = list(&self.0.join("shop")).flat_map(|folder| list(&folder).collect::<Vec<PathBuf>>());
        files.filter(|file| !file.ends_with("lock")).collect()
    }

    /// The events in them.
    fn events(&self) -> BTreeSet<String> {
        let files = self.files().into_iter().filter_map(|file| match read(&std::fs::read(file).unwrap()) {
            Contents::Batch { batch, .. } => Some(texts(&batch.events)),
            _ => None,
        });
        files.flatten().collect()
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn texts(events: &EncodedBatch) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_slice(&events.body(0..events.len())).unwrap();
    body["events"].as_array().unwrap().iter().map(ToString::to_string).collect()
}

fn outbox(store: &Store) -> Outbox {
    Outbox::decode(&store.get("edgesplit/shop/outbox").value).unwrap_or_default()
}

fn set_outbox(store: &Store, outbox: &Outbox) {
    store.set("edgesplit/shop/outbox", &outbox.encode(), Shared::OVERWRITE).unwrap();
}

/// Puts a batch into the outbox, as a pipeline does.
fn queue(store: &Store, id: u128, texts: &[&str]) {
    let mut events = EncodedBatch::default();
    events.id = id;
    for text in texts {
        assert!(events.push(usize::MAX, |out| out.extend_from_slice(text.as_bytes())));
    }
    let header = BatchHeader { id, events: events.len() as u32, bytes: events.bytes() as u32 };
    let lease = Lease { holder: 1, since_ms: NOW_MS, until_ms: NOW_MS + 1_000 };
    let limits = OutboxLimits { max_batches: 4_096, ..OutboxLimits::default() };
    let mut outbox = outbox(store);
    let slot = outbox.reserve(header, lease, &limits, &mut Settlement::default()).unwrap();
    store.set(&format!("{}/{slot}", slot_key("edgesplit/shop")), &events.encode(), Shared::OVERWRITE).unwrap();
    outbox.publish(id, 1, SendPolicy::Never, NOW_MS).unwrap();
    set_outbox(store, &outbox);
}

fn new_store() -> &'static Store {
    Box::leak(Box::default())
}

/// The service has all batches.
fn settle_all(store: &Store) {
    set_outbox(store, &Outbox::default());
}

#[track_caller]
fn eventually(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the test called `name` again in a shell, as `wrap` has it around the command `"$@"`.
fn child(name: &str, folder: &TestFolder, wrap: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", wrap, "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("native::spool::tests::{name}"), "--nocapture"]).env(CHILD, &folder.0);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// The folder of the test, in the process of its own.
fn in_child() -> Option<TestFolder> {
    std::env::var_os(CHILD).map(|path| TestFolder(path.into()))
}

#[test]
fn thread_keeps_files_up_to_the_outbox() {
    let folder = TestFolder::new("thread");
    let store = new_store();
    let thread = folder.thread(store);
    assert!(Arc::ptr_eq(&thread, &folder.thread(store)), "all configurations of a plugin share it");
    queue(store, 1, &["{}", "{\"n\":1}"]);
    let mut durable = 0;
    eventually(|| {
        durable += thread.take_report().counts.durable_events;
        durable == 2
    });
    assert_eq!(folder.events().len(), 2);
    queue(store, 2, &["{\"n\":2}"]);
    drop(thread);
    assert_eq!(folder.events().len(), 3, "the end of the thread commits the last batch");

    let store = new_store();
    let thread = folder.thread(store);
    let mut recovered = 0;
    eventually(|| {
        recovered += thread.take_report().counts.recovered_events;
        recovered == 3
    });
    assert_eq!(outbox(store).queued_events(), 3);
    settle_all(store);
    eventually(|| folder.files().is_empty());
    drop(thread);
    assert_eq!(std::fs::read_dir(folder.0.join("shop")).unwrap().count(), 0, "empty folders are removed");
}

#[test]
fn folder_of_a_live_process_is_left_alone_until_it_ends() {
    let folder = TestFolder::new("live");
    let (parent_store, child_store) = (Store::default(), Store::default());
    let (mut parent, mut child) = (folder.spool("1-parent"), folder.spool("2-child"));
    queue(&parent_store, 1, &["{}"]);
    parent.commit(&parent_store, NOW_MS);
    for now_ms in [NOW_MS, NOW_MS + CLAIM_EVERY_MS] {
        child.commit(&child_store, now_ms);
    }
    let counts = child.take_counts();
    assert_eq!((counts.locked, counts.recovered_events), (1, 0), "a live folder is counted once");
    // The parent of a hot restart ends later than its child starts.
    parent.finish(&parent_store, NOW_MS);
    drop(parent);
    child.commit(&child_store, NOW_MS + 2 * CLAIM_EVERY_MS);
    assert_eq!(child.take_counts().recovered_events, 1);
    assert_eq!(outbox(&child_store).queued_events(), 1);
}

#[test]
fn orphan_is_taken_in_by_one_process_only() {
    let folder = TestFolder::new("orphan");
    let store = Store::default();
    let mut first = folder.spool("1-first");
    queue(&store, 1, &["{}"]);
    first.finish(&store, NOW_MS);
    drop(first);
    let counts = ["2-second", "3-third"].map(|process| {
        let mut spool = folder.spool(process);
        spool.commit(&Store::default(), NOW_MS);
        (spool.take_counts(), spool)
    });
    assert_eq!(counts.map(|(counts, _)| (counts.recovered_events, counts.locked)), [(1, 0), (0, 1)]);
}

#[test]
fn process_that_opens_its_spool_again_recovers_nothing() {
    let folder = TestFolder::new("again");
    let store = Store::default();
    queue(&store, 1, &["{}"]);
    let mut spool = folder.spool("1-a");
    spool.finish(&store, NOW_MS);
    drop(spool);
    let mut spool = folder.spool("1-b");
    spool.commit(&store, NOW_MS);
    assert_eq!(spool.take_counts(), Counts::default());
    assert_eq!((outbox(&store).queued_events(), folder.files().len()), (1, 1));
    settle_all(&store);
    spool.commit(&store, NOW_MS);
    assert_eq!(folder.files().len(), 0);
}

#[test]
fn torn_end_is_cut_and_written_again() {
    let folder = TestFolder::new("torn");
    let store = Store::default();
    let mut spool = folder.spool("1-a");
    queue(&store, 1, &["{}", "{\"n\":1}"]);
    spool.finish(&store, NOW_MS);
    drop(spool);
    let file = folder.files().remove(0);
    let whole = std::fs::read(&file).unwrap();
    for end in 0..whole.len() {
        std::fs::write(&file, &whole[..end]).unwrap();
        let mut spool = folder.spool("2-b");
        spool.commit(&Store::default(), NOW_MS);
        let counts = spool.take_counts();
        assert_eq!((counts.torn, counts.recovered_events), (1, 0), "cut at {end}");
        drop(spool);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    }
    std::fs::write(&file, [&whole[..], &whole[4..20]].concat()).unwrap();
    let (store, mut spool) = (Store::default(), folder.spool("3-c"));
    spool.commit(&store, NOW_MS);
    let counts = spool.take_counts();
    assert_eq!((counts.torn, counts.recovered_events), (1, 2));
    let mut outbox = outbox(&store);
    outbox.batches[0].next = 1;
    set_outbox(&store, &outbox);
    spool.commit(&store, NOW_MS);
    let bytes = std::fs::read(&file).unwrap();
    let Contents::Batch { batch, len } = read(&bytes) else { panic!("{bytes:?}") };
    assert_eq!((batch.next, len), (1, bytes.len() as u64), "progress replaces the torn end");
}

#[test]
fn file_of_another_version_is_left_alone() {
    let folder = TestFolder::new("version");
    let other = folder.0.join("shop/9-other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("0000-01"), b"ESs\x02of the future").unwrap();
    let (store, mut spool) = (Store::default(), folder.spool("1-a"));
    queue(&store, 1, &["{}"]);
    for now_ms in [NOW_MS, NOW_MS + CLAIM_EVERY_MS] {
        spool.commit(&store, now_ms);
    }
    let counts = spool.take_counts();
    assert_eq!((counts.version, counts.recovered_events, counts.durable_events), (1, 0, 1));
    drop(spool);
    assert_eq!(std::fs::read(other.join("0000-01")).unwrap(), b"ESs\x02of the future");
}

#[test]
fn folder_without_permission_is_tried_again() {
    let folder = TestFolder::new("permission");
    // Tests may run as root, who has every permission, but not below a file.
    let obstacle = folder.0.join("shop");
    std::fs::write(&obstacle, b"a file").unwrap();
    let (store, mut spool) = (Store::default(), folder.spool("1-a"));
    queue(&store, 1, &["{}"]);
    spool.commit(&store, NOW_MS);
    assert!(spool.take_counts().disk > 0 && spool.take_problem().is_some_and(|problem| problem.contains("shop")));
    assert_eq!(outbox(&store).queued_events(), 1, "it stays in memory");
    std::fs::remove_file(&obstacle).unwrap();
    spool.commit(&store, NOW_MS + 1);
    assert_eq!(spool.take_counts(), Counts::default(), "the disk is left alone for a while");
    spool.commit(&store, NOW_MS + RETRY_AFTER_MS);
    assert_eq!(spool.take_counts().durable_events, 1);
}

#[test]
fn files_are_for_the_proxys_user_only() {
    let folder = TestFolder::new("mode");
    let (store, mut spool) = (Store::default(), folder.spool("1-a"));
    queue(&store, 1, &["{}"]);
    spool.commit(&store, NOW_MS);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = folder.files().remove(0);
    let process = file.parent().unwrap();
    assert_eq!([&*file, process, process.parent().unwrap()].map(mode), [0o600, 0o700, 0o700]);
}

#[test]
fn removed_folder_is_created_again() {
    let folder = TestFolder::new("removed");
    let (store, mut spool) = (Store::default(), folder.spool("1-a"));
    queue(&store, 1, &["{}"]);
    spool.commit(&store, NOW_MS);
    std::fs::remove_dir_all(folder.0.join("shop")).unwrap();
    queue(&store, 2, &["{\"n\":2}"]);
    for after_ms in [0, RETRY_AFTER_MS] {
        spool.commit(&store, NOW_MS + after_ms);
    }
    let counts = spool.take_counts();
    assert_eq!((counts.durable_events, counts.disk), (2, 1));
}

#[test]
fn lock_stays_while_its_folder_is_not_synced() {
    let Some(folder) = in_child() else {
        let folder = TestFolder::new("sync");
        let name = "lock_stays_while_its_folder_is_not_synced";
        assert!(child(name, &folder, "ulimit -n 64; exec \"$@\"").wait().unwrap().success());
        return;
    };
    let (store, mut spool) = (Store::default(), folder.spool("1-a"));
    queue(&store, 1, &["{}"]);
    // One file descriptor is left: enough for the lock, too few for the sync of the folder around it.
    let mut files: Vec<std::fs::File> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    files.pop();
    spool.commit(&store, NOW_MS);
    drop(files);
    assert_eq!(spool.take_counts().disk, 1);
    let mut other = folder.spool("2-b");
    other.commit(&Store::default(), NOW_MS);
    assert_eq!(other.take_counts().locked, 1, "no other process takes the folder");
    spool.commit(&store, NOW_MS + RETRY_AFTER_MS);
    assert_eq!(spool.take_counts().durable_events, 1);
    std::process::exit(0);
}

#[test]
fn full_disk_is_counted_and_the_batch_stays_in_memory() {
    let Some(folder) = in_child() else {
        let folder = TestFolder::new("full");
        // Files of at most 4 KiB: an error for the process that ignores the signal.
        let mut child = child(
            "full_disk_is_counted_and_the_batch_stays_in_memory",
            &folder,
            "trap '' XFSZ; ulimit -f 8; exec \"$@\"",
        );
        assert!(child.wait().unwrap().success());
        let mut spool = folder.spool("2-b");
        spool.commit(&Store::default(), NOW_MS);
        let counts = spool.take_counts();
        assert_eq!((counts.torn, counts.recovered_events), (1, 1), "the batch that fitted is there");
        return;
    };
    let (store, mut spool) = (Store::default(), folder.spool("1-a"));
    queue(&store, 1, &["{}"]);
    queue(&store, 2, &[&format!("\"{}\"", "a".repeat(100_000))]);
    spool.commit(&store, NOW_MS);
    let counts = spool.take_counts();
    assert_eq!((counts.full, counts.disk, counts.durable_events), (1, 0, 1));
    assert_eq!(outbox(&store).queued_events(), 2);
    // As if killed: nothing is tidied.
    std::process::exit(0);
}

#[test]
fn durable_events_survive_a_kill() {
    let Some(folder) = in_child() else {
        let folder = TestFolder::new("kill");
        let mut child = child("durable_events_survive_a_kill", &folder, "exec \"$@\"");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let counts = lines.filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok());
        let durable = counts.into_iter().find(|durable| *durable >= 100).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let store = new_store();
        let thread = folder.thread(store);
        let mut report = Report::default();
        eventually(|| {
            report.counts.add(&thread.take_report().counts);
            report.counts.recovered_events >= durable && outbox(store).queued_events() == report.counts.recovered_events
        });
        let events = folder.events();
        for event in 0..durable {
            assert!(events.contains(&event.to_string()), "event {event} of {durable} did not survive");
        }
        return;
    };
    let store = new_store();
    let (thread, mut durable) = (folder.thread(store), 0);
    // Few enough that a process on a busy machine takes them all in within the deadline.
    for event in 0..1_000_u64 {
        queue(store, u128::from(event) + 1, &[&event.to_string()]);
        std::thread::sleep(Duration::from_millis(1));
        let more = thread.take_report().counts.durable_events;
        durable += more;
        if more > 0 {
            println!("durable {durable}");
        }
    }
    // Waits for its end.
    std::thread::sleep(Duration::from_secs(60));
}
