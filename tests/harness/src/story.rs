//! The main job as a story: a swarm that keeps what it was told, whatever is killed.
//!
//! `cargo xtask demo` tells it to people, the end-to-end tests run the same steps.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::image::{ImageRecipe, write_archive};
use crate::{Lab, Node, wait_for};

/// Port the example service listens on.
pub const WEB_PORT: u16 = 8080;

/// How long any step may take before the story counts as broken.
const STEP_MAX: Duration = Duration::from_secs(30);

/// Who hears the story.
pub trait Listener {
    /// What happens, in a sentence.
    fn say(&mut self, sentence: &str);
    /// What a command printed.
    fn show(&mut self, command: &str, output: &str);
}

/// A listener that keeps silent, for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Listener for Silent {
    fn say(&mut self, _: &str) {}
    fn show(&mut self, _: &str, _: &str) {}
}

/// The swarm of the story while it is told.
pub struct Story<'a> {
    /// Its machines: managers first.
    pub lab: &'a mut Lab,
    listener: &'a mut dyn Listener,
    image: Option<PathBuf>,
}

/// Managers and workers of the story.
pub const MANAGERS: usize = 3;
/// See [`MANAGERS`].
pub const WORKERS: usize = 2;

impl<'a> Story<'a> {
    /// A story on an empty lab, with another image than the example's if one is given.
    pub fn new(lab: &'a mut Lab, listener: &'a mut dyn Listener, image: Option<PathBuf>) -> Self {
        Self {
            lab,
            listener,
            image,
        }
    }

    /// Tells all of it.
    ///
    /// # Errors
    /// The first step that did not come out as told.
    pub fn tell(&mut self) -> Result<()> {
        self.form()?;
        self.load_images()?;
        self.create_web()?;
        self.create_second()?;
        self.kill_container()?;
        self.kill_worker()?;
        self.kill_leader()?;
        self.scale()?;
        self.update()?;
        self.logs()?;
        self.listener
            .say("That is the story: declared once, kept throughout.");
        Ok(())
    }

    /// Three managers and two workers join into a swarm.
    ///
    /// # Errors
    /// When they do not.
    pub fn form(&mut self) -> Result<()> {
        self.listener
            .say("Five machines: the first runs `swarmctl init`, the others join.");
        let start = Instant::now();
        self.lab.form_swarm(MANAGERS, WORKERS)?;
        self.wait_nodes_ready(MANAGERS + WORKERS)?;
        self.listener
            .say(&format!("The swarm is complete after {}.", seconds(start)));
        self.show(0, &["node", "ls"])
    }

    /// Every node gets both versions of the example's image, or the image given.
    ///
    /// # Errors
    /// When one cannot be loaded.
    pub fn load_images(&mut self) -> Result<()> {
        let mut archives = Vec::new();
        for version in ["1", "2"] {
            archives.push(self.example_archive(version)?);
        }
        archives.extend(self.image.clone());
        self.listener
            .say("Each machine loads the images from files: there is no registry here.");
        for node in self.lab.nodes() {
            for archive in &archives {
                node.ctl(&["image", "load", &archive.to_string_lossy()])?;
            }
        }
        self.show(0, &["image", "ls"])
    }

    fn example_archive(&self, version: &str) -> Result<PathBuf> {
        let to = self.lab.dir().join(format!("web-{version}.tar"));
        write_example_image(&self.lab.programs().web, version, &to)?;
        Ok(to)
    }

    /// A service of five on the machines' own network, one on each.
    ///
    /// # Errors
    /// When it does not run everywhere or does not answer.
    pub fn create_web(&mut self) -> Result<()> {
        let image = self.web_image()?;
        self.listener
            .say("A service of five replicas, one on each machine, on its network.");
        let start = Instant::now();
        let create = [
            "service",
            "create",
            "--name",
            "web",
            "--replicas",
            "5",
            "--replicas-max-per-node",
            "1",
            "--network",
            "host",
            "--restart-delay",
            "0s",
            "--update-monitor",
            "1s",
        ];
        self.manager()?
            .ctl(&[&create[..], &["--detach", &image]].concat())?;
        self.wait_replicas("web", "5/5")?;
        self.listener
            .say(&format!("Five containers run after {}.", seconds(start)));
        self.show(0, &["service", "ps", "web"])?;
        if self.image.is_some() {
            self.listener
                .say("The image is yours, so its pages are not known; none are fetched.");
            return Ok(());
        }
        self.fetch_everywhere("version 1")
    }

    /// The image `web` runs: the one given, or the example's.
    fn web_image(&self) -> Result<String> {
        if self.image.is_none() {
            return Ok("web:1".to_owned());
        }
        let names =
            self.lab
                .node(0)
                .ctl(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])?;
        let other = names.lines().find(|name| !name.starts_with("web:"));
        Ok(other.context("the image given has no name")?.to_owned())
    }

    /// A second service without a network, to be scaled.
    ///
    /// # Errors
    /// When it does not run.
    pub fn create_second(&mut self) -> Result<()> {
        self.listener
            .say("A second service, two replicas without any network.");
        self.manager()?.ctl(&[
            "service",
            "create",
            "--name",
            "second",
            "--replicas",
            "2",
            "--restart-delay",
            "0s",
            "--detach",
            "web:1",
        ])?;
        self.wait_replicas("second", "2/2")
    }

    /// Kills one container; another takes its place.
    ///
    /// # Errors
    /// When none does.
    pub fn kill_container(&mut self) -> Result<()> {
        let node = self.lab.node(MANAGERS);
        let victim = *node
            .container_pids()?
            .first()
            .context("a container runs on the worker")?;
        let name = node.name().to_owned();
        self.listener.say(&format!(
            "Killing a container on {name} (pid {victim}) with SIGKILL."
        ));
        let start = Instant::now();
        self.lab.node(MANAGERS).signal(victim, 9)?;
        wait_for("a replacement of the container", STEP_MAX, || {
            let history = self.manager()?.ctl(&[
                "service",
                "ps",
                "web",
                "second",
                "--format",
                "{{.CurrentState}}",
            ])?;
            let failed = history.lines().any(|state| state.starts_with("Failed"));
            Ok(if failed { Ok(()) } else { Err(history) })
        })?;
        self.wait_all_running()?;
        self.listener
            .say(&format!("Its replacement runs after {}.", seconds(start)));
        self.show(0, &["service", "ps", "web"])
    }

    /// Switches a worker off; what can move moves, what cannot waits and says why.
    ///
    /// # Errors
    /// When the second service does not move or the machine's return does not heal `web`.
    pub fn kill_worker(&mut self) -> Result<()> {
        let worker = MANAGERS + WORKERS - 1;
        let name = self.lab.node(worker).name().to_owned();
        self.listener
            .say(&format!("Taking the power from worker {name}."));
        let start = Instant::now();
        self.lab.node_mut(worker).power_off();
        self.wait_replicas("second", "2/2")?;
        self.wait_replicas("web", "4/5")?;
        self.listener.say(&format!(
            "{} later its tasks run elsewhere; web, at one per machine, waits for a machine.",
            seconds(start)
        ));
        self.show(0, &["node", "ls"])?;
        self.listener.say(&format!("{name} comes back."));
        let start = Instant::now();
        self.lab.node_mut(worker).power_on()?;
        self.lab.node(worker).start_daemon()?;
        self.wait_replicas("web", "5/5")?;
        self.listener
            .say(&format!("web is whole again after {}.", seconds(start)));
        Ok(())
    }

    /// Switches the leader off; another takes over and accepts writes.
    ///
    /// # Errors
    /// When none does.
    pub fn kill_leader(&mut self) -> Result<()> {
        let leader = self.leader()?;
        let name = self.lab.node(leader).name().to_owned();
        self.listener
            .say(&format!("Taking the power from the leader, {name}."));
        self.lab.node_mut(leader).power_off();
        let start = Instant::now();
        wait_for("a write to be accepted", STEP_MAX, || {
            let label = format!("touched={}", start.elapsed().as_millis());
            let update = [
                "service",
                "update",
                "--detach",
                "--label-add",
                &label,
                "second",
            ];
            Ok(self
                .manager()?
                .ctl(&update)
                .map(drop)
                .map_err(|error| format!("{error:#}")))
        })?;
        self.listener
            .say(&format!("A write is accepted {} later.", seconds(start)));
        self.lab.node_mut(leader).power_on()?;
        self.lab.node(leader).start_daemon()?;
        self.wait_replicas("web", "5/5")?;
        self.listener.say(&format!("{name} is back and caught up."));
        self.show(0, &["node", "ls"])
    }

    /// Scales the second service to twenty.
    ///
    /// # Errors
    /// When they do not all run.
    pub fn scale(&mut self) -> Result<()> {
        self.listener.say("Scaling the second service to 20.");
        let start = Instant::now();
        self.manager()?
            .ctl(&["service", "scale", "--detach", "second=20"])?;
        self.wait_replicas("second", "20/20")?;
        self.listener
            .say(&format!("Twenty run after {}.", seconds(start)));
        self.show(0, &["service", "ls"])
    }

    /// Rolls `web` over to the second image, slot by slot.
    ///
    /// # Errors
    /// When a slot does not follow.
    pub fn update(&mut self) -> Result<()> {
        self.listener
            .say("A rolling update of web to a new image, two at a time.");
        let start = Instant::now();
        let image = if self.image.is_some() {
            self.web_image()?
        } else {
            "web:2".to_owned()
        };
        self.manager()?.ctl(&[
            "service",
            "update",
            "--image",
            &image,
            "--force",
            "--update-parallelism",
            "2",
            "--detach",
            "web",
        ])?;
        wait_for("the update to complete", STEP_MAX, || {
            let state = [
                "service",
                "inspect",
                "--format",
                "{{.UpdateStatus.State}}",
                "web",
            ];
            let state = self.manager()?.ctl(&state)?;
            Ok(if state.trim() == "completed" {
                Ok(())
            } else {
                Err(state)
            })
        })?;
        self.wait_replicas("web", "5/5")?;
        self.listener
            .say(&format!("Done and watched after {}.", seconds(start)));
        self.show(0, &["service", "ps", "web"])?;
        if self.image.is_some() {
            Ok(())
        } else {
            self.fetch_everywhere("version 2")
        }
    }

    /// Reads the output of all containers of `web` from one place.
    ///
    /// # Errors
    /// When a machine's output is missing.
    pub fn logs(&mut self) -> Result<()> {
        self.listener
            .say("The output of all its containers, read on one manager.");
        let logs = self
            .manager()?
            .ctl(&["service", "logs", "--tail", "2", "web"])?;
        if self.image.is_none() {
            for node in self.lab.nodes() {
                let mark = format!("@{} ", node.name());
                ensure!(
                    logs.contains(&mark),
                    "no line of {} in:\n{logs}",
                    node.name()
                );
            }
        }
        self.listener
            .show("swarmctl service logs --tail 2 web", &logs);
        Ok(())
    }

    fn fetch_everywhere(&mut self, expected: &str) -> Result<()> {
        let mut pages = String::new();
        for node in self.lab.nodes() {
            let page = wait_for(&format!("a page from {}", node.name()), STEP_MAX, || {
                Ok(self
                    .lab
                    .fetch(node.address(), WEB_PORT, "/")
                    .map_err(|e| format!("{e:#}")))
            })?;
            ensure!(page.contains(expected), "{} answered {page:?}", node.name());
            pages += &format!("{}: {page}", node.address());
        }
        self.listener
            .show(&format!("GET http://<each machine>:{WEB_PORT}/"), &pages);
        Ok(())
    }

    /// A manager that answers.
    ///
    /// # Errors
    /// When none is switched on.
    pub fn manager(&self) -> Result<&Node> {
        let mut managers = self.lab.nodes().iter().take(MANAGERS);
        managers
            .find(|node| node.is_on())
            .context("no manager is switched on")
    }

    /// Number of the machine that leads.
    ///
    /// # Errors
    /// When none does.
    pub fn leader(&self) -> Result<usize> {
        wait_for("a leader", STEP_MAX, || {
            let list = ["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"];
            let nodes = self.manager()?.ctl(&list)?;
            let name = nodes.lines().find_map(|line| line.strip_suffix(" Leader"));
            let index = self
                .lab
                .nodes()
                .iter()
                .position(|node| Some(node.name()) == name);
            Ok(index.ok_or(nodes.clone()))
        })
    }

    /// Waits until this many nodes are ready.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn wait_nodes_ready(&self, count: usize) -> Result<()> {
        wait_for("the nodes to be ready", STEP_MAX, || {
            let nodes = self
                .manager()?
                .ctl(&["node", "ls", "--format", "{{.Status}}"])?;
            let ready = nodes.lines().filter(|status| *status == "Ready").count();
            Ok(if ready == count { Ok(()) } else { Err(nodes) })
        })
    }

    /// Waits until `service ls` shows this for the service.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_replicas(&self, service: &str, replicas: &str) -> Result<()> {
        wait_for(&format!("{service} to be at {replicas}"), STEP_MAX, || {
            let list =
                self.manager()?
                    .ctl(&["service", "ls", "--format", "{{.Name}} {{.Replicas}}"])?;
            let wanted = format!("{service} {replicas}");
            let there = list
                .lines()
                .any(|line| line == wanted || line.starts_with(&format!("{wanted} ")));
            Ok(if there { Ok(()) } else { Err(list) })
        })
    }

    /// Waits until every service has all its tasks running.
    ///
    /// # Errors
    /// When one does not in time.
    pub fn wait_all_running(&self) -> Result<()> {
        wait_for("every service to be whole", STEP_MAX, || {
            let list = self
                .manager()?
                .ctl(&["service", "ls", "--format", "{{.Replicas}}"])?;
            let whole = list.lines().all(|line| {
                let counts = line.split(' ').next().unwrap_or("");
                counts
                    .split_once('/')
                    .is_some_and(|(running, wanted)| running == wanted)
            });
            Ok(if whole { Ok(()) } else { Err(list) })
        })
    }

    fn show(&mut self, node: usize, args: &[&str]) -> Result<()> {
        let node = if self.lab.node(node).is_on() {
            self.lab.node(node)
        } else {
            self.manager()?
        };
        let output = node.ctl(args)?;
        self.listener
            .show(&format!("swarmctl {}", args.join(" ")), &output);
        Ok(())
    }
}

fn seconds(start: Instant) -> String {
    format!("{:.2} s", start.elapsed().as_secs_f64())
}

/// The example's image archive of this version, written to `to`.
///
/// # Errors
/// When it cannot be written.
pub fn write_example_image(program: &Path, version: &str, to: &Path) -> Result<()> {
    let recipe = ImageRecipe {
        name: &format!("web:{version}"),
        program,
        command: &["/bin/web"],
        env: &[&format!("VERSION={version}"), &format!("PORT={WEB_PORT}")],
        check: &[],
    };
    write_archive(&recipe, to)
}
