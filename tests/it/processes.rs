//! The execution environments of a stack's functions: processes of this machine.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// An execution environment.
pub struct Environment {
    pub function: String,
    pid: Pid,
}

impl Environment {
    /// Ends it as nothing could that it would notice; whether it was still there.
    pub fn kill(&self) -> bool {
        kill_process(self.pid, Signal::KILL).is_ok()
    }
}

/// Those of the functions that the embedded AWS at `aws_url` runs. They are told by what it gave them on their way.
pub fn environments(aws_url: &str) -> Vec<Environment> {
    let processes = fs::read_dir("/proc").expect("processes are listed").filter_map(Result::ok);
    let environment = |entry: fs::DirEntry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let variables = fs::read(entry.path().join("environ")).ok()?;
        let variables = String::from_utf8(variables).ok()?;
        let variable = |name: &str| variables.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let function = variable("AWS_LAMBDA_FUNCTION_NAME")?.to_owned();
        (variable("AWS_ENDPOINT_URL") == Some(aws_url)).then_some(Environment { function, pid })
    };
    processes.filter_map(environment).collect()
}
