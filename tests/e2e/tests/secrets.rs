//! A secret is only where it is used: in the memory file system of a container, for as long as it
//! runs. Daemons, shims, files and logs of every node are searched for it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::story::{Silent, Story};
use harness::{Lab, wait_for};

const MANAGERS: usize = 3;
const WORKERS: usize = 1;
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A text nothing else holds, long enough not to come up by chance.
fn marker(name: &str) -> String {
    let noise = fs::read("/proc/sys/kernel/random/uuid").unwrap();
    format!("{name}:{}", String::from_utf8_lossy(&noise).trim())
}

/// Runs `swarmctl` with this as its standard input: a file would be a copy of the secret.
fn ctl_with(lab: &Lab, args: &[&str], input: &str) -> Result<()> {
    let mut child = lab
        .node(0)
        .ctl_command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Processes of the lab by the name of their program.
fn named(lab: &Lab, name: &str) -> Vec<u32> {
    let machines = lab.pids();
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .filter(|pid| is_below(*pid, &machines))
        .collect()
}

/// Whether a process descends from one of these.
fn is_below(mut pid: u32, ancestors: &[u32]) -> bool {
    while pid > 1 {
        if ancestors.contains(&pid) {
            return true;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        pid = parent
            .and_then(|parent| parent.trim().parse().ok())
            .unwrap_or(0);
    }
    false
}

/// What the container sees at this path, of the only one there is.
fn seen(lab: &Lab, path: &str) -> Result<PathBuf> {
    let pids = named(lab, "web");
    ensure!(pids.len() == 1, "containers: {pids:?}");
    Ok(PathBuf::from(format!("/proc/{}/root{path}", pids[0])))
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// Whether any readable memory of a process holds the text.
fn memory_holds(pid: u32, needle: &[u8]) -> Result<bool> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if !rights.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
            continue;
        }
        let (from, to) = range.split_once('-').context("a range")?;
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let mut region = vec![0; usize::try_from(to - from)?];
        memory.seek(SeekFrom::Start(from))?;
        // Mappings come and go, and some cannot be read.
        let mut length = 0;
        while length < region.len() {
            match memory.read(&mut region[length..]) {
                Ok(0) | Err(_) => break,
                Ok(count) => length += count,
            }
        }
        if holds(&region[..length], needle) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every file below a directory that holds the text.
fn files_holding(dir: &Path, needle: &[u8], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            files_holding(&path, needle, found);
        } else if kind.is_file() && fs::read(&path).is_ok_and(|bytes| holds(&bytes, needle)) {
            found.push(path);
        }
    }
}

/// Where the text is that it should not be.
fn copies(lab: &Lab, text: &str) -> Vec<String> {
    let mut found = vec![];
    files_holding(lab.dir(), text.as_bytes(), &mut found);
    let mut copies: Vec<String> = found
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    for program in ["swarmd", "swarm-shim"] {
        for pid in named(lab, program) {
            if memory_holds(pid, text.as_bytes()).unwrap_or(false) {
                copies.push(format!("memory of {program} {pid}"));
            }
        }
    }
    copies
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn a_secret_is_only_where_it_is_used() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    lab.form_swarm(MANAGERS, WORKERS).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.load_images().unwrap();
    let (first, second) = (marker("first"), marker("second"));
    assert!(
        memory_holds(std::process::id(), first.as_bytes()).unwrap(),
        "the search finds"
    );

    ctl_with(story.lab, &["secret", "create", "db", "-"], &first).unwrap();
    let template = "user={{.Service.Name}} password={{secret \"db\"}}\n";
    let create = [
        "config",
        "create",
        "--template-driver",
        "golang",
        "app.conf",
        "-",
    ];
    ctl_with(story.lab, &create, template).unwrap();
    let create = "service create -d --name one --secret db \
                  --secret source=db,target=/etc/app/pw,uid=33,gid=34,mode=0400 \
                  --config source=app.conf,target=/etc/app/app.conf --update-monitor 1s \
                  --rollback-monitor 1s web:1";
    let words: Vec<_> = create.split_whitespace().collect();
    story.lab.node(0).ctl(&words).unwrap();
    story.wait_replicas("one", "1/1").unwrap();
    let lab = &*story.lab;

    let read = |path: &str| fs::read_to_string(seen(lab, path).unwrap()).unwrap();
    assert_eq!(read("/run/secrets/db"), first);
    assert_eq!(read("/etc/app/pw"), first);
    assert_eq!(
        read("/etc/app/app.conf"),
        format!("user=one password={first}\n")
    );
    let file = fs::metadata(seen(lab, "/etc/app/pw").unwrap()).unwrap();
    assert_eq!(
        (file.mode() & 0o7777, file.uid(), file.gid()),
        (0o400, 33, 34)
    );
    let file = fs::metadata(seen(lab, "/run/secrets/db").unwrap()).unwrap();
    assert_eq!(
        (file.mode() & 0o7777, file.uid(), file.gid()),
        (0o444, 0, 0)
    );
    let pid = named(lab, "web")[0];
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    for target in ["/run/secrets", "/etc/app/pw", "/etc/app/app.conf"] {
        let mount = mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(target));
        let mount = mount.unwrap_or_else(|| panic!("{target} in\n{mounts}"));
        assert!(mount.contains(" ro,nosuid,nodev,noexec"), "{mount}");
        assert!(
            mount.contains(" - tmpfs ") || mount.contains(" - ramfs "),
            "{mount}"
        );
    }
    assert_eq!(copies(lab, &first), Vec::<String>::new(), "while it runs");

    // New content rolls the service; going back brings the old.
    ctl_with(lab, &["secret", "update", "db", "-"], &second).unwrap();
    assert_eq!(read("/run/secrets/db"), second);
    lab.node(0).ctl(&["service", "rollback", "one"]).unwrap();
    assert_eq!(read("/run/secrets/db"), first);

    // A daemon that was replaced finds the container with its files.
    for index in 0..MANAGERS + WORKERS {
        lab.node(index).stop_daemon(15).unwrap();
        lab.node(index).start_daemon().unwrap();
        story.wait_nodes_ready(MANAGERS + WORKERS).unwrap();
    }
    assert_eq!(read("/run/secrets/db"), first);

    let refused = lab
        .node(0)
        .ctl(&["secret", "rm", "db"])
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("in use by the following service: one"),
        "{refused}"
    );
    lab.node(0).ctl(&["service", "rm", "one"]).unwrap();
    wait_for("the container to be gone", WAIT_MAX, || {
        let left = named(lab, "web");
        Ok(if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        })
    })
    .unwrap();
    for text in [&first, &second] {
        assert_eq!(copies(lab, text), Vec::<String>::new(), "after it ended");
    }
    lab.node(0).ctl(&["secret", "rm", "db"]).unwrap();
}
