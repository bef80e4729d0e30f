//! Encrypted networks: sealed in the packet filter first, then carried by the process that seals.

use std::collections::BTreeSet;
use std::sync::Arc;

use nft::Difference;
use nft::sealed::{Seal, Sealed};

use super::Keeper;
use super::filter::chain;
use crate::desired::Inputs;
use crate::encrypted::{encrypted_vnis, tunnel_desired};
use crate::observe::Observed;
use crate::records::Record;
use crate::sandbox::Sandbox;
use crate::state::LinkKind;
use crate::view::View;

impl Keeper {
    /// Has the packet filter let nothing of an encrypted network pass in clear, before anything is
    /// made of it. What could not be sealed is not carried.
    pub(super) fn seal(&mut self, view: &View) {
        let mut networks = encrypted_vnis(view);
        // Until its last link is gone.
        networks.extend(&self.sealed.devices);
        if self.seal.is_some() && networks == self.sealed.vnis {
            return;
        }
        match self.replace_seal(view, &networks) {
            Ok(()) => self.sealed.vnis = networks,
            Err(error) => {
                // What stood there before still does, as far as it is asked for.
                self.sealed.vnis = self.sealed.vnis.intersection(&networks).copied().collect();
                self.refuse_filter(format!("sealing encrypted networks: {}", chain(&error)));
            }
        }
    }

    fn replace_seal(&mut self, view: &View, networks: &BTreeSet<u32>) -> Result<(), nft::Error> {
        let seal = match &mut self.seal {
            Some(seal) => seal,
            None => self.seal.insert(Seal::open_here()?),
        };
        let settings = view.reach.settings.as_ref();
        let port = settings.map_or(types::network::DATA_PATH_PORT_DEFAULT, |settings| {
            settings.data_path_port
        });
        if networks.is_empty() {
            return seal.clear().map(drop);
        }
        let sealed = Sealed {
            networks: networks.clone(),
            port,
            tunnels: Vec::new(),
        };
        seal.replace(&sealed).map(drop)
    }

    /// Makes the seal whole again; says what differed.
    pub(super) fn repair_seal(&mut self) -> Option<Result<Difference, nft::Error>> {
        let is_sealed = !self.sealed.vnis.is_empty();
        self.seal.as_mut().filter(|_| is_sealed).map(Seal::repair)
    }

    /// Takes note of which encrypted networks have their devices.
    pub(super) fn note_devices(&mut self, observed: &Observed) {
        let links = observed.state.links.iter();
        let devices = links.filter(|(_, link)| link.kind == LinkKind::Tap);
        self.sealed.devices = devices
            .filter_map(|(name, _)| name.encrypted_vni())
            .collect();
    }

    /// Whether a device is still to come.
    pub(super) fn awaits_devices(&self) -> bool {
        !self.missing_devices().is_empty()
    }

    /// Devices that are still to come, as differences: without them a network is closed.
    pub(super) fn missing_devices(&self) -> Vec<String> {
        let carried = self.carried.borrow();
        let networks = carried.iter().flat_map(|carried| &carried.networks);
        networks
            .filter(|network| !self.sealed.devices.contains(&network.vni))
            .map(|network| {
                format!(
                    "nobody carries encrypted packets of link {}",
                    network.device
                )
            })
            .collect()
    }

    /// Says what is to be carried, if that has changed.
    pub(super) fn tell_carried(&self, view: &View, living: &[Record]) {
        let sandboxes: Vec<&Sandbox> = living.iter().map(|record| &record.sandbox).collect();
        let inputs: Inputs<'_> = self.inputs(view, &sandboxes);
        let desired = tunnel_desired(inputs);
        self.carried.send_if_modified(|carried| {
            let is_new = carried.as_deref() != Some(&desired);
            if is_new {
                *carried = Some(Arc::new(desired));
            }
            is_new
        });
    }
}
