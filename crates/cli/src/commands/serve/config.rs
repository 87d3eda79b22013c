//! `--config FILE`: flags from a file, and keys of other servers' files.
//!
//! In: TOML or JSON. Out: the arguments, as if what is in the file had been given as flags, unless
//! the command line or the environment give them. So a key has the values, the checks and the
//! messages of its flag. [`COMPATIBLE`] has the keys of system 001's and Triton's batching: each is
//! a flag, or needs nothing, or is refused, and says why.

use super::Args;
use crate::show::bad_input;
use clap::parser::ValueSource;
use clap::{ArgAction, Command, FromArgMatches};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::path::Path;
use sterna_model::plan::nearest;

/// What a key of another server's file means here.
enum Meaning {
    /// This flag, with this value.
    Flag(&'static str, String),
    /// It holds anyway.
    Holds,
    /// It changes nothing, for this reason.
    Idle(&'static str),
    /// It cannot be, for this reason.
    Refused(&'static str),
}

/// A key of another server's file.
struct Compatible {
    name: &'static str,
    meaning: fn(&Value) -> Meaning,
}

const NEVER_WAITS: &str = "a request joins the next step and never waits for a batch to fill, so \
                           that every limit of that wait is kept";

/// Triton's groups of keys. The first turns on what always holds here.
const GROUPS: [&str; 2] = ["dynamic_batching", "default_queue_policy"];

/// System 001's keys, then Triton's.
const COMPATIBLE: &[Compatible] = &[
    Compatible { name: "max_batch_size", meaning: |v| Meaning::Flag("parallel", text(v)) },
    Compatible { name: "max_wait_time_ms", meaning: |_| Meaning::Idle(NEVER_WAITS) },
    Compatible {
        name: "dynamic_batching",
        meaning: |v| match v {
            Value::Bool(true) => Meaning::Holds,
            _ => Meaning::Refused(
                "batches are always formed from whoever is there; max_batch_size = 1 computes \
                 requests one by one",
            ),
        },
    },
    Compatible {
        name: "priority_threshold",
        meaning: |_| {
            Meaning::Idle(
                "`priority` in a request is vLLM's, where lower is sooner: below 0 is interactive, \
                 0 default, above 0 batch; agents.toml gives an agent its class",
            )
        },
    },
    Compatible {
        name: "max_memory_mb",
        meaning: |v| Meaning::Flag("max-memory", format!("{}MiB", text(v))),
    },
    Compatible {
        name: "memory_limit_mb",
        meaning: |v| Meaning::Flag("max-memory", format!("{}MiB", text(v))),
    },
    Compatible { name: "cpu_cores", meaning: |v| Meaning::Flag("threads", text(v)) },
    Compatible { name: "max_queue_delay_microseconds", meaning: |_| Meaning::Idle(NEVER_WAITS) },
    Compatible {
        name: "preferred_batch_size",
        meaning: |_| {
            Meaning::Idle("every step computes all sequences there are; no size is preferred")
        },
    },
    Compatible { name: "max_queue_size", meaning: |v| Meaning::Flag("max-queue", text(v)) },
    Compatible {
        name: "default_timeout_microseconds",
        meaning: |v| match v.as_u64() {
            Some(0) => Meaning::Holds,
            _ => Meaning::Refused(
                "requests have no deadline unless they say so; a client that goes away ends its \
                 request",
            ),
        },
    },
];

/// The arguments with what the file of `--config` adds to them, and what there is to say of it.
///
/// # Errors
/// When it cannot be read, has an unknown key, or a value that its flag does not take.
pub fn with_file(args: Args) -> anyhow::Result<(Args, Vec<String>)> {
    let Some(file) = &args.config else { return Ok((args, Vec::new())) };
    let given = std::env::args_os().skip_while(|arg| arg != "serve").collect();
    let merged = read(file).and_then(|keys| merged(given, &keys));
    merged.map_err(|why| bad_input(format!("{}: {why}", file.display())))
}

fn read(file: &Path) -> Result<Map<String, Value>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let is_json = file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    match is_json {
        true => serde_json::from_str(&text).map_err(|error| error.to_string()),
        false => toml::from_str(&text).map_err(|error| error.message().to_owned()),
    }
}

fn command() -> Command {
    <Args as clap::Args>::augment_args(Command::new("sterna serve"))
}

/// The arguments given, with those of a file that are not, and what there is to say.
fn merged(given: Vec<OsString>, keys: &Map<String, Value>) -> Result<(Args, Vec<String>), String> {
    let command = command();
    let matches = command.clone().try_get_matches_from(&given).map_err(|e| e.to_string())?;
    let (mut flags, mut notes) = (Vec::new(), Vec::new());
    for (key, value) in flat(keys)? {
        let (name, value) = match COMPATIBLE.iter().find(|known| known.name == key) {
            None => (key.replace('_', "-"), value.clone()),
            Some(known) => match (known.meaning)(value) {
                Meaning::Flag(flag, value) => (flag.to_owned(), Value::String(value)),
                Meaning::Holds => continue,
                Meaning::Idle(why) => {
                    notes.push(format!("{key} has no effect: {why}"));
                    continue;
                }
                Meaning::Refused(why) => return Err(format!("{key} = {value}: {why}")),
            },
        };
        let arg = find(&command, &name).ok_or_else(|| unknown(&command, key))?;
        let source = matches.value_source(arg.get_id().as_str());
        if !matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            add(&mut flags, arg, key, &value)?;
        }
    }
    let (first, rest) = given.split_at(given.len().min(1));
    let all = [first, &flags[..], rest].concat();
    let matches = command.try_get_matches_from(all).map_err(|error| error.to_string())?;
    let args = Args::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    Ok((args, notes))
}

/// The keys, with those of a group instead of it.
fn flat(keys: &Map<String, Value>) -> Result<Vec<(&str, &Value)>, String> {
    let mut all = Vec::new();
    for (key, value) in keys {
        let Some(group) = value.as_object().filter(|_| GROUPS.contains(&key.as_str())) else {
            all.push((key.as_str(), value));
            continue;
        };
        let known = || COMPATIBLE.iter().map(|known| known.name).chain(GROUPS);
        if let Some(key_within) = group.keys().find(|name| known().all(|known| known != *name)) {
            return Err(match nearest(key_within, known()) {
                Some(near) => format!("{key}: unknown key `{key_within}`; did you mean `{near}`?"),
                None => format!("{key}: unknown key `{key_within}`; leave it out"),
            });
        }
        all.extend(flat(group)?);
    }
    Ok(all)
}

fn find<'a>(command: &'a Command, name: &str) -> Option<&'a clap::Arg> {
    let is_it = |arg: &&clap::Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        // A file that named another one would be read by nobody.
        arg.get_id() != "config"
            && (arg.get_long() == Some(name)
                || aliases.contains(&name)
                || arg.is_positional() && arg.get_id() == name)
    };
    command.get_arguments().find(is_it)
}

fn unknown(command: &Command, key: &str) -> String {
    let flags = command.get_arguments().map(|arg| arg.get_id().as_str());
    let known = flags.chain(COMPATIBLE.iter().map(|known| known.name));
    match nearest(key, known) {
        Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
        None => format!("unknown key `{key}`; keys are the names of `sterna serve --help`"),
    }
}

/// A key as flags.
fn add(flags: &mut Vec<OsString>, arg: &clap::Arg, key: &str, value: &Value) -> Result<(), String> {
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let mut one = |value: &Value| match (value, arg.get_long()) {
        (Value::Bool(is_on), Some(long)) if is_switch => {
            flags.extend(is_on.then(|| OsString::from(format!("--{long}"))));
            Ok(())
        }
        (Value::String(_) | Value::Number(_), long) if !is_switch => {
            let text = text(value);
            flags
                .push(OsString::from(long.map_or(text.clone(), |long| format!("--{long}={text}"))));
            Ok(())
        }
        _ => {
            let wanted = if is_switch { "true or false" } else { "a text or a number" };
            Err(format!("{key} is {value}; it must be {wanted}"))
        }
    };
    match value {
        Value::Array(values) => values.iter().try_for_each(one),
        value => one(value),
    }
}

/// A value as it is written after a flag.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merge(given: &[&str], keys: Value) -> Result<(Args, Vec<String>), String> {
        let given = ["serve"].iter().chain(given).map(OsString::from).collect();
        merged(given, keys.as_object().unwrap())
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let keys = json!({
            "models": ["a.gguf", "b.gguf"], "port": 81, "host": "::1", "strict": true,
            "max_memory_mb": 3, "max_batch_size": 7, "alias": ["x", "y"], "ctx-size": 99,
        });
        let (args, notes) = merge(&["--port", "82", "c.gguf"], keys).unwrap();
        assert_eq!((args.port, args.host.as_str(), args.strict), (82, "::1", true));
        assert_eq!(args.models, [Path::new("c.gguf")]);
        assert_eq!((args.sizes.parallel, args.max_memory.as_deref()), (7, Some("3MiB")));
        assert_eq!(args.alias, ["x", "y"]);
        assert!(notes.is_empty());
        let (args, _) = merge(&[], json!({ "models": ["a.gguf", "b.gguf"] })).unwrap();
        assert_eq!(args.models.len(), 2);
    }

    #[test]
    fn keys_of_other_servers_are_flags_or_say_why_not() {
        let keys = json!({
            "max_wait_time_ms": 30, "dynamic_batching": true, "priority_threshold": 8,
            "max_queue_size": 5, "preferred_batch_size": [4, 8], "default_timeout_microseconds": 0,
        });
        let (args, notes) = merge(&[], keys).unwrap();
        assert_eq!(args.sizes.max_queue, 5);
        let said: Vec<&str> = notes.iter().filter_map(|note| note.split(' ').next()).collect();
        assert_eq!(said, ["max_wait_time_ms", "priority_threshold", "preferred_batch_size"]);
        let triton = json!({
            "dynamic_batching": {
                "preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 100,
                "default_queue_policy": { "max_queue_size": 6, "default_timeout_microseconds": 0 },
            },
        });
        let (args, notes) = merge(&[], triton).unwrap();
        assert_eq!(args.sizes.max_queue, 6);
        let mut said: Vec<&str> = notes.iter().filter_map(|note| note.split(' ').next()).collect();
        said.sort_unstable();
        assert_eq!(said, ["max_queue_delay_microseconds", "preferred_batch_size"]);
        assert!(merge(&[], json!({ "dynamic_batching": {} })).unwrap().1.is_empty());
        let refused = |keys: Value| merge(&[], keys).err().unwrap();
        assert!(refused(json!({ "dynamic_batching": false })).contains("max_batch_size = 1"));
        let preferred = json!({ "dynamic_batching": { "preferred_batch_sizes": [4] } });
        assert!(refused(preferred).contains("dynamic_batching: unknown key"));
        assert!(refused(json!({ "dynamic_batching": { "port": 9 } })).contains("leave it out"));
        assert!(refused(json!({ "default_timeout_microseconds": 9 })).contains("deadline"));
        assert!(refused(json!({ "max_batch_siz": 9 })).contains("did you mean `max_batch_size`?"));
        assert!(refused(json!({ "prot": 9 })).contains("did you mean `port`?"));
        assert!(refused(json!({ "config": "x" })).contains("unknown key"));
        assert!(refused(json!({ "strict": 1 })).contains("true or false"));
        assert!(refused(json!({ "port": "many" })).contains("many"));
    }
}
