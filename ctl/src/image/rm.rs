//! `swarmctl image rm`

use clap::Args;
use proto::daemon::RemoveImageRequest;

use crate::connect::Host;
use crate::error::Error;
use crate::output;

/// Remove images of this machine
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl image rm web:1
  swarmctl image rm --force 4f1c2a9b")]
pub(crate) struct Rm {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Remove an image with several names
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let mut images = host.connect().await?.images()?;
        let mut errors = vec![];
        for key in self.images {
            match images
                .remove(RemoveImageRequest {
                    key,
                    force: self.force,
                })
                .await
            {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    for name in answer.untagged {
                        output::line(format!("Untagged: {name}"))?;
                    }
                    for id in answer.deleted {
                        output::line(format!("Deleted: {id}"))?;
                    }
                }
                Err(status) => errors.push(status.into()),
            }
        }
        Error::join(errors)
    }
}
