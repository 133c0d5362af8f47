//! Messages one behind the other in the body of a call: a byte that says whether one is compressed, four with its length, itself.

use bytes::{BufMut, Bytes, BytesMut};

use crate::rpc::{Code, Message, Status};

/// What stands before a message.
pub const HEAD_BYTES: usize = 5;

/// A message as it stands in a body.
pub fn framed(message: &impl Message) -> Bytes {
    framed_with(message, &[])
}

/// The same, with fields behind its own that are written already.
pub fn framed_with(message: &impl Message, written: &[u8]) -> Bytes {
    let bytes = message.encoded_len() + written.len();
    let mut out = BytesMut::with_capacity(HEAD_BYTES + bytes);
    out.put_u8(0);
    // A longer one cannot be said; clients take no more than half of it.
    out.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
    message.encode_raw(&mut out);
    out.put_slice(written);
    out.freeze()
}

/// Bytes of a message without what stands before it.
pub fn message_bytes(message: &impl Message) -> usize {
    message.encoded_len()
}

/// Takes a body apart as it comes.
#[derive(Debug)]
pub struct Frames {
    came: BytesMut,
    message_bytes_max: usize,
}

impl Frames {
    /// Of a body in which no message is longer.
    pub fn new(message_bytes_max: usize) -> Self {
        Self { came: BytesMut::new(), message_bytes_max }
    }

    /// More of the body has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.came.extend_from_slice(bytes);
    }

    /// Is nothing left that is no whole message?
    pub fn is_empty(&self) -> bool {
        self.came.is_empty()
    }

    /// The next message, if it is there.
    ///
    /// # Errors
    /// When it is compressed or too long; then no other follows.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((head, _)) = self.came.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [compressed, length @ ..] = *head;
        if compressed != 0 {
            let text = "grpc: compressed flag set with identity or empty encoding";
            return Err(Status::new(Code::Internal, text));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > self.message_bytes_max {
            let text = format!(
                "grpc: received message larger than max ({length} vs. {})",
                self.message_bytes_max
            );
            return Err(Status::with(Code::ResourceExhausted, text));
        }
        if self.came.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        let mut message = self.came.split_to(HEAD_BYTES + length);
        Ok(Some(message.split_off(HEAD_BYTES).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::LeaseStatus;

    #[test]
    fn messages_are_found_however_the_body_comes() {
        let body = [
            framed(&LeaseStatus { id: 1 }),
            framed(&LeaseStatus::default()),
            framed(&LeaseStatus { id: -1 }),
        ]
        .concat();
        for piece in 1..=body.len() {
            let (mut frames, mut found) = (Frames::new(11), Vec::new());
            for piece in body.chunks(piece) {
                frames.push(piece);
                while let Some(message) = frames.next_message().unwrap() {
                    found.push(<LeaseStatus as prost::Message>::decode(message).unwrap().id);
                }
            }
            assert_eq!(found, [1, 0, -1]);
            assert!(frames.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_before_it_has_come() {
        let mut frames = Frames::new(2_097_152);
        frames.push(&[0, 0, 0x20, 0, 1]);
        assert_eq!(
            frames.next_message().unwrap_err().text,
            "grpc: received message larger than max (2097153 vs. 2097152)"
        );
        let mut frames = Frames::new(1);
        frames.push(&[1, 0, 0, 0, 0]);
        assert_eq!(frames.next_message().unwrap_err().code, Code::Internal);
    }
}
