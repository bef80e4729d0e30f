//! `demo`: the story told aloud on a real swarm of five nodes on this machine.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use harness::story::{Listener, Story};
use harness::{Lab, LabOptions};

use crate::{build, packages};

/// Tells the story on standard output, with the time since the beginning.
struct Aloud {
    start: Instant,
}

impl Listener for Aloud {
    fn say(&mut self, sentence: &str) {
        println!(
            "\n[{:5.1} s] {sentence}",
            self.start.elapsed().as_secs_f64()
        );
    }

    fn show(&mut self, command: &str, output: &str) {
        println!("    $ {command}");
        for line in output.lines() {
            println!("    {line}");
        }
    }
}

pub(crate) fn run(options: &[&str]) -> Result<()> {
    let mut keep = false;
    let mut image = None;
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match *word {
            "--keep" => keep = true,
            "--image" => {
                let path = PathBuf::from(words.next().context("--image needs a file")?);
                if !path.is_file() {
                    bail!("--image {}: there is no such file", path.display());
                }
                image = Some(std::path::absolute(path)?);
            }
            other => bail!("unknown option {other:?}: allowed are --image FILE and --keep"),
        }
    }
    packages::install();
    let (programs, _) = build::programs(true)?;
    let mut lab = Lab::new(LabOptions {
        keep,
        ..LabOptions::new(programs)
    })?;
    let mut aloud = Aloud {
        start: Instant::now(),
    };
    let told = Story::new(&mut lab, &mut aloud, image).tell();
    if keep {
        print_instructions(&lab);
    }
    drop(lab);
    told?;
    if !keep {
        println!("\nNothing is left behind: no process, namespace, mount, cgroup or file.");
    }
    Ok(())
}

fn print_instructions(lab: &Lab) {
    println!("\nThe swarm is left running. Talk to it with");
    println!(
        "    export SWARMCTL_HOST=unix://{}",
        lab.node(0).socket().display()
    );
    println!("    {} node ls", lab.programs().swarmctl.display());
    println!(
        "Each machine has a directory below {} with its socket and log.",
        lab.dir().display()
    );
    println!(
        "To end it: kill {}",
        lab.pids()
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    );
    println!("then remove what is left:");
    for namespace in lab.namespaces() {
        println!("    ip netns del {namespace}");
    }
    println!("    rm -r {}", lab.dir().display());
}
