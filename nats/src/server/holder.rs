//! The process that listens on a port, as the kernel reports it in `/proc`. Other systems than Linux report nothing.

use std::{fmt, fs, path::Path};

/// State of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`).
const LISTENING: &str = "0A";

/// Process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// Process id.
    pub pid: u32,
    /// Name of the program.
    pub name: String,
}

impl PortHolder {
    /// Process that listens on this TCP port of this machine. `None` if nothing listens, or if the process belongs to another
    /// user.
    pub fn of(port: u16) -> Option<Self> {
        let sockets: Vec<String> =
            ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listeners(&read(table), port)).collect();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
        let pid = pids.find(|pid| has_socket(*pid, &sockets))?;
        Some(Self { pid, name: read(&format!("/proc/{pid}/comm")).trim().to_owned() })
    }
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

/// Sentence about a port that is in use.
pub(super) fn taken(holder: Option<&PortHolder>) -> String {
    match holder {
        Some(holder) => format!("the port is taken by {holder}"),
        None => "the address is already in use".to_owned(),
    }
}

/// Links of the sockets that listen on a port, as `/proc/PID/fd` shows them.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let local = format!(":{port:04X}");
    let listener = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_listener = fields.get(1)?.ends_with(&local) && *fields.get(3)? == LISTENING;
        is_listener.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
    };
    table.lines().skip(1).filter_map(listener).collect()
}

fn has_socket(pid: u32, sockets: &[String]) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = files.filter_map(|file| fs::read_link(file.path()).ok());
    let mut links = links.map(|link| link.to_string_lossy().into_owned());
    links.any(|link| sockets.contains(&link))
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(path)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_on_a_port_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().expect("it is bound").port();
            let holder = PortHolder::of(port).expect("this process listens");
            assert_eq!(holder.pid, std::process::id());
            assert!(!holder.name.is_empty());
            drop(listener);
            assert_eq!(PortHolder::of(port), None);
        }
    }

    #[test]
    fn only_listening_sockets_of_the_port_count() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:107E 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1
   1: 0100007F:107E 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 222 1
   2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1
";
        assert_eq!(listeners(table, 4222), ["socket:[111]"]);
        assert_eq!(listeners(table, 4223), [""; 0]);
    }
}
