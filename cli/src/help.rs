//! Help of the command line: verbs grouped by task, and the help of all verbs as one text.

use std::fmt::Write as _;

use clap::Command;

/// A heading of `rbee --help` and the verbs under it.
struct VerbGroup {
    heading: &'static str,
    verbs: &'static [&'static str],
}

/// Groups of verbs in the order of `rbee --help`. Each verb belongs to one group.
const GROUPS: [VerbGroup; 5] = [
    VerbGroup { heading: "Set up", verbs: &["up", "down", "queen", "hive", "config", "topology", "schema"] },
    VerbGroup { heading: "Run models", verbs: &["serve", "apply", "plan", "remove", "pull", "rm"] },
    VerbGroup { heading: "Use models", verbs: &["run", "embed", "batch", "submit", "attach", "cancel"] },
    VerbGroup {
        heading: "Inspect",
        verbs: &["ps", "jobs", "models", "hives", "ports", "events", "replay", "audit", "explain", "doctor"],
    },
    VerbGroup { heading: "Operate", verbs: &["drain", "stop", "reset", "retry", "tenant"] },
];

/// Width of the names of verbs in `rbee --help`.
const NAME_WIDTH: usize = 10;

/// Columns of the generated help text.
const WIDTH: usize = 120;

/// The command line with verbs grouped by task in its help.
pub(crate) fn with_groups(command: Command) -> Command {
    let template = template(&command);
    command.help_template(template)
}

/// Help template of `rbee` itself. clap has no groups of subcommands, so the template holds the whole list.
fn template(command: &Command) -> String {
    let heading = |text: &str| {
        let style = command.get_styles().get_header();
        format!("{style}{text}:{style:#}")
    };
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for VerbGroup { heading: name, verbs } in &GROUPS {
        let _ = writeln!(text, "\n{}", heading(name));
        for verb in *verbs {
            let about = command.find_subcommand(verb).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let style = command.get_styles().get_literal();
            let _ = writeln!(text, "  {style}{verb}{style:#}{:1$}{about}", "", NAME_WIDTH - verb.len());
        }
    }
    let _ = write!(text, "\n{}\n{{options}}{{after-help}}", heading("Options of every verb"));
    text
}

/// Help of `rbee` and of every verb, as one text.
pub(crate) fn render(command: Command) -> String {
    let mut root = command.term_width(WIDTH);
    root.build();
    let mut text = root.render_help().to_string();
    append_verbs(&mut root, "rbee", &mut text);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

fn append_verbs(command: &mut Command, path: &str, text: &mut String) {
    for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        let path = format!("{path} {}", verb.get_name());
        let _ = write!(text, "\n---- {path}\n\n{}", verb.render_help());
        append_verbs(verb, &path, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::command;

    fn rendered(verb: &str) -> String {
        let mut root = command().term_width(WIDTH);
        root.build();
        root.find_subcommand_mut(verb).expect("a verb").render_help().to_string()
    }

    #[test]
    fn every_verb_is_in_exactly_one_group() {
        let command = command();
        let mut declared: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|group| group.verbs).copied().collect();
        declared.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, declared);
    }

    #[test]
    fn help_lists_each_verb_once_under_the_heading_of_its_group() {
        let text = command().term_width(WIDTH).render_help().to_string();
        let mut heading = "";
        let mut listed = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_suffix(':') {
                heading = name;
            } else if let Some(verb) = line.strip_prefix("  ").filter(|rest| rest.starts_with(char::is_alphabetic)) {
                listed.push((heading, verb.split(' ').next().unwrap_or_default()));
            }
        }
        let expected: Vec<(&str, &str)> =
            GROUPS.iter().flat_map(|group| group.verbs.iter().map(|verb| (group.heading, *verb))).collect();
        assert_eq!(listed, expected, "{text}");
        assert!(text.contains("\nOptions of every verb:\n"), "{text}");
    }

    #[test]
    fn help_of_a_verb_shows_its_own_options_before_those_of_every_verb() {
        for verb in GROUPS.iter().flat_map(|group| group.verbs) {
            let text = rendered(verb);
            let (own, shared) = text.split_once("\nOptions of every verb:\n").expect("the heading");
            for option in
                ["--nats ", "--namespace ", "--patience ", "--json", "--config ", "--env ", "--log-file ", "--otlp "]
            {
                assert!(shared.contains(option) && !own.contains(&format!("  {option}")), "{verb}: {option}: {text}");
            }
        }
    }

    #[test]
    fn help_of_up_fits_a_screen_and_a_half() {
        let text = rendered("up");
        assert!(text.lines().count() <= 75, "{} lines:\n{text}", text.lines().count());
        assert!(!text.contains("--timers") && !text.contains("--bus-limits"), "{text}");
    }

    #[test]
    fn help_has_no_second_form_that_is_longer() {
        // With one, `--help` would put every description on a line of its own.
        let mut root = command();
        root.build();
        for verb in root.get_subcommands() {
            assert!(verb.get_arguments().all(|option| option.get_long_help().is_none()), "{}", verb.get_name());
            assert!(verb.get_long_about().is_none(), "{}", verb.get_name());
        }
    }
}
