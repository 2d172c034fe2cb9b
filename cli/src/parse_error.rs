//! Errors of option parsers, in words that say what is expected. The parsers of the standard library only say what is wrong.

use std::process;

/// Texts of parsers, and what they mean to the user.
const MEANINGS: [(&str, &str); 7] = [
    ("invalid digit found in string", "expected a whole number, such as 4"),
    ("cannot parse integer from empty string", "expected a whole number, such as 4"),
    ("number too large to fit in target type", "the number is too large"),
    ("number too small to fit in target type", "the number is too small"),
    ("invalid float literal", "expected a number, such as 0.7"),
    ("cannot parse float from empty string", "expected a number, such as 0.7"),
    ("invalid socket address syntax", "expected an address and a port, such as 127.0.0.1:7833"),
];

/// The text with each error of a parser replaced by its meaning.
pub(crate) fn explained(text: &str) -> String {
    MEANINGS.iter().fold(text.to_owned(), |text, (found, meaning)| text.replace(found, meaning))
}

/// Prints an error of the command line and ends the process, as clap does.
pub(crate) fn exit(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    let better: String = explained(&text).split_inclusive('\n').map(usage).collect();
    if better == text {
        error.exit();
    }
    eprint!("{better}");
    process::exit(error.exit_code());
}

/// A line of usage without the options that happen to be set, such as by a variable: they are not required.
fn usage(line: &str) -> String {
    if !line.starts_with("Usage: ") || !line.contains(" --") {
        return line.to_owned();
    }
    let mut words: Vec<&str> = Vec::new();
    let mut is_value = false;
    for word in line.trim_end().split(' ') {
        match word {
            word if word.starts_with("--") => {
                if !words.contains(&"[OPTIONS]") {
                    words.push("[OPTIONS]");
                }
                is_value = true;
            }
            word if is_value && word.starts_with('<') => is_value = false,
            word => words.push(word),
        }
    }
    words.join(" ") + "\n"
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn every_error_of_a_parser_is_explained() {
        let errors = [
            "x".parse::<u32>().map_err(|error| error.to_string()).err(),
            "".parse::<u32>().map_err(|error| error.to_string()).err(),
            "300".parse::<u8>().map_err(|error| error.to_string()).err(),
            "-300".parse::<i8>().map_err(|error| error.to_string()).err(),
            "x".parse::<f32>().map_err(|error| error.to_string()).err(),
            "".parse::<f32>().map_err(|error| error.to_string()).err(),
            "abc".parse::<SocketAddr>().map_err(|error| error.to_string()).err(),
        ];
        for (error, (_, meaning)) in errors.into_iter().zip(MEANINGS) {
            assert_eq!(error.map(|error| explained(&error)).as_deref(), Some(meaning));
        }
    }

    #[test]
    fn usage_requires_no_option_that_is_set_by_a_variable() {
        for (line, expected) in [
            ("Usage: rbee run --config <FILE> <NAME> <PROMPT>\n", "Usage: rbee run [OPTIONS] <NAME> <PROMPT>\n"),
            ("Usage: rbee run --json --nats <URL> <NAME>\n", "Usage: rbee run [OPTIONS] <NAME>\n"),
            ("Usage: rbee run <NAME>\n", "Usage: rbee run <NAME>\n"),
            ("  --config <FILE> is missing\n", "  --config <FILE> is missing\n"),
        ] {
            assert_eq!(usage(line), expected);
        }
    }
}
