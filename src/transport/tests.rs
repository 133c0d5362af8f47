//! Two members and a stranger on pipes.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, DuplexStream};

use super::*;

const CLUSTER: ClusterId = ClusterId(0xc1);

/// A network of pipes: the listener at a URL gets the other end.
#[derive(Default)]
struct Pipes {
    listening: Mutex<BTreeMap<String, tokio::sync::mpsc::UnboundedSender<DuplexStream>>>,
}

impl Pipes {
    fn listen(&self, url: &str) -> tokio::sync::mpsc::UnboundedReceiver<DuplexStream> {
        let (streams_tx, streams_rx) = tokio::sync::mpsc::unbounded_channel();
        self.listening.lock().unwrap().insert(url.to_owned(), streams_tx);
        streams_rx
    }
}

impl Dial for Pipes {
    fn dial<'a>(&'a self, url: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        let there = self.listening.lock().unwrap().get(url).cloned();
        Box::pin(async move {
            let there = there.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            there.send(theirs).map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(ours) as Stream)
        })
    }
}

struct Open4All;

impl Gate for Open4All {
    fn admit(&self, _from: MemberId) -> Result<(), PeerRefusal> {
        Ok(())
    }
}

struct Closed;

impl Gate for Closed {
    fn admit(&self, _from: MemberId) -> Result<(), PeerRefusal> {
        Err(PeerRefusal::Removed)
    }
}

fn transport(pipes: &Arc<Pipes>, cluster: ClusterId, member: u64) -> Transport {
    let identity = LocalPeer {
        cluster,
        member: MemberId(member),
        name: format!("m{member}"),
        peer_urls: vec![format!("http://m{member}:1")],
    };
    let book = AddressBook::new([(MemberId(2), vec!["http://no:1".into(), "http://m2:1".into()])]);
    let dial = Arc::clone(pipes) as Arc<dyn Dial>;
    Transport::new(identity, dial, Duration::from_secs(1), Arc::new(book))
}

/// What becomes of a dial from `from` to member 2, and what member 2 makes of it.
async fn meet(
    from: &Transport,
    pipes: &Arc<Pipes>,
    gate: &dyn Gate,
) -> (Result<Link, ConnectError>, Result<Link, AcceptError>) {
    let there = transport(pipes, CLUSTER, 2);
    let mut streams = pipes.listen("http://m2:1");
    let accept = async {
        let mut stream = streams.recv().await.expect("a peer dials");
        let mut preface = [0; 8];
        stream.read_exact(&mut preface).await.expect("they begin");
        assert_eq!(&preface, PREFACE);
        there.accept(Box::new(stream), gate).await
    };
    tokio::join!(from.connect(MemberId(2), Lane::Log), accept)
}

#[tokio::test]
async fn members_of_a_cluster_meet_and_exchange_frames() {
    let pipes = Arc::new(Pipes::default());
    let here = transport(&pipes, CLUSTER, 1);
    let (ours, theirs) = meet(&here, &pipes, &Open4All).await;
    let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!((ours.peer, theirs.peer), (MemberId(2), MemberId(1)));
    assert_eq!(theirs.lane, Lane::Log);
    let big = vec![7; 200_000];
    ours.outgoing.put(4, b"one").unwrap();
    ours.outgoing.put(5, &big).unwrap();
    let (sent, first) = tokio::join!(ours.outgoing.flush(), async {
        let first = theirs.incoming.next().await.unwrap().unwrap();
        let second = theirs.incoming.next().await.unwrap().unwrap();
        (first, second)
    });
    sent.unwrap();
    assert_eq!(first.0, Frame { kind: 4, payload: Bytes::from_static(b"one") });
    assert_eq!((first.1.kind, &first.1.payload[..]), (5, &big[..]));
    let peer = here.traffic().of(MemberId(2));
    assert_eq!(peer.connections(), 1);
    drop(ours);
    assert_eq!((peer.connections(), peer.disconnects()), (0, 1));
    assert_eq!(theirs.incoming.next().await.unwrap(), None);
}

#[tokio::test]
async fn the_peer_that_dialled_is_known_afterwards() {
    let pipes = Arc::new(Pipes::default());
    let there = transport(&pipes, CLUSTER, 2);
    let mut streams = pipes.listen("http://m2:1");
    let here = transport(&pipes, CLUSTER, 1);
    let accept = async {
        let mut stream = streams.recv().await.expect("a peer dials");
        stream.read_exact(&mut [0; 8]).await.expect("they begin");
        there.accept(Box::new(stream), &Open4All).await
    };
    let (ours, theirs) = tokio::join!(here.connect(MemberId(2), Lane::Vote), accept);
    drop((ours.unwrap(), theirs.unwrap()));
    let versions = [(&here, 2), (&there, 1), (&here, 9)];
    let versions = versions.map(|(here, peer)| here.traffic().of(MemberId(peer)).version());
    assert_eq!(versions, [VERSION, VERSION, 0], "each knows what the other speaks");
    assert_eq!(there.book().urls(MemberId(1)), ["http://m1:1"]);
    there.book().record([(MemberId(1), &["http://moved:1".to_owned()][..])].into_iter());
    assert_eq!(there.book().urls(MemberId(1)), ["http://moved:1", "http://m1:1"]);
}

#[tokio::test]
async fn strangers_are_refused_and_told_why() {
    let pipes = Arc::new(Pipes::default());
    let stranger = transport(&pipes, ClusterId(0xff), 1);
    let (ours, theirs) = meet(&stranger, &pipes, &Open4All).await;
    let ours = ours.err().unwrap().to_string();
    assert!(ours.contains("cluster ID mismatch: it belongs to cluster c1"), "{ours}");
    assert!(theirs.err().unwrap().to_string().contains("1 (m1) was refused: cluster ID mismatch"));

    let twin = transport(&pipes, CLUSTER, 2);
    let (ours, theirs) = meet(&twin, &pipes, &Open4All).await;
    assert!(ours.err().unwrap().to_string().contains("two members have the same peer URL"));
    assert!(theirs.is_err());

    let removed = transport(&pipes, CLUSTER, 1);
    let (ours, theirs) = meet(&removed, &pipes, &Closed).await;
    assert!(matches!(
        ours.err().unwrap(),
        ConnectError::Refused { refusal: PeerRefusal::Removed, .. }
    ));
    assert!(theirs.is_err());
}

#[tokio::test]
async fn a_url_where_no_member_listens_is_an_error_that_names_it() {
    let pipes = Arc::new(Pipes::default());
    let here = transport(&pipes, CLUSTER, 1);
    let error = here.connect(MemberId(2), Lane::Log).await.err().unwrap();
    assert!(error.to_string().starts_with("http://m2:1: "), "{error}");
    let error = here.connect(MemberId(3), Lane::Log).await.err().unwrap();
    assert!(matches!(error, ConnectError::Unknown(MemberId(3))));
    assert!(here.traffic().of(MemberId(2)).sent_failures() > 0);
}

fn hello(oldest: u8, newest: u8) -> Hello {
    Hello {
        oldest,
        newest,
        lane: Lane::Heartbeat,
        cluster: CLUSTER,
        from: MemberId(1),
        to: MemberId(2),
        name: "m1".into(),
        peer_urls: vec!["http://m1:1".into()],
    }
}

#[test]
fn the_newest_common_version_is_spoken() {
    let here = transport(&Arc::default(), CLUSTER, 2);
    assert_eq!(here.judge(&hello(VERSION, VERSION)), Ok(VERSION));
    assert_eq!(here.judge(&hello(VERSION, VERSION + 1)), Ok(VERSION), "a newer one steps back");
    let newer = here.judge(&hello(VERSION + 1, VERSION + 2));
    assert_eq!(newer, Err(PeerRefusal::Version { oldest: VERSION_OLDEST, newest: VERSION }));
}

/// These bytes are what members of this version say; a later version must go on understanding them.
#[test]
fn the_first_words_are_fixed() {
    let bytes = hello(1, 1).encode();
    let mut expected = vec![1, 1, 1, 0xc1, 0, 0, 0, 0, 0, 0, 0];
    expected.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2]);
    expected.extend_from_slice(b"m1\x01\x0bhttp://m1:1");
    assert_eq!(bytes, expected);
    let mut longer = expected;
    longer.extend_from_slice(b"what a newer version adds");
    let frame = Frame { kind: hello::HELLO, payload: longer.into() };
    assert_eq!(Hello::decode(&frame), Ok(hello(1, 1)));
}

#[test]
fn answers_are_read_back() {
    for verdict in [
        Ok(1),
        Err(PeerRefusal::OtherCluster(CLUSTER)),
        Err(PeerRefusal::OtherMember(MemberId(9))),
        Err(PeerRefusal::Removed),
        Err(PeerRefusal::Version { oldest: 1, newest: 2 }),
    ] {
        let payload = hello::encode_answer(&verdict).into();
        assert_eq!(hello::read_answer(&Frame { kind: hello::ANSWER, payload }), Ok(verdict));
    }
}

async fn read_all(bytes: &[u8]) -> io::Result<Vec<Frame>> {
    let mut reader = FrameReader::new(bytes, Arc::new(PeerTraffic::default()));
    let mut frames = Vec::new();
    while let Some(frame) = reader.next().await? {
        frames.push(frame);
    }
    Ok(frames)
}

#[tokio::test]
async fn a_changed_cut_or_huge_frame_is_an_error() {
    let mut writer = FrameWriter::new(Vec::new(), Arc::new(PeerTraffic::default()));
    writer.put(3, b"payload").unwrap();
    let (mut bytes, peer) = (Vec::new(), Arc::new(PeerTraffic::default()));
    writer.flush().await.unwrap();
    let mut copy = FrameWriter::new(&mut bytes, peer);
    copy.put(3, b"payload").unwrap();
    copy.flush().await.unwrap();
    assert_eq!(read_all(&bytes).await.unwrap().len(), 1);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(read_all(&changed).await.is_err(), "byte {at} changed");
        if at > 0 {
            assert!(read_all(&bytes[..at]).await.is_err(), "cut at {at}");
        }
    }
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    let error = read_all(http).await.err().unwrap();
    assert!(error.to_string().contains("speaks HTTP"), "{error}");
}

#[tokio::test]
async fn a_payload_beyond_the_largest_is_an_error_and_leaves_the_others_alone() {
    let mut bytes = Vec::new();
    let mut writer = FrameWriter::new(&mut bytes, Arc::new(PeerTraffic::default()));
    writer.put(3, b"before").unwrap();
    let error = writer.put(4, &vec![0; FRAME_BYTES_MAX + 1]).unwrap_err().to_string();
    assert!(error.contains("a message of 67108865 bytes"), "{error}");
    writer.put(5, &vec![0; FRAME_BYTES_MAX]).unwrap();
    writer.flush().await.unwrap();
    let frames = read_all(&bytes).await.unwrap();
    let kinds: Vec<_> = frames.iter().map(|frame| frame.kind).collect();
    assert_eq!(kinds, [3, 5]);
}
