//! Prints how long every function takes from the start of its process to its first request for work, and how large its
//! package is, beside their budgets.
//!
//! `cargo run --release -p integration-tests --example cold_start`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot be made is given up"
)]

mod release;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use flate2::{Compression, write::DeflateEncoder};

/// Starts of each function; one more before them brings its file into memory.
const RUNS: usize = 50;

/// Longer than any start; a function that does not start says why on standard error.
const START_MS_MAX: u64 = 5_000;

const BUDGET: &str = "budget: 6 ms median, 5 MB packed";

const BARE: &str = "bare_function";

fn main() {
    let mut executables = release::functions();
    executables.extend(release::build(&["--package", "integration-tests", "--example", BARE]));

    let (runtime_api, asked) = runtime_api();
    let mut starts: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for run in 0..=RUNS {
        for (name, executable) in &executables {
            let time = start(executable, runtime_api, &asked);
            if run > 0 {
                starts.entry(name).or_default().push(time);
            }
        }
    }

    release::print_machine();
    for times in starts.values_mut() {
        times.sort();
    }
    let bare = release::percentile(&starts[BARE], 50);
    println!("{RUNS} starts each, {BUDGET}\n");
    println!("| function | median | p90 | × bare | binary | packed |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, times) in &starts {
        let median = release::percentile(times, 50);
        let code = fs::read(&executables[*name]).unwrap();
        println!(
            "| `{name}` | {:.1} ms | {:.1} ms | {:.1} | {:.1} MB | {:.1} MB |",
            ms(median),
            ms(release::percentile(times, 90)),
            median.div_duration_f64(bare),
            megabytes(code.len()),
            megabytes(packed_bytes(&code)),
        );
    }
}

/// A request for work: when it came, its first line, and the connection it came on, which stays open while it is held.
type Asked = (Instant, String, TcpStream);

/// A Runtime API that never has work; tells when it is asked for some.
fn runtime_api() -> (SocketAddr, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, asked) = channel();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let connection = connection.unwrap();
            let mut request_line = String::new();
            BufReader::new(&connection).read_line(&mut request_line).unwrap();
            tell.send((Instant::now(), request_line, connection)).unwrap();
        }
    });
    (address, asked)
}

/// From before the process exists until it asks for work.
fn start(executable: &Path, runtime_api: SocketAddr, asked: &Receiver<Asked>) -> Duration {
    let mut command = release::function(executable, runtime_api);
    command.stdin(Stdio::null());
    let begun = Instant::now();
    let mut process = command.spawn().unwrap();
    let answer = asked.recv_timeout(Duration::from_millis(START_MS_MAX));
    process.kill().unwrap();
    process.wait().unwrap();
    let (at, request_line, _connection) = answer.expect("the function asks for work");
    assert!(request_line.starts_with("GET /2018-06-01/runtime/invocation/next "), "{request_line}");
    at - begun
}

/// The executable's size in a deployment package, which holds nothing else.
fn packed_bytes(code: &[u8]) -> usize {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut deflate, code).unwrap();
    deflate.finish().unwrap().len()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
