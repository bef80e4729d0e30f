//! `swarmctl image import`

use std::path::PathBuf;

use clap::Args;
use proto::daemon::ImportRequest;

use super::upload::Upload;
use crate::connect::Host;
use crate::error::Error;
use crate::output;

/// Make an image of a root file system's archive
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl image import rootfs.tar base:1
  swarmctl image import --change 'CMD [\"/web\"]' --change 'ENV PORT=80' rootfs.tar.gz web:1
  tar -c -C rootfs . | swarmctl image import - base:1")]
pub(crate) struct Import {
    /// The archive, or - for standard input
    #[arg(value_name = "ROOTFS.tar")]
    file: PathBuf,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Setting of the image, as in a Dockerfile: CMD, ENTRYPOINT, ENV, WORKDIR, USER
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
}

impl Import {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let upload = Upload::open(&self.file).await?;
        let mut images = host.connect().await?.images()?;
        let name = self.name.unwrap_or_default();
        let message = |chunk: Option<bytes::Bytes>| match chunk {
            None => ImportRequest {
                name: name.clone(),
                changes: self.change.clone(),
                ..ImportRequest::default()
            },
            Some(chunk) => ImportRequest {
                chunk: chunk.into(),
                ..ImportRequest::default()
            },
        };
        let imported = upload
            .run(message, async |messages| images.import(messages).await)
            .await?;
        Ok(output::line(imported.id)?)
    }
}
