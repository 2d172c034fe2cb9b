//! The systemd unit of an installed hive: the unit in `docs/systemd` with paths and user adapted.

use super::layout::{Layout, ServiceManager};

const UNIT: &str = include_str!("../../../docs/systemd/rbee-hive.service");

/// A change to one line of the unit.
enum Change {
    Replace(String),
    Remove,
}

/// Text of the unit for this layout; `None` if the hive is not managed by systemd.
pub(super) fn unit(layout: &Layout) -> Option<String> {
    layout.unit()?;
    let changes = changes(layout);
    let lines = UNIT.lines().filter_map(|line| match changes.iter().find(|(from, _)| *from == line) {
        Some((_, Change::Replace(other))) => Some(other.as_str()),
        Some((_, Change::Remove)) => None,
        None => Some(line),
    });
    Some(lines.map(|line| format!("{line}\n")).collect())
}

fn changes(layout: &Layout) -> Vec<(&'static str, Change)> {
    let to = |text: String| Change::Replace(text);
    let mut changes = vec![
        (
            "# A hive as a service. docs/several-machines.md says how to install it: \"Run a hive as a service\".",
            to("# FilesToWrite by `rbee hive install`; `rbee hive remove` removes it.".to_owned()),
        ),
        ("ExecStart=/usr/local/bin/rbee hive", to(format!("ExecStart={}/bin/rbee hive", layout.prefix))),
        ("EnvironmentFile=-/etc/rbee/hive.env", to(format!("EnvironmentFile={}", layout.settings()))),
        ("Environment=RBEE_DATA=/var/lib/rbee", to(format!("Environment=RBEE_DATA={}", layout.data))),
    ];
    if layout.manager == ServiceManager::User {
        // A user's systemd runs everything as that user, and has no network targets and no multi-user.target.
        changes.extend(
            ["User=rbee", "StateDirectory=rbee", "Wants=network-online.target", "After=network-online.target"]
                .map(|line| (line, Change::Remove)),
        );
        changes.push(("WantedBy=multi-user.target", to("WantedBy=default.target".to_owned())));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_changed_line_occurs_in_the_shipped_unit() {
        for (line, _) in changes(&Layout::new(ServiceManager::User, "/home/pi", None, None)) {
            assert_eq!(UNIT.lines().filter(|found| *found == line).count(), 1, "{line}");
        }
    }

    #[test]
    fn user_unit_names_no_system_path() {
        let of = |manager| unit(&Layout::new(manager, "/home/pi", None, None));
        assert_eq!(of(ServiceManager::None), None);
        let user = of(ServiceManager::User).expect("a unit");
        assert!(user.contains("ExecStart=/home/pi/.local/share/rbee/bin/rbee hive\n"), "{user}");
        for foreign in ["/etc/", "/usr/", "/var/", "User=", "multi-user"] {
            assert!(!user.contains(foreign), "{foreign} in {user}");
        }
        let system = of(ServiceManager::System).expect("a unit");
        for line in ["ExecStart=/usr/local/lib/rbee/bin/rbee hive", "User=rbee", "KillMode=process"] {
            assert!(system.lines().any(|found| found == line), "{line} in {system}");
        }
    }
}
