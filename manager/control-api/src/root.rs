//! Replacing the cluster's root certificate: what may follow what, and who vouches for it (S11.09,
//! S11.10).

use std::time::Duration;

use ca::external;
use ca::{RootBundle, RootCa, Tls, check_next_root};
use types::cluster::{ExternalCa, RootCaState, RootRotation};
use types::{Cluster, ClusterSpec, Timestamp};

use crate::{ClusterView, ControlApi, Error, Invalid, validate};

/// What is to become of the root.
#[derive(Clone, Default)]
pub struct RotateRoot {
    /// PEM of the next root; empty for one that is made here.
    pub cert_pem: String,
    /// PEM of its key; empty when only an external CA has it.
    pub key_pem: String,
    /// External authorities from now on; empty leaves those there are.
    pub external_cas: Vec<ExternalCa>,
    /// Life of node certificates from now on; none leaves it.
    pub node_cert_expiry: Option<Duration>,
    /// Whether nodes that are down are not waited for.
    pub skip_unreachable: bool,
}

/// A root that is to follow, with what the present one needs to know of it.
struct Next {
    cert_pem: String,
    key_pem: String,
    step: Step,
}

/// What the wish for a root comes to.
enum Step {
    /// It is the present one: whatever is under way ends.
    Back,
    /// It is on its way already.
    GoOn,
    /// It is another one, and the present root vouches for it.
    Begin { cross_signed_pem: String },
}

impl ControlApi {
    /// Begins to replace the root, goes back to the present one, or goes on with one on its way.
    ///
    /// # Errors
    /// When the root that is asked for may not follow the present one.
    pub async fn rotate_root(&self, wish: RotateRoot) -> Result<ClusterView, Error> {
        let stored = self.stored_cluster()?;
        let spec = settings(&stored.spec, &wish);
        validate::cluster_spec(&spec, self.cert_expiry_min)?;
        let next = self.next_root(&stored.root_ca, &spec, &wish).await?;
        let now = Timestamp::now();
        self.change_cluster(|cluster| {
            // Who vouches for whom was decided for the root of that moment.
            if cluster.root_ca.cert_pem != stored.root_ca.cert_pem
                || cluster.root_ca.rotation != stored.root_ca.rotation
                || cluster.spec != stored.spec
            {
                return Err(Error::Precondition(
                    "the root or the settings of the swarm changed meanwhile: try again".to_owned(),
                ));
            }
            cluster.spec = spec.clone();
            apply(cluster, &next, wish.skip_unreachable, now);
            Ok(())
        })
        .await?;
        self.cluster()
    }

    /// Does not wait any longer for nodes that are down: they come back by their known keys.
    ///
    /// # Errors
    /// When no root is on its way.
    pub async fn skip_unreachable(&self) -> Result<ClusterView, Error> {
        self.change_cluster(|cluster| match &mut cluster.root_ca.rotation {
            Some(rotation) => {
                rotation.skip_unreachable = true;
                Ok(())
            }
            None => Err(Error::Precondition(
                "the root certificate is not being replaced: there is nobody to skip".to_owned(),
            )),
        })
        .await?;
        self.cluster()
    }

    async fn next_root(
        &self,
        present: &RootCaState,
        spec: &ClusterSpec,
        wish: &RotateRoot,
    ) -> Result<Next, Error> {
        let now = Timestamp::now();
        let (cert_pem, key_pem) = if wish.cert_pem.is_empty() {
            if !wish.key_pem.is_empty() {
                return Err(invalid(
                    "SigningCAKey",
                    "a key needs its certificate as well",
                ));
            }
            let made = RootCa::generate(now).map_err(|error| invalid("SigningCACert", error))?;
            (text(made.bundle()), made.key_pem().to_string())
        } else {
            let checked = check_next_root(&wish.cert_pem, &wish.key_pem, now);
            checked.map_err(|error| invalid("SigningCACert", error))?;
            (wish.cert_pem.clone(), wish.key_pem.clone())
        };
        let bundle = RootBundle::from_pem(cert_pem.clone())
            .map_err(|error| invalid("SigningCACert", error))?;
        let known = |pem: &str| RootBundle::from_pem(pem.to_owned()).map_err(broken);
        let root = known(&present.cert_pem)?;
        if bundle.is_same_as(&root) {
            return Ok(Next {
                cert_pem,
                key_pem,
                step: Step::Back,
            });
        }
        if let Some(under_way) = &present.rotation
            && bundle.is_same_as(&known(&under_way.cert_pem)?)
        {
            return Ok(Next {
                cert_pem,
                key_pem,
                step: Step::GoOn,
            });
        }
        if bundle.has_key_of(&root) {
            return Err(invalid(
                "SigningCACert",
                "it is another certificate for the key of the present root: a root that follows \
                 needs a key of its own",
            ));
        }
        if key_pem.is_empty() {
            if present.key_pem.is_empty() {
                return Err(Error::Precondition(
                    "the root cannot change from one that only an external CA has the key of to \
                     another such one in one step: give the key, or rotate to a root of the \
                     swarm's own first"
                        .to_owned(),
                ));
            }
            self.check_outside(spec, &cert_pem, &root, &bundle).await?;
        }
        let cross_signed_pem = self
            .cross_sign(present, spec, &cert_pem, &key_pem, &root)
            .await?;
        root.follow(std::slice::from_ref(&cross_signed_pem), bundle, now)
            .map_err(|error| invalid("SigningCACert", error))?;
        Ok(Next {
            cert_pem,
            key_pem,
            step: Step::Begin { cross_signed_pem },
        })
    }

    /// Without a key, somebody outside has to sign with it.
    async fn check_outside(
        &self,
        spec: &ClusterSpec,
        cert_pem: &str,
        root: &RootBundle,
        next: &RootBundle,
    ) -> Result<(), Error> {
        let tls = self.own_tls()?;
        let mut why = "none is set for it: give --external-ca with cacert=FILE".to_owned();
        let roots =
            RootBundle::from_pem([root.pem(), b"\n", next.pem()].concat()).map_err(broken)?;
        for outside in &spec.external_cas {
            if outside.ca_cert_pem.trim() != cert_pem.trim() {
                continue;
            }
            match authority(outside, roots.clone()).check_reachable(tls).await {
                Ok(()) => return Ok(()),
                Err(error) => why = chain(&error),
            }
        }
        Err(Error::Precondition(format!(
            "the key of that root is not given, so an external CA for it has to be reachable: {why}"
        )))
    }

    async fn cross_sign(
        &self,
        present: &RootCaState,
        spec: &ClusterSpec,
        next_cert: &str,
        next_key: &str,
        root: &RootBundle,
    ) -> Result<String, Error> {
        if !present.key_pem.is_empty() {
            let own = RootCa::from_pem(&present.cert_pem, &present.key_pem).map_err(broken)?;
            let crossed = own.cross_sign(next_cert, Timestamp::now());
            return crossed.map_err(|error| invalid("SigningCACert", error));
        }
        let next = RootCa::from_pem(next_cert, next_key).map_err(broken)?;
        let request = next.request_pem().map_err(broken)?;
        let tls = self.own_tls()?;
        let mut why = "no external CA is set for the present root".to_owned();
        for outside in &spec.external_cas {
            let is_present = matches!(outside.ca_cert_pem.trim(), "")
                || outside.ca_cert_pem.trim() == present.cert_pem.trim();
            if !is_present {
                continue;
            }
            match authority(outside, root.clone())
                .cross_sign(tls, &request)
                .await
            {
                Ok(pem) => return Ok(pem),
                Err(error) => why = chain(&error),
            }
        }
        Err(Error::Precondition(format!(
            "the present root has to vouch for the next, and only an external CA has its key: {why}"
        )))
    }

    fn own_tls(&self) -> Result<&Tls, Error> {
        self.tls.as_ref().ok_or(Error::NotReady)
    }
}

fn settings(spec: &ClusterSpec, wish: &RotateRoot) -> ClusterSpec {
    let mut spec = spec.clone();
    if !wish.external_cas.is_empty() {
        spec.external_cas.clone_from(&wish.external_cas);
    }
    if let Some(expiry) = wish.node_cert_expiry {
        spec.node_cert_expiry = expiry;
    }
    spec
}

fn apply(cluster: &mut Cluster, next: &Next, skip_unreachable: bool, now: Timestamp) {
    let root = &mut cluster.root_ca;
    match (&next.step, &mut root.rotation) {
        (Step::Back, rotation) => {
            *rotation = None;
            if root.key_pem.is_empty() {
                root.key_pem.clone_from(&next.key_pem);
            }
        }
        (Step::GoOn, Some(rotation)) => {
            if rotation.key_pem.is_empty() {
                rotation.key_pem.clone_from(&next.key_pem);
            }
            rotation.skip_unreachable |= skip_unreachable;
        }
        // That it is under way was checked against the same state.
        (Step::GoOn, None) => {}
        (Step::Begin { cross_signed_pem }, rotation) => {
            *rotation = Some(RootRotation {
                cert_pem: next.cert_pem.clone(),
                key_pem: next.key_pem.clone(),
                cross_signed_pem: cross_signed_pem.clone(),
                skip_unreachable,
                started_at: now,
            });
        }
    }
}

fn authority(outside: &ExternalCa, roots: RootBundle) -> external::ExternalCa<'_> {
    external::ExternalCa {
        url: &outside.url,
        profile: outside.options.get("profile").map_or("", String::as_str),
        roots,
    }
}

fn text(bundle: &RootBundle) -> String {
    String::from_utf8_lossy(bundle.pem()).into_owned()
}

fn invalid(field: &str, problem: impl std::fmt::Display) -> Error {
    Error::Invalid(Invalid::new(format!("CAConfig.{field}"), problem))
}

fn broken(error: ca::Error) -> Error {
    Error::Precondition(format!("the present root cannot be used: {error}"))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        words.push_str(": ");
        words.push_str(&error.to_string());
        below = error.source();
    }
    words
}
