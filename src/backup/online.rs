//! `cairn backup`: asks a member over its client port, and checks what comes while it is written.
//!
//! Owns: whom to ask, how long to wait, the progress on a terminal. Never knows: how a backup is made.

use std::io::{self, IsTerminal as _, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::mpsc;

use crate::archive::{ArchiveError, ArchiveReader, Head};
use crate::backup::Ended;
use crate::backup::file::NewFile;
use crate::backup::flags::Said;
use crate::backup::who::{TlsFiles, authorization, client, endpoints};
use crate::discovery::{Begun, HttpError, Limits};

/// Until a member begins to answer: it may have to wait for a new leader before.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A member that sends nothing for so long sends nothing any more.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Bytes of an answer that says no.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Pieces between the network and the disk.
const PIECES_MAX: usize = 16;

/// How often the progress is shown anew.
const PROGRESS: Duration = Duration::from_millis(200);

/// Standard output, in place of a file.
const STDOUT: &str = "-";

pub(super) async fn run(said: &Said) -> Result<Ended, String> {
    let begun_at = Instant::now();
    let target = &said.argument;
    let file = match target.as_str() {
        STDOUT if io::stdout().is_terminal() => {
            return Err(said.wrong("a backup is not shown on a terminal: name a file"));
        }
        STDOUT => None,
        path => Some(NewFile::begin(Path::new(path), said.is_on("force"))?),
    };
    let answer = ask(said).await?;
    let to_stdout = file.is_none();
    let taken = take(answer, move |input| {
        let Some(mut file) = file else { return write_down(input, &mut io::stdout().lock()) };
        let taken = write_down(input, &mut file)?;
        file.finish().map(|()| taken)
    });
    let Taken { head, bytes } = taken.await?;
    let line = format!(
        "backup of cluster {} at index {} (entry {} of the log), from member {}: {} keys and directories, {} events, {bytes} bytes in \
         {:.1} s: {target}\n",
        head.cluster,
        head.index.0,
        head.position.index.0,
        head.member,
        head.counts.nodes,
        head.counts.events,
        begun_at.elapsed().as_secs_f64(),
    );
    Ok(match to_stdout {
        true => Ended { complaint: line.trim_end().to_owned(), ..Ended::default() },
        false => Ended::well(line),
    })
}

/// The first member that begins to give a backup.
async fn ask(said: &Said) -> Result<Begun, String> {
    let endpoints = endpoints(said.text("endpoints"));
    let files = TlsFiles::of(|name| said.text(name));
    let limits = Limits { body_bytes_max: REFUSAL_BYTES_MAX, ..Limits::default() };
    let client = client(limits, files, &endpoints)?;
    let mut headers = HeaderMap::new();
    if let Some(authorization) = authorization(said.text("username"), "Password: ")? {
        headers.insert(AUTHORIZATION, authorization);
    }
    let query = if said.is_on("local") { "?quorum=false" } else { "" };
    let mut failures = Vec::new();
    for endpoint in &endpoints {
        let url = format!("{endpoint}/cairn/backup{query}");
        let asked = client.begin(Method::GET, &url, headers.clone(), Bytes::new());
        let answer = match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(Ok(answer)) if answer.status == StatusCode::OK => return Ok(answer),
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                failures.push(error.to_string());
                continue;
            }
            Err(_) => {
                failures.push(format!("{endpoint} does not answer within {ANSWER_MAX:?}"));
                continue;
            }
        };
        let status = answer.status;
        let text = answer.body().await.unwrap_or_default();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(format!(
                    "{endpoint} refuses: a backup holds everything, so it takes root's role. Name root, or a user with that role, \
                     with --username"
                ));
            }
            StatusCode::NOT_FOUND => {
                failures
                    .push(format!("{endpoint} gives no backups: it is no cairn, or an older one"));
            }
            StatusCode::SERVICE_UNAVAILABLE if query.is_empty() => {
                let why = refusal(&text);
                failures.push(format!("{endpoint} says 503: {why} (--local asks for that)"));
            }
            status => {
                let why = refusal(&text);
                failures.push(format!("{endpoint} says {}: {why}", status.as_u16()));
            }
        }
    }
    Err(format!("no backup: {}", failures.join("; ")))
}

/// In words: what is behind `message`, or all.
fn refusal(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = String::from_utf8_lossy(body);
    value["message"].as_str().unwrap_or(text.trim_end()).to_owned()
}

/// What came.
struct Taken {
    head: Head,
    bytes: u64,
}

/// Hands the bytes of an answer to `work`, which waits for the disk on a thread of its own. The network waits for it in turn.
async fn take<T: Send + 'static>(
    mut answer: Begun,
    work: impl FnOnce(Pieces) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (pieces_tx, pieces_rx) = mpsc::channel(PIECES_MAX);
    let pieces = Pieces { coming: pieces_rx, piece: Bytes::new() };
    let worker = tokio::task::spawn_blocking(move || work(pieces));
    loop {
        let piece = answer.chunk(STALL_MAX).await;
        let last = !matches!(piece, Ok(Some(_)));
        let sent = match piece.transpose() {
            Some(piece) => pieces_tx.send(piece).await.is_ok(),
            None => false,
        };
        // Whoever takes no more knows why.
        if last || !sent {
            break;
        }
    }
    drop(pieces_tx);
    worker.await.map_err(|error| error.to_string())?
}

/// Bytes that come in pieces, for a reader that may wait.
struct Pieces {
    coming: mpsc::Receiver<Result<Bytes, HttpError>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.coming.blocking_recv() {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Err(io::Error::other(error.to_string())),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// Writes down what is read.
struct Copying<'a, R> {
    from: R,
    to: &'a mut dyn Write,
    /// It was the writing that failed.
    unwritten: Option<io::Error>,
}

impl<R: Read> Read for Copying<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if let Err(error) = self.to.write_all(&buffer[..count]) {
            let kind = error.kind();
            self.unwritten = Some(error);
            return Err(kind.into());
        }
        Ok(count)
    }
}

/// Reads a backup to its end and writes it down; what is wrong with it is found out on the way.
fn write_down(input: impl Read, to: &mut dyn Write) -> Result<Taken, String> {
    let mut copying = Copying { from: input, to, unwritten: None };
    let checked = check(&mut copying);
    if let Some(error) = copying.unwritten {
        return Err(format!("the backup cannot be written: {error}; there is none"));
    }
    let flushed = copying.to.flush();
    flushed.map_err(|error| format!("the backup cannot be written: {error}; there is none"))?;
    checked.map_err(|error| match error {
        ArchiveError::Io { source, .. } => {
            format!("the member stopped sending: {source}; there is no backup")
        }
        ArchiveError::Cut { .. } => {
            "the member stopped sending before the backup was whole; there is none".to_owned()
        }
        error @ (ArchiveError::NoBackup
        | ArchiveError::OtherVersion(_)
        | ArchiveError::Damaged { .. }) => format!("{error}; what was sent is given up"),
    })
}

fn check(input: impl Read) -> Result<Taken, ArchiveError> {
    let mut reader = ArchiveReader::new(input)?;
    let total = reader.head().counts.total();
    let mut progress = Progress::begin(total);
    while reader.next_block()?.is_some() {
        progress.show(reader.counts().total(), reader.offset());
    }
    Ok(Taken { head: reader.head().clone(), bytes: reader.offset() })
}

/// A line on a terminal that is written anew, and goes with this. Elsewhere nothing.
struct Progress {
    total: u64,
    shown: Option<Instant>,
    on: bool,
}

impl Progress {
    fn begin(total: u64) -> Self {
        Self { total, shown: None, on: io::stderr().is_terminal() }
    }

    fn show(&mut self, records: u64, bytes: u64) {
        const WIDTH: u64 = 30;
        if !self.on || self.shown.is_some_and(|shown| shown.elapsed() < PROGRESS) {
            return;
        }
        self.shown = Some(Instant::now());
        let done = |of: u64| (records.min(self.total) * of).checked_div(self.total).unwrap_or(of);
        let bar: String =
            (0..WIDTH).map(|place| if place < done(WIDTH) { '#' } else { '.' }).collect();
        let _ = write!(io::stderr(), "\r[{bar}] {:3} %  {} MiB", done(100), bytes >> 20);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            // Back to the start, and the rest of the line away.
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
