//! Reads a container's output: what is there, and what is still written.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;

use container::Container;
use container::log::{Follower, Reader, Record, Start, Stream};
use executor::{Error, LogLine, LogOptions, LogStream, LogStreamName};
use futures::stream;
use types::Timestamp;

/// Lines handed out together at most.
const BATCH_LINES_MAX: usize = 512;
/// A line longer than this is cut into several.
const LINE_BYTES_MAX: usize = 256 << 10;

/// The output of a container that is yet to be found; none means that there is nothing to read.
pub(crate) fn read(
    container: impl Future<Output = Result<Option<Container>, Error>> + Send + 'static,
    options: LogOptions,
) -> LogStream {
    let start = async move {
        let Some(container) = container.await? else {
            return Ok(None);
        };
        let dir = container.log_dir();
        let start = match options.tail {
            Some(lines) => Start::Tail(usize::try_from(lines).unwrap_or(usize::MAX)),
            None => Start::Oldest,
        };
        let reader = blocking(move || Reader::open(&dir, start, options.since.0)).await?;
        Ok(Some(Reading {
            container,
            place: Some(Place::Backlog(reader)),
            lines: Lines::new(options),
            follow: options.follow,
        }))
    };
    Box::pin(stream::unfold(
        State::Start(Box::pin(start)),
        |state| async {
            let mut reading = match state {
                State::Start(start) => match start.await {
                    Ok(Some(reading)) => Box::new(reading),
                    Ok(None) => return None,
                    Err(error) => return Some((Err(error), State::End)),
                },
                State::Reading(reading) => reading,
                State::End => return None,
            };
            match reading.next().await {
                Ok(Some(batch)) => Some((Ok(batch), State::Reading(reading))),
                Ok(None) => None,
                Err(error) => Some((Err(error), State::End)),
            }
        },
    ))
}

type Starting = std::pin::Pin<Box<dyn Future<Output = Result<Option<Reading>, Error>> + Send>>;

enum State {
    Start(Starting),
    Reading(Box<Reading>),
    End,
}

/// A reader somewhere in a log.
struct Reading {
    container: Container,
    place: Option<Place>,
    lines: Lines,
    follow: bool,
}

enum Place {
    /// In what was written before.
    Backlog(Reader),
    /// At the end, while the container may write more.
    End(Follower),
    /// The container has ended: in what is left.
    Rest(Reader),
}

impl Reading {
    /// The next lines; none at the end.
    async fn next(&mut self) -> Result<Option<Vec<LogLine>>, Error> {
        while let Some(place) = self.place.take() {
            match place {
                Place::Backlog(reader) => {
                    let (reader, is_end) = self.batch(reader).await?;
                    self.place = match (is_end, self.follow) {
                        (false, _) => Some(Place::Backlog(reader)),
                        (true, true) => {
                            let dir = self.container.log_dir();
                            Some(Place::End(Follower::new(&dir, reader).map_err(failed)?))
                        }
                        (true, false) => None,
                    };
                }
                Place::End(follower) => self.place = Some(self.wait(follower).await?),
                Place::Rest(reader) => {
                    let (reader, is_end) = self.batch(reader).await?;
                    self.place = (!is_end).then_some(Place::Rest(reader));
                }
            }
            if self.place.is_none() {
                self.lines.finish();
            }
            let batch = self.lines.take();
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Reads what is there, up to a batch, off the async threads.
    async fn batch(&mut self, mut reader: Reader) -> Result<(Reader, bool), Error> {
        let (reader, records, is_end) = blocking(move || {
            let mut records = vec![];
            while records.len() < BATCH_LINES_MAX {
                match reader.next()? {
                    Some(record) => records.push(record),
                    None => return Ok((reader, records, true)),
                }
            }
            Ok((reader, records, false))
        })
        .await?;
        self.lines.extend(records);
        Ok((reader, is_end))
    }

    /// Waits for more output or for the container's end, and takes what came.
    async fn wait(&mut self, mut follower: Follower) -> Result<Place, Error> {
        tokio::select! {
            biased;
            record = follower.next() => self.lines.extend([record.map_err(failed)?]),
            exit = self.container.wait() => {
                exit.map_err(|e| Error::temporary(&e))?;
                return Ok(Place::Rest(follower.into_reader()));
            }
        }
        let mut count = 1;
        while count < BATCH_LINES_MAX
            && let Some(record) = follower.try_next().map_err(failed)?
        {
            self.lines.extend([record]);
            count += 1;
        }
        Ok(Place::End(follower))
    }
}

/// Puts lines together from records and leaves out what is not wanted.
struct Lines {
    options: LogOptions,
    ready: Vec<LogLine>,
    /// Beginnings of lines that go on in later records, by stream.
    open: BTreeMap<bool, (Timestamp, Vec<u8>)>,
}

impl Lines {
    fn new(options: LogOptions) -> Self {
        Self {
            options,
            ready: vec![],
            open: BTreeMap::new(),
        }
    }

    fn extend(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            let is_stderr = match record.stream {
                Stream::Stdout => false,
                // What the shim says of the log itself is for people, like an error.
                Stream::Stderr | Stream::Notice => true,
            };
            let is_wanted = if is_stderr {
                self.options.stderr
            } else {
                self.options.stdout
            };
            if !is_wanted {
                continue;
            }
            let at = Timestamp(record.timestamp_ns);
            let (at, mut text) = self.open.remove(&is_stderr).unwrap_or((at, vec![]));
            text.extend_from_slice(&record.text);
            if record.partial && text.len() < LINE_BYTES_MAX {
                self.open.insert(is_stderr, (at, text));
            } else {
                self.push(at, is_stderr, text);
            }
        }
    }

    /// Nothing more comes: a line without end is a line too.
    fn finish(&mut self) {
        for (is_stderr, (at, text)) in std::mem::take(&mut self.open) {
            self.push(at, is_stderr, text);
        }
    }

    fn push(&mut self, timestamp: Timestamp, is_stderr: bool, text: Vec<u8>) {
        let stream = if is_stderr {
            LogStreamName::Stderr
        } else {
            LogStreamName::Stdout
        };
        self.ready.push(LogLine {
            timestamp,
            stream,
            line: text.into(),
        });
    }

    fn take(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.ready)
    }
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result.map_err(failed),
        Err(error) => Err(Error::fatal(&error)),
    }
}

fn failed(error: io::Error) -> Error {
    Error::Fatal(format!("reading the container's output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stream: Stream, text: &str, partial: bool) -> Record {
        Record {
            timestamp_ns: 7,
            stream,
            partial,
            text: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn long_lines_are_put_together_per_stream() {
        let all = LogOptions {
            follow: false,
            tail: None,
            since: Timestamp(0),
            stdout: true,
            stderr: true,
        };
        let records = || {
            [
                record(Stream::Stdout, "a", true),
                record(Stream::Stderr, "x", false),
                record(Stream::Stdout, "b", false),
                record(Stream::Notice, "lost", false),
                record(Stream::Stdout, "unfinished", true),
            ]
        };
        let texts = |options| {
            let mut lines = Lines::new(options);
            lines.extend(records());
            lines.finish();
            let text = |line: LogLine| String::from_utf8(line.line.into()).unwrap();
            lines.take().into_iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(texts(all), ["x", "ab", "lost", "unfinished"]);
        assert_eq!(
            texts(LogOptions {
                stderr: false,
                ..all
            }),
            ["ab", "unfinished"]
        );
        assert_eq!(
            texts(LogOptions {
                stdout: false,
                ..all
            }),
            ["x", "lost"]
        );
        let mut lines = Lines::new(all);
        let piece = "y".repeat(16 << 10);
        lines.extend((0..20).map(|_| record(Stream::Stdout, &piece, true)));
        assert_eq!(lines.take().len(), 1, "memory for one line is bounded");
    }
}
