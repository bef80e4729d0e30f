//! `swarmctl service logs`

use std::collections::BTreeMap;

use clap::Args;
use proto::control::{GetServiceRequest, ListNodesRequest, ListTasksRequest, ServiceLogsRequest};
use proto::logs::{LogLine, LogOptions};
use types::{Node, Task, Timestamp};

use crate::connect::{Connection, Host};
use crate::error::Error;
use crate::output;
use crate::parse::time;
use crate::task_list::truncate;

/// Characters of a task's id in a prefix.
const ID_LEN: usize = 12;

/// Show what the containers of services or tasks have written
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  swarmctl service logs web
  swarmctl service logs -f --tail 10 --timestamps web
  swarmctl service logs --since 10m --raw web.1")]
pub(crate) struct Logs {
    /// Ids, names or beginnings of ids of services or tasks
    #[arg(required = true, value_name = "SERVICE|TASK")]
    keys: Vec<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Lines from the end of each task, or all
    #[arg(short = 'n', long, default_value = "all", value_parser = tail, allow_hyphen_values = true, value_name = "NUMBER|all")]
    tail: Tail,
    /// Only from this time on: 2026-01-02T13:23:37Z, or how long ago: 42m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// Show the lines alone
    #[arg(long)]
    raw: bool,
    /// Show ids instead of names
    #[arg(long)]
    no_resolve: bool,
    /// Show ids whole
    #[arg(long)]
    no_trunc: bool,
    /// Leave ids of tasks out
    #[arg(long)]
    no_task_ids: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    All,
    Last(u64),
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        // As Docker: anything negative means all.
        "all" | "-1" => Ok(Tail::All),
        text => text
            .parse()
            .map(Tail::Last)
            .map_err(|_| "it must be a number of lines or \"all\"".to_owned()),
    }
}

impl Logs {
    pub(crate) async fn run(self, host: &Host) -> Result<(), Error> {
        let since = match &self.since {
            None => Timestamp::default(),
            Some(text) => time::point(text, Timestamp::now()).map_err(|problem| {
                Error::Usage(format!("invalid value {text:?} for --since: {problem}"))
            })?,
        };
        let connection = host.connect().await?;
        let request = ServiceLogsRequest {
            keys: self.keys.clone(),
            options: Some(LogOptions {
                follow: self.follow,
                tail: match self.tail {
                    Tail::All => None,
                    Tail::Last(lines) => Some(lines),
                },
                since: since.0,
                no_stdout: false,
                no_stderr: false,
            }),
        };
        let mut batches = connection
            .control()
            .service_logs(request)
            .await?
            .into_inner();
        let mut names = Names::default();
        let mut incomplete = vec![];
        while let Some(batch) = batches.message().await? {
            for line in batch.lines {
                self.print(&connection, &mut names, line).await?;
            }
            incomplete.extend(batch.incomplete);
        }
        if incomplete.is_empty() {
            return Ok(());
        }
        let missing = incomplete.iter().map(|sentence| format!("\n  {sentence}"));
        output::note(format!(
            "warning: incomplete log stream:{}",
            missing.collect::<String>()
        ));
        Ok(())
    }

    async fn print(
        &self,
        connection: &Connection,
        names: &mut Names,
        line: LogLine,
    ) -> Result<(), Error> {
        let mut out = vec![];
        if self.timestamps {
            out.extend(format!("{} ", fixed_width(Timestamp(line.timestamp))).into_bytes());
        }
        if !self.raw {
            if !self.no_resolve {
                names.learn(connection, &line).await?;
            }
            out.extend(format!("{} | ", self.prefix(names, &line)).into_bytes());
        }
        out.extend(line.line);
        out.push(b'\n');
        let is_stderr = line.stream == i32::from(proto::logs::LogStream::Stderr);
        if is_stderr {
            use std::io::Write as _;
            std::io::stderr().lock().write_all(&out)?;
            return Ok(());
        }
        Ok(output::bytes(&out)?)
    }

    /// `service.slot.task@node`, padded so that the bars stand below each other.
    fn prefix(&self, names: &mut Names, line: &LogLine) -> String {
        let short = |id: &str| {
            if self.no_trunc {
                id.to_owned()
            } else {
                truncate(id, ID_LEN)
            }
        };
        let task = names.tasks.get(&line.task_id).filter(|_| !self.no_resolve);
        let mut name = match task {
            Some(name) => name.clone(),
            None => short(&line.service_id),
        };
        if !self.no_task_ids || task.is_none() {
            name = format!("{name}.{}", short(&line.task_id));
        }
        let node = names.nodes.get(&line.node_id).filter(|_| !self.no_resolve);
        let node = node.cloned().unwrap_or_else(|| short(&line.node_id));
        let prefix = format!("{name}@{node}");
        names.width = names.width.max(prefix.chars().count());
        format!("{prefix:<width$}", width = names.width)
    }
}

/// RFC 3339 with nine decimals, so that times stand below each other.
fn fixed_width(at: Timestamp) -> String {
    let text = at.to_string();
    let text = text.trim_end_matches('Z');
    let (secs, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{secs}.{fraction:0<9}Z")
}

/// Names by id, fetched when an unknown id appears.
#[derive(Debug, Default)]
struct Names {
    tasks: BTreeMap<String, String>,
    nodes: BTreeMap<String, String>,
    /// The longest prefix so far.
    width: usize,
}

impl Names {
    async fn learn(&mut self, connection: &Connection, line: &LogLine) -> Result<(), Error> {
        let mut control = connection.control();
        if !self.nodes.contains_key(&line.node_id) {
            for view in control
                .list_nodes(ListNodesRequest {})
                .await?
                .into_inner()
                .nodes
            {
                let node = Node::try_from(view.node.unwrap_or_default())?;
                self.nodes.insert(node.id.to_string(), node.hostname());
            }
            self.nodes
                .entry(line.node_id.clone())
                .or_insert_with(|| line.node_id.clone());
        }
        if !self.tasks.contains_key(&line.task_id) {
            let service = GetServiceRequest {
                key: line.service_id.clone(),
            };
            // A service that was removed meanwhile has no names any more.
            if control.get_service(service).await.is_ok() {
                let request = ListTasksRequest {
                    services: vec![line.service_id.clone()],
                    nodes: vec![],
                };
                for task in control.list_tasks(request).await?.into_inner().tasks {
                    let task = Task::try_from(task)?;
                    self.tasks.insert(task.id.to_string(), task.name());
                }
            }
            let unknown = || truncate(&line.service_id, ID_LEN);
            self.tasks
                .entry(line.task_id.clone())
                .or_insert_with(unknown);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        logs: Logs,
    }

    fn parse(flags: &[&str]) -> Logs {
        Line::try_parse_from(["logs"].iter().chain(flags).chain(&["web"]))
            .unwrap()
            .logs
    }

    #[test]
    fn prefixes() {
        let line = LogLine {
            service_id: "s".repeat(25),
            task_id: "t".repeat(25),
            node_id: "n".repeat(25),
            ..LogLine::default()
        };
        let mut names = Names::default();
        names.tasks.insert(line.task_id.clone(), "web.1".into());
        names.nodes.insert(line.node_id.clone(), "alpha".into());
        for (flags, expected) in [
            (vec![], "web.1.tttttttttttt@alpha".to_owned()),
            (vec!["--no-task-ids"], "web.1@alpha".to_owned()),
            (
                vec!["--no-trunc"],
                format!("web.1.{}@alpha", "t".repeat(25)),
            ),
            (
                vec!["--no-resolve"],
                "ssssssssssss.tttttttttttt@nnnnnnnnnnnn".to_owned(),
            ),
        ] {
            names.width = 0;
            assert_eq!(
                parse(&flags).prefix(&mut names, &line),
                expected,
                "{flags:?}"
            );
        }
        names.width = 15;
        assert_eq!(
            parse(&["--no-task-ids"]).prefix(&mut names, &line),
            "web.1@alpha    "
        );
    }

    #[test]
    fn tails_and_times() {
        assert_eq!(parse(&[]).tail, Tail::All);
        assert_eq!(parse(&["--tail", "5"]).tail, Tail::Last(5));
        assert_eq!(parse(&["-n", "-1"]).tail, Tail::All);
        assert!(tail("x").is_err());
        assert_eq!(
            fixed_width(Timestamp(1_700_000_000_500_000_000)),
            "2023-11-14T22:13:20.500000000Z"
        );
    }
}
