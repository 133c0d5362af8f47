//! The floor: a server that does nothing but what the kernel must do for the requests of `cairn bench`, to tell how much of a
//! request's processor time no server could spare that makes one system call for each thing it receives and sends.
//!
//! It keeps no keys. A GET gets the same bytes each time, as many as an answer of cairn has. A PUT is appended to a file and answered after
//! `fdatasync`, one for all PUTs that came meanwhile. A long poll gets its head at once, and the event with the next PUT. There is no Raft,
//! no store, no check of what a request says, no time limit.
//!
//! ```text
//! threads, each with an epoll of its own ── recv, parse ─┬─ GET: send
//!                                                        └─ PUT: into the batch ── log thread: pwrite, fdatasync, send
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::{env, thread};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

const LISTENER: Token = Token(usize::MAX);
const NEWCOMERS: Token = Token(usize::MAX - 1);
/// The log goes round in a file of this size, filled once, as cairn's is: a sync writes no sizes or places of blocks.
const LOG_BYTES: u64 = 64 << 20;
/// A record ends at a multiple of this.
const BLOCK: usize = 4096;
/// Larger requests are refused by hanging up.
const REQUEST_MAX: usize = 64 << 10;
/// Of a key and its value in an answer: as `cairn bench` writes them without flags.
const VALUE: &[u8; 256] = &[b'x'; 256];

fn main() -> io::Result<()> {
    let mut words = env::args().skip(1);
    let (Some(address), Some(file), None) = (words.next(), words.next(), words.next()) else {
        eprintln!("Usage: floor ADDRESS:PORT FILE\nServes there; FILE is its log, overwritten.");
        std::process::exit(2);
    };
    let address: SocketAddr = address
        .parse()
        .map_err(|error| io::Error::new(ErrorKind::InvalidInput, format!("{address}: {error}")))?;
    let shared = Arc::new(Shared::new());
    let log = new_log(&file)?;
    let of_log = Arc::clone(&shared);
    thread::spawn(move || write_log(&log, &of_log).expect("the log can be written"));

    let polls: Vec<Poll> = (0..thread::available_parallelism()?.get())
        .map(|_| Poll::new())
        .collect::<Result<_, _>>()?;
    let mut listener = TcpListener::bind(address)?;
    polls[0].registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut receivers = Vec::new();
    let mut others = Vec::new();
    for poll in &polls {
        let (sender, receiver) = channel();
        others.push((sender, Waker::new(poll.registry(), NEWCOMERS)?));
        receivers.push(receiver);
    }
    let mut door = Some(Door { listener, others, next: 0 });
    let threads: Vec<_> = polls
        .into_iter()
        .zip(receivers)
        .map(|(poll, newcomers)| {
            let (shared, door) = (Arc::clone(&shared), door.take());
            let worker =
                Worker { poll, newcomers, shared, door, lines: Vec::new(), free: Vec::new() };
            thread::spawn(move || worker.run().expect("epoll works"))
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread that serves has no end");
    }
    Ok(())
}

/// What all threads share.
struct Shared {
    batch: Mutex<Batch>,
    grown: Condvar,
    polls: Mutex<Vec<Arc<TcpStream>>>,
    index: AtomicU64,
}

/// PUTs that wait for the log.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    writers: Vec<Arc<TcpStream>>,
    /// The form of the last PUT of the watched key.
    watched: Option<Vec<u8>>,
}

impl Shared {
    fn new() -> Self {
        Self {
            batch: Mutex::default(),
            grown: Condvar::new(),
            polls: Mutex::default(),
            index: AtomicU64::new(1),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds a lock")
}

fn new_log(path: &str) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..LOG_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// One write and one sync for all PUTs that came during the last one; then their answers, then the events.
fn write_log(file: &File, shared: &Shared) -> io::Result<()> {
    let (mut place, mut taken) = (0, Batch::default());
    loop {
        {
            let mut batch = lock(&shared.batch);
            while batch.writers.is_empty() {
                batch = shared.grown.wait(batch).expect("no thread panics while it holds a lock");
            }
            std::mem::swap(&mut *batch, &mut taken);
        }
        let padded = taken.bytes.len().next_multiple_of(BLOCK);
        taken.bytes.resize(padded, 0);
        place = if place + padded as u64 > LOG_BYTES { 0 } else { place };
        file.write_all_at(&taken.bytes, place)?;
        file.sync_data()?;
        place += padded as u64;
        for writer in taken.writers.drain(..) {
            let index = shared.index.fetch_add(1, Ordering::Relaxed) + 1;
            send(&writer, &answer("set", index, VALUE));
        }
        taken.bytes.clear();
        if let Some(form) = taken.watched.take() {
            let value = form.strip_prefix(b"value=").unwrap_or_default();
            let body = body("set", shared.index.load(Ordering::Relaxed), value);
            let mut event = format!("{:x}\r\n", body.len()).into_bytes();
            event.extend_from_slice(&body);
            event.extend_from_slice(b"\r\n0\r\n\r\n");
            let polls = std::mem::take(&mut *lock(&shared.polls));
            for poll in polls {
                send(&poll, &event);
            }
        }
    }
}

/// A client that takes nothing loses what does not fit into its socket: the loads of this program read at once.
fn send(mut stream: &TcpStream, bytes: &[u8]) {
    let _ = stream.write(bytes);
}

fn body(action: &str, index: u64, value: &[u8]) -> Vec<u8> {
    let value = String::from_utf8_lossy(value);
    let node = format!(
        r#"{{"key":"/bench/keys/0000000000","value":"{value}","modifiedIndex":{index},"createdIndex":{index}}}"#
    );
    format!(r#"{{"action":"{action}","node":{node}}}"#).into_bytes()
}

fn head(index: u64, framing: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Etcd-Cluster-Id: 7e27652122e8b2ae\r\nX-Etcd-Index: {index}\r\n\
         X-Raft-Index: {index}\r\nX-Raft-Term: 2\r\nDate: Mon, 30 Nov 2026 08:00:00 GMT\r\n{framing}\r\n\r\n"
    )
}

fn answer(action: &str, index: u64, value: &[u8]) -> Vec<u8> {
    let body = body(action, index, value);
    let mut bytes = head(index, &format!("Content-Length: {}", body.len())).into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

/// Takes connections and spreads them over the threads.
struct Door {
    listener: TcpListener,
    others: Vec<(Sender<TcpStream>, Waker)>,
    next: usize,
}

impl Door {
    fn take_all(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nodelay(true)?;
                    let (sender, waker) = &self.others[self.next % self.others.len()];
                    self.next += 1;
                    sender.send(stream).expect("a thread that serves has no end");
                    waker.wake()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

struct Line {
    stream: Arc<TcpStream>,
    /// The beginning of a request that did not come in one piece.
    pending: Vec<u8>,
}

/// A thread that serves.
struct Worker {
    poll: Poll,
    newcomers: Receiver<TcpStream>,
    shared: Arc<Shared>,
    door: Option<Door>,
    lines: Vec<Option<Line>>,
    free: Vec<usize>,
}

impl Worker {
    fn run(mut self) -> io::Result<()> {
        let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; REQUEST_MAX]);
        let get = answer("get", 1, VALUE);
        loop {
            self.poll.poll(&mut events, None)?;
            // PUTs of this round go to the log together.
            let mut batch = Batch::default();
            for event in &events {
                match event.token() {
                    LISTENER => self.door.as_mut().map_or(Ok(()), Door::take_all)?,
                    NEWCOMERS => self.take_newcomers()?,
                    Token(place) => {
                        if !self.serve(place, &mut buffer, &get, &mut batch) {
                            self.lines[place] = None;
                            self.free.push(place);
                        }
                    }
                }
            }
            if batch.writers.is_empty() {
                continue;
            }
            let mut shared = lock(&self.shared.batch);
            let idle = shared.writers.is_empty();
            shared.bytes.append(&mut batch.bytes);
            shared.writers.append(&mut batch.writers);
            shared.watched = batch.watched.or(shared.watched.take());
            drop(shared);
            if idle {
                self.shared.grown.notify_one();
            }
        }
    }

    fn take_newcomers(&mut self) -> io::Result<()> {
        for mut stream in self.newcomers.try_iter() {
            let place = self.free.pop().unwrap_or(self.lines.len());
            if place == self.lines.len() {
                self.lines.push(None);
            }
            self.poll.registry().register(&mut stream, Token(place), Interest::READABLE)?;
            self.lines[place] = Some(Line { stream: Arc::new(stream), pending: Vec::new() });
        }
        Ok(())
    }

    /// Reads what has come and serves the request, if it is whole; `false` when the connection is over.
    ///
    /// epoll tells of new bytes once, and a load sends nothing behind a request that is not answered: one read takes all.
    fn serve(&mut self, place: usize, buffer: &mut [u8], get: &[u8], batch: &mut Batch) -> bool {
        let Some(line) = self.lines.get_mut(place).and_then(Option::as_mut) else { return true };
        let count = match (&*line.stream).read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let mut bytes = &buffer[..count];
        if !line.pending.is_empty() {
            line.pending.extend_from_slice(bytes);
            bytes = &line.pending;
        }
        let Some((head, form)) = whole(bytes) else {
            if line.pending.is_empty() {
                line.pending = bytes.to_vec();
            }
            return line.pending.len() < REQUEST_MAX;
        };
        if bytes.starts_with(b"PUT ") {
            batch.bytes.extend_from_slice(bytes);
            batch.writers.push(Arc::clone(&line.stream));
            if find(head, b"/watched/").is_some() {
                batch.watched = Some(form.to_vec());
            }
        } else if find(head, b"wait=true").is_some() {
            let index = self.shared.index.load(Ordering::Relaxed);
            send(&line.stream, crate::head(index, "Transfer-Encoding: chunked").as_bytes());
            lock(&self.shared.polls).push(Arc::clone(&line.stream));
        } else {
            send(&line.stream, get);
        }
        line.pending.clear();
        true
    }
}

/// Head and body of a request that is there to its end.
fn whole(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let (head, body) = bytes.split_at(end);
    let name = b"Content-Length: ";
    let length = match find(head, name) {
        Some(at) => {
            let digits = head[at + name.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
        }
        None => 0,
    };
    (body.len() >= length).then_some((head, body))
}

fn find(bytes: &[u8], words: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, words)
}
