//! The journal of systemd, in its native protocol: one datagram for each entry, with fields that `journalctl` can select by.
//!
//! Owns: the socket and the entries that wait for it. Never knows: which lines are logged.
//!
//! Whoever logs never waits for the journal. Entries wait in a queue with an end; those that find it full are lost, and counted, and
//! the journal is told how many as soon as it takes entries again.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Names another socket, for tests.
const SOCKET_VARIABLE: &str = "JOURNAL_SOCKET";

/// Entries that wait. Of the usual length they take half a megabyte.
const ENTRIES_WAITING_MAX: usize = 1024;

/// Pause before the journal is sought again: it restarts in less.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How long a stop waits for the last entries.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// One entry, in the bytes of the protocol.
#[derive(Debug, Default)]
pub(super) struct Entry(Vec<u8>);

impl Entry {
    /// Adds a field; `name` is in capitals.
    pub(super) fn field(mut self, name: &str, value: &str) -> Self {
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
        self
    }
}

enum Order {
    Send(Entry),
    /// Everything before this has been sent.
    Flush(SyncSender<()>),
}

/// The way to the journal.
pub(super) struct Journal {
    orders: SyncSender<Order>,
    lost: Arc<AtomicU64>,
}

impl Journal {
    /// Connects, and starts the thread that sends. `lost` makes an entry of how many were lost.
    ///
    /// # Errors
    /// When the journal cannot be reached.
    pub(super) fn connect(lost: fn(u64) -> Entry) -> io::Result<Self> {
        let path = std::env::var_os(SOCKET_VARIABLE).map_or_else(|| SOCKET.into(), PathBuf::from);
        let socket = connect(&path)?;
        let (orders, orders_rx) = sync_channel(ENTRIES_WAITING_MAX);
        let count = Arc::new(AtomicU64::new(0));
        let mut sender = Sender { path, socket, lost: Arc::clone(&count), told: 0, tell: lost };
        let thread = std::thread::Builder::new().name("journal".to_owned());
        thread.spawn(move || sender.run(&orders_rx))?;
        Ok(Self { orders, lost: count })
    }

    /// Sends an entry soon, or counts it as lost.
    pub(super) fn send(&self, entry: Entry) {
        if self.orders.try_send(Order::Send(entry)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// How many entries were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Waits until what was sent has left, for a moment at most.
    pub(super) fn flush(&self) {
        let (done_tx, done_rx) = sync_channel(1);
        if self.orders.try_send(Order::Flush(done_tx)).is_ok() {
            // A journal that stands still is not waited for any longer.
            let _ = done_rx.recv_timeout(FLUSH_MAX);
        }
    }
}

/// The thread that waits for the journal.
struct Sender {
    path: PathBuf,
    socket: UnixDatagram,
    lost: Arc<AtomicU64>,
    told: u64,
    tell: fn(u64) -> Entry,
}

impl Sender {
    fn run(&mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Send(entry) => {
                    self.deliver(&entry);
                    let lost = self.lost.load(Relaxed);
                    if lost > self.told {
                        self.deliver(&(self.tell)(lost - self.told));
                        self.told = lost;
                    }
                }
                Order::Flush(done) => drop(done.send(())),
            }
        }
    }

    /// Sends until the journal has it: it may be restarting.
    fn deliver(&mut self, entry: &Entry) {
        loop {
            match send(&self.socket, &entry.0) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => {
                    std::thread::sleep(RETRY_PAUSE);
                    if let Ok(socket) = connect(&self.path) {
                        self.socket = socket;
                    }
                }
                // No room for an entry of this size, most likely; the next may be smaller.
                Err(_) => {
                    self.lost.fetch_add(1, Relaxed);
                    return;
                }
            }
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected, NotFound};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected | NotFound
    )
}

fn is_too_large(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MSGSIZE | Errno::NOBUFS))
}

/// As a datagram, or, where it is too large for one, as a file in memory that the datagram hands over.
fn send(socket: &UnixDatagram, bytes: &[u8]) -> io::Result<()> {
    match socket.send(bytes) {
        Ok(_) => Ok(()),
        Err(error) if is_too_large(&error) => send_in_memory(socket, bytes),
        Err(error) => Err(error),
    }
}

fn send_in_memory(socket: &UnixDatagram, bytes: &[u8]) -> io::Result<()> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create("journal-entry", flags)?);
    file.write_all(bytes)?;
    // The journal takes only what cannot change any more.
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    let files = [file.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let handed_over: &[BorrowedFd<'_>] = &files;
    assert!(control.push(SendAncillaryMessage::ScmRights(handed_over)), "there is room for one");
    rustix::net::sendmsg(socket, &[IoSlice::new(&[])], &mut control, SendFlags::empty())?;
    Ok(())
}

/// Is standard error a stream to the journal, as systemd says in `JOURNAL_STREAM`? It names device and file, because children
/// inherit the variable and may have been given another standard error.
pub(super) fn takes_standard_error() -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = rustix::fs::fstat(io::stderr()) else { return false };
    said == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    use super::*;

    #[test]
    fn a_field_is_a_line_or_has_a_length() {
        let entry = Entry::default().field("PRIORITY", "4").field("MESSAGE", "one\ntwo");
        assert_eq!(entry.0, b"PRIORITY=4\nMESSAGE\n\x07\0\0\0\0\0\0\0one\ntwo\n");
    }

    /// The journal reads it from a file that cannot change any more.
    #[test]
    fn what_is_too_large_for_a_datagram_is_handed_over_in_a_sealed_file() {
        let (ours, journals) = UnixDatagram::pair().expect("two sockets");
        let large = vec![b'x'; 8 << 20];
        send(&ours, &large).expect("it is sent");
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 16];
        let mut parts = [io::IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::empty();
        let got = rustix::net::recvmsg(&journals, &mut parts, &mut control, flags);
        assert_eq!(got.expect("a datagram").bytes, 0);
        let mut files: Vec<OwnedFd> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
        let file = files.pop().expect("a file");
        let seals = rustix::fs::fcntl_get_seals(&file).expect("it has seals");
        assert!(
            seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW),
            "{seals:?}"
        );
        let mut file = File::from(file);
        io::Seek::rewind(&mut file).expect("a file in memory");
        let mut read = Vec::new();
        file.read_to_end(&mut read).expect("it is readable");
        assert!(read == large);
    }

    #[test]
    fn a_journal_that_restarts_gets_what_was_said_meanwhile() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let before = UnixDatagram::bind(&path).expect("a socket");
        let mut sender = Sender {
            socket: connect(&path).expect("it listens"),
            path: path.clone(),
            lost: Arc::default(),
            told: 0,
            tell: |_| Entry::default(),
        };
        drop(before);
        std::fs::remove_file(&path).expect("it was there");
        let thread = std::thread::spawn(move || sender.deliver(&Entry::default().field("N", "1")));
        let after = UnixDatagram::bind(&path).expect("a socket");
        after.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        let mut bytes = [0; 64];
        let count = after.recv(&mut bytes).expect("it comes");
        assert_eq!(&bytes[..count], b"N=1\n");
        thread.join().expect("it is sent");
    }

    /// Logging goes on, and the journal learns what it has missed.
    #[test]
    fn a_journal_that_stands_still_holds_up_no_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let journals = UnixDatagram::bind(&path).expect("a socket");
        let (orders, orders_rx) = sync_channel(4);
        let lost = Arc::new(AtomicU64::new(0));
        let mut sender = Sender {
            socket: connect(&path).expect("it listens"),
            path,
            lost: Arc::clone(&lost),
            told: 0,
            tell: |count| Entry::default().field("LOST", &count.to_string()),
        };
        let thread = std::thread::spawn(move || sender.run(&orders_rx));
        let journal = Journal { orders, lost };
        for n in 0..5000 {
            journal.send(Entry::default().field("N", &n.to_string()));
        }
        let missed = journal.lost();
        assert!(missed > 1000, "the socket and the queue have an end: {missed}");
        let (mut seen, mut told) = (0, 0);
        let mut bytes = [0; 64];
        journals.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        while seen + told < 5000 {
            let count = journals.recv(&mut bytes).expect("another entry");
            let text = std::str::from_utf8(&bytes[..count]).expect("text").trim_end();
            match text.split_once('=').expect("a field") {
                ("LOST", count) => told += count.parse::<u64>().expect("a number"),
                (_, _) => seen += 1,
            }
        }
        assert_eq!((seen + told, told), (5000, journal.lost()));
        drop(journal);
        thread.join().expect("it ends with its queue");
    }
}
