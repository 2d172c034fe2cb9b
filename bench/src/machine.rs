//! Description of the machine on which the figures were taken.

use std::{fs, process::Command, thread};

use rbee_tests::tools;

/// Processor, number of cores and server, in one line.
pub fn facts() -> String {
    format!("{}; {}; rbee {}", hardware(), server(), env!("CARGO_PKG_VERSION"))
}

/// Processor and number of cores.
pub fn hardware() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    format!("{}, {cores} cores", processor(&information))
}

/// Name of the first processor (proc_cpuinfo(5)).
fn processor(information: &str) -> &str {
    let names = information.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(':'));
    names.map(|(_, name)| name.trim()).next().unwrap_or("unknown processor")
}

fn server() -> String {
    let program = tools::nats_server();
    let output = Command::new(&program).arg("--version").output();
    let output = output.unwrap_or_else(|cause| panic!("{} cannot be run: {cause}", program.display()));
    String::from_utf8_lossy(&output.stdout).trim().replace(": v", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_processor_name_is_used() {
        assert_eq!(
            processor("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nmodel name\t: other\n"),
            "Fast CPU @ 3 GHz"
        );
        assert_eq!(processor(""), "unknown processor");
    }
}
