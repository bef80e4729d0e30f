//! What leaving would do to the swarm, in words for whoever asks for it (S19.05).

use raft::Status;

/// Why a manager does not leave without force.
pub(crate) fn warning(status: &Status) -> String {
    let voters: Vec<_> = status.members.iter().filter(|it| it.voter).collect();
    let others = voters.iter().filter(|it| it.id != status.member_id).count();
    let others_reachable = voters
        .iter()
        .filter(|it| it.id != status.member_id && it.reachable)
        .count();
    let mut text =
        "this node is a manager, and leaving takes it out of the managers' group".to_owned();
    if others == 0 {
        text.push_str("; it is the last manager, so all state of the swarm would be erased");
    } else if others_reachable < others / 2 + 1 {
        text.push_str(&format!(
            "; {others_reachable} of the {others} other managers can be reached, so the swarm \
             would be left without a quorum"
        ));
    } else if others == 2 {
        text.push_str("; two managers would be left, which stop when one of them does");
    } else if status.is_leader {
        text.push_str("; it leads the swarm at present");
    }
    text.push_str(": demote it first, or use --force");
    text
}

#[cfg(test)]
mod tests {
    use raft::Member;

    use super::*;

    fn status(own: u64, members: &[(u64, bool)], is_leader: bool) -> Status {
        let member = |(id, reachable): &(u64, bool)| Member {
            id: *id,
            addr: format!("10.0.0.{id}:2377"),
            voter: true,
            reachable: *reachable,
        };
        Status {
            member_id: own,
            is_leader,
            members: members.iter().map(member).collect(),
            ..Status::default()
        }
    }

    #[test]
    fn the_warning_names_what_would_happen() {
        let table = [
            (status(1, &[(1, true)], true), "last manager"),
            (
                status(1, &[(1, true), (2, false), (3, true)], true),
                "without a quorum",
            ),
            (
                status(1, &[(1, true), (2, true), (3, true)], true),
                "two managers",
            ),
            (status(1, &[(1, true), (2, true)], true), "leads the swarm"),
            (status(1, &[(1, true), (2, true)], false), "is a manager"),
        ];
        for (status, words) in table {
            let text = warning(&status);
            assert!(text.contains(words), "{text}");
            assert!(text.ends_with("--force"), "{text}");
        }
    }
}
