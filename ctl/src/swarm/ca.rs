//! `swarmctl swarm ca`

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use proto::control::{ClusterView, GetClusterRequest, ListNodesRequest, RotateRootRequest};
use proto::objects::{ExternalCa, Node, NodeState, TlsInfo};

use crate::connect::{Connection, Host};
use crate::error::Error;
use crate::output;
use crate::parse::csv;
use crate::parse::duration::duration;

/// Pause between two looks at how far the nodes have come.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Characters of a full bar.
const BAR_LEN: usize = 50;

/// Show the root certificate, or replace it
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl swarm ca > root.pem
  swarmctl swarm ca --rotate                              A new root, made by the managers
  swarmctl swarm ca --rotate --ca-cert c.pem --ca-key k.pem
  swarmctl swarm ca --skip-unreachable                    Do not wait for nodes that are down")]
pub(crate) struct Ca {
    /// Replace the root; all nodes get new certificates, their tasks run on
    #[arg(long)]
    rotate: bool,
    /// The new root, PEM
    #[arg(long, value_name = "FILE", requires = "rotate")]
    ca_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// A service that signs instead: protocol=cfssl,url=https://...[,cacert=FILE][,profile=NAME]
    #[arg(long, value_name = "SPEC", requires = "rotate", value_parser = external_ca)]
    external_ca: Vec<ExternalCa>,
    /// Life of the nodes' certificates from now on
    #[arg(long, value_name = "DURATION", requires = "rotate", value_parser = duration)]
    cert_expiry: Option<Duration>,
    /// Do not wait for nodes that are down; they get their certificates when they come back
    #[arg(long)]
    skip_unreachable: bool,
    /// Return at once instead of waiting for the nodes
    #[arg(short, long)]
    detach: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Ca {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let connection = host.connect().await?;
        if !self.rotate && !self.skip_unreachable {
            let cluster = cluster(&connection).await?;
            return Ok(output::write(&cluster.root_cert_pem)?);
        }
        let expiry = self
            .cert_expiry
            .map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX));
        let request = RotateRootRequest {
            ca_cert_pem: read(self.ca_cert.as_deref())?,
            ca_key_pem: read(self.ca_key.as_deref())?,
            external_cas: self.external_ca.clone(),
            node_cert_expiry: expiry,
            skip_unreachable: self.skip_unreachable,
            only_skip: !self.rotate,
        };
        let answer = connection.control().rotate_root(request).await?;
        let cluster = answer.into_inner().cluster.unwrap_or_default();
        if self.detach {
            return Ok(());
        }
        let goal = Goal::of(&cluster);
        tokio::select! {
            root = self.follow(&connection, &goal) => Ok(output::write(&root?)?),
            _ = tokio::signal::ctrl_c() => Err(Error::Interrupted(
                "the nodes go on changing to the new root; `swarmctl swarm ca --rotate` with the \
                 present root goes back"
                    .to_owned(),
            )),
        }
    }

    /// Shows how far the nodes have come until all trust the new root alone.
    async fn follow(&self, connection: &Connection, goal: &Goal) -> Result<String, Error> {
        let mut screen = Screen::new(self.quiet);
        screen.line(&format!("desired root digest: {}", goal.digest));
        let mut has_listed = false;
        loop {
            let cluster = cluster(connection).await?;
            let list = connection.control().list_nodes(ListNodesRequest {}).await?;
            let nodes: Vec<Node> = list
                .into_inner()
                .nodes
                .into_iter()
                .filter_map(|it| it.node)
                .collect();
            let under_way = cluster.root_rotation.as_ref();
            if under_way.is_some_and(|it| it.trust_root_digest != goal.digest)
                || (under_way.is_none() && cluster.trust_root_digest != goal.digest)
            {
                return Err(Error::Failed(
                    "somebody else has asked for another root, or for the former one".to_owned(),
                ));
            }
            let count = goal.count(&nodes);
            screen.bars(&count, nodes.len());
            if under_way.is_none() && count.is_done() {
                return Ok(cluster.root_cert_pem);
            }
            if !count.away.is_empty() && count.moving == 0 && under_way.is_some() && !has_listed {
                has_listed = true;
                output::note(format!(
                    "these nodes are down, and the former root is kept for them: {}\n\
                     To go on without them, run `swarmctl swarm ca --skip-unreachable`: they get \
                     their certificates when they come back.",
                    count.away.join(", ")
                ));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

/// The root every node is to come to.
struct Goal {
    digest: String,
    issuer: (String, String),
}

/// How far the nodes are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    /// Nodes with a certificate of the new root.
    certified: usize,
    /// Nodes that trust it alone.
    trusting: usize,
    /// Nodes that are there and lack one of the two.
    moving: usize,
    /// Nodes that are down and lack the certificate.
    away: Vec<String>,
}

impl Count {
    fn is_done(&self) -> bool {
        self.moving == 0
    }
}

impl Goal {
    fn of(cluster: &ClusterView) -> Self {
        match &cluster.root_rotation {
            Some(next) => Self {
                digest: next.trust_root_digest.clone(),
                issuer: (next.issuer_subject.clone(), next.issuer_public_key.clone()),
            },
            None => Self {
                digest: cluster.trust_root_digest.clone(),
                issuer: (
                    cluster.issuer_subject.clone(),
                    cluster.issuer_public_key.clone(),
                ),
            },
        }
    }

    fn count(&self, nodes: &[Node]) -> Count {
        let mut count = Count::default();
        for node in nodes {
            let told = node.description.clone().unwrap_or_default();
            let tls: TlsInfo = told.tls.unwrap_or_default();
            let is_certified = tls.cert_issuer_subject == self.issuer.0
                && tls.cert_issuer_public_key == self.issuer.1;
            let is_trusting = tls.trust_root_digest == self.digest;
            count.certified += usize::from(is_certified);
            count.trusting += usize::from(is_trusting);
            let state = node.status.clone().unwrap_or_default().state();
            let is_away = matches!(state, NodeState::Down | NodeState::Disconnected);
            if is_away && !is_certified {
                count.away.push(format!("{} ({})", told.hostname, node.id));
            } else if !(is_away || is_certified && is_trusting) {
                count.moving += 1;
            }
        }
        count
    }
}

/// Where progress is shown: redrawn on a terminal, one line a change elsewhere.
struct Screen {
    is_quiet: bool,
    is_terminal: bool,
    shown: String,
}

impl Screen {
    fn new(is_quiet: bool) -> Self {
        Self {
            is_quiet,
            is_terminal: std::io::stderr().is_terminal(),
            shown: String::new(),
        }
    }

    fn line(&self, text: &str) {
        if !self.is_quiet {
            output::note(text);
        }
    }

    fn bars(&mut self, count: &Count, nodes: usize) {
        let text = format!(
            "  rotated TLS certificates:  {}\n  rotated CA certificates:   {}",
            bar(count.certified, nodes),
            bar(count.trusting, nodes)
        );
        if self.is_quiet || text == self.shown {
            return;
        }
        let up = if self.is_terminal && !self.shown.is_empty() {
            "\x1b[2A"
        } else {
            ""
        };
        output::note(format!("{up}{text}"));
        self.shown = text;
    }
}

fn bar(done: usize, all: usize) -> String {
    let filled = done.min(all) * BAR_LEN / all.max(1);
    let rest = BAR_LEN - filled;
    let head = if rest > 0 { ">" } else { "" };
    let gap = rest.saturating_sub(1);
    format!(
        "[{}{head}{}] {done}/{all} nodes",
        "=".repeat(filled),
        " ".repeat(gap)
    )
}

async fn cluster(connection: &Connection) -> Result<ClusterView, Error> {
    let answer = connection
        .control()
        .get_cluster(GetClusterRequest {})
        .await?;
    Ok(answer.into_inner().cluster.unwrap_or_default())
}

fn read(path: Option<&Path>) -> Result<String, Error> {
    path.map_or(Ok(String::new()), |path| {
        std::fs::read_to_string(path).map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })
    })
}

/// Reads `protocol=cfssl,url=URL[,cacert=FILE][,KEY=VALUE]`.
fn external_ca(text: &str) -> Result<ExternalCa, String> {
    let mut options = BTreeMap::new();
    for field in csv::fields(text)? {
        match field.split_once('=') {
            Some((key, value)) => options.insert(key.to_lowercase(), value.to_owned()),
            None => return Err(format!("write KEY=VALUE instead of {field:?}")),
        };
    }
    let protocol = options
        .remove("protocol")
        .ok_or("the external-ca option needs a protocol= parameter")?;
    let url = options
        .remove("url")
        .ok_or("the external-ca option needs a url= parameter")?;
    let ca_cert_pem = match options.remove("cacert") {
        Some(path) => {
            std::fs::read_to_string(&path).map_err(|error| format!("cacert {path}: {error}"))?
        }
        None => String::new(),
    };
    Ok(ExternalCa {
        protocol,
        url,
        options: options.into_iter().collect(),
        ca_cert_pem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_from_none_to_all() {
        assert_eq!(bar(0, 2), format!("[>{}] 0/2 nodes", " ".repeat(49)));
        assert_eq!(
            bar(1, 2),
            format!("[{}>{}] 1/2 nodes", "=".repeat(25), " ".repeat(24))
        );
        assert_eq!(bar(2, 2), format!("[{}] 2/2 nodes", "=".repeat(50)));
    }

    #[test]
    fn external_authorities_are_read() {
        let read = external_ca("protocol=cfssl,url=https://ca:8888/sign,profile=node").unwrap();
        assert_eq!(
            (read.protocol.as_str(), read.url.as_str()),
            ("cfssl", "https://ca:8888/sign")
        );
        assert_eq!(read.options["profile"], "node");
        for bad in [
            "",
            "cfssl",
            "url=https://ca",
            "protocol=cfssl",
            "protocol=cfssl,url=u,cacert=/nowhere",
        ] {
            external_ca(bad).unwrap_err();
        }
    }
}
