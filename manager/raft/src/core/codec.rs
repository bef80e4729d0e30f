//! Between the library's types and our messages, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use openraft::vote::RaftLeaderId as _;
use openraft::{BasicNode, EntryPayload};
use proto::raft as pb;

use super::types::{
    Command, Entry, LogId, Membership, SnapshotMeta, StoredMembership, TypeConfig, Vote,
};

type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;

/// A message that lacks something or contradicts itself.
#[derive(Debug, thiserror::Error)]
#[error("malformed message: {0}")]
pub(crate) struct Malformed(pub(crate) String);

impl From<Malformed> for tonic::Status {
    fn from(malformed: Malformed) -> Self {
        Self::invalid_argument(malformed.to_string())
    }
}

fn required<T>(field: Option<T>, name: &str) -> Result<T, Malformed> {
    field.ok_or_else(|| Malformed(format!("{name} is missing")))
}

pub(crate) fn log_id_to(id: &LogId) -> pb::LogId {
    pb::LogId {
        term: id.leader_id.term,
        leader: id.leader_id.node_id,
        index: id.index,
    }
}

pub(crate) fn log_id_from(id: pb::LogId) -> LogId {
    LogId {
        leader_id: LeaderId::new(id.term, id.leader),
        index: id.index,
    }
}

pub(crate) fn vote_to(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        candidate: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from(vote: pb::Vote) -> Vote {
    Vote {
        leader_id: LeaderId::new(vote.term, vote.candidate),
        committed: vote.committed,
    }
}

pub(crate) fn required_vote(vote: Option<pb::Vote>) -> Result<Vote, Malformed> {
    required(vote, "vote").map(vote_from)
}

pub(crate) fn membership_to(membership: &Membership) -> pb::Membership {
    pb::Membership {
        voters: membership
            .get_joint_config()
            .iter()
            .map(|set| pb::VoterSet {
                ids: set.iter().copied().collect(),
            })
            .collect(),
        members: membership
            .nodes()
            .map(|(id, node)| pb::Member {
                id: *id,
                addr: node.addr.clone(),
            })
            .collect(),
    }
}

pub(crate) fn membership_from(membership: pb::Membership) -> Result<Membership, Malformed> {
    // The library's own empty membership: a log that has none yet.
    if membership.voters.is_empty() && membership.members.is_empty() {
        return Ok(Membership::default());
    }
    let voters: Vec<BTreeSet<u64>> = membership
        .voters
        .into_iter()
        .map(|set| set.ids.into_iter().collect())
        .collect();
    let members: BTreeMap<u64, BasicNode> = membership
        .members
        .into_iter()
        .map(|m| (m.id, BasicNode::new(m.addr)))
        .collect();
    Membership::new(voters, members).map_err(|e| Malformed(e.to_string()))
}

pub(crate) fn stored_membership_to(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_to),
        membership: Some(membership_to(stored.membership())),
    }
}

pub(crate) fn stored_membership_from(
    stored: Option<pb::StoredMembership>,
) -> Result<StoredMembership, Malformed> {
    let stored = required(stored, "membership")?;
    let membership = membership_from(required(stored.membership, "membership")?)?;
    Ok(StoredMembership::new(
        stored.log_id.map(log_id_from),
        membership,
    ))
}

pub(crate) fn entry_to(entry: &Entry) -> pb::Entry {
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(command) => Some(pb::entry::Payload::Data(command.0.to_vec())),
        EntryPayload::Membership(m) => Some(pb::entry::Payload::Membership(membership_to(m))),
    };
    pb::Entry {
        log_id: Some(log_id_to(&entry.log_id)),
        payload,
    }
}

pub(crate) fn entry_from(entry: pb::Entry) -> Result<Entry, Malformed> {
    let log_id = log_id_from(required(entry.log_id, "log id")?);
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(pb::entry::Payload::Data(data)) => EntryPayload::Normal(Command(data.into())),
        Some(pb::entry::Payload::Membership(m)) => EntryPayload::Membership(membership_from(m)?),
    };
    Ok(Entry { log_id, payload })
}

pub(crate) fn meta_from(header: &pb::SnapshotHeader) -> Result<SnapshotMeta, Malformed> {
    Ok(SnapshotMeta {
        last_log_id: header.last_log_id.map(log_id_from),
        last_membership: stored_membership_from(header.membership.clone())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_way_there_and_back() {
        let voters = vec![BTreeSet::from([1, 2]), BTreeSet::from([2, 3])];
        let members: BTreeMap<u64, BasicNode> = [1, 2, 3, 4]
            .map(|id| (id, BasicNode::new(format!("10.0.0.{id}:2377"))))
            .into();
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Command(vec![1, 2, 3].into())),
            EntryPayload::Normal(Command(bytes::Bytes::new())),
            EntryPayload::Membership(Membership::new(voters, members).unwrap()),
            EntryPayload::Membership(Membership::default()),
        ];
        for (index, payload) in (7..).zip(payloads) {
            let entry = Entry {
                log_id: LogId {
                    leader_id: LeaderId::new(3, 2),
                    index,
                },
                payload,
            };
            assert_eq!(entry_from(entry_to(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn a_voter_without_an_address_is_refused() {
        let membership = pb::Membership {
            voters: vec![pb::VoterSet { ids: vec![1] }],
            members: vec![],
        };
        assert!(membership_from(membership).is_err());
        assert!(entry_from(pb::Entry::default()).is_err());
        assert!(required_vote(None).is_err());
    }
}
