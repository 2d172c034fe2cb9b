//! Where an installation has what on its machine.

use super::ssh::Words;

/// Who starts a hive and watches over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    /// The systemd of the machine: only root may have that.
    System,
    /// The systemd of a user.
    User,
    /// Nobody: it is a process in a session of its own.
    Nobody,
}

impl Manager {
    /// Its name in scripts.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Nobody => "none",
        }
    }

    /// Reads its name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::System, Self::User, Self::Nobody].into_iter().find(|manager| manager.as_str() == text)
    }

    /// In words.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::System => "the machine's systemd",
            Self::User => "the user's systemd",
            Self::Nobody => "no systemd",
        }
    }
}

/// The files and folders of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) manager: Manager,
    /// Programs are below it: `versions/ID/rbee`, and `bin`, which is a link to the version that starts.
    pub(super) prefix: String,
    /// The hive's data folder.
    pub(super) data: String,
    config: String,
    state: String,
    unit: String,
}

impl Place {
    /// Where things are for a user whose home folder is `home`, unless `prefix` and `data` say otherwise.
    pub(super) fn new(manager: Manager, home: &str, prefix: Option<&str>, data: Option<&str>) -> Self {
        let of_user = |path: &str| format!("{home}/{path}");
        let (default_prefix, default_data, config, unit) = match manager {
            Manager::System => (
                "/usr/local/lib/rbee".to_owned(),
                "/var/lib/rbee".to_owned(),
                "/etc/rbee".to_owned(),
                "/etc/systemd/system/rbee-hive.service".to_owned(),
            ),
            Manager::User | Manager::Nobody => {
                let unit = match manager {
                    Manager::User => of_user(".config/systemd/user/rbee-hive.service"),
                    Manager::System | Manager::Nobody => String::new(),
                };
                (of_user(".local/share/rbee"), of_user(".local/share/rbee"), of_user(".config/rbee"), unit)
            }
        };
        let state = of_user(".local/state/rbee");
        let at = |given: Option<&str>, default| given.map_or(default, |given| absolute(home, given));
        Self { manager, prefix: at(prefix, default_prefix), data: at(data, default_data), config, state, unit }
    }

    /// The programs of one version.
    pub(super) fn version(&self, id: &str) -> String {
        format!("{}/versions/{id}", self.prefix)
    }

    /// The options of the hive, as variables.
    pub(super) fn settings(&self) -> String {
        format!("{}/hive.env", self.config)
    }

    /// What was installed: it is there first and goes last.
    pub(super) fn record(&self) -> String {
        format!("{}/hive.installed", self.config)
    }

    /// The unit, where systemd has the hive.
    pub(super) fn unit(&self) -> Option<&str> {
        (!self.unit.is_empty()).then_some(self.unit.as_str())
    }

    /// All of it, as scripts know it.
    pub(super) fn words(&self) -> Words {
        vec![
            ("manager", self.manager.as_str().to_owned()),
            ("prefix", self.prefix.clone()),
            ("programs", format!("{}/versions", self.prefix)),
            ("data", self.data.clone()),
            ("config", self.config.clone()),
            ("state", self.state.clone()),
            ("settings", self.settings()),
            ("installed", self.record()),
            ("unit", self.unit.clone()),
            ("log", format!("{}/hive.log", self.state)),
            ("pid_file", format!("{}/hive.pid", self.state)),
        ]
    }
}

/// A path of the other machine; one that is not absolute is below the home folder.
fn absolute(home: &str, path: &str) -> String {
    let path = path.trim_end_matches('/');
    match path.strip_prefix("~/") {
        Some(path) => format!("{home}/{path}"),
        None if path.starts_with('/') => path.to_owned(),
        None => format!("{home}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_in_the_home_folder_unless_the_machine_or_the_user_says_otherwise() {
        let of = |manager, prefix, data| {
            let place = Place::new(manager, "/home/pi", prefix, data);
            [place.version("v"), place.data.clone(), place.settings(), place.unit].join(" ")
        };
        let share = "/home/pi/.local/share/rbee";
        let settings = "/home/pi/.config/rbee/hive.env";
        assert_eq!(of(Manager::Nobody, None, None), format!("{share}/versions/v {share} {settings} "));
        assert_eq!(
            of(Manager::User, Some("apps/bees/"), Some("/data")),
            format!("/home/pi/apps/bees/versions/v /data {settings} /home/pi/.config/systemd/user/rbee-hive.service")
        );
        assert_eq!(
            of(Manager::System, None, Some("~/bees")),
            "/usr/local/lib/rbee/versions/v /home/pi/bees /etc/rbee/hive.env /etc/systemd/system/rbee-hive.service"
        );
    }
}
