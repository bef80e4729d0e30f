//! Which subnets and VXLAN identifiers a network gets: the user's, or the next free ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use types::cluster::SubnetPool;
use types::network::{NetworkDriver, Subnet, VNI_MAX, VNI_MIN};
use types::{ClusterId, Network, NetworkId};

use crate::{AddressRange, State};

/// Option of overlays that names the VXLAN identifiers, comma-separated (S9.07).
pub const VNIS_KEY: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// Prefix length of subnets cut from the default pools.
const SIZE_DEFAULT_V4: u8 = 24;
const SIZE_DEFAULT_V6: u8 = 64;

/// Why a network gets no subnets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The pools are used up.
    #[error(
        "every {family} subnet of the address pools ({pools}) is in use: remove a network, or give \
         a --subnet outside"
    )]
    Exhausted {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The pools.
        pools: String,
    },
    /// A VXLAN identifier the user chose is another network's.
    #[error("VXLAN identifier {vni} is already in use by network {owner}: choose another")]
    VniTaken {
        /// Which one.
        vni: u32,
        /// Whose it is.
        owner: String,
    },
    /// There are none left.
    #[error("every VXLAN identifier is in use: remove a network")]
    Vnis,
}

/// The subnets a network should have, as [`Chooser::choose`] says.
///
/// # Errors
/// When none is free.
pub fn choose(state: &State, network: &Network) -> Result<Vec<Subnet>, Error> {
    Chooser::of(state).choose(network)
}

/// Chooses subnets for one network after the other.
#[derive(Debug)]
pub struct Chooser {
    pools: Pools,
    taken: Taken,
    /// Identifiers in use, and by which network.
    vnis: BTreeMap<u32, NetworkId>,
    names: BTreeMap<NetworkId, String>,
}

impl Chooser {
    /// A chooser that knows what every stored network has.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let networks = || state.networks();
        let vnis = networks().flat_map(|n| n.subnets.iter().map(|subnet| (subnet.vni, n.id)));
        Self {
            pools: Pools::of(state),
            taken: Taken::of(state),
            vnis: vnis.collect(),
            names: networks().map(|n| (n.id, n.spec.name.clone())).collect(),
        }
    }

    /// The subnets a network should have, which are taken from now on; those it has, once it has
    /// some. Networks that are made on each node have none.
    ///
    /// # Errors
    /// When none is free.
    pub fn choose(&mut self, network: &Network) -> Result<Vec<Subnet>, Error> {
        let is_global = network.spec.driver == NetworkDriver::Overlay && !network.spec.config_only;
        if !network.subnets.is_empty() || !is_global {
            return Ok(network.subnets.clone());
        }
        let chosen = |v4: bool| {
            let pools = network.spec.pools.iter();
            let pools = pools.filter(move |pool| matches!(pool.subnet, IpNet::V4(_)) == v4);
            pools
                .map(|pool| (pool.subnet, pool.gateway))
                .collect::<Vec<_>>()
        };
        let (mut v4, mut v6) = (chosen(true), chosen(false));
        if v4.is_empty() {
            v4.push((self.taken.cut(&self.pools.v4, "IPv4")?, None));
        }
        while network.spec.ipv6 && v6.len() < v4.len() {
            v6.push((self.taken.cut(&self.pools.v6, "IPv6")?, None));
        }
        let vnis = self.vnis(network, v4.len())?;
        let subnet = |((subnet, gateway), vni): ((IpNet, Option<IpAddr>), u32)| {
            let first = || AddressRange::within(subnet, None).first();
            Subnet {
                subnet,
                gateway: gateway
                    .or_else(first)
                    .expect("validation and pools leave no subnet without addresses"),
                vni,
            }
        };
        let v4 = v4.into_iter().zip(vnis.iter().copied());
        let v6 = v6.into_iter().zip(vnis.iter().copied());
        Ok(v4.chain(v6).map(subnet).collect())
    }

    /// As many identifiers as there are subnets: those the user chose, then the ones after the
    /// highest in use, and the lowest free ones when those are used up.
    fn vnis(&mut self, network: &Network, count: usize) -> Result<Vec<u32>, Error> {
        let listed = network.spec.options.get(VNIS_KEY);
        let listed = listed.into_iter().flat_map(|list| list.split(','));
        let mut chosen: Vec<u32> = listed.filter_map(|id| id.trim().parse().ok()).collect();
        for vni in &chosen {
            if let Some(owner) = self.vnis.get(vni) {
                let owner = self.names.get(owner).cloned().unwrap_or_default();
                return Err(Error::VniTaken { vni: *vni, owner });
            }
        }
        let highest = self.vnis.last_key_value().map(|(vni, _)| *vni);
        let after = highest.map_or(VNI_MIN, |highest| (highest + 1).max(VNI_MIN));
        let mut candidates = (after..=VNI_MAX).chain(VNI_MIN..after);
        while chosen.len() < count {
            let next = candidates
                .find(|vni| !self.vnis.contains_key(vni) && !chosen.contains(vni))
                .ok_or(Error::Vnis)?;
            chosen.push(next);
        }
        chosen.truncate(count);
        self.vnis
            .extend(chosen.iter().map(|vni| (*vni, network.id)));
        Ok(chosen)
    }
}

/// Pools that subnets are cut from.
#[derive(Debug)]
struct Pools {
    v4: Vec<SubnetPool>,
    v6: Vec<SubnetPool>,
}

impl Pools {
    fn of(state: &State) -> Self {
        let cluster = state.cluster();
        let given = cluster.map_or(&[][..], |cluster| &cluster.spec.network.pools);
        let (v4, v6) = given
            .iter()
            .partition::<Vec<SubnetPool>, _>(|pool| matches!(pool.base, IpNet::V4(_)));
        let default = |pools: Vec<SubnetPool>, base: IpNet, size| match pools.is_empty() {
            true => vec![SubnetPool { base, size }],
            false => pools,
        };
        let ten = Ipv4Net::new_assert([10, 0, 0, 0].into(), 8);
        let unique = unique_local(cluster.map(|cluster| cluster.id));
        Self {
            v4: default(v4, ten.into(), SIZE_DEFAULT_V4),
            v6: default(v6, unique.into(), SIZE_DEFAULT_V6),
        }
    }
}

/// A unique local prefix of the cluster's own (RFC 4193): 40 bits of its id after `fd`.
fn unique_local(cluster: Option<ClusterId>) -> Ipv6Net {
    // FNV-1a: the id is random already, it only has to be squeezed the same way for ever.
    let text = cluster.map(|id| id.to_string()).unwrap_or_default();
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let global = u128::from(hash >> 24);
    Ipv6Net::new_assert(((0xfd_u128 << 120) | (global << 80)).into(), 48)
}

/// Ranges that are no longer free, as first and last number.
#[derive(Debug)]
struct Taken {
    v4: BTreeSet<(u128, u128)>,
    v6: BTreeSet<(u128, u128)>,
}

impl Taken {
    fn of(state: &State) -> Self {
        let mut taken = Self {
            v4: BTreeSet::new(),
            v6: BTreeSet::new(),
        };
        for network in state.networks() {
            let chosen = network.spec.pools.iter().map(|pool| pool.subnet);
            let given = network.subnets.iter().map(|subnet| subnet.subnet);
            chosen.chain(given).for_each(|net| taken.add(net));
        }
        taken
    }

    fn add(&mut self, net: IpNet) {
        match net {
            IpNet::V4(_) => self.v4.insert(bounds(net)),
            IpNet::V6(_) => self.v6.insert(bounds(net)),
        };
    }

    /// The lowest free piece of the pools; it is taken from now on.
    fn cut(&mut self, pools: &[SubnetPool], family: &'static str) -> Result<IpNet, Error> {
        for pool in pools {
            if let Some(piece) = self.lowest(*pool) {
                self.add(piece);
                return Ok(piece);
            }
        }
        let texts: Vec<String> = pools
            .iter()
            .map(|pool| format!("{} in /{}", pool.base, pool.size))
            .collect();
        Err(Error::Exhausted {
            family,
            pools: texts.join(", "),
        })
    }

    fn lowest(&self, pool: SubnetPool) -> Option<IpNet> {
        let (taken, bits) = match pool.base {
            IpNet::V4(_) => (&self.v4, 32),
            IpNet::V6(_) => (&self.v6, 128),
        };
        let (mut at, end) = bounds(pool.base);
        let step = 1_u128 << (bits - u32::from(pool.size));
        // Ranges of distinct networks do not overlap but for node-local ones, so the ranges in
        // order of their first address pass by once.
        for (first, last) in taken {
            if *last < at {
                continue;
            }
            if *first > at + (step - 1) {
                break;
            }
            at = (last / step + 1) * step;
        }
        if at.checked_add(step - 1).is_none_or(|last| last > end) {
            return None;
        }
        let net = match pool.base {
            IpNet::V4(_) => Ipv4Net::new(u32::try_from(at).ok()?.into(), pool.size)
                .ok()?
                .into(),
            IpNet::V6(_) => Ipv6Net::new(at.into(), pool.size).ok()?.into(),
        };
        Some(net)
    }
}

fn bounds(net: IpNet) -> (u128, u128) {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => address.into(),
    };
    (number(net.network()), number(net.broadcast()))
}

#[cfg(test)]
mod tests;
