//! Paths of an installation on the remote machine.

use super::ssh::Variables;

/// Service manager that starts and restarts the hive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceManager {
    /// The system instance of systemd; requires root.
    System,
    /// The systemd instance of the user.
    User,
    /// No service manager: the hive is a process in a session of its own.
    None,
}

impl ServiceManager {
    /// Name in scripts and in the installation record.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::None => "none",
        }
    }

    /// Parses the name; `None` if it is unknown.
    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::System, Self::User, Self::None].into_iter().find(|manager| manager.as_str() == text)
    }

    /// Name for people.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::System => "the machine's systemd",
            Self::User => "the user's systemd",
            Self::None => "no systemd",
        }
    }
}

/// Files and folders of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) manager: ServiceManager,
    /// Folder of the programs: `versions/ID/rbee`, and `bin`, a symbolic link to the active version.
    pub(super) prefix: String,
    /// The hive's data folder.
    pub(super) data: String,
    config: String,
    state: String,
    unit: String,
}

impl Layout {
    /// Default layout for a user with home folder `home`; `prefix` and `data` override the folders.
    pub(super) fn new(manager: ServiceManager, home: &str, prefix: Option<&str>, data: Option<&str>) -> Self {
        let of_user = |path: &str| format!("{home}/{path}");
        let (default_prefix, default_data, config, unit) = match manager {
            ServiceManager::System => (
                "/usr/local/lib/rbee".to_owned(),
                "/var/lib/rbee".to_owned(),
                "/etc/rbee".to_owned(),
                "/etc/systemd/system/rbee-hive.service".to_owned(),
            ),
            ServiceManager::User | ServiceManager::None => {
                let unit = match manager {
                    ServiceManager::User => of_user(".config/systemd/user/rbee-hive.service"),
                    ServiceManager::System | ServiceManager::None => String::new(),
                };
                (of_user(".local/share/rbee"), of_user(".local/share/rbee"), of_user(".config/rbee"), unit)
            }
        };
        let state = of_user(".local/state/rbee");
        let at = |given: Option<&str>, default| given.map_or(default, |given| absolute(home, given));
        Self { manager, prefix: at(prefix, default_prefix), data: at(data, default_data), config, state, unit }
    }

    /// Folder of the programs of one version.
    pub(super) fn version(&self, id: &str) -> String {
        format!("{}/versions/{id}", self.prefix)
    }

    /// File with the hive's options as environment variables.
    pub(super) fn settings(&self) -> String {
        format!("{}/hive.env", self.config)
    }

    /// Record of the installation. It is written first and removed last.
    pub(super) fn record(&self) -> String {
        format!("{}/hive.installed", self.config)
    }

    /// Path of the unit; `None` if the hive is not managed by systemd.
    pub(super) fn unit(&self) -> Option<&str> {
        (!self.unit.is_empty()).then_some(self.unit.as_str())
    }

    /// The layout as variables for the scripts.
    pub(super) fn variables(&self) -> Variables {
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

/// Resolves a path on the remote machine; relative paths are below the home folder.
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
    fn layout_defaults_to_the_home_folder() {
        let of = |manager, prefix, data| {
            let layout = Layout::new(manager, "/home/pi", prefix, data);
            [layout.version("v"), layout.data.clone(), layout.settings(), layout.unit].join(" ")
        };
        let share = "/home/pi/.local/share/rbee";
        let settings = "/home/pi/.config/rbee/hive.env";
        assert_eq!(of(ServiceManager::None, None, None), format!("{share}/versions/v {share} {settings} "));
        assert_eq!(
            of(ServiceManager::User, Some("apps/bees/"), Some("/data")),
            format!("/home/pi/apps/bees/versions/v /data {settings} /home/pi/.config/systemd/user/rbee-hive.service")
        );
        assert_eq!(
            of(ServiceManager::System, None, Some("~/bees")),
            "/usr/local/lib/rbee/versions/v /home/pi/bees /etc/rbee/hive.env /etc/systemd/system/rbee-hive.service"
        );
    }
}
