//! What a container gets besides its specification and no file keeps: secrets.
//!
//! The daemon hands it to the shim over the socket that is the shim's standard input: the length of
//! a header (4 bytes, little-endian) with the descriptors of the mounts, the header as JSON, and
//! the environment's bytes, each variable ended by a NUL.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Mounts one container can be given at most.
pub const MOUNTS_MAX: usize = 4;

/// Largest header in bytes: each file takes its path twice.
const HEADER_BYTES_MAX: u32 = 1 << 20;
/// Most bytes of variables; the kernel itself takes no more than some megabytes.
const ENV_BYTES_MAX: u64 = 8 << 20;

/// What no file keeps.
#[derive(Debug, Default)]
pub struct Private {
    /// `NAME=value`, after those of the specification.
    pub env: Vec<Zeroizing<String>>,
    /// File systems in memory, attached in this order after all other mounts.
    pub mounts: Vec<PrivateMount>,
}

/// A file system attached to nothing yet.
#[derive(Debug)]
pub struct PrivateMount {
    /// Its descriptor.
    pub mount: OwnedFd,
    /// Where it is seen.
    pub place: Place,
}

/// Where a file system is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// As a whole, at this directory.
    Directory(String),
    /// Some of its files: path in it, absolute path in the container.
    Files(Vec<(String, String)>),
}

#[derive(Serialize, Deserialize)]
struct Header {
    env_bytes: u64,
    places: Vec<Place>,
}

impl Private {
    /// Sends it. Blocks until the other side has taken it.
    ///
    /// # Errors
    /// When the other side is gone, or this is more than it takes.
    pub fn send(&self, mut socket: impl AsFd + Write) -> io::Result<()> {
        let env_bytes = self.env.iter().map(|one| one.len() as u64 + 1).sum();
        let places = self.mounts.iter().map(|it| it.place.clone()).collect();
        let header = serde_json::to_vec(&Header { env_bytes, places })?;
        let length = u32::try_from(header.len()).ok();
        let length = length.filter(|length| *length <= HEADER_BYTES_MAX);
        let is_too_much = env_bytes > ENV_BYTES_MAX || self.mounts.len() > MOUNTS_MAX;
        let (Some(length), false) = (length, is_too_much) else {
            return Err(io::Error::other("too many secrets for one container"));
        };
        let fds: Vec<_> = self.mounts.iter().map(|it| it.mount.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOUNTS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::Error::other("no room for descriptors"));
        }
        let length = length.to_le_bytes();
        let sent = sendmsg(
            &socket,
            &[IoSlice::new(&length)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        if sent != length.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        socket.write_all(&header)?;
        for one in &self.env {
            socket.write_all(one.as_bytes())?;
            socket.write_all(&[0])?;
        }
        Ok(())
    }

    /// Takes what [`Self::send`] sent.
    pub(crate) fn receive(mut socket: impl AsFd + Read) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut length = [0; 4];
        let fds = receive_descriptors(&socket, &mut length)?;
        let length = u32::from_le_bytes(length);
        if length > HEADER_BYTES_MAX {
            return Err(invalid("the header is too long"));
        }
        let mut header = vec![0; length as usize];
        socket.read_exact(&mut header)?;
        let Header { env_bytes, places } = serde_json::from_slice(&header)?;
        if env_bytes > ENV_BYTES_MAX || places.len() != fds.len() {
            return Err(invalid("the header contradicts what came with it"));
        }
        let length = usize::try_from(env_bytes).map_err(|_| invalid("too many variables"))?;
        let mut bytes = Zeroizing::new(vec![0; length]);
        socket.read_exact(&mut bytes)?;
        let mut env = vec![];
        for one in bytes.split(|byte| *byte == 0).filter(|one| !one.is_empty()) {
            let text = std::str::from_utf8(one).map_err(|_| invalid("a variable is no text"))?;
            env.push(Zeroizing::new(text.to_owned()));
        }
        let mounts = fds.into_iter().zip(places);
        let mounts = mounts.map(|(mount, place)| PrivateMount { mount, place });
        Ok(Self {
            env,
            mounts: mounts.collect(),
        })
    }
}

/// Reads the first bytes with the descriptors that come along.
fn receive_descriptors(socket: impl AsFd, bytes: &mut [u8; 4]) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOUNTS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
    )?;
    if received.bytes != bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut fds = vec![];
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(fds)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_sent_arrives() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        (&file).write_all(b"inside").unwrap();
        let place = Place::Files(vec![("0".into(), "/etc/x".into())]);
        let sent = Private {
            // More than a socket holds at once.
            env: vec![
                Zeroizing::new("A=b".into()),
                Zeroizing::new(format!("B={}", "x".repeat(1 << 20))),
            ],
            mounts: vec![PrivateMount {
                mount: file.into(),
                place: place.clone(),
            }],
        };
        let receiver = std::thread::spawn(move || Private::receive(theirs).unwrap());
        sent.send(&ours).unwrap();
        let mut got = receiver.join().unwrap();
        assert_eq!(got.env, sent.env);
        assert_eq!(got.mounts[0].place, place);
        let mut file = std::fs::File::from(got.mounts.remove(0).mount);
        let mut text = String::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");

        let (ours, theirs) = UnixStream::pair().unwrap();
        Private::default().send(&ours).unwrap();
        assert!(Private::receive(&theirs).unwrap().mounts.is_empty());
        drop(ours);
        assert!(Private::receive(theirs).is_err(), "nobody there");
    }
}
