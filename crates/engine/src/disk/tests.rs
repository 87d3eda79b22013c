//! Addresses, files, the folder and its thread: what is kept is found, what is not good is refused.

use super::hash::{PageHash, SegmentId};
use super::segment::{self, Header};
use super::store::{Held, Room, Store};
use super::thread::{Counters, Disk, Job};
use super::{Event, Load, Log, Save};
use proptest::prelude::*;
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use sterna_formats::FormatError;
use sterna_runtime::settings::PAGE_LEN;

const PAGE_BYTES: usize = 40;

fn model() -> PageHash {
    PageHash::of_model(&[b"a model"])
}

fn tokens(n_pages: usize) -> Vec<u32> {
    (0..(n_pages * PAGE_LEN) as u32).map(|i| i * 7).collect()
}

fn page(n: usize) -> Vec<u8> {
    (0..PAGE_BYTES).map(|i| (n * 31 + i) as u8).collect()
}

/// Pages `depth..depth + n_pages` of a salt's chain.
fn segment_of(salt: Option<&str>, depth: usize, n_pages: usize) -> (Save, Vec<Vec<u8>>) {
    let (start, tokens) = (model().with_salt(salt), tokens(depth + n_pages));
    let last = tokens.chunks_exact(PAGE_LEN).fold(start, PageHash::then);
    let id = SegmentId { depth: depth as u32, last };
    (Save { id, start, tokens, depth }, (depth..depth + n_pages).map(page).collect())
}

fn load_of(save: &Save, first: usize, n_pages: usize) -> Load {
    let tokens = save.tokens[..(first + n_pages) * PAGE_LEN].to_vec();
    Load { number: 0, segment: save.id, start: save.start, tokens, first, n_pages }
}

/// A folder, and what is said of it.
struct Place {
    folder: tempfile::TempDir,
    counters: Arc<Counters>,
    said: Arc<Mutex<Vec<String>>>,
    room: Room,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (counters, said, room) = Default::default();
        Self { folder, counters, said, room }
    }

    fn open(&self, model: PageHash, limit: u64) -> Result<(Store, Vec<Held>), FormatError> {
        let said = self.said.clone();
        let log: Log = Box::new(move |text| said.lock().unwrap().push(text.to_owned()));
        let (counters, room) = (self.counters.clone(), self.room.clone());
        Store::open(self.folder.path(), limit, room, model, PAGE_BYTES, counters, log)
    }

    fn files(&self) -> Vec<PathBuf> {
        let list = |folder: &Path| {
            let entries = std::fs::read_dir(folder).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        let mut files: Vec<PathBuf> =
            list(self.folder.path()).iter().flat_map(|folder| list(folder)).collect();
        files.sort();
        files
    }
}

fn encoded(n_pages: usize) -> Vec<u8> {
    let (save, pages) = segment_of(None, 1, n_pages);
    let header = Header {
        model: model(),
        start: save.start,
        depth: save.depth,
        tokens: save.tokens,
        page_bytes: PAGE_BYTES,
        sums: pages.iter().map(|page| segment::sum(page)).collect(),
    };
    [header.encode(), pages.concat()].concat()
}

fn read(bytes: &[u8]) -> Option<(Header, Vec<Vec<u8>>)> {
    let header = Header::read(&mut Cursor::new(bytes), bytes.len() as u64).ok()?;
    let pages = (0..header.sums.len()).map(|page| header.read_page(&mut Cursor::new(bytes), page));
    let pages = pages.collect::<Result<_, _>>().ok()?;
    Some((header, pages))
}

#[test]
fn addresses_depend_on_model_salt_and_all_tokens() {
    let page: Vec<u32> = tokens(1);
    let plain = model().with_salt(None);
    assert_ne!(plain, model().with_salt(Some("")));
    assert_ne!(plain, PageHash::of_model(&[b"a mode", b"l"]).with_salt(None));
    assert_ne!(plain.then(&page), model().with_salt(Some("tenant")).then(&page));
    assert_ne!(plain.then(&page).then(&page), plain.then(&page));
    let id = SegmentId { depth: 17, last: plain };
    assert_eq!(SegmentId::of_file_name(&id.file_name()), Some(id));
    for name in ["", "x.kv", ".00000011-ab.kv.12.tmp", &id.file_name().to_uppercase()] {
        assert_eq!(SegmentId::of_file_name(name), None, "{name}");
    }
}

// proves B24: what is not what was written is refused.
#[test]
fn no_cut_and_no_changed_byte_is_taken_for_the_whole() {
    let bytes = encoded(3);
    let (header, pages) = read(&bytes).unwrap();
    assert_eq!((header.depth, header.hashes().len()), (1, 3));
    assert_eq!(pages, (1..4).map(page).collect::<Vec<_>>());
    assert_eq!(bytes.len() as u64, segment::file_len(1, 3, PAGE_BYTES));
    for len in 0..bytes.len() {
        assert!(read(&bytes[..len]).is_none(), "cut at {len}");
    }
    let mut changed = bytes.clone();
    for at in 0..bytes.len() {
        for bit in [1, 0x80] {
            changed[at] ^= bit;
            assert!(read(&changed).is_none(), "changed at {at}");
            changed[at] ^= bit;
        }
    }
    changed.push(0);
    assert!(read(&changed).is_none(), "one byte too many");
    // The seed of the fuzz target is such a file.
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/kv_segment/good.kv");
    assert!(std::fs::read(seed).unwrap() == bytes, "write it anew: the format has changed");
}

proptest! {
    #[test]
    fn hostile_headers_are_refused_without_reserving_what_they_claim(
        mut numbers in prop::collection::vec(any::<u32>(), 6),
        rest in prop::collection::vec(any::<u8>(), 0..400),
        is_near in any::<bool>(),
    ) {
        let mut bytes = encoded(1);
        if is_near {
            numbers[0] = 1;
            numbers[1] %= 70;
            numbers[3] = PAGE_LEN as u32;
        }
        for (at, number) in numbers.into_iter().enumerate() {
            bytes[8 + 4 * at..12 + 4 * at].copy_from_slice(&number.to_le_bytes());
        }
        bytes.extend(rest);
        prop_assert!(read(&bytes).is_none());
    }
}

#[test]
fn what_is_written_is_found_by_the_next_process_of_the_same_model() {
    let place = Place::new();
    let (mut store, held) = place.open(model(), 1 << 20).unwrap();
    assert_eq!(held, []);
    let (head, head_pages) = segment_of(None, 0, 3);
    let (tail, tail_pages) = segment_of(None, 3, 2);
    assert_eq!(store.save(&head, &head_pages).unwrap(), []);
    assert_eq!(store.save(&tail, &tail_pages).unwrap(), []);
    let (store, held) = place.open(model(), 1 << 20).unwrap();
    let found: Vec<_> = held.iter().map(|(id, hashes)| (*id, hashes.len())).collect();
    assert_eq!(found, [(head.id, 3), (tail.id, 2)]);
    assert_eq!(held.iter().find(|(id, _)| *id == tail.id).unwrap().1[1], tail.id.last);
    assert_eq!(store.load(&load_of(&head, 1, 2)), (vec![page(1), page(2)], false));
    assert_eq!(store.load(&load_of(&tail, 3, 2)), (tail_pages, false));
    let written = segment::file_len(0, 3, PAGE_BYTES) + segment::file_len(3, 2, PAGE_BYTES);
    assert_eq!(place.counters.stats().written_bytes, written);
    assert_eq!(place.counters.stats().read_bytes, 4 * PAGE_BYTES as u64);
    // Another model's files are not seen, and not touched.
    let (_, held) = place.open(PageHash::of_model(&[b"another"]), 1 << 20).unwrap();
    assert_eq!((held, place.files().len()), (vec![], 2));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let folder = place.files()[0].parent().unwrap().metadata().unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700, "prompts are nobody else's");
    }
}

#[test]
fn other_tokens_other_salts_and_damage_are_refused_removed_and_said_once() {
    let place = Place::new();
    let (mut store, _) = place.open(model(), 1 << 20).unwrap();
    let (save, pages) = segment_of(None, 0, 3);
    let said = |n| assert_eq!(place.said.lock().unwrap().len(), n, "{:?}", place.said);
    // As if two prefixes had one hash.
    let mut other = load_of(&save, 0, 3);
    other.tokens[40] += 1;
    let salted = Load { start: model().with_salt(Some("tenant")), ..load_of(&save, 0, 3) };
    for (n, wrong) in [other, salted].into_iter().enumerate() {
        store.save(&save, &pages).unwrap();
        assert_eq!(store.load(&wrong), (vec![], true));
        assert_eq!(place.files().len(), 0);
        said(n + 1);
    }
    assert_eq!(store.load(&load_of(&save, 0, 3)), (vec![], true));
    said(2);
    // A page in the middle is damaged: those before it are good.
    store.save(&save, &pages).unwrap();
    let path = &place.files()[0];
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() - 2 * PAGE_BYTES + 5;
    bytes[at] ^= 1;
    std::fs::write(path, &bytes).unwrap();
    assert_eq!(store.load(&load_of(&save, 0, 3)), (vec![page(0)], true));
    assert_eq!(place.files().len(), 0);
    said(3);
    // At the next start: one that is cut, and one of another name.
    store.save(&save, &pages).unwrap();
    let (tail, tail_pages) = segment_of(None, 3, 1);
    store.save(&tail, &tail_pages).unwrap();
    let files = place.files();
    std::fs::rename(&files[1], files[1].with_file_name(segment_of(None, 5, 1).0.id.file_name()))
        .unwrap();
    File::options().write(true).open(&files[0]).unwrap().set_len(300).unwrap();
    std::fs::write(files[0].with_file_name("notes.txt"), "mine").unwrap();
    let (_, held) = place.open(model(), 1 << 20).unwrap();
    assert_eq!((held, place.files().len()), (vec![], 1), "what is not ours stays");
    said(5);
    assert_eq!(place.counters.stats().refused_files, 5);
}

#[test]
fn the_least_recently_used_make_room_the_deepest_first() {
    let place = Place::new();
    let bytes = segment::file_len(2, 2, PAGE_BYTES);
    let (mut store, _) = place.open(model(), 5 * bytes).unwrap();
    let saved: Vec<SegmentId> = (0..4)
        .map(|n| {
            let (save, pages) = segment_of(Some(&n.to_string()), n % 2 * 2, 2);
            assert_eq!(store.save(&save, &pages).unwrap(), []);
            save.id
        })
        .collect();
    // All of one moment, long ago; then one is used.
    for file in place.files() {
        let file = File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    }
    store.touch(&[saved[1]]);
    let (mut store, _) = place.open(model(), 5 * bytes).unwrap();
    let mut gone = Vec::new();
    let mut n = 4;
    while gone.len() < 3 {
        let (save, pages) = segment_of(Some(&n.to_string()), 2, 2);
        gone.extend(store.save(&save, &pages).unwrap());
        n += 1;
        let total: u64 = place.files().iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(total <= 5 * bytes, "the limit holds");
    }
    assert_eq!(gone[0], saved[3], "the deepest of the oldest");
    assert!(gone[1..3].contains(&saved[0]) && gone[1..3].contains(&saved[2]));
    assert!(place.counters.stats().evicted_bytes >= 2 * bytes);
    let refused = place.open(model(), 10).err().unwrap().to_string();
    assert!(refused.contains("allow more"), "{refused}");
}

#[test]
fn the_models_of_a_process_keep_to_the_limit_together() {
    let place = Place::new();
    let bytes = segment::file_len(0, 2, PAGE_BYTES);
    let limit = 64 * bytes;
    let models = [b"a", b"b", b"c"].map(|name| PageHash::of_model(&[name]));
    let mut stores = models.map(|model| place.open(model, limit).unwrap().0);
    for n in 0..64 {
        for store in &mut stores {
            let (save, pages) = segment_of(Some(&n.to_string()), 0, 2);
            store.save(&save, &pages).unwrap();
            let total: u64 = place.files().iter().map(|file| file.metadata().unwrap().len()).sum();
            assert!(total <= limit, "{total} bytes of {limit}");
        }
    }
    stores[0].clear();
    let (store, held) = place.open(models[0], limit).unwrap();
    assert_eq!(held, [], "what was cleared is gone");
    drop(store);
    assert_ne!(place.open(models[1], limit).unwrap().1, [], "another model's stays");
}

#[test]
fn a_disk_that_refuses_is_said_each_time_that_it_begins_to() {
    let place = Place::new();
    let (mut store, _) = place.open(model(), 1 << 20).unwrap();
    let (save, pages) = segment_of(None, 0, 3);
    place.counters.dropped.fetch_add(1, Relaxed);
    for n in 1..3 {
        let folder = place.files().first().map(|file| file.parent().unwrap().to_owned());
        let folder = folder.unwrap_or_else(|| {
            let mut all = std::fs::read_dir(place.folder.path()).unwrap();
            all.next().unwrap().unwrap().path()
        });
        std::fs::remove_dir_all(&folder).unwrap();
        for _ in 0..2 {
            let error = store.save(&save, &pages).unwrap_err();
            store.note_failure(&error);
        }
        assert_eq!(place.said.lock().unwrap().len(), n, "{:?}", place.said);
        std::fs::create_dir(&folder).unwrap();
        store.save(&save, &pages).unwrap();
    }
    let counted = place.counters.stats();
    assert_eq!((counted.dropped_writes, counted.failed_writes), (1, 4));
}

/// A clock that counts how often it is asked.
fn ticks() -> crate::worker::Clock {
    let asked = std::sync::atomic::AtomicU64::new(0);
    Box::new(move || Duration::from_millis(asked.fetch_add(1, Relaxed)))
}

#[test]
fn the_thread_writes_what_is_queued_before_it_ends() {
    let place = Place::new();
    let (store, _) = place.open(model(), 1 << 20).unwrap();
    let disk = Disk::start(store, ticks(), place.counters.clone()).unwrap();
    let (head, head_pages) = segment_of(None, 0, 3);
    let (tail, tail_pages) = segment_of(None, 3, 2);
    disk.push(Job::Save(head.clone(), head_pages));
    assert_eq!(disk.wait(Duration::from_secs(60)), Some(Event::Saved(head.id)));
    disk.push(Job::Load(load_of(&head, 0, 2)));
    let took = Duration::from_millis(1);
    let pages = vec![page(0), page(1)];
    let loaded = Event::Loaded { number: 0, first: 0, n_wanted: 2, pages, took };
    assert_eq!(disk.wait(Duration::from_secs(60)), Some(loaded));
    disk.push(Job::Load(load_of(&tail, 3, 2)));
    let pages = Vec::new();
    assert_eq!(disk.wait(Duration::from_secs(60)), Some(Event::Gone(tail.id)));
    let loaded = Event::Loaded { number: 0, first: 3, n_wanted: 2, pages, took };
    assert_eq!(disk.wait(Duration::from_secs(60)), Some(loaded));
    disk.push(Job::Save(tail, tail_pages));
    drop(disk);
    assert_eq!(place.files().len(), 2);
}

#[test]
fn a_queue_has_room_for_some_bytes_and_for_one_that_is_too_large() {
    let place = Place::new();
    let (store, _) = place.open(model(), 1 << 20).unwrap();
    // The clock stops the thread in the middle of its first job.
    let (go, waits): (_, Receiver<()>) = channel();
    let clock = Box::new(move || {
        let _ = waits.recv();
        Duration::ZERO
    });
    let disk = Disk::start(store, clock, place.counters.clone()).unwrap();
    let (save, pages) = segment_of(None, 0, 3);
    disk.push(Job::Load(load_of(&save, 0, 3)));
    assert!(disk.has_room(u64::MAX));
    disk.push(Job::Save(save, pages));
    assert!(disk.has_room(1 << 20) && !disk.has_room(1 << 40));
    drop(go);
    while disk.wait(Duration::from_secs(60)).is_some_and(|e| !matches!(e, Event::Saved(_))) {}
    while !disk.has_room(1 << 40) {
        std::thread::yield_now();
    }
}
