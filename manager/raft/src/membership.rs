//! What adding or removing a member takes, and when it is refused: decisions only.

use crate::{Error, Member};

/// What adding a member comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Addition {
    /// It votes already, at this address.
    Nothing,
    /// It is a member at another address, and afterwards perhaps has to be promoted.
    Readdress {
        /// Whether it is still a learner.
        promote: bool,
    },
    /// It is a learner that has to catch up and be promoted.
    Promote,
    /// It is new: a learner first.
    Learner,
}

/// What removing a member comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It is gone already.
    Nothing,
    /// It does not vote, so nothing is at stake.
    Learner,
    /// It votes.
    Voter,
}

/// Plans adding member `id` at `addr` to `members`.
pub(crate) fn plan_addition(members: &[Member], id: u64, addr: &str) -> Addition {
    let Some(member) = members.iter().find(|m| m.id == id) else {
        return Addition::Learner;
    };
    match (member.addr == addr, member.voter) {
        (true, true) => Addition::Nothing,
        (true, false) => Addition::Promote,
        (false, voter) => Addition::Readdress { promote: !voter },
    }
}

/// Plans removing member `id` from `members`; `removed` tells whether it was a member before.
///
/// # Errors
/// [`Error::LastMember`], [`Error::UnknownMember`], or [`Error::QuorumLoss`] when those voters that
/// answer would not be a quorum of the voters that remain.
pub(crate) fn plan_removal(members: &[Member], id: u64, removed: bool) -> Result<Removal, Error> {
    let member = match members.iter().find(|m| m.id == id) {
        Some(member) => member,
        None if removed => return Ok(Removal::Nothing),
        None => return Err(Error::UnknownMember { id }),
    };
    if !member.voter {
        return Ok(Removal::Learner);
    }
    let remaining = || members.iter().filter(|m| m.voter && m.id != id);
    let voters = remaining().count();
    if voters == 0 {
        return Err(Error::LastMember { id });
    }
    let reachable = remaining().filter(|m| m.reachable).count();
    let quorum = voters / 2 + 1;
    if reachable < quorum {
        return Err(Error::QuorumLoss {
            id,
            reachable,
            quorum,
        });
    }
    Ok(Removal::Voter)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members 1, 2, …: `V` is a voter that answers, `v` one that does not, `L` a learner.
    fn members(shape: &str) -> Vec<Member> {
        (1..)
            .zip(shape.chars())
            .map(|(id, c)| Member {
                id,
                addr: format!("m{id}"),
                voter: c != 'L',
                reachable: c != 'v',
            })
            .collect()
    }

    #[test]
    fn removal_keeps_a_quorum() {
        let refused = |shape, id| match plan_removal(&members(shape), id, false) {
            Ok(removal) => format!("{removal:?}"),
            Err(Error::LastMember { .. }) => "last".to_owned(),
            Err(Error::QuorumLoss {
                reachable, quorum, ..
            }) => format!("{reachable}<{quorum}"),
            Err(other) => panic!("{other}"),
        };
        for (shape, id, expected) in [
            ("V", 1, "last"),
            ("VL", 1, "last"),
            ("VL", 2, "Learner"),
            ("VV", 1, "Voter"),
            ("Vv", 2, "Voter"),
            ("Vv", 1, "0<1"),
            ("VVV", 1, "Voter"),
            ("VVv", 3, "Voter"),
            ("VVv", 1, "1<2"),
            ("VVVv", 1, "Voter"),
            ("VVVvv", 5, "Voter"),
            ("VVVvv", 1, "2<3"),
            ("VVLv", 4, "Voter"),
            ("VVLLv", 1, "1<2"),
        ] {
            assert_eq!(refused(shape, id), expected, "{id} of {shape}");
        }
    }

    #[test]
    fn removing_twice_is_fine_and_a_stranger_is_not() {
        assert_eq!(
            plan_removal(&members("VV"), 9, true).unwrap(),
            Removal::Nothing
        );
        assert!(matches!(
            plan_removal(&members("VV"), 9, false),
            Err(Error::UnknownMember { id: 9 })
        ));
    }

    #[test]
    fn addition_depends_on_what_is_known() {
        for (shape, id, addr, expected) in [
            ("V", 2, "m2", Addition::Learner),
            ("VV", 2, "m2", Addition::Nothing),
            ("VL", 2, "m2", Addition::Promote),
            ("VV", 2, "elsewhere", Addition::Readdress { promote: false }),
            ("VL", 2, "elsewhere", Addition::Readdress { promote: true }),
        ] {
            assert_eq!(plan_addition(&members(shape), id, addr), expected);
        }
    }
}
