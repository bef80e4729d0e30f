//! `swarmctl image load`

use std::path::PathBuf;

use clap::Args;
use proto::daemon::LoadRequest;

use super::upload::Upload;
use crate::connect::Host;
use crate::error::Error;
use crate::output;

/// Load images out of an archive (OCI layout or `docker save`)
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl image load web.tar
  docker save web:1 | swarmctl image load")]
pub(crate) struct Load {
    /// The archive [default: standard input]
    #[arg(value_name = "FILE", conflicts_with = "input")]
    file: Option<PathBuf>,
    /// The archive, as Docker's users give it
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
}

impl Load {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let path = self
            .file
            .or(self.input)
            .unwrap_or_else(|| PathBuf::from("-"));
        let upload = Upload::open(&path).await?;
        let mut images = host.connect().await?.images()?;
        let message = |chunk: Option<bytes::Bytes>| LoadRequest {
            chunk: chunk.unwrap_or_default().into(),
        };
        let loaded = upload
            .run(message, async |messages| images.load(messages).await)
            .await?;
        for image in loaded.images {
            if self.quiet {
                output::line(image.id)?;
            } else if image.names.is_empty() {
                output::line(format!("Loaded image ID: {}", image.id))?;
            } else {
                for name in image.names {
                    output::line(format!("Loaded image: {name}"))?;
                }
            }
        }
        Ok(())
    }
}
