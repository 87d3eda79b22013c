//! Mistakes in configs, layers of settings, levels.

use super::*;
use expect_test::expect;
use sterna_formats::encodings::ENCODINGS;

fn read(settings: &[&str]) -> Result<Config, String> {
    let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
    Config::read(Level::Balanced, None, &settings).map_err(|e| e.to_string())
}

fn read_file(text: &str, settings: &[&str]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
    let folder = dir.path().display().to_string();
    Config::read(Level::Balanced, Some(&path), &settings)
        .map_err(|e| e.to_string().replace(&folder, "DIR"))
}

#[test]
fn a_mistake_gets_a_sentence_with_the_nearest_key() {
    let messages: Vec<String> = [
        read_file("[schedul]\nsteps = 3", &[]),
        read_file("[schedule]\nlearnig_rate = 0.1", &[]),
        read_file("[schedule]\nsteps = \"many\"", &[]),
        read_file("schedule = 3", &[]),
        read_file("[schedule\nsteps = 3", &[]),
        read(&["run.sead=2"]),
        read(&["sead=2"]),
        read(&["schedule.steps=many"]),
        read(&["schedule.steps=0"]),
        read(&["schedule.warmup=1.5"]),
        read(&["schedule.betas=[0.9, 1.0]"]),
        read(&["quantize.encoding=Q4O"]),
        read(&["teacher.temperature=0"]),
        read(&["run.save_as=Q8_0"]),
        read(&["quantize.blend=0.5"]),
        read(&["quantize.encoding=TQ2_0", "quantize.temperature=1"]),
        read(&["teacher.weight=0.2"]),
    ]
    .into_iter()
    .map(|result| result.map(|_| ()).unwrap_err())
    .collect();
    expect![[r#"
        DIR/c.toml: unknown section: "schedul"; did you mean "schedule"?
        DIR/c.toml: unknown key in [schedule]: "learnig_rate"; did you mean "learning_rate"?
        DIR/c.toml: schedule.steps is of type integer, not string; correct its value
        DIR/c.toml: schedule is a section, write [schedule]
        DIR/c.toml: line 1: unclosed table, expected `]`
        the settings: unknown key in [run]: "sead"; did you mean "seed"?
        "sead=2" is no setting; write section.key=value, e.g. run.seed=2
        schedule.steps cannot be "many"; it is of type integer
        schedule.steps is 0, not in 1..=100000000
        schedule.warmup is 1.5, not a part between 0 and 1
        schedule.betas has 1, not a number from 0 to below 1
        the encoding "Q4O" is not known; did you mean "Q4_K"?
        teacher.temperature is 0, not a number above 0, up to 1000
        run.save_as is "Q8_0", not F32, F16 or BF16
        quantize.blend does nothing without quantize.encoding; give that, or leave it out
        quantize.temperature does nothing without quantize.blend above 0; give that, or leave it out
        teacher.weight does nothing without teacher.model; give that, or leave it out"#]]
    .assert_eq(&messages.join("\n"));
}

#[test]
fn settings_go_over_the_file_and_the_file_over_the_level() {
    let file = "[schedule]\nsteps = 7\n[data]\ntext = [\"a.txt\"]\n[run]\nseed = 3";
    let settings = ["run.seed=4", "schedule.decay=linear", "model.name=x y", "model.layers=2"];
    let config = read_file(file, &settings).unwrap();
    assert_eq!((config.schedule.steps, config.run.seed), (7, 4));
    assert_eq!(config.schedule.accumulate, Config::at(Level::Balanced).schedule.accumulate);
    assert_eq!(config.schedule.decay, Decay::Linear);
    assert_eq!((config.model.name.as_deref(), config.model.layers), (Some("x y"), Some(2)));
    assert!(config.data.text[0].is_absolute(), "beside the file: {:?}", config.data.text);
    let texts = read(&["data.text=a.txt, b.txt"]).unwrap().data.text;
    assert_eq!(texts, [PathBuf::from("a.txt"), PathBuf::from("b.txt")]);
}

#[test]
fn a_printed_config_reads_back() {
    let config = read(&["quantize.encoding=TQ2_0", "teacher.model=t.gguf", "run.out=o"]).unwrap();
    assert_eq!(read_file(&config.to_toml(), &[]).unwrap().schedule, config.schedule);
    for encoding in ENCODINGS {
        read(&[&format!("quantize.encoding={}", encoding.name())]).unwrap();
    }
}

// proves B-21
#[test]
fn levels_differ_as_documented() {
    let [development, balanced, production] =
        [Level::Development, Level::Balanced, Level::Production].map(Config::at);
    let accumulate = [&development, &balanced, &production].map(|c| c.schedule.accumulate);
    assert_eq!(accumulate, [1, 2, 4]);
    assert!(development.schedule.steps < balanced.schedule.steps);
    assert!(balanced.schedule.steps < production.schedule.steps);
    assert_eq!(production.schedule.label_smoothing, 0.1);
}
