//! `swarmctl join-token`

use clap::Args;
use proto::control::{GetClusterRequest, RotateJoinTokenRequest};
use proto::daemon::GetStatusRequest;
use types::NodeRole;

use super::{RoleFlag, join_command};
use crate::connect::Host;
use crate::error::Error;
use crate::output;

/// Show or replace the token that lets machines join
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl join-token worker
  swarmctl join-token -q manager > /root/token
  swarmctl join-token --rotate worker      Nodes already in the swarm stay in it")]
pub(crate) struct JoinToken {
    /// What machines with this token become
    #[arg(value_enum)]
    role: RoleFlag,
    /// Only show the token
    #[arg(short, long)]
    quiet: bool,
    /// Replace the token; the old one no longer lets anybody in
    #[arg(long)]
    rotate: bool,
}

impl JoinToken {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        let role = NodeRole::from(self.role);
        let mut control = connection.control();
        if self.rotate {
            let number = proto::objects::NodeRole::from(role).into();
            control
                .rotate_join_token(RotateJoinTokenRequest { role: number })
                .await?;
            if !self.quiet {
                output::line(format!("Successfully rotated {role} join token.\n"))?;
            }
        }
        let cluster = control
            .get_cluster(GetClusterRequest {})
            .await?
            .into_inner()
            .cluster;
        let cluster = cluster.unwrap_or_default();
        let token = match role {
            NodeRole::Worker => cluster.worker_token,
            NodeRole::Manager => cluster.manager_token,
        };
        if token.is_empty() {
            let text = "a reader may not see join tokens: it takes an operator";
            return Err(Error::Failed(text.to_owned()));
        }
        if self.quiet {
            return Ok(output::line(token)?);
        }
        let own = match connection.is_remote() {
            true => None,
            false => {
                let mut daemon = connection.daemon()?;
                let status = daemon.get_status(GetStatusRequest {}).await?;
                Some(status.into_inner().advertise_addr)
            }
        };
        let own = own.filter(|addr| !addr.is_empty());
        let addr = own
            .or_else(|| cluster.managers.into_iter().next())
            .unwrap_or_default();
        Ok(output::line(join_command(
            &role.to_string(),
            &token,
            &addr,
        ))?)
    }
}
