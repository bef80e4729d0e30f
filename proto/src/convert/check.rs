//! Messages of what comes of comparing a node's networks with what they should be.

use types::check::{Difference, NetworkCheck, NodeCheck};

use super::{ConvertError, parse};
use crate::{control, objects};

impl From<&NetworkCheck> for objects::NetworkCheck {
    fn from(check: &NetworkCheck) -> Self {
        Self {
            networks: check.networks.iter().map(ToString::to_string).collect(),
            found: check.found.iter().map(Into::into).collect(),
            left: check.left.clone(),
            passes: check.passes,
            pass_last: check.pass_last_us,
            repairs: check.repairs.clone(),
            refusals: check.refusals,
        }
    }
}

impl TryFrom<objects::NetworkCheck> for NetworkCheck {
    type Error = ConvertError;
    fn try_from(message: objects::NetworkCheck) -> Result<Self, ConvertError> {
        let networks = message.networks.iter();
        let found = message.found.into_iter().map(TryInto::try_into);
        Ok(Self {
            networks: networks
                .map(|id| parse("networks", id))
                .collect::<Result<_, _>>()?,
            found: found.collect::<Result<_, _>>()?,
            left: message.left,
            passes: message.passes,
            pass_last_us: message.pass_last,
            repairs: message.repairs,
            refusals: message.refusals,
        })
    }
}

impl From<&Difference> for objects::NetworkDifference {
    fn from(difference: &Difference) -> Self {
        let network = difference.network.map(|id| id.to_string());
        Self {
            kind: difference.kind.clone(),
            network_id: network.unwrap_or_default(),
            what: difference.what.clone(),
        }
    }
}

impl TryFrom<objects::NetworkDifference> for Difference {
    type Error = ConvertError;
    fn try_from(message: objects::NetworkDifference) -> Result<Self, ConvertError> {
        let network = (!message.network_id.is_empty())
            .then(|| parse("network_id", &message.network_id))
            .transpose()?;
        Ok(Self {
            kind: message.kind,
            network,
            what: message.what,
        })
    }
}

impl From<&NodeCheck> for control::NodeCheck {
    fn from(check: &NodeCheck) -> Self {
        Self {
            node_id: check.node.to_string(),
            hostname: check.hostname.clone(),
            problem: check.problem.clone(),
            stale: check.stale.clone(),
            records: check.records,
            fingerprint: check.fingerprint,
            check: Some((&check.check).into()),
        }
    }
}

impl TryFrom<control::NodeCheck> for NodeCheck {
    type Error = ConvertError;
    fn try_from(message: control::NodeCheck) -> Result<Self, ConvertError> {
        Ok(Self {
            node: parse("node_id", &message.node_id)?,
            hostname: message.hostname,
            problem: message.problem,
            stale: message.stale,
            records: message.records,
            fingerprint: message.fingerprint,
            check: message.check.unwrap_or_default().try_into()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use types::{NetworkId, NodeId};

    use super::*;

    #[test]
    fn a_check_survives_the_way() {
        let check = NodeCheck {
            node: NodeId::from_number(1),
            hostname: "n1".into(),
            problem: String::new(),
            stale: vec!["service web".into()],
            records: 7,
            fingerprint: 99,
            check: NetworkCheck {
                networks: vec![NetworkId::from_number(3)],
                found: vec![
                    Difference {
                        kind: "link".into(),
                        network: Some(NetworkId::from_number(3)),
                        what: "add link sw-x1".into(),
                    },
                    Difference::default(),
                ],
                left: vec!["no".into()],
                passes: 1,
                pass_last_us: 2,
                repairs: [("link".to_owned(), 1)].into(),
                refusals: 3,
            },
        };
        let message = control::NodeCheck::from(&check);
        assert_eq!(NodeCheck::try_from(message), Ok(check));
    }
}
