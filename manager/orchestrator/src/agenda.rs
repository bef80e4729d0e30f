//! What the orchestrator has to look at: services and slots something happened to, and alarms.

use std::collections::{BTreeMap, BTreeSet};

use types::{ServiceId, Timestamp};

use crate::draft::{SlotKey, Wake};

/// How much of a service has to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A few slots. A service of ten thousand tasks is not read whole because one of them failed.
    Slots(BTreeSet<SlotKey>),
    /// Everything.
    Service,
}

/// What is due now, and what will be.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    due: BTreeMap<ServiceId, Scope>,
    by_time: BTreeSet<(Timestamp, ServiceId, Option<SlotKey>)>,
    by_place: BTreeMap<(ServiceId, Option<SlotKey>), Timestamp>,
}

impl Agenda {
    pub(crate) fn mark_service(&mut self, service: ServiceId) {
        self.due.insert(service, Scope::Service);
    }

    pub(crate) fn mark_slot(&mut self, service: ServiceId, key: SlotKey) {
        let scope = self
            .due
            .entry(service)
            .or_insert_with(|| Scope::Slots(BTreeSet::new()));
        match scope {
            Scope::Slots(slots) => {
                slots.insert(key);
            }
            Scope::Service => {}
        }
    }

    /// Everything due, alarms that have gone off included. Those stay until set anew.
    pub(crate) fn take(&mut self, now: Timestamp) -> BTreeMap<ServiceId, Scope> {
        let gone_off: Vec<_> = self
            .by_time
            .iter()
            .take_while(|(at, _, _)| *at <= now)
            .map(|(_, service, key)| (*service, *key))
            .collect();
        for (service, key) in gone_off {
            match key {
                Some(key) => self.mark_slot(service, key),
                None => self.mark_service(service),
            }
        }
        std::mem::take(&mut self.due)
    }

    /// Replaces the alarms of what was looked at by those its plan asked for.
    pub(crate) fn set_alarms(&mut self, service: ServiceId, scope: &Scope, wakes: &[Wake]) {
        let places: Vec<_> = match scope {
            Scope::Service => {
                let all = (service, None)..=(service, Some(SlotKey::MAX));
                self.by_place.range(all).map(|(place, _)| *place).collect()
            }
            Scope::Slots(keys) => keys.iter().map(|key| (service, Some(*key))).collect(),
        };
        for place in places {
            if let Some(at) = self.by_place.remove(&place) {
                self.by_time.remove(&(at, place.0, place.1));
            }
        }
        for wake in wakes {
            let place = (service, wake.slot);
            let earlier = self.by_place.get(&place).filter(|known| **known <= wake.at);
            if earlier.is_none() {
                if let Some(later) = self.by_place.insert(place, wake.at) {
                    self.by_time.remove(&(later, service, wake.slot));
                }
                self.by_time.insert((wake.at, service, wake.slot));
            }
        }
    }

    /// When the next alarm goes off.
    pub(crate) fn next_alarm(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _, _)| *at)
    }

    /// True when nothing is due but alarms.
    #[cfg(test)]
    pub(crate) fn is_clear(&self) -> bool {
        self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ServiceId = ServiceId::MIN;
    const B: ServiceId = ServiceId::MAX;

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn slots(numbers: &[u64]) -> Scope {
        Scope::Slots(
            numbers
                .iter()
                .map(|number| SlotKey::Number(*number))
                .collect(),
        )
    }

    fn wake(slot: Option<u64>, at: u64) -> Wake {
        Wake {
            slot: slot.map(SlotKey::Number),
            at: secs(at),
        }
    }

    #[test]
    fn a_whole_service_covers_its_slots() {
        let mut agenda = Agenda::default();
        agenda.mark_slot(A, SlotKey::Number(1));
        agenda.mark_slot(A, SlotKey::Number(3));
        agenda.mark_slot(B, SlotKey::Number(1));
        agenda.mark_service(B);
        agenda.mark_slot(B, SlotKey::Number(2));
        let due = agenda.take(secs(0));
        assert_eq!(
            due,
            BTreeMap::from([(A, slots(&[1, 3])), (B, Scope::Service)])
        );
        assert!(agenda.is_clear());
    }

    #[test]
    fn alarms_stay_until_their_place_is_looked_at_again() {
        let mut agenda = Agenda::default();
        let wakes = [
            wake(None, 20),
            wake(Some(1), 5),
            wake(Some(2), 10),
            wake(Some(2), 15),
        ];
        agenda.set_alarms(A, &Scope::Service, &wakes);
        assert_eq!(agenda.next_alarm(), Some(secs(5)));
        assert_eq!(agenda.take(secs(4)), BTreeMap::new());
        assert_eq!(agenda.take(secs(12)), BTreeMap::from([(A, slots(&[1, 2]))]));

        agenda.set_alarms(A, &slots(&[1]), &[]);
        assert_eq!(agenda.take(secs(12)), BTreeMap::from([(A, slots(&[2]))]));
        agenda.set_alarms(A, &slots(&[2]), &[wake(Some(2), 30)]);
        assert_eq!(agenda.next_alarm(), Some(secs(20)));
        assert_eq!(agenda.take(secs(20)), BTreeMap::from([(A, Scope::Service)]));

        agenda.set_alarms(B, &Scope::Service, &[wake(Some(1), 40)]);
        agenda.set_alarms(A, &Scope::Service, &[]);
        assert_eq!(
            agenda.next_alarm(),
            Some(secs(40)),
            "those of another service stay"
        );
    }
}
