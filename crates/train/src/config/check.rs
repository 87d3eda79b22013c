//! Reading a config, and what is said of one that does not hold.

use super::{Config, Teacher};
use crate::TrainError;
use std::path::{Path, PathBuf};
use sterna_formats::encodings;
use sterna_model::plan::nearest;
use toml::{Table, Value};

/// A larger file is no config.
const MAX_LEN: u64 = 1 << 20;

pub fn read(
    defaults: Config,
    path: Option<&Path>,
    settings: &[String],
) -> Result<Config, TrainError> {
    let (mut table, source) = match path {
        Some(path) => (read_file(path)?, path.display().to_string()),
        None => (Table::new(), "the settings".to_owned()),
    };
    let known = Table::try_from(with_all_keys()).expect("a config is a table");
    check_keys(&table, &known, &source)?;
    for setting in settings {
        lay_over(&mut table, &known, setting)?;
    }
    let mut whole = Table::try_from(defaults).expect("a config is a table");
    for (section, values) in table {
        if let (Some(Value::Table(under)), Value::Table(over)) = (whole.get_mut(&section), values) {
            under.extend(over);
        }
    }
    let mut config: Config = whole.try_into().map_err(|e: toml::de::Error| {
        input(format!("{source}: {}", e.message().trim().replace('\n', ", ")))
    })?;
    if let Some(folder) = path.and_then(Path::parent) {
        let from_file = |key: &str| !settings.iter().any(|s| s.starts_with(key));
        relative_to(&mut config, folder, &from_file);
    }
    check(&config)?;
    Ok(config)
}

fn read_file(path: &Path) -> Result<Table, TrainError> {
    let unread = |e: std::io::Error| input(format!("{}: cannot be read: {e}", path.display()));
    if std::fs::metadata(path).map_err(unread)?.len() > MAX_LEN {
        return Err(input(format!("{}: is no training config: larger than 1 MiB", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(unread)?;
    text.parse().map_err(|e: toml::de::Error| {
        let line = e.span().map_or(1, |s| text[..s.start].matches('\n').count() + 1);
        let problem = e.message().trim().replace('\n', ", ");
        input(format!("{}: line {line}: {problem}", path.display()))
    })
}

/// A config in which every optional key has a value, so that its table lists all keys.
fn with_all_keys() -> Config {
    let (path, text, n) = (Some(PathBuf::new()), Some(String::new()), Some(1));
    let model = super::Model {
        preset: text.clone(),
        init: path.clone(),
        name: text.clone(),
        layers: n,
        dim: n,
        ffn_dim: n,
        heads: n,
        kv_heads: n,
        context: n,
    };
    let mut config = Config { model, ..Config::default() };
    config.data.tokenizer = path.clone();
    config.quantize.encoding = text.clone();
    config.quantize.embedding = text;
    config.teacher.model = path.clone();
    config.teacher.cache = path.clone();
    config.run.out = path;
    config
}

fn check_keys(table: &Table, known: &Table, source: &str) -> Result<(), TrainError> {
    for (section, value) in table {
        let Some(Value::Table(keys)) = known.get(section) else {
            return Err(unknown(source, "section", section, known));
        };
        let Value::Table(values) = value else {
            return Err(input(format!("{source}: {section} is a section, write [{section}]")));
        };
        for (key, value) in values {
            let Some(like) = keys.get(key) else {
                return Err(unknown(source, &format!("key in [{section}]"), key, keys));
            };
            if !is_like(value, like) {
                let (found, wanted) = (value.type_str(), like.type_str());
                let problem = format!("{section}.{key} is of type {wanted}, not {found}");
                return Err(input(format!("{source}: {problem}; correct its value")));
            }
        }
    }
    Ok(())
}

/// Whether a value is of the type of another; a whole number is a number too.
fn is_like(value: &Value, like: &Value) -> bool {
    value.same_type(like) || matches!((value, like), (Value::Integer(_), Value::Float(_)))
}

fn unknown(source: &str, what: &str, name: &str, known: &Table) -> TrainError {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    let fix = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("known are {}", names.join(", ")),
    };
    let name: String = name.chars().take(80).collect();
    input(format!("{source}: unknown {what}: {name:?}; {fix}"))
}

/// Lays one `section.key=value` over a table; the value is TOML, or a bare word for a text.
fn lay_over(table: &mut Table, known: &Table, setting: &str) -> Result<(), TrainError> {
    let malformed =
        || input(format!("{setting:?} is no setting; write section.key=value, e.g. run.seed=2"));
    let (name, text) = setting.split_once('=').ok_or_else(malformed)?;
    let (section, key) = name.trim().split_once('.').ok_or_else(malformed)?;
    let Some(Value::Table(keys)) = known.get(section) else {
        return Err(unknown("the settings", "section", section, known));
    };
    let Some(kind) = keys.get(key) else {
        return Err(unknown("the settings", &format!("key in [{section}]"), key, keys));
    };
    let text = text.trim();
    let parsed = format!("x = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("x"));
    let value = match (kind, parsed) {
        (Value::String(_), Some(Value::String(s))) => Value::String(s),
        (Value::String(_), _) => Value::String(text.to_owned()),
        (Value::Array(_), Some(Value::Array(list))) => Value::Array(list),
        (Value::Array(_), _) => {
            Value::Array(text.split(',').map(|s| Value::String(s.trim().to_owned())).collect())
        }
        (Value::Float(_), Some(Value::Integer(n))) => Value::Float(n as f64),
        (kind, Some(value)) if is_like(&value, kind) => value,
        (kind, _) => {
            let kind = kind.type_str();
            return Err(input(format!("{name} cannot be {text:?}; it is of type {kind}")));
        }
    };
    let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = entry {
        section.insert(key.to_owned(), value);
    }
    Ok(())
}

/// Puts the folder of the file before its relative paths.
fn relative_to(config: &mut Config, folder: &Path, from_file: &dyn Fn(&str) -> bool) {
    let join = |key: &str, path: &mut PathBuf| {
        if from_file(key) {
            *path = folder.join(&*path);
        }
    };
    config.data.text.iter_mut().for_each(|path| join("data.text", path));
    config.data.held_out.iter_mut().for_each(|path| join("data.held_out", path));
    let optional = [
        ("data.tokenizer", &mut config.data.tokenizer),
        ("model.init", &mut config.model.init),
        ("teacher.model", &mut config.teacher.model),
        ("teacher.cache", &mut config.teacher.cache),
        ("run.out", &mut config.run.out),
    ];
    for (key, path) in optional {
        path.iter_mut().for_each(|path| join(key, path));
    }
}

fn check(config: &Config) -> Result<(), TrainError> {
    check_numbers(config)?;
    check_names(config)?;
    check_combinations(config)
}

fn check_numbers(config: &Config) -> Result<(), TrainError> {
    let (s, d, q) = (&config.schedule, &config.data, &config.quantize);
    let counts = [
        ("schedule.steps", s.steps, 100_000_000),
        ("schedule.batch", s.batch, 1 << 16),
        ("schedule.accumulate", s.accumulate, 1 << 16),
        ("data.seq_len", d.seq_len, 1 << 20),
        ("run.eval_windows", config.run.eval_windows, 1 << 30),
    ];
    if let Some((key, n, max)) = counts.iter().find(|(_, n, max)| *n == 0 || n > max) {
        return Err(input(format!("{key} is {n}, not in 1..={max}")));
    }
    let fractions = [
        ("schedule.warmup", s.warmup),
        ("schedule.final_rate", s.final_rate),
        ("schedule.label_smoothing", s.label_smoothing),
        ("data.held_out_fraction", d.held_out_fraction),
        ("quantize.blend", q.blend),
        ("teacher.weight", config.teacher.weight),
    ];
    if let Some((key, x)) = fractions.iter().find(|(_, x)| !(0.0..=1.0).contains(x)) {
        return Err(input(format!("{key} is {x}, not a part between 0 and 1")));
    }
    let rates = [
        ("schedule.learning_rate", s.learning_rate, 10.0),
        ("schedule.weight_decay", s.weight_decay, 10.0),
        ("schedule.clip_norm", s.clip_norm, 1e9),
        ("quantize.temperature", q.temperature, 1e3),
        ("teacher.hidden_weight", config.teacher.hidden_weight, 1e6),
    ];
    if let Some((key, x, max)) = rates.iter().find(|(_, x, max)| !(0.0..=*max).contains(x)) {
        return Err(input(format!("{key} is {x}, not a number between 0 and {max}")));
    }
    if let Some(beta) = s.betas.iter().find(|b| !(0.0..1.0).contains(*b)) {
        return Err(input(format!("schedule.betas has {beta}, not a number from 0 to below 1")));
    }
    if !(config.teacher.temperature > 0.0 && config.teacher.temperature <= 1e3) {
        let t = config.teacher.temperature;
        return Err(input(format!("teacher.temperature is {t}, not a number above 0, up to 1000")));
    }
    Ok(())
}

/// Keys that have an effect beside another only.
fn check_combinations(config: &Config) -> Result<(), TrainError> {
    let (q, t, usual) = (&config.quantize, &config.teacher, Teacher::default());
    let is_quantized = ("quantize.encoding", q.encoding.is_some());
    let blends = ("quantize.blend above 0", q.blend > 0.0);
    let has_teacher = ("teacher.model", t.model.is_some());
    let has_cache = t.cache.is_some() || t.cache_bytes != usual.cache_bytes;
    let needs = [
        ("quantize.binary", q.binary, is_quantized),
        ("quantize.blend", q.blend > 0.0, is_quantized),
        ("quantize.temperature", q.temperature > 0.0, blends),
        ("teacher.weight", t.weight != usual.weight, has_teacher),
        ("teacher.temperature", t.temperature != usual.temperature, has_teacher),
        ("teacher.hidden_weight", t.hidden_weight > 0.0, has_teacher),
        ("teacher.cache", has_cache, has_teacher),
    ];
    match needs.iter().find(|(_, is_given, (_, is_there))| *is_given && !is_there) {
        None => Ok(()),
        Some((key, _, (other, _))) => {
            Err(input(format!("{key} does nothing without {other}; give that, or leave it out")))
        }
    }
}

fn check_names(config: &Config) -> Result<(), TrainError> {
    let q = &config.quantize;
    let save_as = &config.run.save_as;
    if !["F32", "F16", "BF16"].contains(&save_as.as_str()) {
        return Err(input(format!("run.save_as is {save_as:?}, not F32, F16 or BF16")));
    }
    for name in q.encoding.iter().chain(&q.embedding) {
        if encodings::by_name(name).is_none() {
            let names = encodings::ENCODINGS.iter().map(|e| e.name());
            let near = nearest(name, names.clone());
            let fix = near.map_or_else(
                || format!("known are {}", names.collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            return Err(input(format!("the encoding {name:?} is not known; {fix}")));
        }
    }
    Ok(())
}

fn input(message: String) -> TrainError {
    TrainError::Input(message)
}
