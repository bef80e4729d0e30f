//! Whether the process that answers names answers what it was told.

use std::collections::{BTreeMap, BTreeSet};

use datapath_client::{Datapath, NetworkRecords, NetworkStatus, Status};
use types::check::Difference;
use types::{NetworkId, TaskId};

/// What kind of difference it is, as others count them.
const KIND: &str = "name";

/// What came of the comparison.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) found: Vec<Difference>,
    /// What is still different.
    pub(crate) left: Vec<String>,
}

/// Compares, says everything again if anything differs, and compares once more.
pub(crate) async fn check(
    datapath: &Datapath,
    told: &BTreeMap<NetworkId, NetworkRecords>,
    sandboxes: &BTreeSet<TaskId>,
) -> Checked {
    let found = match differences(datapath, told, sandboxes).await {
        Ok(found) if found.is_empty() => return Checked::default(),
        Ok(found) => found,
        Err(problem) => {
            return Checked {
                left: vec![problem],
                ..Checked::default()
            };
        }
    };
    for one in &found {
        tracing::warn!(what = one.what, "repairing the names of containers");
    }
    if let Err(error) = datapath.repeat().await {
        tracing::warn!(%error, "the names of containers were not told again");
    }
    let left = match differences(datapath, told, sandboxes).await {
        Ok(left) => left.into_iter().map(|one| one.what).collect(),
        Err(problem) => vec![problem],
    };
    Checked { found, left }
}

async fn differences(
    datapath: &Datapath,
    told: &BTreeMap<NetworkId, NetworkRecords>,
    sandboxes: &BTreeSet<TaskId>,
) -> Result<Vec<Difference>, String> {
    match datapath.status().await {
        Ok(Some(status)) => Ok(compare(&status, told, sandboxes)),
        Ok(None) if sandboxes.is_empty() => Ok(Vec::new()),
        Ok(None) => Err("nobody answers names in containers".to_owned()),
        Err(error) => Err(format!("asking what names are answered: {error}")),
    }
}

fn compare(
    status: &Status,
    told: &BTreeMap<NetworkId, NetworkRecords>,
    sandboxes: &BTreeSet<TaskId>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut note = |network, what| {
        found.push(Difference {
            kind: KIND.to_owned(),
            network,
            what,
        });
    };
    let answered: BTreeSet<&str> = status.sandboxes.iter().map(|id| id.as_str()).collect();
    let wanted: BTreeSet<&str> = sandboxes.iter().map(TaskId::as_str).collect();
    for task in wanted.difference(&answered) {
        note(None, format!("answer names in task {task}"));
    }
    for task in answered.difference(&wanted) {
        note(None, format!("stop answering names in task {task}"));
    }
    let known: BTreeMap<NetworkId, &NetworkStatus> = status
        .networks
        .iter()
        .map(|network| (network.network, network))
        .collect();
    for network in known.keys().filter(|id| !told.contains_key(id)) {
        note(Some(*network), format!("forget names of network {network}"));
    }
    for (id, records) in told {
        let mut rest = known
            .get(id)
            .map(|network| network.fingerprints.clone())
            .unwrap_or_default();
        for set in &records.sets {
            if rest.remove(&set.owner) != Some(set.fingerprint()) {
                let (owner, name) = (&set.owner, &records.name);
                note(Some(*id), format!("tell names of {owner} on {name}"));
            }
        }
        for owner in rest.into_keys() {
            let name = &records.name;
            note(Some(*id), format!("forget names of {owner} on {name}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use datapath_client::RecordSet;

    use super::*;

    fn records(owners: &[(&str, &str)]) -> NetworkRecords {
        let set = |(owner, name): &(&str, &str)| RecordSet {
            owner: (*owner).to_owned(),
            version: 0,
            names: vec![(*name).to_owned()],
            virtual_ips: Vec::new(),
            tasks: Vec::new(),
        };
        NetworkRecords {
            network: NetworkId::from_number(1),
            name: "front".to_owned(),
            sets: owners.iter().map(set).collect(),
        }
    }

    fn status_of(networks: &[NetworkRecords], sandboxes: &[TaskId]) -> Status {
        let status = |records: &NetworkRecords| NetworkStatus {
            network: records.network,
            sets: Vec::new(),
            fingerprints: records
                .sets
                .iter()
                .map(|set| (set.owner.clone(), set.fingerprint()))
                .collect(),
        };
        Status {
            sandboxes: sandboxes
                .iter()
                .map(|task| task.as_str().parse().unwrap())
                .collect(),
            networks: networks.iter().map(status).collect(),
            ..Status::default()
        }
    }

    #[test]
    fn every_difference_is_named() {
        let (one, two) = (TaskId::from_number(1), TaskId::from_number(2));
        let front = records(&[("a", "web"), ("b", "db")]);
        let told = BTreeMap::from([(front.network, front.clone())]);
        let find = |status: &Status| -> Vec<String> {
            let found = compare(status, &told, &[one].into());
            found.into_iter().map(|one| one.what).collect()
        };
        assert_eq!(find(&status_of(&[front], &[one])), [] as [String; 0]);
        let other = records(&[("a", "www"), ("c", "old")]);
        let mut stray = records(&[]);
        stray.network = NetworkId::from_number(2);
        let expected = [
            format!("answer names in task {one}"),
            format!("stop answering names in task {two}"),
            format!("forget names of network {}", stray.network),
            "tell names of a on front".to_owned(),
            "tell names of b on front".to_owned(),
            "forget names of c on front".to_owned(),
        ];
        assert_eq!(find(&status_of(&[other, stray], &[two])), expected);
    }
}
