//! Name of this machine on the bus.

use rbee_schema::HostName;

/// Host name of this machine, with the characters replaced that a subject cannot hold.
pub(crate) fn host() -> HostName {
    let name = nix::unistd::gethostname().unwrap_or_default();
    HostName::from_lossy(&name.to_string_lossy())
}
