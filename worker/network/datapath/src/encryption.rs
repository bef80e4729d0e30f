//! The tunnel of encrypted networks, for as long as there are any.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use datapath_client::message::TunnelStatus;
use tunnel::{Desired, Tunnel};

/// What is carried of encrypted networks. The tunnel has threads of its own; they and its devices
/// end with it, so that nothing of such a network has a way out then.
#[derive(Default)]
pub struct Encryption {
    running: RefCell<Option<Running>>,
    /// Devices of a process before this one, for the next tunnel that is started.
    adopted: RefCell<Vec<(String, OwnedFd)>>,
}

struct Running {
    tunnel: Tunnel,
    desired: Desired,
}

impl Encryption {
    /// Carries what is asked, and nothing else.
    ///
    /// # Errors
    /// When the port is taken, or some device cannot be made; the others are carried.
    pub fn set(&self, desired: Desired) -> Result<()> {
        let mut running = self.running.borrow_mut();
        if desired.networks.is_empty() {
            *running = None;
            self.adopted.take();
            return Ok(());
        }
        let running = match &mut *running {
            Some(running) => running,
            None => running.insert(Running {
                tunnel: Tunnel::start(tunnel::PORT).context("carry encrypted networks")?,
                desired: Desired::default(),
            }),
        };
        for (name, device) in self.adopted.take() {
            running.tunnel.adopt(name, device);
        }
        let errors = running.tunnel.update(&desired);
        running.desired = desired;
        let errors: Vec<_> = errors
            .into_iter()
            .map(|error| format!("{:#}", anyhow::Error::new(error)))
            .collect();
        if !errors.is_empty() {
            bail!("{}", errors.join("; "));
        }
        Ok(())
    }

    /// Whether anything is carried.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.borrow().is_some()
    }

    /// Takes over a device from a process before this one.
    pub fn adopt(&self, name: String, device: OwnedFd) {
        self.adopted.borrow_mut().push((name, device));
    }

    /// Ends it, and tells what was carried, with its devices: frames wait in them for whoever adopts
    /// them. Sessions with other nodes cannot be handed on; they are begun anew.
    #[must_use]
    pub fn take(&self) -> Option<(Desired, Vec<(String, OwnedFd)>)> {
        let Running { tunnel, desired } = self.running.take()?;
        // Without their devices others are made, and what waited in them is lost.
        Some((desired, tunnel.into_devices().unwrap_or_default()))
    }

    /// What is carried.
    #[must_use]
    pub fn status(&self) -> Option<TunnelStatus> {
        let running = self.running.borrow();
        let Running { tunnel, desired } = running.as_ref()?;
        let (mut ready, mut unready) = (Vec::new(), Vec::new());
        for (peer, is_ready) in tunnel.peers() {
            if is_ready { &mut ready } else { &mut unready }.push(peer);
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = tunnel.counters();
        Some(TunnelStatus {
            vnis: desired.networks.iter().map(|network| network.vni).collect(),
            ready,
            unready,
            sealed: count(&counters.sealed),
            opened: count(&counters.opened),
            unknown: count(&counters.unknown),
            spoofed: count(&counters.spoofed),
            failed: count(&counters.failed),
        })
    }
}
