//! Finds what Sterna is compared with: llama.cpp's tools, and the Python packages with reference
//! encodings; or, when asked, installs them from PyPI. Nothing of it enters this repository.

use crate::root;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the folder with llama.cpp's tools, here and in tests.
const PEERS_DIR: &str = "STERNA_PEERS_DIR";

/// The source package that has all of llama.cpp, and the Python that reads its logits.
const PACKAGE: &str = "llama_cpp_python-";
const ARCHIVE: &str = ".tar.gz";

/// The environment in which the tests that compare with peers run instead of being skipped.
///
/// # Errors
/// As [`find`].
pub fn environment(fetch: bool) -> Result<Vec<(&'static str, PathBuf)>> {
    let tools = find(fetch)?;
    let library = tools.join("libggml-base.so");
    let mut variables = vec![(PEERS_DIR, tools)];
    if library.is_file() {
        variables.push(("STERNA_LIBGGML", library));
    }
    let python = root::target_dir().join("peers/venv/bin/python");
    if std::env::var_os("STERNA_PEERS").is_none() && python.is_file() {
        variables.push(("STERNA_PEERS", python));
    }
    let peers = root::target_dir().join("peers");
    if let Ok(sources) = entry(&peers, |n| n.starts_with(PACKAGE) && !n.ends_with(ARCHIVE)) {
        variables.push(("PYTHONPATH", peers.join(sources)));
    }
    Ok(variables)
}

/// The folder with llama.cpp's tools: from the environment, or built earlier, or built now by
/// `fetch`.
///
/// # Errors
/// When there is none and it may not be fetched, or the build fails.
pub fn find(fetch: bool) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(PEERS_DIR).map(PathBuf::from) {
        if has_bench(&folder) {
            return Ok(folder);
        }
        bail!("{PEERS_DIR}={} has no llama-bench; correct or unset it", folder.display());
    }
    let peers = root::target_dir().join("peers");
    let built = peers.join("build/bin");
    if !has_bench(&built) {
        if !fetch {
            bail!(
                "llama.cpp is not here; set {PEERS_DIR} to a folder with llama-bench, or let \
                 `--fetch` download and build it (about 15 minutes)"
            );
        }
        build(&peers).context("cannot build llama.cpp")?;
    }
    Ok(built)
}

fn has_bench(folder: &Path) -> bool {
    folder.join("llama-bench").is_file()
}

/// Downloads the source package and builds the tools with cmake, both in a Python environment of
/// their own, since cmake comes from PyPI too.
fn build(peers: &Path) -> Result<()> {
    std::fs::create_dir_all(peers)?;
    let run = |program: &Path, args: &[&str]| -> Result<()> {
        println!("$ {} {}", program.display(), args.join(" "));
        root::output_of(Command::new(program).args(args).current_dir(peers)).map(|_| ())
    };
    let python = peers.join("venv/bin/python");
    run(Path::new("python3"), &["-m", "venv", "venv"])?;
    let builders = ["scikit-build-core", "cmake", "ninja"];
    let readers = ["gguf", "numpy", "diskcache", "jinja2", "typing-extensions"];
    run(&python, &[&["-m", "pip", "install", "-q"][..], &builders[..], &readers[..]].concat())?;
    let download = ["-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps"];
    let package = ["--no-build-isolation", "llama-cpp-python"];
    run(&python, &[&download[..], &package[..]].concat())?;
    let archive = entry(peers, |n| n.starts_with(PACKAGE) && n.ends_with(ARCHIVE))?;
    run(Path::new("tar"), &["xzf", &archive])?;
    let source = archive.trim_end_matches(ARCHIVE).to_owned() + "/vendor/llama.cpp";
    let cmake = peers.join("venv/bin/cmake");
    let options = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF"];
    run(&cmake, &[&["-B", "build", "-S", &source][..], &options[..]].concat())?;
    let targets = ["llama-bench", "llama-quantize", "llama-perplexity"];
    let jobs = std::thread::available_parallelism().map_or(1, |n| n.get()).to_string();
    run(&cmake, &[&["--build", "build", "-j", &jobs, "--target"][..], &targets[..]].concat())
}

/// The first name in a folder that fits.
fn entry(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<String> {
    let names = std::fs::read_dir(folder)?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| fits(n)).collect();
    names.sort();
    names.pop().with_context(|| format!("pip left no source archive in {}", folder.display()))
}
