//! Sending a file to the daemon in pieces.

use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::Error;

/// Bytes a message carries at most: well below the 4 MiB a server takes by default.
const CHUNK_LEN: usize = 1 << 20;
/// Messages on their way at once.
const QUEUE_MAX: usize = 4;

/// Pieces of a file, ready to be sent, and whoever reads it.
pub(super) struct Upload<M> {
    pub(super) messages: ReceiverStream<M>,
    reader: Reader<M>,
}

struct Reader<M> {
    input: Box<dyn AsyncRead + Unpin>,
    sender: mpsc::Sender<M>,
    name: std::path::PathBuf,
}

impl<M> Upload<M> {
    /// Opens the file; `-` is standard input.
    pub(super) async fn open(path: &Path) -> Result<Self, Error> {
        let input: Box<dyn AsyncRead + Unpin> = if path == Path::new("-") {
            Box::new(tokio::io::stdin())
        } else {
            let file = tokio::fs::File::open(path)
                .await
                .map_err(|source| Error::File {
                    path: path.to_owned(),
                    source,
                })?;
            Box::new(file)
        };
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let reader = Reader {
            input,
            sender,
            name: path.to_owned(),
        };
        Ok(Self {
            messages: ReceiverStream::new(receiver),
            reader,
        })
    }

    /// Runs the call that takes the messages while the file is read.
    pub(super) async fn run<T>(
        self,
        message: impl Fn(Option<Bytes>) -> M,
        call: impl AsyncFnOnce(ReceiverStream<M>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, Error> {
        let Self { messages, reader } = self;
        let read = reader.read(message);
        let call = call(messages);
        tokio::pin!(call, read);
        tokio::select! {
            answer = &mut call => return Ok(answer?.into_inner()),
            result = &mut read => result?,
        }
        Ok(call.await?.into_inner())
    }
}

impl<M> Reader<M> {
    /// Sends the file. Its end is the end of the messages, when the sender is dropped; so a file
    /// that cannot be read to its end leaves the messages open until the connection breaks, and the
    /// daemon never takes half a file for the whole.
    async fn read(mut self, message: impl Fn(Option<Bytes>) -> M) -> Result<(), Error> {
        let result = self.send_all(message).await;
        if result.is_err() {
            std::mem::forget(self.sender);
        }
        result
    }

    async fn send_all(&mut self, message: impl Fn(Option<Bytes>) -> M) -> Result<(), Error> {
        if self.sender.send(message(None)).await.is_err() {
            return Ok(());
        }
        loop {
            let mut chunk = bytes::BytesMut::with_capacity(CHUNK_LEN);
            let read = self.input.read_buf(&mut chunk).await;
            let len = read.map_err(|source| Error::File {
                path: self.name.clone(),
                source,
            })?;
            // Nobody takes more when the call has failed; its error is the one to tell.
            if len == 0
                || self
                    .sender
                    .send(message(Some(chunk.freeze())))
                    .await
                    .is_err()
            {
                return Ok(());
            }
        }
    }
}
