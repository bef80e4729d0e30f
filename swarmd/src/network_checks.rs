//! Checks of the nodes' networks for the control API: by the dispatcher when this manager leads,
//! else through the manager that does.

use async_trait::async_trait;
use ca::Tls;
use ca::tls::{DialOptions, ExpectRole};
use control_api::Error;
use dispatcher::Dispatcher;
use proto::control::VerifyNetworksRequest;
use proto::control::control_client::ControlClient;
use raft::Raft;
use types::check::NodeCheck;

/// Where the control API of one manager has nodes checked.
pub(crate) struct NetworkChecks {
    dispatcher: Dispatcher,
    raft: Raft,
    tls: Tls,
}

impl NetworkChecks {
    pub(crate) fn new(dispatcher: Dispatcher, raft: Raft, tls: Tls) -> Self {
        Self {
            dispatcher,
            raft,
            tls,
        }
    }

    /// Asks the leader what it would tell its own users.
    async fn ask_leader(&self) -> Result<Vec<NodeCheck>, Error> {
        let leader = {
            let status = self.raft.status();
            let status = status.borrow();
            // One that has just won is asked by its nodes within moments.
            status
                .leader_addr()
                .filter(|_| !status.is_leader)
                .map(str::to_owned)
        };
        let leader = leader.ok_or_else(|| {
            Error::Checks("the swarm has no leader at the moment, try again".to_owned())
        })?;
        let channel = self
            .tls
            .connect(&leader, ExpectRole::Manager, &DialOptions::default())
            .await
            .map_err(|error| Error::Checks(crate::error::chain(&error)))?;
        let request = VerifyNetworksRequest::default();
        let answer = ControlClient::new(channel).verify_networks(request).await;
        let answer = answer.map_err(|status| Error::Checks(status.message().to_owned()))?;
        let nodes = answer.into_inner().nodes.into_iter();
        nodes
            .map(|node| NodeCheck::try_from(node).map_err(|e| Error::Checks(e.to_string())))
            .collect()
    }
}

#[async_trait]
impl control_api::NetworkChecks for NetworkChecks {
    async fn check(&self) -> Result<Vec<NodeCheck>, Error> {
        match self.dispatcher.check_networks().await {
            Some(checks) => Ok(checks),
            None => self.ask_leader().await,
        }
    }
}
