//! llama.cpp, built from the source package that llama-cpp-python vendors all of it in.
//!
//! It is built for this very CPU first. Where that build dies on a small quantized model, as its
//! AMX path does on some virtual machines, it is built again without AMX, which is said.

use super::progress;
use super::python::Python;
use crate::bench::{model_file, workload::Workload};
use crate::root;
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The source package that has all of llama.cpp, and the Python that reads its logits.
const PACKAGE: &str = "llama_cpp_python-";
const ARCHIVE: &str = ".tar.gz";

const TARGETS: [&str; 6] = [
    "llama-bench",
    "llama-batched-bench",
    "llama-server",
    "llama-quantize",
    "llama-perplexity",
    "llama-imatrix",
];
/// What a race needs.
const RACE_TARGETS: [&str; 2] = [TARGETS[0], TARGETS[1]];

const COMMON: [&str; 4] = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DGGML_CCACHE=OFF",
];
const AVX2: [&str; 7] = [
    "-DGGML_NATIVE=OFF",
    "-DGGML_SSE42=ON",
    "-DGGML_AVX2=ON",
    "-DGGML_FMA=ON",
    "-DGGML_F16C=ON",
    "-DGGML_BMI2=ON",
    "-DGGML_AVX512=OFF",
];

/// Only ggml's own files are compiled again by it.
const NO_AMX: &str = "add_compile_options(-mno-amx-tile -mno-amx-int8 -mno-amx-bf16)\n";

/// Whether a folder has llama.cpp's benchmark.
pub fn has_bench(folder: &Path) -> bool {
    folder.join("llama-bench").is_file()
}

/// The unpacked source package.
pub fn sources(peers: &Path) -> Option<PathBuf> {
    let name = entry(peers, |name| name.starts_with(PACKAGE) && !name.contains(".tar"))?;
    Some(peers.join(name))
}

/// Builds all of its tools that Sterna is compared with, in `build/`.
///
/// # Errors
/// When a compiler, cmake or the network is missing, or the build does not run.
pub fn install(peers: &Path, python: &Python) -> Result<()> {
    let build = Build { peers, folder: peers.join("build"), targets: &TARGETS };
    let models = smoke_models(peers)?;
    if build.is_made() && build.smoke(&models)?.success() {
        println!("llama.cpp: is there, and runs");
        return Ok(());
    }
    let source = prepare(peers, python)?;
    let no_amx = peers.join("no-amx.cmake");
    let include = format!("-DCMAKE_PROJECT_ggml_INCLUDE={}", no_amx.display());
    let without_amx = ["-DGGML_NATIVE=ON", &include];
    // Left by an earlier call that found out.
    if no_amx.is_file() {
        println!("llama.cpp: building without AMX, as found necessary before");
        build.make(python, &source, &without_amx)?;
    } else {
        build.make(python, &source, &["-DGGML_NATIVE=ON"])?;
        let status = build.smoke(&models)?;
        if let Some(signal) = crash(status) {
            println!(
                "llama.cpp: built for this CPU it died on a small model (signal {signal}); \
                 building again without AMX"
            );
            std::fs::write(&no_amx, NO_AMX)?;
            build.make(python, &source, &without_amx)?;
        }
    }
    let status = build.smoke(&models)?;
    ensure!(status.success(), "llama-bench was built but ends with {status} on a small model");
    println!("llama.cpp: built, and runs");
    Ok(())
}

/// Builds its benchmarks without AVX-512, in `build-avx2/`.
///
/// # Errors
/// As [`install`].
pub fn install_avx2(peers: &Path, python: &Python) -> Result<()> {
    let build = Build { peers, folder: peers.join("build-avx2"), targets: &RACE_TARGETS };
    let models = smoke_models(peers)?;
    if !(build.is_made() && build.smoke(&models)?.success()) {
        let source = prepare(peers, python)?;
        build.make(python, &source, &AVX2)?;
        let status = build.smoke(&models)?;
        ensure!(status.success(), "the AVX2 llama-bench ends with {status} on a small model");
    }
    println!(
        "llama.cpp for AVX2: sterna bench MODEL --isa avx2 --against llama.cpp --peers {}",
        build.bin().display()
    );
    Ok(())
}

/// What a build needs: builders, a compiler, and the unpacked sources.
fn prepare(peers: &Path, python: &Python) -> Result<PathBuf> {
    let builders = ["scikit-build-core", "cmake", "ninja"];
    python.install("cmake and ninja", &builders, "scikit_build_core, cmake, ninja")?;
    let readers = ["gguf", "numpy", "diskcache", "jinja2", "typing-extensions"];
    python.install("gguf", &readers, "gguf, numpy, diskcache, jinja2, typing_extensions")?;
    let compiler = Command::new("c++").arg("--version").output();
    if !compiler.is_ok_and(|output| output.status.success()) {
        bail!("no `c++` on the path; install a C++ compiler (Debian: apt-get install g++)");
    }
    if sources(peers).is_none() {
        unpack(peers, python)?;
    }
    let sources = sources(peers).context("the source package holds no llama_cpp_python folder")?;
    Ok(sources.join("vendor/llama.cpp"))
}

fn unpack(peers: &Path, python: &Python) -> Result<()> {
    let is_archive = |name: &str| name.starts_with(PACKAGE) && name.ends_with(ARCHIVE);
    if entry(peers, is_archive).is_none() {
        println!("llama.cpp: downloading its sources (77 MB)");
        // The package is kept by its final name only when it is whole.
        let download = ["download", "-q", "--no-binary", ":all:", "--no-deps"];
        let package = ["--no-build-isolation", "-d", "download", "llama-cpp-python"];
        python.pip(&[&download[..], &package[..]].concat())?;
        let name = entry(&peers.join("download"), is_archive).context("pip left no archive")?;
        std::fs::rename(peers.join("download").join(&name), peers.join(&name))?;
    }
    let archive = entry(peers, is_archive).context("pip left no archive")?;
    println!("llama.cpp: unpacking {archive}");
    let half = peers.join("unpacking");
    std::fs::create_dir_all(&half)?;
    root::output_of(Command::new("tar").arg("xzf").arg(peers.join(&archive)).arg("-C").arg(&half))?;
    let name = archive.trim_end_matches(ARCHIVE);
    std::fs::rename(half.join(name), peers.join(name)).context("the archive has another folder")
}

/// One build folder.
struct Build<'b> {
    peers: &'b Path,
    folder: PathBuf,
    targets: &'b [&'b str],
}

impl Build<'_> {
    fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    fn is_made(&self) -> bool {
        self.targets.iter().all(|target| self.bin().join(target).is_file())
    }

    /// Configures and builds what is not built yet.
    fn make(&self, python: &Python, source: &Path, options: &[&str]) -> Result<()> {
        let log = self.peers.join("build.log");
        let n_jobs = std::thread::available_parallelism().map_or(1, |n| n.get()).to_string();
        println!("llama.cpp: cmake {}; all output is in {}", options.join(" "), log.display());
        let mut configure = Command::new(python.tool("cmake"));
        configure.args(["-G", "Ninja"]).arg("-S").arg(source).arg("-B").arg(&self.folder);
        let ninja = python.tool("ninja");
        configure.arg(format!("-DCMAKE_MAKE_PROGRAM={}", ninja.display()));
        configure.args(COMMON).args(options);
        progress::run("configuring llama.cpp", &mut configure, &log)?;
        let mut build = Command::new(python.tool("cmake"));
        build.arg("--build").arg(&self.folder).args(["-j", &n_jobs, "--target"]).args(self.targets);
        progress::run("building llama.cpp", &mut build, &log)
    }

    /// How llama-bench ends on small models, the first that fails deciding.
    fn smoke(&self, models: &[PathBuf]) -> Result<ExitStatus> {
        let mut ended = ExitStatus::default();
        for model in models {
            let mut bench = Command::new(self.bin().join("llama-bench"));
            bench.arg("-m").arg(model).args(["-p", "64", "-n", "1", "-r", "1"]);
            ended = bench.output().context("cannot start llama-bench")?.status;
            if !ended.success() {
                break;
            }
        }
        Ok(ended)
    }
}

/// The signal of a program that an instruction or an address killed.
fn crash(status: ExitStatus) -> Option<i32> {
    const ILLEGAL_INSTRUCTION: i32 = 4;
    const BUS_ERROR: i32 = 7;
    const SEGMENTATION_FAULT: i32 = 11;
    let signal = status.signal().or_else(|| status.code().map(|code| code - 128))?;
    [ILLEGAL_INSTRUCTION, BUS_ERROR, SEGMENTATION_FAULT].contains(&signal).then_some(signal)
}

/// Small models in encodings for which llama.cpp takes its special instructions.
fn smoke_models(peers: &Path) -> Result<Vec<PathBuf>> {
    let workload = Workload::read(&root::root(), "smoke")?;
    let model = |encoding: &str| {
        let path = peers.join(format!("smoke-{encoding}.gguf"));
        model_file::write(&path, "smoke", &workload, encoding)?;
        Ok(path)
    };
    ["Q8_0", "Q4_0", "F16"].into_iter().map(model).collect()
}

/// The last name in a folder that fits.
fn entry(folder: &Path, fits: impl Fn(&str) -> bool) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| fits(name)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_are_told_from_failures() {
        assert_eq!(crash(ExitStatus::from_raw(4)), Some(4));
        assert_eq!(crash(ExitStatus::from_raw(139 << 8)), Some(11));
        assert_eq!(crash(ExitStatus::from_raw(1 << 8)), None);
        assert_eq!(crash(ExitStatus::from_raw(15)), None);
    }

    #[test]
    fn archives_are_not_taken_for_sources() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(sources(folder.path()), None);
        std::fs::write(folder.path().join("llama_cpp_python-0.3.36.tar.gz"), "").unwrap();
        assert_eq!(sources(folder.path()), None);
        let sources_folder = folder.path().join("llama_cpp_python-0.3.36");
        std::fs::create_dir(&sources_folder).unwrap();
        assert_eq!(sources(folder.path()), Some(sources_folder));
    }
}
