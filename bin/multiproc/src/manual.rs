//! What is made of the command line's own description: completions and manual pages.

use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output;

pub(crate) fn completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "multiproc", &mut text);
    output::print(&String::from_utf8_lossy(&text))
}

/// Prints the page of the command itself, or writes those of all commands to a directory.
pub(crate) fn man(directory: Option<&Path>) -> Result<ExitCode, Failure> {
    let Some(directory) = directory else {
        let mut text = Vec::new();
        Man::new(command()).render(&mut text).map_err(Failure::Output)?;
        return output::print(&String::from_utf8_lossy(&text));
    };
    let doing = || format!("writing to {}", directory.display());
    std::fs::create_dir_all(directory).map_err(Failure::system(doing()))?;
    clap_mangen::generate_to(command(), directory).map_err(Failure::system(doing()))?;
    Ok(ExitCode::SUCCESS)
}

fn command() -> Command {
    Arguments::command().disable_help_subcommand(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn shown(command: &Command) -> impl Iterator<Item = &Command> {
        command.get_subcommands().filter(|command| !command.is_hide_set())
    }

    #[test]
    fn pages_name_all_commands_and_options() {
        let directory = tempfile::tempdir().unwrap();
        man(Some(directory.path())).unwrap();
        let read = |name: &str| {
            let page = fs::read_to_string(directory.path().join(name)).expect(name);
            // Hyphens are written so that they can be copied out of the page.
            page.replace("\\-", "-")
        };
        let whole = read("multiproc.1");
        let command = command();
        for one in shown(&command) {
            let name = one.get_name();
            assert!(whole.contains(&format!("multiproc-{name}(1)")), "{name}");
            let page = read(&format!("multiproc-{name}.1"));
            assert!(page.starts_with(".ie") || page.starts_with(".TH"), "{name}: {page}");
            for option in one.get_arguments().filter_map(|argument| argument.get_long()) {
                assert!(page.contains(&format!("--{option}")), "{name} --{option}");
            }
        }
        let hidden = directory.path().join("multiproc-document.1");
        assert!(!hidden.exists());
    }

    #[test]
    fn completions_name_all_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "multiproc", &mut text);
            let text = String::from_utf8(text).unwrap();
            for one in shown(&Arguments::command()) {
                assert!(text.contains(one.get_name()), "{shell}: {}", one.get_name());
            }
        }
    }

    #[test]
    fn commands_and_options_are_all_explained() {
        for one in shown(&command()) {
            assert!(one.get_about().is_some(), "{}", one.get_name());
            for argument in one.get_arguments() {
                let help = argument.get_help().is_some();
                assert!(help, "{} {}", one.get_name(), argument.get_id());
            }
        }
    }
}
