//! Having nodes compare their networks with the store.

use async_trait::async_trait;
use types::check::NodeCheck;

use crate::{ControlApi, Error, key};

/// Whoever can have the nodes check: the dispatcher, or a way to it.
#[async_trait]
pub trait NetworkChecks: Send + Sync + 'static {
    /// Has every node check and repair, and waits for the answers.
    ///
    /// # Errors
    /// [`Error::Checks`] when nobody can be asked.
    async fn check(&self) -> Result<Vec<NodeCheck>, Error>;
}

impl ControlApi {
    /// Has every node compare its networks with the store and repair what differs. Naming a network
    /// leaves out nodes that take no part in it, and what concerns another one alone.
    ///
    /// # Errors
    /// When the key names no network, or nobody can be asked.
    pub async fn verify_networks(&self, key: &str) -> Result<Vec<NodeCheck>, Error> {
        let wanted = if key.is_empty() {
            None
        } else {
            Some(key::network(&self.state(), key)?.id)
        };
        let Some(checks) = &self.network_checks else {
            return Err(Error::Checks("no nodes are connected here".to_owned()));
        };
        let mut checks = checks.check().await?;
        if let Some(wanted) = wanted {
            checks.retain(|one| !one.problem.is_empty() || one.check.networks.contains(&wanted));
            for check in &mut checks {
                let found = &mut check.check.found;
                found.retain(|one| one.network.is_none_or(|network| network == wanted));
            }
        }
        Ok(checks)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::check::{Difference, NetworkCheck};
    use types::{NetworkId, NetworkSpec, NodeId};

    use super::*;
    use crate::testing::Fixture;

    struct Told(Vec<NodeCheck>);

    #[async_trait]
    impl NetworkChecks for Told {
        async fn check(&self) -> Result<Vec<NodeCheck>, Error> {
            Ok(self.0.clone())
        }
    }

    fn node(number: u128, problem: &str, networks: Vec<NetworkId>) -> NodeCheck {
        let difference = |network| Difference {
            kind: "link".to_owned(),
            network,
            what: String::new(),
        };
        let found = networks.iter().map(|id| difference(Some(*id)));
        NodeCheck {
            node: NodeId::from_number(number),
            hostname: format!("n{number}"),
            problem: problem.to_owned(),
            stale: vec![],
            records: 0,
            fingerprint: 0,
            check: NetworkCheck {
                found: found.chain([difference(None)]).collect(),
                networks,
                ..NetworkCheck::default()
            },
        }
    }

    #[tokio::test]
    async fn a_network_is_looked_at_alone() {
        let api = Fixture::new(1, 0).await.api;
        let spec = |name: &str| NetworkSpec {
            name: name.to_owned(),
            ..NetworkSpec::default()
        };
        let front = api.create_network(spec("front")).await.unwrap().network.id;
        let back = api.create_network(spec("back")).await.unwrap().network.id;
        let told = Told(vec![
            node(1, "", vec![front, back]),
            node(2, "", vec![back]),
            node(3, "the node is down", vec![]),
        ]);
        let api = api.with_network_checks(Arc::new(told));
        let shown = |checks: Vec<NodeCheck>| -> Vec<(String, usize)> {
            let shown = checks.into_iter();
            shown
                .map(|one| (one.hostname, one.check.found.len()))
                .collect()
        };
        let all = shown(api.verify_networks("").await.unwrap());
        assert_eq!(all, [("n1".into(), 3), ("n2".into(), 2), ("n3".into(), 1)]);
        let one = shown(api.verify_networks("front").await.unwrap());
        assert_eq!(one, [("n1".into(), 2), ("n3".into(), 1)]);
        let unknown = api.verify_networks("nope").await.unwrap_err();
        assert_eq!(unknown.to_string(), "network nope not found");
    }
}
