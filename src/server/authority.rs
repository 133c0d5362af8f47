//! URLs in the place of an authority, turned into something that may stand there.
//!
//! Where etcd's own clients call one chosen member they say `:authority: http://127.0.0.1:2379`, and those of version 3.5.0 say
//! `#initially=[127.0.0.1:2379]` in every call. etcd takes both; the HTTP library resets a request whose authority it cannot read,
//! before anybody has seen it. So [`Authorities`] follows the frames of a connection, and in the blocks of headers changes the
//! letters of such a URL that no authority has.
//!
//! What comes out is as long as what came in, in Huffman's code as well: `/` becomes `3` and `:` becomes `B`, whose codes differ
//! from theirs in the last bit alone. So nothing is moved or held back, and the table of headers that both ends keep has entries of
//! the sizes that the client thinks they have; later requests that name an entry of it name the changed one.
//!
//! Owns: what is changed. Never knows: what is asked for. No call is answered by its authority, and [`is_changed`] keeps such a
//! one from becoming the host of another request.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::http2::PREFACE;

/// Bytes in front of the payload of a frame.
const FRAME_HEAD_BYTES: usize = 9;

/// Kinds of frames that carry headers, and what their flags say.
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// What a frame with priorities has in front of its headers.
const PRIORITY_BYTES: usize = 5;

/// `:authority` in the table of headers that everybody knows.
const AUTHORITY: u8 = 1;

/// Seven more bits of a length come with each byte; no string is longer than what four of them can say.
const LENGTH_SHIFT_MAX: u32 = 21;

/// Huffman's codes by the number of their bits: the first one, and the letters it and the next ones stand for. The codes of all other
/// letters are longer, and none of those stands in a URL.
const CODES: &[(u32, u32, &[u8])] = &[
    (5, 0, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
    (10, 0x3f8, b"!\"()?"),
    (11, 0x7fa, b"'+|"),
    (12, 0xffa, b"#>"),
    (13, 0x1ff8, b"\0$@[]~"),
    (14, 0x3ffc, b"^}"),
    (15, 0x7ffc, b"<`{"),
];
const CODE_BITS_MAX: u32 = 15;

/// The second byte of `#i` and `#o`, whose codes begin with 1111_1111 1010_0011; those of `+-` and `+.` begin as below, and are as
/// long in all.
const HASH: u8 = 0b1010_0011;
const PLUS: u8 = 0b0110_1011;

/// Was this authority a URL? What stands behind its first colon is no port then.
pub(super) fn is_changed(authority: &str) -> bool {
    let behind = authority.split_once(':').map_or("", |(_, behind)| behind);
    let port = behind.bytes().all(|letter| letter.is_ascii_digit());
    authority.starts_with('+') || (behind.starts_with('3') && !port)
}

/// A connection of HTTP/2 in whose requests no authority is a URL.
pub(super) struct Authorities<S> {
    stream: S,
    frames: Frames,
}

impl<S> Authorities<S> {
    /// `stream` begins with the preface.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, frames: Frames::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Authorities<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.frames.follow(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Authorities<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What the next bytes of a connection are.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// The preface, payloads without headers, padding.
    Other,
    /// How much padding a frame has at its end.
    Padding,
    /// So many bytes that stand in front of headers.
    Before(usize),
    /// A piece of a block of headers.
    Headers,
}

/// Where in the frames of a connection its next byte stands.
#[derive(Debug)]
pub(super) struct Frames {
    /// The head of a frame, as far as it has come.
    head: [u8; FRAME_HEAD_BYTES],
    head_bytes: usize,
    /// Bytes of the payload that have not come, and how many of them at its end are padding.
    left: usize,
    padding: usize,
    part: Part,
    block: Block,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            head: [0; FRAME_HEAD_BYTES],
            head_bytes: 0,
            left: PREFACE.len(),
            padding: 0,
            part: Part::Other,
            block: Block::default(),
        }
    }
}

impl Frames {
    /// Follows `bytes`, which come next, and changes in them what must be changed.
    pub(super) fn follow(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = if self.left == 0 { self.head(bytes) } else { self.payload(bytes) };
            bytes = &mut bytes[taken..];
        }
    }

    /// Takes what there is of the head of a frame; returns how many bytes that is.
    fn head(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(FRAME_HEAD_BYTES - self.head_bytes);
        self.head[self.head_bytes..][..taken].copy_from_slice(&bytes[..taken]);
        self.head_bytes += taken;
        if self.head_bytes == FRAME_HEAD_BYTES {
            let [high, middle, low, kind, flags, ..] = self.head;
            self.head_bytes = 0;
            self.left =
                [high, middle, low].iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
            self.padding = 0;
            self.part = match kind {
                HEADERS => {
                    self.block = Block::default();
                    if flags & PADDED == 0 { in_front(flags) } else { Part::Padding }
                }
                CONTINUATION => Part::Headers,
                _ => Part::Other,
            };
        }
        taken
    }

    /// Takes what there is of one part of a payload; returns how many bytes that is.
    fn payload(&mut self, bytes: &mut [u8]) -> usize {
        let there = bytes.len().min(self.left);
        let taken = match self.part {
            Part::Other => there,
            Part::Padding => {
                self.padding = bytes[0].into();
                self.part = in_front(self.head[4]);
                1
            }
            Part::Before(count) => {
                let taken = count.min(there);
                self.part = match count - taken {
                    0 => Part::Headers,
                    count => Part::Before(count),
                };
                taken
            }
            // A frame that is shorter than its padding is refused by whoever reads it.
            Part::Headers => match self.left.saturating_sub(self.padding).min(there) {
                0 => {
                    self.part = Part::Other;
                    0
                }
                taken => {
                    self.block.follow(&mut bytes[..taken]);
                    taken
                }
            },
        };
        self.left -= taken;
        taken
    }
}

fn in_front(flags: u8) -> Part {
    if flags & PRIORITY == 0 { Part::Headers } else { Part::Before(PRIORITY_BYTES) }
}

/// A string in a block of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    /// A name; its value comes next.
    Name,
    Authority,
    /// Any other value.
    Value,
}

/// Where in a block of headers its next byte stands.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// A header begins.
    #[default]
    Header,
    /// More of a number that does not matter; then a value comes, or the next header.
    Number { value: bool },
    /// The length of a string.
    Length(Text),
    /// More of it.
    Longer { text: Text, huffman: bool, length: usize, shift: u32 },
    /// So many bytes of a string.
    Inside { text: Text, huffman: bool, left: usize },
    /// Whoever reads this refuses it.
    Lost,
}

/// Follows one block of headers.
#[derive(Debug, Default)]
struct Block {
    place: Place,
    letters: Letters,
}

impl Block {
    fn follow(&mut self, mut bytes: &mut [u8]) {
        while let Some(first) = bytes.first().copied() {
            let taken = match self.place {
                Place::Header => {
                    self.place = header(first);
                    1
                }
                Place::Number { value } => {
                    self.place = match first & 0x80 == 0 {
                        true if value => Place::Length(Text::Value),
                        true => Place::Header,
                        false => self.place,
                    };
                    1
                }
                Place::Length(text) => {
                    let (huffman, length) = (first & 0x80 != 0, usize::from(first & 0x7f));
                    self.place = match length {
                        0x7f => Place::Longer { text, huffman, length, shift: 0 },
                        _ => self.string(text, huffman, length),
                    };
                    1
                }
                Place::Longer { text, huffman, length, shift } => {
                    let length = length + (usize::from(first & 0x7f) << shift);
                    self.place = match first & 0x80 {
                        0 => self.string(text, huffman, length),
                        _ if shift == LENGTH_SHIFT_MAX => Place::Lost,
                        _ => Place::Longer { text, huffman, length, shift: shift + 7 },
                    };
                    1
                }
                Place::Inside { text, huffman, left } => {
                    let taken = left.min(bytes.len());
                    if text == Text::Authority {
                        bytes[..taken].iter_mut().for_each(|byte| self.letters.read(byte, huffman));
                    }
                    self.place = match left - taken {
                        0 => behind(text),
                        left => Place::Inside { text, huffman, left },
                    };
                    taken
                }
                Place::Lost => return,
            };
            bytes = &mut bytes[taken..];
        }
    }

    fn string(&mut self, text: Text, huffman: bool, length: usize) -> Place {
        self.letters = Letters::default();
        match length {
            0 => behind(text),
            left => Place::Inside { text, huffman, left },
        }
    }
}

/// Where the first byte of a header leads.
fn header(first: u8) -> Place {
    // Its kind is in the bits on the left; an entry of the table of headers in the others, or the beginning of its number.
    let (mask, is_literal) = match first {
        0x80.. => (0x7f, false),
        0x40.. => (0x3f, true),
        // How large the table may be.
        0x20.. => (0x1f, false),
        _ => (0x0f, true),
    };
    match first & mask {
        number if number == mask => Place::Number { value: is_literal },
        _ if !is_literal => Place::Header,
        0 => Place::Length(Text::Name),
        AUTHORITY => Place::Length(Text::Authority),
        _ => Place::Length(Text::Value),
    }
}

fn behind(text: Text) -> Place {
    match text {
        Text::Name => Place::Length(Text::Value),
        Text::Authority | Text::Value => Place::Header,
    }
}

/// What the letters of an authority so far are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Seen {
    #[default]
    Nothing,
    /// Letters of the name of a scheme, or of a host.
    Scheme,
    /// These and a colon.
    Colon,
    /// The beginning of a URL.
    Url,
    /// Nothing that would be changed.
    Other,
}

/// Reads an authority letter by letter.
#[derive(Debug, Default)]
struct Letters {
    seen: Seen,
    /// In Huffman's code: bits of a letter of which more have to come, and how many.
    code: u32,
    bits: u32,
}

impl Letters {
    /// Reads the next byte, and changes it if it must be changed.
    fn read(&mut self, byte: &mut u8, huffman: bool) {
        if huffman {
            self.read_code(byte);
        } else if self.takes_offence(*byte) {
            *byte = match *byte {
                b'/' => b'3',
                b':' => b'B',
                _ => b'+',
            };
        }
    }

    fn read_code(&mut self, byte: &mut u8) {
        let read = *byte;
        for place in (0..8).rev() {
            if self.seen == Seen::Other {
                return;
            }
            self.code = self.code << 1 | u32::from(read >> place & 1);
            self.bits += 1;
            let Some(letter) = letter(self.code, self.bits) else {
                if self.bits == CODE_BITS_MAX {
                    self.seen = Seen::Other;
                }
                continue;
            };
            (self.code, self.bits) = (0, 0);
            match self.takes_offence(letter) {
                true if letter != b'#' => *byte ^= 1 << place,
                true if read == HASH => *byte = PLUS,
                _ => {}
            }
        }
    }

    /// Is this a letter that no authority has?
    fn takes_offence(&mut self, letter: u8) -> bool {
        let (seen, offends) = match (self.seen, letter) {
            (Seen::Nothing, b'#') | (Seen::Colon, b'/') => (Seen::Url, true),
            (Seen::Url, _) => (Seen::Url, matches!(letter, b'/' | b':')),
            (Seen::Scheme, b':') => (Seen::Colon, false),
            (
                Seen::Nothing | Seen::Scheme,
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.',
            ) => (Seen::Scheme, false),
            (Seen::Nothing | Seen::Scheme | Seen::Colon | Seen::Other, _) => (Seen::Other, false),
        };
        self.seen = seen;
        offends
    }
}

/// The letter of a code, if it is one.
fn letter(code: u32, bits: u32) -> Option<u8> {
    let (_, first, letters) = CODES.iter().find(|(length, ..)| *length == bits)?;
    let place = usize::try_from(code.checked_sub(*first)?).ok()?;
    letters.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::Authority;
    use proptest::prelude::*;

    /// What stands for an authority, and what it becomes.
    const URLS: [(&str, &str); 9] = [
        ("http://127.0.0.1:2379", "http:33127.0.0.1B2379"),
        ("https://a.example:2379", "https:33a.exampleB2379"),
        ("http://[::1]:2379", "http:33[BB1]B2379"),
        ("unix:///run/etcd.sock", "unix:333run3etcd.sock"),
        ("unix://localhost:2379", "unix:33localhostB2379"),
        ("passthrough:///http://a:1", "passthrough:333httpB33aB1"),
        ("endpoint://client-1/a:1", "endpoint:33client-13aB1"),
        ("#initially=[a:2379]", "+-nitially=[aB2379]"),
        ("#initially=[http://a:1;http://b:1]", "+-nitially=[httpB33aB1;httpB33bB1]"),
    ];

    /// These stay as they are: what may stand there, and what nobody says.
    const OTHERS: [&str; 11] = [
        "127.0.0.1:2379",
        "[::1]:2379",
        "passthrough:2379",
        "a",
        "a:33",
        "a/b",
        ":a//",
        "::/",
        "a b:/",
        "",
        "\\:/",
    ];

    fn code(letter: u8) -> (u32, u32) {
        let of = |(bits, first, letters): &(u32, u32, &[u8])| {
            let place = letters.iter().position(|one| *one == letter)?;
            Some((*bits, first + u32::try_from(place).ok()?))
        };
        // The backslash stands for all letters with long codes.
        CODES.iter().find_map(of).unwrap_or((19, 0x7fff0))
    }

    fn encoded(text: &str) -> Vec<u8> {
        let (mut bytes, mut count) = (Vec::new(), 0);
        let mut push = |bit: u32| {
            if count % 8 == 0 {
                bytes.push(0);
            }
            *bytes.last_mut().unwrap() |= u8::from(bit != 0) << (7 - count % 8);
            count += 1;
            count % 8
        };
        let mut behind = 0;
        for letter in text.bytes() {
            let (bits, code) = code(letter);
            (0..bits).rev().for_each(|place| behind = push(code >> place & 1));
        }
        while behind != 0 {
            behind = push(1);
        }
        bytes
    }

    fn string(text: &str, huffman: bool) -> Vec<u8> {
        let bytes = if huffman { encoded(text) } else { text.as_bytes().to_vec() };
        let mark = if huffman { 0x80 } else { 0 };
        let length = u8::try_from(bytes.len()).unwrap();
        match length {
            0..0x7f => [&[mark | length][..], &bytes].concat(),
            _ => [&[mark | 0x7f, length - 0x7f][..], &bytes].concat(),
        }
    }

    /// A block of headers with this authority among others that look like one.
    fn block(authority: &str, huffman: bool, kind: u8) -> Vec<u8> {
        let url = string("http://a:1", huffman);
        [
            // A size, an entry, and one that takes more bytes.
            &[0x3f, 0xe1, 0x1f, 0x83, 0xff, 0x01][..],
            // The value of another header, by number and by name, a long number, and a name.
            &[&[0x04][..], &url].concat(),
            &[&[0x40, 0x02, b'x', b'y'][..], &url].concat(),
            &[&[0x7f, 0x80, 0x01][..], &url].concat(),
            &[&[0x00][..], &url, &url].concat(),
            &[&[kind | AUTHORITY][..], &string(authority, huffman)].concat(),
            &[&[0x5f][..], &string(&"http://a:1 ".repeat(11), huffman)].concat(),
        ]
        .concat()
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// A connection on which this block comes whole and in pieces, among other frames that look like it.
    fn connection(block: &[u8]) -> Vec<u8> {
        let padding = [1, 0, 0, 1];
        let (first, rest) = block.split_at(block.len() / 2);
        let behind = |before: &[u8], piece: &[u8]| [before, piece].concat();
        [
            PREFACE.to_vec(),
            frame(4, 0, &[]),
            frame(HEADERS, 4, block),
            frame(0, 0, block),
            frame(HEADERS, PRIORITY | 4, &behind(&[0, 0, 0, 1, 9], block)),
            frame(HEADERS, PADDED | 4, &[&[4], block, &padding].concat()),
            frame(HEADERS, PADDED | PRIORITY, &[&[4, 0, 0, 0, 1, 9], first, &padding].concat()),
            frame(CONTINUATION, 0, &[]),
            frame(CONTINUATION, 4, rest),
            frame(6, 0, block),
        ]
        .concat()
    }

    /// What becomes of bytes that come in pieces of `size`.
    fn followed(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut frames = Frames::default();
        let mut bytes = bytes.to_vec();
        bytes.chunks_mut(size).for_each(|piece| frames.follow(piece));
        bytes
    }

    /// What becomes of the same in headers alone.
    fn expected(raw: &[u8], block: &[u8], changed: &[u8]) -> Vec<u8> {
        let frames = connection(block);
        assert_eq!(raw, frames);
        let mut expected = connection(changed);
        // Frames that carry no headers.
        for kind in [0, 6] {
            let (from, to) = (frame(kind, 0, changed), frame(kind, 0, block));
            let at = expected.windows(from.len()).position(|bytes| bytes == from).unwrap();
            expected[at..at + to.len()].copy_from_slice(&to);
        }
        expected
    }

    #[test]
    fn an_authority_alone_is_changed_however_it_comes() {
        for (url, changed) in URLS {
            for (kind, huffman) in
                [(0x40, true), (0x40, false), (0x10, true), (0x10, false), (0, true), (0, false)]
            {
                // Only Huffman's code needs the second letter too.
                let changed = if huffman { changed } else { &changed.replace("+-n", "+in") };
                let (from, to) = (block(url, huffman, kind), block(changed, huffman, kind));
                let raw = connection(&from);
                let expected = expected(&raw, &from, &to);
                assert_eq!(raw.len(), expected.len(), "{url}");
                for size in 1..=raw.len() {
                    assert!(followed(&raw, size) == expected, "{url} in pieces of {size}");
                }
                for cut in 0..raw.len() {
                    let mut frames = Frames::default();
                    let mut bytes = raw.clone();
                    let (first, rest) = bytes.split_at_mut(cut);
                    frames.follow(first);
                    frames.follow(rest);
                    assert!(bytes == expected, "{url} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn what_a_url_becomes_is_an_authority_and_no_host() {
        for (url, changed) in URLS {
            assert!(url.parse::<Authority>().is_err(), "{url}");
            for changed in [changed, &changed.replace("+-n", "+in")] {
                assert!(changed.parse::<Authority>().is_ok(), "{changed}");
                assert!(is_changed(changed), "{changed}");
            }
        }
        for other in OTHERS {
            assert!(!is_changed(other), "{other}");
        }
    }

    #[test]
    fn other_authorities_stay_as_they_are() {
        for other in OTHERS {
            for huffman in [true, false] {
                let raw = connection(&block(other, huffman, 0x40));
                assert!(followed(&raw, raw.len()) == raw && followed(&raw, 1) == raw, "{other:?}");
            }
        }
    }

    #[test]
    fn a_block_that_cannot_be_read_ends_before_the_next_one() {
        let url = block("http://a:1", true, 0x40);
        let behind = frame(HEADERS, 4, &url);
        let endless = [&[0x41][..], &[0xff; 9], &url].concat();
        let number = [&[0xff; 30][..], &url].concat();
        for (wrong, stays) in [
            (frame(HEADERS, 4, &endless), true),
            (frame(HEADERS, 4, &number[..30]), true),
            // A value and a name that are longer than their blocks.
            (frame(HEADERS, 4, &[&[0x42, 0xff, 0xff, 0x7f], &url[..]].concat()), true),
            (frame(HEADERS, 4, &[&[0x40, 0x7f], &url[..]].concat()), true),
            (frame(HEADERS, 4, &[&[0x41, 0xff, 0xff, 0xff, 0x7f], &url[..]].concat()), false),
            // Padding that is longer than its frame, and frames that are shorter than what must be in them.
            (frame(HEADERS, PADDED, &[&[200], &url[..60]].concat()), true),
            (frame(HEADERS, PRIORITY, &[0]), true),
            (frame(HEADERS, PADDED, &[]), true),
        ] {
            let raw = [PREFACE, &wrong, &behind].concat();
            let kept = raw.len() - behind.len();
            for size in [1, 3, raw.len()] {
                let followed = followed(&raw, size);
                assert!(!stays || followed[..kept] == raw[..kept], "{wrong:x?}");
                assert_ne!(followed[kept..], behind, "{wrong:x?}");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            frames in prop::collection::vec((prop::sample::select(vec![0, HEADERS, CONTINUATION]), any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 0..6),
            rest in prop::collection::vec(any::<u8>(), 0..60),
            size in 1..20usize,
        ) {
            let frames = frames.iter().map(|(kind, flags, payload)| frame(*kind, *flags, payload));
            let raw = [PREFACE.to_vec(), frames.collect::<Vec<_>>().concat(), rest].concat();
            prop_assert_eq!(followed(&raw, size), followed(&raw, raw.len()));
        }

        #[test]
        fn no_authority_that_can_be_read_is_changed(text in "[a-z0-9:@%.\\[\\]/#_-]{0,40}", huffman: bool) {
            let from = block(&text, huffman, 0x40);
            let raw = connection(&from);
            let changed = followed(&raw, 7) != raw;
            prop_assert!(!changed || text.parse::<Authority>().is_err());
            prop_assert!(!changed || text.contains(['/', '#']));
        }

        #[test]
        fn urls_can_be_read(host in "[a-z0-9.-]{1,20}", port in 1..65536u32, huffman: bool) {
            let url = format!("http://{host}:{port}");
            let from = block(&url, huffman, 0x40);
            let to = block(&format!("http:33{host}B{port}"), huffman, 0x40);
            let raw = connection(&from);
            prop_assert_eq!(followed(&raw, 5), expected(&raw, &from, &to));
        }
    }
}
