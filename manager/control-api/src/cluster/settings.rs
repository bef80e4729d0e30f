//! Changing the cluster's settings and the keys that lock its managers (S10.13, S10.15).

use store::{Action, Object};
use types::{Cluster, ClusterSpec, Version};
use zeroize::Zeroizing;

use crate::api::STALE_RETRIES_MAX;
use crate::{ClusterView, ControlApi, Error, validate};

/// What is to become of the cluster's settings.
#[derive(Clone, Debug, Default)]
pub struct ClusterUpdate {
    /// Other settings, and the version they were read at; none leaves them.
    pub spec: Option<(ClusterSpec, Version)>,
    /// Replace the unlock key. Managers that are off need the old one once more.
    pub rotate_unlock_key: bool,
    /// Have every manager replace the key that seals its log.
    pub rotate_data_keys: bool,
}

impl ControlApi {
    /// Changes the settings, the unlock key, or the managers' data keys.
    ///
    /// # Errors
    /// When a setting is out of range, they changed since they were read, or there is no unlock key
    /// to replace.
    pub async fn update_cluster(&self, update: ClusterUpdate) -> Result<ClusterView, Error> {
        if let Some((spec, _)) = &update.spec {
            validate::cluster_spec(spec, self.cert_expiry_min)?;
        }
        let fresh = fresh_unlock_key()?;
        let mut tries = 0;
        loop {
            let cluster = plan(&*self.stored_cluster()?, &update, &fresh)?;
            match self
                .propose(vec![Action::Update(Object::from(cluster))])
                .await
            {
                Ok(_) => return self.cluster(),
                // With settings to write, the version read by the user decides, in `plan`.
                Err(Error::Stale { .. }) if tries < STALE_RETRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// What unlocks a manager after a restart; empty while managers are not locked.
    ///
    /// # Errors
    /// [`Error::NotReady`] while the cluster has not been written.
    pub fn unlock_key(&self) -> Result<Zeroizing<String>, Error> {
        let cluster = self.stored_cluster()?;
        Ok(Zeroizing::new(cluster.lock.unlock_key.clone()))
    }
}

fn fresh_unlock_key() -> Result<Zeroizing<String>, Error> {
    ca::UnlockKey::generate()
        .map(|key| key.reveal())
        .map_err(|error| Error::Token(error.to_string()))
}

/// The cluster as it is to be. `fresh` becomes the unlock key where a new one is needed.
fn plan(cluster: &Cluster, update: &ClusterUpdate, fresh: &str) -> Result<Cluster, Error> {
    let mut cluster = cluster.clone();
    if let Some((spec, version)) = &update.spec {
        if cluster.meta.version != *version {
            return Err(Error::Stale {
                object: "the settings of the swarm".to_owned(),
            });
        }
        if cluster.spec.network != spec.network {
            return Err(Error::Precondition(
                "the settings of networks cannot be changed once the swarm is made".to_owned(),
            ));
        }
        cluster.spec = spec.clone();
    }
    let is_locked = cluster.spec.autolock_managers;
    if update.rotate_unlock_key && !is_locked {
        return Err(Error::Precondition(
            "cannot rotate because autolock is not turned on".to_owned(),
        ));
    }
    let lock = &mut cluster.lock;
    let has_key = !lock.unlock_key.is_empty();
    if is_locked && (!has_key || update.rotate_unlock_key) {
        fresh.clone_into(&mut lock.unlock_key);
        lock.key_version += 1;
        // What was sealed by a key that lay in clear, or under the former unlock key, is sealed anew.
        lock.data_key_epoch += 1;
    } else if !is_locked && has_key {
        lock.unlock_key.clear();
        lock.key_version += 1;
    } else if update.rotate_data_keys {
        lock.data_key_epoch += 1;
    }
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use types::cluster::ClusterLock;

    use super::*;
    use crate::testing;

    fn cluster(is_locked: bool, key: &str) -> Cluster {
        let mut cluster = testing::cluster();
        cluster.spec.autolock_managers = is_locked;
        cluster.lock = ClusterLock {
            unlock_key: key.to_owned(),
            key_version: 3,
            data_key_epoch: 5,
        };
        cluster
    }

    fn lock(before: &Cluster, wants_lock: bool, unlock_key: bool, data_keys: bool) -> ClusterLock {
        let mut spec = before.spec.clone();
        spec.autolock_managers = wants_lock;
        let update = ClusterUpdate {
            spec: Some((spec, before.meta.version)),
            rotate_unlock_key: unlock_key,
            rotate_data_keys: data_keys,
        };
        plan(before, &update, "fresh").unwrap().lock
    }

    #[test]
    fn the_keys_follow_the_settings() {
        let (open, locked) = (cluster(false, ""), cluster(true, "old"));
        let table = [
            ((&open, false, false, false), ("", 3, 5)),
            ((&open, false, false, true), ("", 3, 6)),
            ((&open, true, false, false), ("fresh", 4, 6)),
            ((&locked, true, false, false), ("old", 3, 5)),
            ((&locked, true, true, false), ("fresh", 4, 6)),
            ((&locked, true, false, true), ("old", 3, 6)),
            ((&locked, false, false, false), ("", 4, 5)),
        ];
        for ((before, wants_lock, unlock_key, data_keys), expected) in table {
            let after = lock(before, wants_lock, unlock_key, data_keys);
            let found = (
                after.unlock_key.as_str(),
                after.key_version,
                after.data_key_epoch,
            );
            assert_eq!(found, expected, "{wants_lock} {unlock_key} {data_keys}");
        }
    }

    #[test]
    fn without_a_lock_there_is_no_key_to_rotate() {
        let update = ClusterUpdate {
            rotate_unlock_key: true,
            ..ClusterUpdate::default()
        };
        let refused = plan(&cluster(false, ""), &update, "fresh").unwrap_err();
        assert!(refused.to_string().contains("not turned on"), "{refused}");
    }

    #[test]
    fn settings_read_long_ago_are_refused() {
        let before = cluster(false, "");
        let update = ClusterUpdate {
            spec: Some((
                before.spec.clone(),
                Version {
                    index: before.meta.version.index + 1,
                },
            )),
            ..ClusterUpdate::default()
        };
        assert!(matches!(
            plan(&before, &update, "fresh"),
            Err(Error::Stale { .. })
        ));
    }
}
