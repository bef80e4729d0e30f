//! Messages and file descriptors on a unix socket.
//!
//! A frame is its length (4 bytes, big-endian), the number of descriptors that come with it (1 byte)
//! and a protobuf message. The descriptors travel with the frame's first byte.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Largest message in bytes. Who has more to say says it in several.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Descriptors in one frame at most: a namespace and two sockets, with room for more.
pub const DESCRIPTORS_MAX: usize = 8;

/// Bytes of received frames kept while this side is busy sending.
const PENDING_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;

/// Bytes before the message.
const HEADER_BYTES: usize = 5;

/// Bytes read at once.
const READ_BYTES: usize = 32 << 10;

/// One end of a connection.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    received: BytesMut,
    descriptors: VecDeque<OwnedFd>,
    is_at_end: bool,
}

/// A message's bytes and what came with it.
#[derive(Debug)]
pub struct Frame {
    body: Bytes,
    /// The descriptors.
    pub descriptors: Vec<OwnedFd>,
}

impl Frame {
    /// The message.
    ///
    /// # Errors
    /// When it is none of this kind.
    pub fn decode<M: Message + Default>(&self) -> io::Result<M> {
        M::decode(&*self.body).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }
}

impl Channel {
    /// A channel over a connected socket.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            received: BytesMut::new(),
            descriptors: VecDeque::new(),
            is_at_end: false,
        }
    }

    /// The next message; `None` once the other side has closed. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the connection is broken, or what arrives is no frame.
    pub async fn receive(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            if self.is_at_end {
                return if self.received.is_empty() {
                    Ok(None)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
            self.stream.readable().await?;
            self.read_available()?;
        }
    }

    /// Sends a message. Meanwhile what arrives is taken in, so that two ends that both have much to
    /// say do not wait for each other.
    ///
    /// # Errors
    /// When the connection is broken, or the message is larger than [`MESSAGE_BYTES_MAX`]. After an
    /// error, or when the future was dropped, the connection is of no more use.
    pub async fn send(
        &mut self,
        message: &impl Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let frame = encode(message, descriptors.len())?;
        let mut sent = 0;
        while sent < frame.len() {
            let wanted = if self.received.len() < PENDING_BYTES_MAX && !self.is_at_end {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::WRITABLE
            };
            let ready = self.stream.ready(wanted).await?;
            if ready.is_readable() && wanted.is_readable() {
                self.read_available()?;
            }
            if ready.is_writable() {
                // Only the first byte carries them.
                let descriptors = if sent == 0 { descriptors } else { &[] };
                let written = self.stream.try_io(Interest::WRITABLE, || {
                    write(&self.stream, &frame[sent..], descriptors)
                });
                match written {
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Takes the first complete frame out of what was received.
    fn take_frame(&mut self) -> io::Result<Option<Frame>> {
        let Some(header) = self.received.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, count] = *header;
        let (length, count) = (
            u32::from_be_bytes([a, b, c, d]) as usize,
            usize::from(count),
        );
        if length > MESSAGE_BYTES_MAX || count > DESCRIPTORS_MAX {
            let what = format!("a frame of {length} bytes with {count} descriptors");
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        if self.received.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        if self.descriptors.len() < count {
            let what = "a frame came without its descriptors";
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        self.received.advance(HEADER_BYTES);
        Ok(Some(Frame {
            // Copied: the buffer is not kept alive by a message, nor grows with each.
            body: Bytes::copy_from_slice(&self.received.split_to(length)),
            descriptors: self.descriptors.drain(..count).collect(),
        }))
    }

    /// Reads what there is at once.
    fn read_available(&mut self) -> io::Result<()> {
        if self.received.is_empty() {
            // A large message is rare; its room is given back after it.
            self.received = BytesMut::new();
        }
        let mut buffer = [0; READ_BYTES];
        while self.received.len() < PENDING_BYTES_MAX {
            let (stream, descriptors) = (&self.stream, &mut self.descriptors);
            let read = stream.try_io(Interest::READABLE, || {
                read(stream, &mut buffer, descriptors)
            });
            match read {
                Ok(0) => {
                    self.is_at_end = true;
                    return Ok(());
                }
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn encode(message: &impl Message, descriptors: usize) -> io::Result<Vec<u8>> {
    let length = message.encoded_len();
    let (true, Ok(count)) = (
        length <= MESSAGE_BYTES_MAX && descriptors <= DESCRIPTORS_MAX,
        u8::try_from(descriptors),
    ) else {
        let what = format!("a message of {length} bytes with {descriptors} descriptors");
        return Err(io::Error::new(ErrorKind::InvalidInput, what));
    };
    let mut frame = Vec::with_capacity(HEADER_BYTES + length);
    let length = u32::try_from(length).expect("just found below the limit");
    frame.extend_from_slice(&length.to_be_bytes());
    frame.push(count);
    message.encode(&mut frame).expect("a vector grows");
    Ok(frame)
}

fn write(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
        assert!(
            fits,
            "the space is for the most descriptors a frame may have"
        );
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        flags,
    )?)
}

fn read(
    stream: &UnixStream,
    buffer: &mut [u8],
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) {
        let what = "descriptors were lost, perhaps for the limit on open files";
        return Err(io::Error::other(what));
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Answer, Tell};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    fn text(length: usize) -> Answer {
        Answer {
            id: 7,
            tell: Some(Tell::Warning("x".repeat(length))),
        }
    }

    fn pair() -> (Channel, Channel) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Channel::new(ours), Channel::new(theirs))
    }

    #[tokio::test]
    async fn messages_arrive_whole_with_their_descriptors() {
        let (mut ours, mut theirs) = pair();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let send = async {
            ours.send(&text(0), &[]).await.unwrap();
            ours.send(&text(3 << 20), &[writer.as_fd()]).await.unwrap();
            ours.send(&text(3), &[]).await.unwrap();
        };
        let receive = async {
            let mut frames = Vec::new();
            for _ in 0..3 {
                frames.push(theirs.receive().await.unwrap().unwrap());
            }
            frames
        };
        let ((), mut frames) = tokio::join!(send, receive);
        let lengths = [0, 3 << 20, 3];
        for (frame, length) in frames.iter().zip(lengths) {
            assert_eq!(frame.decode::<Answer>().unwrap(), text(length));
        }
        assert_eq!(
            frames
                .iter()
                .map(|frame| frame.descriptors.len())
                .collect::<Vec<_>>(),
            [0, 1, 0]
        );
        let mut copy = std::io::PipeWriter::from(frames[1].descriptors.remove(0));
        copy.write_all(b"!").unwrap();
        drop((copy, writer));
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "!");
        drop(ours);
        assert!(theirs.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn two_ends_that_both_have_much_to_say_do_not_wait_for_each_other() {
        let (mut ours, mut theirs) = pair();
        let message = text(2 << 20);
        let (a, b) = tokio::join!(ours.send(&message, &[]), theirs.send(&message, &[]));
        a.and(b).unwrap();
        for channel in [&mut ours, &mut theirs] {
            let frame = channel.receive().await.unwrap().unwrap();
            assert_eq!(frame.decode::<Answer>().unwrap(), message);
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_connection() {
        for bytes in [&[0xff; 5][..], &[0, 0, 0, 0, 1], &[0, 0, 0, 1]] {
            let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            theirs.set_nonblocking(true).unwrap();
            ours.write_all(bytes).unwrap();
            drop(ours);
            let mut channel = Channel::new(UnixStream::from_std(theirs).unwrap());
            assert!(channel.receive().await.is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_not_sent() {
        let (mut ours, _theirs) = pair();
        assert!(ours.send(&text(MESSAGE_BYTES_MAX), &[]).await.is_err());
    }
}
