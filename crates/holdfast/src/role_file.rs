//! A role's flags from a TOML file: `--config FILE`, one key for each long flag.
//!
//! The file is turned into flags behind those that were given, and only for what neither the command
//! line nor the environment says. So every value has one meaning, one parser and one error text,
//! wherever it comes from.

use crate::{args::Cli, failure::Failure};
use clap::{ArgAction, ArgMatches, Command, CommandFactory as _, parser::ValueSource};
use std::{ffi::OsString, path::Path};

/// The flag that names the file.
const FLAG: &str = "config";
/// Flags that mean something only on a command line.
const NEVER: [&str; 3] = [FLAG, "help", "version"];
/// A file of flags that is larger than this is something else.
const FILE_BYTES: u64 = 64 << 10;

/// The command line, with what the file of its `--config` adds. Without one it is as it was.
///
/// # Errors
/// A file that cannot be read, is no TOML, or has a key that is no flag of this role: each with its
/// place.
pub fn widen(mut line: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let mut command = Cli::command();
    // So that what every command takes is a flag of the role too.
    command.build();
    // Whatever is wrong with the command line itself is said by the parser proper.
    let Ok(matches) = command.clone().try_get_matches_from(&line) else { return Ok(line) };
    let Some((role, given)) = matches.subcommand() else { return Ok(line) };
    let Ok(Some(path)) = given.try_get_one::<std::path::PathBuf>(FLAG) else { return Ok(line) };
    let role = command.find_subcommand(role).expect("it was matched");
    let table = read(path)?;
    for (key, value) in &table {
        line.extend(flags(role, given, path, key, value)?);
    }
    Ok(line)
}

fn read(path: &Path) -> Result<toml::Table, Failure> {
    let next = "name a TOML file with one key for each flag, as in: listen = \"127.0.0.1:7070\"";
    let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()), next);
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > FILE_BYTES {
        return Err(failed(format!("{size} bytes, and {FILE_BYTES} is the most a file of flags may have")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    text.parse().map_err(|error: toml::de::Error| failed(error.to_string().trim_end().to_owned()))
}

/// One key of the file, as flags; none if the command line or the environment says it already.
fn flags(
    role: &Command,
    given: &ArgMatches,
    path: &Path,
    key: &str,
    value: &toml::Value,
) -> Result<Vec<OsString>, Failure> {
    let known =
        || role.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| !NEVER.contains(&long)));
    let Some(arg) = known().find(|arg| arg.get_long() == Some(key)) else {
        let names: Vec<&str> =
            known().filter(|arg| !arg.is_hide_set()).filter_map(clap::Arg::get_long).collect();
        return Err(Failure::usage(
            format!("{}: `{key}` is no flag of `{}`", path.display(), role.get_name()),
            format!("the keys are: {}", names.join(", ")),
        ));
    };
    let said = given.value_source(arg.get_id().as_str());
    if matches!(said, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
        return Ok(Vec::new());
    }
    let flag = OsString::from(format!("--{key}"));
    let text = match value {
        toml::Value::Boolean(yes) if matches!(arg.get_action(), ArgAction::SetTrue) => {
            return Ok(if *yes { vec![flag] } else { Vec::new() });
        }
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        _ => {
            return Err(Failure::usage(
                format!("{}: `{key}` must be one value, as the flag takes it", path.display()),
                format!("holdfast {} --help", role.get_name()),
            ));
        }
    };
    Ok(vec![flag, OsString::from(text)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command as Parsed, Role};
    use clap::Parser as _;

    fn line(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn server(text: &str, more: &[&str]) -> Result<crate::args::ServerArgs, Failure> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("server.toml");
        std::fs::write(&path, text).expect("written");
        let path = path.display().to_string();
        let words = [&["holdfast", "server", "--config", &path], more].concat();
        let cli = Cli::try_parse_from(widen(line(&words))?).map_err(|error| Failure::usage_of(&error))?;
        match cli.command {
            Parsed::Role(role) => match *role {
                Role::Server(args) => Ok(args),
                other => panic!("{other:?}"),
            },
            Parsed::Daily(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_gives_what_nobody_said() {
        let args = server("data-dir = \"/var/lib/hf\"\nlisten = \"127.0.0.1:1\"\n", &[]).expect("good");
        assert_eq!(args.data_dir, Path::new("/var/lib/hf"));
        assert_eq!(args.listen.port(), 1);
        let args = server("listen = \"127.0.0.1:1\"\n", &["--listen", "127.0.0.1:2"]).expect("good");
        assert_eq!(args.listen.port(), 2, "the command line is stronger");
    }

    #[test]
    fn what_is_wrong_in_a_file_has_its_place() {
        let said = |text: &str| {
            let failure = server(text, &[]).expect_err("refused");
            assert_eq!(failure.exit, 2);
            failure.problem.detail.clone()
        };
        assert!(said("listne = \"127.0.0.1:1\"\n").contains("server.toml: `listne` is no flag of `server`"));
        assert!(said("listen = \n").contains("line 1"), "{}", said("listen = \n"));
        assert!(said("listen = [1]\n").contains("one value"));
        assert!(said("listen = \"nowhere\"\n").contains("nowhere"));
        assert!(said("config = \"other.toml\"\n").contains("`config` is no flag"));
    }

    #[test]
    fn other_commands_and_broken_lines_stay_as_they_are() {
        for words in [&["holdfast", "ps"][..], &["holdfast", "server", "--nonsense"], &["holdfast"]] {
            assert_eq!(widen(line(words)).expect("nothing to do"), line(words));
        }
    }
}
