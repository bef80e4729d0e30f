//! A container's output as the stream an agent reads.

use std::collections::VecDeque;

use bytes::Bytes;
use container::log::{Follower, Reader, Record, Start, Stream};
use container::{Container, ExitStatus};
use executor::{Error, LogLine, LogOptions, LogStream, LogStreamName};
use futures::future::BoxFuture;
use futures::stream;
use types::Timestamp;

use crate::blocking::blocking;

/// Lines handed out at once at most.
const BATCH_LINES_MAX: usize = 256;
/// Text handed out at once, in bytes; only a single longer line passes it.
const BATCH_BYTES_MAX: usize = 32 << 10;
/// Longest line; what is longer comes as several lines. A program that never ends its line must not
/// fill the memory.
const LINE_BYTES_MAX: usize = 256 << 10;

/// The output of `container` as far as `options` ask for it.
pub(crate) fn stream(container: Container, options: LogOptions) -> LogStream {
    Box::pin(stream::try_unfold(
        State::Opening(container, options),
        |state| async move {
            let mut state = state;
            loop {
                let (next, lines) = state.step().await?;
                match (next, lines.is_empty()) {
                    (next, false) => return Ok(Some((lines, next))),
                    (State::Done, true) => return Ok(None),
                    (next, true) => state = next,
                }
            }
        },
    ))
}

/// How far a stream has come.
enum State {
    Opening(Container, LogOptions),
    /// Reading what is there.
    Reading(Box<Reading>),
    /// Waiting for what is written.
    Following(Box<Following>),
    Done,
}

struct Reading {
    container: Container,
    options: LogOptions,
    reader: Reader,
    lines: Lines,
    /// What is left of the tail, handed out before anything else.
    tail: VecDeque<LogLine>,
    /// Whether the container had ended before the log was read to its end.
    has_ended: bool,
}

struct Following {
    container: Container,
    options: LogOptions,
    follower: Follower,
    lines: Lines,
    ended: BoxFuture<'static, Result<ExitStatus, container::Error>>,
}

impl State {
    async fn step(self) -> Result<(Self, Vec<LogLine>), Error> {
        match self {
            Self::Opening(container, options) => {
                let reading = blocking(move || Reading::open(container, options)).await;
                Ok((Self::Reading(Box::new(reading?)), Vec::new()))
            }
            Self::Reading(mut reading) => {
                let (reading, lines) = blocking(move || {
                    let lines = reading.batch();
                    (reading, lines)
                })
                .await;
                let lines = lines?;
                if !lines.is_empty() {
                    return Ok((Self::Reading(reading), lines));
                }
                reading.at_end()
            }
            Self::Following(following) => following.step().await,
            Self::Done => Ok((Self::Done, Vec::new())),
        }
    }
}

impl Reading {
    fn open(container: Container, options: LogOptions) -> Result<Self, Error> {
        let has_ended = has_ended(&container)?;
        let reader = Reader::open(&container.log_dir(), Start::Oldest, options.since.0);
        let mut reading = Self {
            reader: reader.map_err(|error| Error::fatal(&error))?,
            container,
            options,
            lines: Lines::new(options),
            tail: VecDeque::new(),
            has_ended,
        };
        if let Some(count) = options.tail {
            // The reader's own way to find the tail does not tell the streams apart.
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            while let Some(line) = reading.next()? {
                reading.tail.push_back(line);
                if reading.tail.len() > count {
                    reading.tail.pop_front();
                }
            }
        }
        Ok(reading)
    }

    /// The next lines, none at the end.
    fn batch(&mut self) -> Result<Vec<LogLine>, Error> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_LINES_MAX && bytes < BATCH_BYTES_MAX {
            let line = match self.tail.pop_front() {
                Some(line) => line,
                None => match self.next()? {
                    Some(line) => line,
                    None => break,
                },
            };
            bytes += line.line.len();
            batch.push(line);
        }
        Ok(batch)
    }

    fn next(&mut self) -> Result<Option<LogLine>, Error> {
        while let Some(record) = there(self.reader.next())? {
            if let Some(line) = self.lines.take(record) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// What comes after all that is there.
    fn at_end(mut self: Box<Self>) -> Result<(State, Vec<LogLine>), Error> {
        if self.has_ended || !self.options.follow {
            return Ok((State::Done, self.lines.finish()));
        }
        let Self {
            container,
            options,
            reader,
            mut lines,
            ..
        } = *self;
        let follower = Follower::new(&container.log_dir(), reader);
        let Some(follower) = there(follower.map(Some))? else {
            return Ok((State::Done, lines.finish()));
        };
        let waiting = container.clone();
        let following = Following {
            container,
            options,
            follower,
            lines,
            ended: Box::pin(async move { waiting.wait().await }),
        };
        Ok((State::Following(Box::new(following)), Vec::new()))
    }
}

impl Following {
    /// Waits for output and takes what else there is by then; at the end goes back to reading.
    async fn step(mut self: Box<Self>) -> Result<(State, Vec<LogLine>), Error> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = tokio::select! {
            record = self.follower.next() => there(record.map(Some))?,
            // A container that cannot be waited for has no more to say either.
            _ended = &mut self.ended => return Ok((self.at_end(), batch)),
        };
        if next.is_none() {
            return Ok((self.at_end(), batch));
        }
        while let Some(record) = next {
            if let Some(line) = self.lines.take(record) {
                bytes += line.line.len();
                batch.push(line);
            }
            if batch.len() >= BATCH_LINES_MAX || bytes >= BATCH_BYTES_MAX {
                break;
            }
            next = there(self.follower.try_next())?;
        }
        Ok((State::Following(self), batch))
    }

    fn at_end(self: Box<Self>) -> State {
        let Self {
            container,
            options,
            follower,
            lines,
            ..
        } = *self;
        State::Reading(Box::new(Reading {
            container,
            options,
            reader: follower.into_reader(),
            lines,
            tail: VecDeque::new(),
            has_ended: true,
        }))
    }
}

/// What was read. A log that is removed meanwhile, with its container, ends there.
fn there<T>(read: std::io::Result<Option<T>>) -> Result<Option<T>, Error> {
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map_err(|error| Error::fatal(&error)),
    }
}

fn has_ended(container: &Container) -> Result<bool, Error> {
    let status = container.exit_status();
    Ok(status.map_err(|error| Error::fatal(&error))?.is_some())
}

/// Puts lines together again that the log has in pieces, and leaves out the unwanted stream.
#[derive(Debug)]
struct Lines {
    options: LogOptions,
    stdout: Option<Begun>,
    stderr: Option<Begun>,
}

/// The beginning of a line.
#[derive(Debug)]
struct Begun {
    timestamp: Timestamp,
    text: Vec<u8>,
}

impl Lines {
    fn new(options: LogOptions) -> Self {
        Self {
            options,
            stdout: None,
            stderr: None,
        }
    }

    /// The line that `record` ends, if it ends one that is wanted.
    fn take(&mut self, record: Record) -> Option<LogLine> {
        let (stream, begun) = match record.stream {
            Stream::Stdout if self.options.stdout => (LogStreamName::Stdout, &mut self.stdout),
            Stream::Stderr if self.options.stderr => (LogStreamName::Stderr, &mut self.stderr),
            // A whole line that does not belong between the pieces of another one.
            Stream::Notice if self.options.stderr => (LogStreamName::Stderr, &mut None),
            Stream::Stdout | Stream::Stderr | Stream::Notice => return None,
        };
        let Record {
            timestamp_ns,
            partial,
            text,
            ..
        } = record;
        let line = match begun.take() {
            Some(mut line) => {
                line.text.extend_from_slice(&text);
                line
            }
            None => Begun {
                timestamp: Timestamp(timestamp_ns),
                text,
            },
        };
        if partial && line.text.len() < LINE_BYTES_MAX {
            *begun = Some(line);
            return None;
        }
        Some(line.into_line(stream))
    }

    /// What was begun when the log ended.
    fn finish(&mut self) -> Vec<LogLine> {
        let stdout = self.stdout.take();
        let stdout = stdout.map(|line| line.into_line(LogStreamName::Stdout));
        let stderr = self.stderr.take();
        let stderr = stderr.map(|line| line.into_line(LogStreamName::Stderr));
        stdout.into_iter().chain(stderr).collect()
    }
}

impl Begun {
    fn into_line(self, stream: LogStreamName) -> LogLine {
        LogLine {
            timestamp: self.timestamp,
            stream,
            line: Bytes::from(self.text),
        }
    }
}

#[cfg(test)]
mod tests;
