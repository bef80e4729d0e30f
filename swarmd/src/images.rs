//! The Images service on the local socket: archives stream into the node's image store.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;

use image::{Error, ImageId, ImageStore, ImportChanges, Reference};
use proto::daemon::images_server::Images;
use proto::daemon::{
    ImageSummary, ImportRequest, ImportResponse, InspectImageRequest, InspectImageResponse,
    ListImagesRequest, ListImagesResponse, LoadRequest, LoadResponse, RemoveImageRequest,
    RemoveImageResponse, load_response,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use types::Timestamp;

use crate::error::chain;

/// Pieces of an archive waiting to be unpacked; a client sends pieces of at most a few MiB.
const CHUNKS_WAITING_MAX: usize = 4;

/// Images that containers on this node are made from. Asked before the store is locked: the answer
/// may itself need the store.
pub(crate) type InUse = Arc<dyn Fn() -> BTreeSet<ImageId> + Send + Sync>;

/// Serves the image store of this node.
pub(crate) struct ImagesService {
    store: ImageStore,
    in_use: InUse,
}

impl ImagesService {
    /// Serves `store`; images that `in_use` names are not removed.
    #[must_use]
    pub(crate) fn new(store: ImageStore, in_use: InUse) -> Self {
        Self { store, in_use }
    }
}

#[tonic::async_trait]
impl Images for ImagesService {
    async fn load(
        &self,
        request: Request<Streaming<LoadRequest>>,
    ) -> Result<Response<LoadResponse>, Status> {
        let mut pieces = request.into_inner();
        let store = self.store.clone();
        let (feed, archive) = archive();
        let unpacking = tokio::task::spawn_blocking(move || store.load(archive, &mut |_| {}));
        while let Some(piece) = pieces.message().await.transpose() {
            if feed.send(piece.map(|piece| piece.chunk)).await.is_err() {
                break;
            }
        }
        drop(feed);
        let loaded = unpacking
            .await
            .map_err(lost)?
            .map_err(|error| status(&error))?;
        let images = loaded.into_iter().map(|image| load_response::Loaded {
            id: image.id.to_string(),
            names: image.names.iter().map(Reference::to_string).collect(),
        });
        Ok(Response::new(LoadResponse {
            images: images.collect(),
        }))
    }

    async fn import(
        &self,
        request: Request<Streaming<ImportRequest>>,
    ) -> Result<Response<ImportResponse>, Status> {
        let mut pieces = request.into_inner();
        let first = pieces
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("an import starts with its name"))?;
        let name = match first.name.as_str() {
            "" => None,
            name => Some(name.parse::<Reference>().map_err(invalid)?),
        };
        let mut changes = ImportChanges {
            created: Timestamp::now(),
            ..ImportChanges::default()
        };
        for change in &first.changes {
            changes
                .config
                .apply(change)
                .map_err(|error| status(&error))?;
        }
        let store = self.store.clone();
        let (feed, archive) = archive();
        let unpacking =
            tokio::task::spawn_blocking(move || store.import(archive, name, changes, &mut |_| {}));
        let mut next = Some(Ok(first));
        while let Some(piece) = next {
            if feed.send(piece.map(|piece| piece.chunk)).await.is_err() {
                break;
            }
            next = pieces.message().await.transpose();
        }
        drop(feed);
        let id = unpacking
            .await
            .map_err(lost)?
            .map_err(|error| status(&error))?;
        Ok(Response::new(ImportResponse { id: id.to_string() }))
    }

    async fn list(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let images = self.store.list().into_iter().map(|image| ImageSummary {
            id: image.id.to_string(),
            names: image.names.iter().map(Reference::to_string).collect(),
            created: image.created.0,
            size_bytes: image.size_bytes,
        });
        Ok(Response::new(ListImagesResponse {
            images: images.collect(),
        }))
    }

    async fn inspect(
        &self,
        request: Request<InspectImageRequest>,
    ) -> Result<Response<InspectImageResponse>, Status> {
        let store = self.store.clone();
        let key = request.into_inner().key;
        let details = tokio::task::spawn_blocking(move || store.inspect(&key))
            .await
            .map_err(lost)?
            .map_err(|error| status(&error))?;
        let json = serde_json::to_string(&details)
            .map_err(|error| Status::internal(format!("writing the image as JSON: {error}")))?;
        Ok(Response::new(InspectImageResponse { json }))
    }

    async fn remove(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        let RemoveImageRequest { key, force } = request.into_inner();
        let (store, in_use) = (self.store.clone(), self.in_use.clone());
        let removed = tokio::task::spawn_blocking(move || {
            let used = in_use();
            store.remove(&key, force, &|id| used.contains(id))
        })
        .await
        .map_err(lost)?
        .map_err(|error| status(&error))?;
        Ok(Response::new(RemoveImageResponse {
            untagged: removed.untagged.iter().map(Reference::to_string).collect(),
            deleted: removed.deleted.iter().map(ImageId::to_string).collect(),
        }))
    }
}

/// A piece of an archive, or why no more will come.
type Piece = Result<Vec<u8>, Status>;

fn archive() -> (mpsc::Sender<Piece>, Archive) {
    let (feed, pieces) = mpsc::channel(CHUNKS_WAITING_MAX);
    (
        feed,
        Archive {
            pieces,
            piece: Vec::new(),
            read: 0,
        },
    )
}

/// The archive as the blocking store reads it.
struct Archive {
    pieces: mpsc::Receiver<Piece>,
    piece: Vec<u8>,
    read: usize,
}

impl Read for Archive {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => {
                    self.piece = piece;
                    self.read = 0;
                }
                // The client went away: what came so far must not count as a whole archive.
                Some(Err(status)) => return Err(io::Error::other(status.message().to_owned())),
                None => return Ok(0),
            }
        }
        let rest = &self.piece[self.read..];
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        self.read += length;
        Ok(length)
    }
}

/// The code a refusal of the image store has on the wire.
fn status(error: &Error) -> Status {
    let text = chain(error);
    match error {
        Error::UnknownImage { .. } => Status::not_found(text),
        Error::InUse { .. } | Error::SeveralNames { .. } => Status::failed_precondition(text),
        Error::NoSpace { .. } => Status::resource_exhausted(text),
        Error::Store { .. } | Error::Database { .. } | Error::LayerMissing { .. } => {
            Status::internal(text)
        }
        // All others say what is wrong with what was given.
        _ => Status::invalid_argument(text),
    }
}

fn invalid(error: impl std::error::Error + 'static) -> Status {
    Status::invalid_argument(chain(&error))
}

fn lost(error: tokio::task::JoinError) -> Status {
    Status::internal(format!("the work on the image broke off: {error}"))
}
