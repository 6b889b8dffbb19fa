//! How `cargo dev` starts and ends: the built tool with the whole suite, and the processes and sockets it makes.

#![cfg(target_os = "linux")]
#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Processes end within milliseconds; a busy machine gets plenty.
const END_MAX: Duration = Duration::from_secs(30);

/// `cargo dev` at its ready line.
struct Run {
    child: Child,
    stdout: BufReader<ChildStdout>,
    page_port: u16,
    aws_port: u16,
}

impl Run {
    fn start(temporary: &Path, page_port: u16, aws_port: u16) -> Self {
        let mut child = dev(&["--port", &page_port.to_string(), "--aws-port", &aws_port.to_string()])
            .env("TMPDIR", temporary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["ready:", page, websocket, aws] = words[..] else { panic!("not a ready line: {line:?}") };
        let port = |url: &str| url.rsplit_once(':').unwrap().1.parse().unwrap();
        for (url, start) in [(page, "page=http"), (websocket, "websocket=ws"), (aws, "aws=http")] {
            assert!(url.starts_with(&format!("{start}://127.0.0.1:")), "{line}");
        }
        Self { child, stdout, page_port: port(page), aws_port: port(aws) }
    }

    fn send(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().try_into().unwrap()).unwrap(), signal).unwrap();
    }

    /// The process and all that descend from it.
    fn processes(&self) -> BTreeSet<u32> {
        let mut processes = BTreeSet::from([self.child.id()]);
        loop {
            let known = processes.len();
            for process in
                fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            {
                if parent(process).is_some_and(|parent| processes.contains(&parent)) {
                    processes.insert(process);
                }
            }
            if processes.len() == known {
                return processes;
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dev(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.args(arguments);
    command
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn is_alive(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + END_MAX;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The local addresses, in the kernel's hexadecimal, at which these processes listen or receive datagrams.
fn listening(processes: &BTreeSet<u32>) -> BTreeSet<String> {
    let sockets: BTreeSet<String> = processes
        .iter()
        .filter_map(|process| fs::read_dir(format!("/proc/{process}/fd")).ok())
        .flatten()
        .filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut addresses = BTreeSet::new();
    // TCP_LISTEN is 0A; an unconnected UDP socket is 07.
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        for line in fs::read_to_string(format!("/proc/net/{table}")).unwrap().lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if columns[3] == state && sockets.contains(columns[9]) {
                addresses.insert(columns[1].to_owned());
            }
        }
    }
    addresses
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "one line: {said}");
    said
}

#[test]
fn it_serves_on_loopback_only_and_ctrl_c_ends_every_process() {
    let temporary = tempfile::tempdir().unwrap();
    let mut run = Run::start(temporary.path(), 0, 0);
    let processes = run.processes();
    assert!(processes.len() >= 5, "the tool, MiniStack, a function and two of Valkey at least: {processes:?}");

    let addresses = listening(&processes);
    assert!(addresses.len() >= 7, "page, gateway, model, AWS, services, Valkey and its proxy at least: {addresses:?}");
    // 127.0.0.1, as the kernel writes it.
    assert!(addresses.iter().all(|address| address.starts_with("0100007F:")), "{addresses:?}");

    run.send(Signal::INT);
    assert!(run.child.wait().unwrap().success());
    let mut rest = String::new();
    run.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "the ready line is the last");
    wait_until("every process ends", || !processes.iter().any(|process| is_alive(*process)));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "no temporary file is left");
    let output = dev(&["token", "aiko", "--aws-port", &run.aws_port.to_string()]).output().unwrap();
    let expected = format!("error: no stack is running on AWS port {}: start one with cargo dev\n", run.aws_port);
    assert_eq!(failure(&output), expected);
}

#[test]
fn a_killed_run_is_no_obstacle_to_the_next_one() {
    let temporary = tempfile::tempdir().unwrap();
    let first = Run::start(temporary.path(), 0, 0);
    let processes = first.processes();
    first.send(Signal::KILL);

    let mut second = Run::start(temporary.path(), first.page_port, first.aws_port);
    assert_eq!((second.page_port, second.aws_port), (first.page_port, first.aws_port));
    drop(first);
    wait_until("the killed run's processes end", || !processes.iter().any(|process| is_alive(*process)));

    let aws_port = second.aws_port.to_string();
    let output = dev(&["token", "aiko", "--aws-port", &aws_port]).output().unwrap();
    let token = String::from_utf8(output.stdout).unwrap();
    assert_eq!(token.trim_end().split('.').count(), 3, "a JWT: {token}");
    let stranger = failure(&dev(&["token", "eve", "--aws-port", &aws_port]).output().unwrap());
    assert_eq!(stranger, "error: there is no sample shopper eve: choose aiko or ben\n");

    let fault = dev(&["fault", "catalog", "error=0.5", "latency=200ms", "--aws-port", &aws_port]).output().unwrap();
    let in_force = String::from_utf8(fault.stdout).unwrap();
    assert!(in_force.contains("catalog          error=0.5 latency=200ms\n"), "{in_force}");
    let malformed = failure(&dev(&["fault", "catalog", "error=2", "--aws-port", &aws_port]).output().unwrap());
    assert_eq!(malformed, "error: error=2: a rate is a number from 0 to 1\n");

    let port = second.page_port.to_string();
    let said = failure(&dev(&["--aws-port", "0", "--port", &port]).output().unwrap());
    assert_eq!(said, format!("error: port {port} is busy: choose another with --port (0 picks a free one)\n"));
    let said = failure(&dev(&["--port", "0", "--aws-port", &aws_port]).output().unwrap());
    assert_eq!(said, format!("error: port {aws_port} is busy: choose another with --aws-port (0 picks a free one)\n"));

    second.send(Signal::TERM);
    assert!(second.child.wait().unwrap().success(), "SIGTERM ends it as Ctrl-C does");
    assert!(TcpListener::bind(("127.0.0.1", second.aws_port)).is_ok(), "the port is free again");
}
