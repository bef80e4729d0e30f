//! `swarmctl image inspect`

use clap::Args;
use proto::daemon::InspectImageRequest;

use crate::connect::Host;
use crate::error::Error;
use crate::format::{Format, print_objects};

/// Show everything about images of this machine
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl image inspect web:1
  swarmctl image inspect --format '{{json .Config.Env}}' web:1")]
pub(crate) struct Inspect {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// json, or a template like {{.Id}}
    #[arg(short, long)]
    format: Option<Format>,
}

impl Inspect {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let mut images = host.connect().await?.images()?;
        let mut objects = vec![];
        let mut errors = vec![];
        for key in self.images {
            match images.inspect(InspectImageRequest { key }).await {
                Ok(answer) => {
                    let json = answer.into_inner().json;
                    let object = serde_json::from_str(&json).map_err(|error| {
                        Error::Failed(format!("the daemon's answer is not JSON: {error}"))
                    })?;
                    objects.push(object);
                }
                Err(status) => errors.push(status.into()),
            }
        }
        print_objects(&objects, self.format.as_ref())?;
        Error::join(errors)
    }
}
