//! Messages to the packet filter as one transaction: all of it is done, or nothing.

use std::io;

use crate::attribute::{Attributes, Reader};
use crate::error::{Error, Result};
use crate::socket::{Buffer, Socket};
use crate::table::Family;

/// `NFNL_SUBSYS_NFTABLES`
pub(crate) const NFTABLES: u16 = 10;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLM_F_DUMP_INTERRUPTED: u16 = 0x10;
/// An error answer carries attributes, and only the header of what it answers.
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER_BYTES: usize = 20;

/// How often a dump is tried that others' changes interrupt.
const DUMP_TRIES: u32 = 20;

/// The messages that change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    AddTable = 0,
    RemoveTable = 2,
    AddChain = 3,
    RemoveChain = 5,
    AddRule = 6,
    RemoveRule = 8,
    AddMap = 9,
    RemoveMap = 11,
    AddElements = 12,
    RemoveElements = 14,
}

impl Message {
    fn flags(self) -> u16 {
        match self {
            Self::AddTable | Self::AddChain | Self::AddMap | Self::AddElements => NLM_F_CREATE,
            Self::AddRule => NLM_F_CREATE | NLM_F_APPEND,
            Self::RemoveTable
            | Self::RemoveChain
            | Self::RemoveRule
            | Self::RemoveMap
            | Self::RemoveElements => 0,
        }
    }
}

/// A transaction being written.
#[derive(Debug)]
pub(crate) struct Transaction {
    bytes: Vec<u8>,
    sequence: u32,
    last_start: usize,
    last_id: u32,
}

impl Transaction {
    pub(crate) fn new() -> Self {
        let mut bytes = Vec::with_capacity(4096);
        write_message(&mut bytes, BATCH_BEGIN, 0, 0, 0, NFTABLES, |_| {});
        Self {
            bytes,
            sequence: 0,
            last_start: 0,
            last_id: 0,
        }
    }

    /// A number for a map made in this transaction; the kernel wants one.
    pub(crate) fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn push(
        &mut self,
        message: Message,
        family: Family,
        write: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.sequence += 1;
        self.last_start = self.bytes.len();
        write_message(
            &mut self.bytes,
            (NFTABLES << 8) | message as u16,
            message.flags(),
            self.sequence,
            family.number(),
            0,
            write,
        );
    }

    /// Length of what will be sent, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Has the kernel do it all at once. On an error nothing was done, and the error says which
    /// step was refused first.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<()> {
        if self.sequence == 0 {
            return Ok(());
        }
        // Only the last step is acknowledged: its answer comes after all others.
        let flags = self.last_start + 6;
        let with_ack = u16::from_ne_bytes([self.bytes[flags], self.bytes[flags + 1]]) | NLM_F_ACK;
        self.bytes[flags..flags + 2].copy_from_slice(&with_ack.to_ne_bytes());
        write_message(&mut self.bytes, BATCH_END, 0, 0, 0, NFTABLES, |_| {});
        socket.drain();
        socket.send(&self.bytes)?;
        let mut buffer = Buffer::new();
        let mut rejected = None;
        let mut is_done = false;
        while let Some(datagram) = socket.receive(&mut buffer)? {
            for answer in Answers(datagram) {
                if answer.kind != NLMSG_ERROR {
                    continue;
                }
                is_done |= answer.sequence == self.sequence;
                if let Some(error) = self.error_in(&answer) {
                    rejected.get_or_insert(error);
                }
            }
        }
        match rejected {
            Some(error) => Err(error),
            None if is_done => Ok(()),
            None => Err(Error::Unanswered),
        }
    }

    fn error_in(&self, answer: &Answer<'_>) -> Option<Error> {
        let (source, explanation) = answer.error()?;
        Some(Error::Rejected {
            step: self.describe(answer.sequence),
            explanation,
            source,
        })
    }

    /// What the message with this number was to do, read back from its own bytes.
    fn describe(&self, sequence: u32) -> String {
        let Some(message) = Answers(&self.bytes).find(|message| {
            message.sequence == sequence && message.kind >> 8 == NFTABLES && sequence != 0
        }) else {
            return "committing the transaction".to_owned();
        };
        let attributes = Reader(message.body);
        let name = |kind| attributes.string(kind).unwrap_or("?");
        let table = name(1);
        let of = |kind: u16, what: &str| format!("{what} {table}/{}", name(kind));
        let elements = |what: &str| {
            let count = attributes.nested(3).map_or(0, Iterator::count);
            format!("{what} {count} elements of map {table}/{}", name(2))
        };
        match message.kind & 0xff {
            0 => format!("adding table {table}"),
            2 => format!("removing table {table}"),
            3 => of(3, "adding chain"),
            5 => of(3, "removing chain"),
            6 => of(2, "adding a rule to chain"),
            8 => of(2, "emptying chain"),
            9 => of(2, "adding map"),
            11 => of(2, "removing map"),
            12 => elements("adding"),
            14 => elements("removing"),
            other => format!("message {other} for table {table}"),
        }
    }
}

/// Writes a message with netfilter's header.
fn write_message(
    bytes: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    write: impl FnOnce(&mut Attributes<'_>),
) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    write(&mut Attributes(bytes));
    let length = u32::try_from(bytes.len() - start).expect("messages are chunked");
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// One message, its netfilter header taken off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    /// Attributes; for errors everything after the first header.
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// Which family's table the message is about.
    pub(crate) fn family(&self) -> Option<Family> {
        Family::ALL
            .into_iter()
            .find(|family| family.number() == self.family)
    }

    /// The error this message carries, if it is one and not an acknowledgement.
    fn error(&self) -> Option<(io::Error, Option<String>)> {
        let errno = i32::from_ne_bytes(*self.body.first_chunk::<4>()?);
        if errno == 0 {
            return None;
        }
        // The answered message follows, whole or only its header; then attributes may follow.
        let answered = u32::from_ne_bytes(*self.body.get(4..)?.first_chunk::<4>()?);
        let skip = if self.flags & NLM_F_CAPPED != 0 {
            20
        } else {
            4 + usize::try_from(answered).ok()?.next_multiple_of(4)
        };
        let explanation = (self.flags & NLM_F_ACK_TLVS != 0)
            .then(|| self.body.get(skip..).map(Reader))
            .flatten()
            .and_then(|attributes| attributes.string(1).map(str::to_owned));
        Some((io::Error::from_raw_os_error(-errno), explanation))
    }
}

/// Reads messages one after the other.
struct Answers<'a>(&'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let header = *self.0.first_chunk::<16>()?;
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = usize::try_from(word(0)).ok()?;
        let message = self.0.get(..length)?;
        let kind = half(4);
        let family = message.get(16).copied().unwrap_or(0);
        let skip = if kind == NLMSG_ERROR || kind == NLMSG_DONE {
            16
        } else {
            HEADER_BYTES
        };
        let body = message.get(skip..)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer {
            kind,
            flags: half(6),
            sequence: word(8),
            family,
            body,
        })
    }
}

/// A question to the kernel with many answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// What is being done, in an error.
    pub(crate) what: &'static str,
    /// Subsystem and message.
    pub(crate) kind: u16,
    /// The family's number, zero for all.
    pub(crate) family: u8,
}

/// Asks, and hands over each answer. If the kernel says that things changed meanwhile, `each` is
/// called with `None`: what came so far counts no more, and it is asked again.
pub(crate) fn dump(
    socket: &mut Socket,
    question: Question,
    write: impl Fn(&mut Attributes<'_>),
    mut each: impl FnMut(Option<Answer<'_>>) -> Result<()>,
) -> Result<()> {
    let mut request = Vec::new();
    let Question { what, kind, family } = question;
    write_message(&mut request, kind, NLM_F_DUMP, 1, family, 0, write);
    for _ in 0..DUMP_TRIES {
        socket.drain();
        socket.send(&request)?;
        if read_dump(socket, what, &mut each)? {
            return Ok(());
        }
        each(None)?;
    }
    let tries = DUMP_TRIES;
    Err(Error::Unstable { what, tries })
}

/// Reads to the end; false if the answers do not fit together.
fn read_dump(
    socket: &mut Socket,
    what: &'static str,
    each: &mut impl FnMut(Option<Answer<'_>>) -> Result<()>,
) -> Result<bool> {
    let mut buffer = Buffer::new();
    let mut is_whole = true;
    loop {
        let Some(datagram) = socket.receive(&mut buffer)? else {
            return Err(Error::Unanswered);
        };
        for answer in Answers(datagram) {
            is_whole &= answer.flags & NLM_F_DUMP_INTERRUPTED == 0 || answer.kind == NLMSG_ERROR;
            match answer.kind {
                NLMSG_DONE => return Ok(is_whole),
                NLMSG_ERROR => {
                    let Some((source, explanation)) = answer.error() else {
                        return Ok(is_whole);
                    };
                    if source.raw_os_error() == Some(libc::EINTR) {
                        return Ok(false);
                    }
                    return Err(Error::Rejected {
                        step: what.to_owned(),
                        explanation,
                        source,
                    });
                }
                _ => each(Some(answer))?,
            }
        }
    }
}

/// Sends one request outside any transaction, hands over what comes back, and waits for its
/// acknowledgement.
pub(crate) fn request(
    socket: &mut Socket,
    question: Question,
    write: impl FnOnce(&mut Attributes<'_>),
    mut each: impl FnMut(Answer<'_>),
) -> Result<()> {
    let mut buffer = Buffer::new();
    let mut bytes = Vec::new();
    let Question { what, kind, family } = question;
    write_message(&mut bytes, kind, NLM_F_ACK, 1, family, 0, write);
    socket.drain();
    socket.send(&bytes)?;
    while let Some(datagram) = socket.receive(&mut buffer)? {
        for answer in Answers(datagram) {
            if answer.kind != NLMSG_ERROR {
                each(answer);
                continue;
            }
            return answer.error().map_or(Ok(()), |(source, explanation)| {
                let step = what.to_owned();
                Err(Error::Rejected {
                    step,
                    explanation,
                    source,
                })
            });
        }
    }
    Err(Error::Unanswered)
}
