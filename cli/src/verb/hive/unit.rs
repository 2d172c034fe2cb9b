//! The unit of an installed hive: the one in `docs/systemd`, with what is different here.

use super::place::{Manager, Place};

const UNIT: &str = include_str!("../../../../docs/systemd/rbee-hive.service");

/// What becomes of a line of the unit.
enum Change {
    To(String),
    Gone,
}

/// The unit for this place; none where no systemd has the hive.
pub(super) fn unit(place: &Place) -> Option<String> {
    place.unit()?;
    let changes = changes(place);
    let lines = UNIT.lines().filter_map(|line| match changes.iter().find(|(from, _)| *from == line) {
        Some((_, Change::To(other))) => Some(other.as_str()),
        Some((_, Change::Gone)) => None,
        None => Some(line),
    });
    Some(lines.map(|line| format!("{line}\n")).collect())
}

fn changes(place: &Place) -> Vec<(&'static str, Change)> {
    let to = |text: String| Change::To(text);
    let mut changes = vec![
        (
            "# A hive as a service. README.md says how to install it: \"Run a hive as a service\".",
            to("# Written by `rbee hive install`; `rbee hive remove` removes it.".to_owned()),
        ),
        ("ExecStart=/usr/local/bin/rbee hive", to(format!("ExecStart={}/bin/rbee hive", place.prefix))),
        ("EnvironmentFile=-/etc/rbee/hive.env", to(format!("EnvironmentFile={}", place.settings()))),
        ("Environment=RBEE_DATA=/var/lib/rbee", to(format!("Environment=RBEE_DATA={}", place.data))),
    ];
    if place.manager == Manager::User {
        // The systemd of a user runs everything as that user, and knows no network and no multi-user.target.
        changes.extend(
            ["User=rbee", "StateDirectory=rbee", "Wants=network-online.target", "After=network-online.target"]
                .map(|line| (line, Change::Gone)),
        );
        changes.push(("WantedBy=multi-user.target", to("WantedBy=default.target".to_owned())));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_is_different_is_a_line_of_the_unit() {
        for (line, _) in changes(&Place::new(Manager::User, "/home/pi", None, None)) {
            assert_eq!(UNIT.lines().filter(|found| *found == line).count(), 1, "{line}");
        }
    }

    #[test]
    fn the_unit_of_a_user_names_nothing_of_the_machine() {
        let of = |manager| unit(&Place::new(manager, "/home/pi", None, None));
        assert_eq!(of(Manager::Nobody), None);
        let user = of(Manager::User).expect("a unit");
        assert!(user.contains("ExecStart=/home/pi/.local/share/rbee/bin/rbee hive\n"), "{user}");
        for foreign in ["/etc/", "/usr/", "/var/", "User=", "multi-user"] {
            assert!(!user.contains(foreign), "{foreign} in {user}");
        }
        let system = of(Manager::System).expect("a unit");
        for line in ["ExecStart=/usr/local/lib/rbee/bin/rbee hive", "User=rbee", "KillMode=process"] {
            assert!(system.lines().any(|found| found == line), "{line} in {system}");
        }
    }
}
