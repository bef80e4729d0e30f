//! `swarmctl network verify`

use clap::Args;
use proto::control::VerifyNetworksRequest;
use serde_json::{Value, json};
use types::check::NodeCheck;

use crate::connect::Host;
use crate::error::Error;
use crate::format::{Column, Format, Row, hidden, json, print_list, row, shown};
use crate::output;

const COLUMNS: [Column; 14] = [
    shown("Node", "NODE"),
    shown("State", "STATE"),
    shown("Differences", "DIFFERENCES"),
    shown("Left", "LEFT"),
    shown("Stale", "STALE"),
    shown("Records", "RECORDS"),
    shown("Repairs", "REPAIRS"),
    hidden("NodeID", "NODE ID"),
    hidden("Problem", "PROBLEM"),
    hidden("Fingerprint", "FINGERPRINT"),
    hidden("Passes", "PASSES"),
    hidden("PassLastUs", "PASS LAST"),
    hidden("Refusals", "REFUSALS"),
    hidden("Details", "DETAILS"),
];

/// Have every node compare its networks with the store, and repair what differs
///
/// Each node compares links, forwarding, neighbours, addresses and routes, rules of the packet
/// filter and names with what it was told, and managers compare that with the store. The exit code
/// is 1 unless every node answered and nothing differed: run it again to see that repairs hold.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl network verify
  swarmctl network verify web
  swarmctl network verify --format '{{.Node}}: {{.State}}'")]
pub(crate) struct Verify {
    /// Only this network: name, id or beginning of an id
    #[arg(value_name = "NETWORK")]
    network: Option<String>,
    /// table, json, or a template like {{.Node}} {{.State}}
    #[arg(long)]
    format: Option<Format>,
}

impl Verify {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let mut control = host.connect().await?.control();
        let request = VerifyNetworksRequest {
            key: self.network.unwrap_or_default(),
        };
        let answer = control.verify_networks(request).await?.into_inner();
        let checks = answer.nodes.into_iter().map(NodeCheck::try_from);
        let checks = checks.collect::<Result<Vec<_>, _>>()?;
        let rows = checks.iter().map(shown_row).collect();
        print_list(&COLUMNS, rows, self.format.as_ref(), false)?;
        if matches!(self.format, None | Some(Format::Table(_))) {
            for line in checks.iter().flat_map(details) {
                output::line(line)?;
            }
        }
        verdict(&checks)
    }
}

fn shown_row(check: &NodeCheck) -> Row {
    let told = &check.check;
    let state = match (check.problem.is_empty(), check.is_good()) {
        (false, _) => "no answer",
        (true, true) => "good",
        (true, false) if told.left.is_empty() => "repaired",
        (true, false) => "differs",
    };
    let repairs: u64 = told.repairs.values().sum();
    row(
        &COLUMNS,
        [
            check.hostname.as_str().into(),
            state.into(),
            told.found.len().into(),
            told.left.len().into(),
            check.stale.len().into(),
            check.records.into(),
            repairs.into(),
            check.node.to_string().into(),
            check.problem.as_str().into(),
            format!("{:016x}", check.fingerprint).into(),
            told.passes.into(),
            told.pass_last_us.into(),
            told.refusals.into(),
            as_json(check),
        ],
    )
}

fn as_json(check: &NodeCheck) -> Value {
    json!({
        "Found": json(&check.check.found),
        "Left": check.check.left,
        "Stale": check.stale,
        "Repairs": check.check.repairs,
    })
}

/// A line for each thing that is not as it should be.
fn details(check: &NodeCheck) -> Vec<String> {
    let name = &check.hostname;
    let problem = Some(&check.problem).filter(|problem| !problem.is_empty());
    let problem = problem.map(|problem| format!("{name}: {problem}"));
    let stale = check.stale.iter();
    let stale = stale.map(|what| format!("{name}: was not told: {what}"));
    let found = check.check.found.iter();
    let found = found.map(|one| format!("{name}: {}: {}", one.kind, one.what));
    let left = check.check.left.iter();
    let left = left.map(|what| format!("{name}: still different: {what}"));
    let all = problem.into_iter().chain(stale).chain(found);
    all.chain(left).collect()
}

fn verdict(checks: &[NodeCheck]) -> Result<(), Error> {
    let bad = checks.iter().filter(|check| !check.is_good());
    let bad: Vec<&str> = bad.map(|check| check.hostname.as_str()).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Error::Failed(format!(
        "{} of {} nodes were not as they should be: {}",
        bad.len(),
        checks.len(),
        bad.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use types::NodeId;
    use types::check::{Difference, NetworkCheck};

    use super::*;
    use crate::format::list;

    fn check(hostname: &str) -> NodeCheck {
        NodeCheck {
            node: NodeId::from_number(1),
            hostname: hostname.to_owned(),
            problem: String::new(),
            stale: vec![],
            records: 12,
            fingerprint: 1,
            check: NetworkCheck::default(),
        }
    }

    #[test]
    fn what_differs_is_shown_and_fails() {
        let good = check("n1");
        let mut repaired = check("n2");
        repaired.check.found = vec![Difference {
            kind: "link".to_owned(),
            network: None,
            what: "add link sw-x4096".to_owned(),
        }];
        repaired.check.repairs = [("link".to_owned(), 3)].into();
        let mut stuck = check("n3");
        stuck.check.left = vec!["add link sw-x1: EPERM".to_owned()];
        stuck.stale = vec!["service abc".to_owned()];
        let mut silent = check("n4");
        silent.problem = "the node is down".to_owned();
        assert!(verdict(std::slice::from_ref(&good)).is_ok());
        let checks = [good, repaired, stuck, silent];
        let rows = checks.iter().map(shown_row).collect();
        let table = list(&COLUMNS, rows, None, false).unwrap();
        let expected = [
            "NODE      STATE       DIFFERENCES   LEFT      STALE     RECORDS   REPAIRS",
            "n1        good        0             0         0         12        0",
            "n2        repaired    1             0         0         12        3",
            "n3        differs     0             1         1         12        0",
            "n4        no answer   0             0         0         12        0",
        ];
        assert_eq!(table.lines().collect::<Vec<_>>(), expected);
        let lines: Vec<String> = checks.iter().flat_map(details).collect();
        let expected = [
            "n2: link: add link sw-x4096",
            "n3: was not told: service abc",
            "n3: still different: add link sw-x1: EPERM",
            "n4: the node is down",
        ];
        assert_eq!(lines, expected);
        assert_eq!(
            verdict(&checks).unwrap_err().to_string(),
            "3 of 4 nodes were not as they should be: n2, n3, n4"
        );
    }
}
