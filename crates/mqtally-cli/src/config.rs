//! Flags, environment and configuration file, in that order of precedence.
//!
//! Every flag `--some-flag` of every command can be set by `MQTALLY_SOME_FLAG`, and as `some-flag` in a TOML file: the
//! flags of all commands at its top, those of a command in a table of its name. The file's values become clap's
//! defaults, so there is one parser, one set of checks and one place that knows the flags.

use crate::commands::Cli;
use crate::exit::{self, ExitStatus, Failure};
use clap::builder::FalseyValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Id};
use std::borrow::Cow;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Read when it exists and `--config` names no other.
const DEFAULT_FILE: &str = "mqtally.toml";

/// What became of the command line.
pub(crate) enum Parsed {
    /// A command to run.
    Command(Box<Cli>),
    /// Help or version, already printed.
    Answered(ExitStatus),
}

/// Reads the command line `args` (program name first), the environment and the configuration file.
///
/// Each layer is parsed with those above it, so that what is wrong can be blamed on the layer that brought it.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, Failure> {
    let args: Vec<OsString> = args.into_iter().collect();
    let command = Cli::command();
    let name = command_name(&command, &args);
    let flags = match command.clone().try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return exit::answer(&error, &name).map(Parsed::Answered),
    };
    let command = with_environment(command, &flags);
    let typed = command.clone().try_get_matches_from(&args).map_err(|error| {
        exit::misuse(&error, &name).at(blamed(&error).map_or(name.clone(), |flag| variable(&flag)))
    })?;
    let matches = match File::find(typed.get_one::<PathBuf>("config"))? {
        Some(file) => file.below(command, &typed, &args, &name)?,
        None => typed,
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| exit::misuse(&error, &name))?;
    Ok(Parsed::Command(Box::new(cli)))
}

/// Lets every flag be set by its variable, but for those that what was typed excludes.
fn with_environment(command: Command, flags: &ArgMatches) -> Command {
    let with_variables = |command: Command, flags: Option<&ArgMatches>| {
        let excluded = |arg: &&Arg| flags.is_some_and(|flags| overruled(&command, arg, flags));
        let excluded: Vec<Id> =
            command.get_arguments().filter(excluded).map(|arg| arg.get_id().clone()).collect();
        command.mut_args(|arg| if excluded.contains(arg.get_id()) { arg } else { with_variable(arg) })
    };
    with_variables(command, Some(flags)).mut_subcommands(|command| {
        let flags = flags.subcommand_matches(command.get_name());
        with_variables(command, flags)
    })
}

fn with_variable(arg: Arg) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    let (name, switch) = (variable(long), is_switch(&arg));
    // The rule is the same for all and stated once: a name behind every flag would bury the help.
    let arg = arg.env(name).hide_env(true);
    if switch { arg.value_parser(FalseyValueParser::new()) } else { arg }
}

/// The variable for `--long`.
fn variable(long: &str) -> String {
    format!("MQTALLY_{}", long.to_uppercase().replace('-', "_"))
}

/// The flag that an error is about, without its dashes.
fn blamed(error: &clap::Error) -> Option<String> {
    let ContextValue::String(arg) = error.get(ContextKind::InvalidArg)? else { return None };
    arg.strip_prefix("--")?.split([' ', '=']).next().map(str::to_owned)
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// What the reader calls the command that `args` are for.
fn command_name(command: &Command, args: &[OsString]) -> String {
    let name = args.iter().skip(1).find_map(|arg| command.find_subcommand(arg)).map(Command::get_name);
    name.map_or_else(|| "mqtally".to_owned(), |name| format!("mqtally {name}"))
}

/// A configuration file.
struct File {
    path: PathBuf,
    text: String,
}

impl File {
    fn find(named: Option<&PathBuf>) -> Result<Option<File>, Failure> {
        let path = named.map_or(Path::new(DEFAULT_FILE), PathBuf::as_path);
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(File { path: path.to_owned(), text })),
            Err(error) if named.is_none() && error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io(
                "cannot read the configuration",
                path,
                &error,
                "name a TOML file that can be read",
            )),
        }
    }

    /// Parses `args` again with the file's values below them.
    fn below(
        &self,
        command: Command,
        typed: &ArgMatches,
        args: &[OsString],
        name: &str,
    ) -> Result<ArgMatches, Failure> {
        let table = DeTable::parse(&self.text).map_err(|error| self.unreadable(&error))?;
        let command = self.apply(command, table.get_ref(), Some(typed), true)?;
        command.try_get_matches_from(args).map_err(|error| {
            let key = blamed(&error).and_then(|flag| offset(table.get_ref(), name, &flag));
            exit::misuse(&error, name).at(self.place(key.unwrap_or(0)))
        })
    }

    /// Makes the values of `table` defaults of `command`. `typed` is what was typed for this command, if it was.
    fn apply(
        &self,
        mut command: Command,
        table: &DeTable<'_>,
        typed: Option<&ArgMatches>,
        top: bool,
    ) -> Result<Command, Failure> {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            if let (true, DeValue::Table(inner)) = (top, value.get_ref()) {
                let Some(sub) = command.find_subcommand(name) else {
                    return Err(self.unknown(key, &command, top));
                };
                let typed = typed.and_then(|typed| typed.subcommand_matches(name));
                let sub = self.apply(sub.clone(), inner, typed, false)?;
                command = command.mut_subcommand(name, |_| sub);
                continue;
            }
            let Some(arg) = flag(&command, name) else { return Err(self.unknown(key, &command, top)) };
            let (id, switch) = (arg.get_id().clone(), is_switch(arg));
            if typed.is_some_and(|typed| overruled(&command, arg, typed)) {
                continue;
            }
            let values = self.values(arg, value)?;
            command = command.mut_arg(id, |arg| arg.default_values(values).hide_default_value(!switch));
        }
        Ok(command)
    }

    fn values(&self, arg: &Arg, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Failure> {
        let many = matches!(arg.get_action(), ArgAction::Append);
        let values = match value.get_ref() {
            DeValue::Array(items) if many => items.iter().map(|item| single(item.get_ref())).collect(),
            one => single(one).map(|value| vec![value]),
        };
        values.ok_or_else(|| {
            let what = format!("'{}' cannot be set to this", arg.get_long().unwrap_or_default());
            let list = if many { ", or a list of them" } else { "" };
            let advice = format!("give a string, a number, true or false{list}");
            Failure::usage(what, self.place(value.span().start), advice)
        })
    }

    fn unknown(&self, key: &Spanned<Cow<'_, str>>, command: &Command, top: bool) -> Failure {
        let name = key.get_ref();
        let flags = command.get_arguments().filter_map(Arg::get_long).filter(|flag| *flag != "config");
        let tables = command.get_subcommands().map(Command::get_name).filter(|_| top);
        let place = self.place(key.span().start);
        Failure::usage(
            format!("unknown key '{name}'"),
            place,
            crate::nearest::advice(name, flags.chain(tables)),
        )
    }

    fn unreadable(&self, error: &toml::de::Error) -> Failure {
        let place = self.place(error.span().map_or(0, |span| span.start));
        Failure::usage(format!("not a TOML file ({})", error.message()), place, "correct the line")
    }

    fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or_default();
        format!("{}:{}", self.path.display(), before.matches('\n').count() + 1)
    }
}

/// Where the file sets a flag of the command that the reader calls `name`.
fn offset(table: &DeTable<'_>, name: &str, flag: &str) -> Option<usize> {
    let key = |table: &DeTable<'_>| {
        table.iter().find(|(key, _)| key.get_ref().as_ref() == flag).map(|(key, _)| key.span().start)
    };
    let inner = name.strip_prefix("mqtally ").and_then(|command| table.get(command)?.get_ref().as_table());
    inner.and_then(key).or_else(|| key(table))
}

fn single(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn flag<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| arg.get_long() == Some(name) && name != "config")
}

/// Whether something that was typed, or set in the environment, excludes this flag.
fn overruled(command: &Command, arg: &Arg, typed: &ArgMatches) -> bool {
    let given = |other: &&Arg| {
        let source = typed.value_source(other.get_id().as_str());
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let excludes = |a: &Arg, b: &Arg| {
        command.get_arg_conflicts_with(a).iter().any(|excluded| excluded.get_id() == b.get_id())
    };
    let mut given = command.get_arguments().filter(given);
    given.any(|other| excludes(arg, other) || excludes(other, arg))
}
