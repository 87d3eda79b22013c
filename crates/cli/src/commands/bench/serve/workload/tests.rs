//! What files and flags become, and which do not go together.

use super::*;
use clap::Parser;
use std::io::Write;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    keys: Keys,
}

fn flags(text: &str) -> Keys {
    Flags::try_parse_from(std::iter::once("x").chain(text.split_whitespace())).unwrap().keys
}

fn refused(keys: &Keys) -> String {
    let error = Workload::new(keys).unwrap_err();
    assert_eq!(crate::show::exit_code(&error), 2, "{error:#}");
    format!("{error:#}")
}

fn shape(keys: &Keys) -> Shape {
    match Workload::new(keys).unwrap().traffic {
        Traffic::Closed(shape) => shape,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_workload_has_a_name_and_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workloads/serve");
    let files = std::fs::read_dir(folder).unwrap();
    let files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), NAMED.len());
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let keys = read(Some(name)).unwrap();
        assert!(keys.about.is_some(), "{name}");
        match keys.trace {
            Some(_) => assert!(refused(&keys).contains("--trace azure:FILE"), "{name}"),
            None => assert!(Workload::new(&keys).is_ok(), "{name}"),
        }
    }
}

#[test]
fn flags_win_over_files_and_files_over_defaults() {
    let none = Shape { n_agents: 16, n_requests: 1, n_prefix: 240, n_own: 16, n_gen: 64 };
    assert_eq!(shape(&Keys::default()), none);
    let file = parse("f", "agents = 3\ngen_tokens = 5\nslo = \"ttft=2s\"\n").unwrap();
    let keys = flags("--agents 4 --own-tokens 1 --text --timeout 9s").over(file);
    assert_eq!(shape(&keys), Shape { n_agents: 4, n_own: 1, n_gen: 5, ..none });
    let workload = Workload::new(&keys).unwrap();
    assert_eq!((workload.slo, workload.is_text), (Some("ttft=2s".parse().unwrap()), true));
    assert_eq!((workload.timeout, workload.n_warm_up), (Duration::from_secs(9), 1));
    assert_eq!((workload.seed_of(0), workload.seed_of(2)), (1, 3));
    assert!(workload.words().contains("4 agents x 1 requests of 240 shared + 1 own tokens"));
    assert!(!Workload::new(&flags("--text=false")).unwrap().is_text);
}

#[test]
fn a_wrong_file_is_refused() {
    let error = |text: &str| format!("{:#}", parse("my.toml", text).unwrap_err());
    assert!(error("agent = 3\n").contains("unknown field `agent`"));
    assert!(error("agents = -3\n").contains("my.toml"));
    assert!(error("slo = \"fast\"\n").contains("is no limit"));
    assert!(error("trace = \"other:file\"\n").contains("azure:FILE or mooncake:FILE"));
    assert!(error("timeout = 600\n").contains("timeout"));
    let missing = read(Some("no-such-workload")).unwrap_err();
    assert_eq!(crate::show::exit_code(&missing), 2);
    assert!(format!("{missing:#}").contains("shared-prefix, agents-69"));
}

#[test]
fn contradictions_are_refused() {
    assert!(refused(&flags("--token-scale 0.5")).starts_with("--token-scale is for traces"));
    assert!(refused(&flags("--duration 1h")).contains("--duration"));
    assert!(refused(&flags("--trace azure:x --gen-tokens 5")).starts_with("--gen-tokens cannot"));
    assert!(refused(&flags("--trace azure:x --rate 5")).starts_with("--rate cannot"));
    assert!(refused(&flags("--trace azure:no/such.csv")).contains("reading no/such.csv"));
    assert!(refused(&flags("--agents 0")).contains("0 requests"));
    assert!(refused(&flags("--rate 0")).contains("requests per second"));
    assert!(refused(&flags("--vocab 50")).contains("too small"));
    assert!(matches!(
        Workload::new(&flags("--rate 2.5")).unwrap().traffic,
        Traffic::Poisson { .. }
    ));
}

#[test]
fn traces_are_read_plain_and_packed() {
    let folder = tempfile::tempdir().unwrap();
    let line = |at: u32| format!("2023-11-16 18:17:0{at},1000,100\n");
    let text = format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{}{}", line(3), line(5));
    let plain = folder.path().join("code.csv");
    std::fs::write(&plain, &text).unwrap();
    let packed = folder.path().join("code.gz");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    std::fs::write(&packed, gzip.finish().unwrap()).unwrap();
    for path in [plain, packed] {
        let keys = flags(&format!("--trace azure:{} --token-scale 0.1", path.display()));
        let workload = Workload::new(&keys).unwrap();
        let arrivals = Arrivals::of(&workload.traffic, 1).unwrap();
        let last = &arrivals.lanes[1][0];
        assert_eq!((last.at, last.n_gen), (Some(Duration::from_secs(2)), 10));
        assert_eq!(last.prompt.n_tokens(), 100);
    }
    let broken = folder.path().join("broken.csv");
    std::fs::write(&broken, text + "oops\n").unwrap();
    let error = refused(&flags(&format!("--trace azure:{}", broken.display())));
    assert!(error.contains("broken.csv as azure trace: line 4: \"oops\""), "{error}");
    std::fs::write(&broken, [0x1f, 0x8b, 1, 2, 3]).unwrap();
    let error = refused(&flags(&format!("--trace azure:{}", broken.display())));
    assert!(error.contains("gzip is damaged"), "{error}");
}
