//! `cargo xtask clients`: clients that others wrote talk to `sterna serve`, unmodified.
//!
//! In: PyPI and npm, from which they are installed under `clients/` in the target folder; the
//! scripts in `xtask/clients/`. Out: a line per check, and whether all passed.

mod server;

use crate::bench::build_sterna;
use crate::peers::python::Python;
use crate::root;
use anyhow::{Context, Result, bail, ensure};
use server::Server;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask clients`.
#[derive(Default, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask clients                        1 GB of downloads at first, minutes
  cargo xtask clients --only openai,ollama   110 MB")]
pub struct Args {
    /// Only these
    #[arg(long, value_delimiter = ',',
          value_parser = ["openai", "openai-node", "anthropic", "ollama", "lm-eval"])]
    only: Vec<String>,
    /// The program to talk to [default: the release build of this tree]
    #[arg(long, value_name = "FILE")]
    sterna: Option<PathBuf>,
}

/// A client: what is installed, and the script that uses it.
struct Client {
    name: &'static str,
    /// For pip, or for npm where the script is JavaScript; versions are those that were tried.
    packages: &'static [&'static str],
    /// What Python then imports.
    modules: &'static str,
    script: &'static str,
}

const CLIENTS: &[Client] = &[
    Client {
        name: "openai",
        packages: &["openai==3.54.0"],
        modules: "openai",
        script: "openai_client.py",
    },
    // 35 MB.
    Client {
        name: "openai-node",
        packages: &["openai@7.57.0"],
        modules: "",
        script: "openai_client.mjs",
    },
    Client {
        name: "anthropic",
        packages: &["anthropic==2.12.0"],
        modules: "anthropic",
        script: "anthropic_client.py",
    },
    // With these three the environment has 109 MB.
    Client {
        name: "ollama",
        packages: &["ollama==0.6.3"],
        modules: "ollama",
        script: "ollama_client.py",
    },
    // 885 MB more, of data frames and metrics that it always imports; no torch. Transformers reads
    // the model's tokenizer for it.
    Client {
        name: "lm-eval",
        packages: &["lm_eval[api]==0.4.13", "transformers==5.23.0"],
        modules: "lm_eval, transformers",
        script: "lm_eval_client.py",
    },
];

/// The model that they talk to.
const MODEL: &str = "austen-4m";
const KEY: &str = "sterna-test-key";

/// Installs what is not there yet and runs every script.
///
/// # Errors
/// When a program or the network is missing, or a server does not start.
pub fn run(args: &Args) -> Result<bool> {
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let clients: Vec<&Client> = CLIENTS.iter().filter(|client| wanted(client.name)).collect();
    let folder = root::target_dir().join("clients");
    let python = Python::in_folder(&folder)?;
    for client in &clients {
        match client.is_node() {
            true => install_node(client, &folder)?,
            false => python.install(client.name, client.packages, client.modules)?,
        }
    }
    let sterna = match &args.sterna {
        Some(file) => file.clone(),
        None => build_sterna()?,
    };
    let models = root::root().join("models");
    let file = models.join(format!("{MODEL}.gguf"));
    // The model has no template; this one shows tools, calls and thoughts.
    let template = root::root().join("xtask/clients/template.jinja").display().to_string();
    let server = Server::start(&sterna, &file, KEY, &["--chat-template-file", &template])?;
    let busy = Server::start(&sterna, &file, KEY, &["--parallel", "1", "--max-queue", "1"])?;
    let mut failed = Vec::new();
    for client in clients {
        println!("== {} {} ==", client.name, client.packages.join(" "));
        let mut script = match client.is_node() {
            true => Command::new("node"),
            false => Command::new(python.tool("python")),
        };
        script.arg(root::root().join("xtask/clients").join(client.script));
        script.env("STERNA_URL", &server.url).env("STERNA_BUSY_URL", &busy.url);
        script.env("STERNA_KEY", KEY).env("STERNA_MODEL", MODEL).env("STERNA_BIN", &sterna);
        script.env("STERNA_FILE", &file).env("STERNA_TOKENIZER", models.join("tokenizer.json"));
        script.env("STERNA_NODE", &folder).env("PYTHONDONTWRITEBYTECODE", "1");
        if !script.status().context("cannot start the script")?.success() {
            failed.push(client.name);
        }
    }
    match failed.is_empty() {
        true => println!("all clients passed"),
        false => println!("failed: {}", failed.join(", ")),
    }
    Ok(failed.is_empty())
}

impl Client {
    fn is_node(&self) -> bool {
        self.script.ends_with(".mjs")
    }
}

/// Installs a package of npm, unless this version of it is there.
fn install_node(client: &Client, folder: &Path) -> Result<()> {
    let [package] = client.packages else { bail!("one package of npm at a time") };
    let (name, version) = package.rsplit_once('@').context("a package of npm has a version")?;
    let manifest = folder.join("node_modules").join(name).join("package.json");
    let is_there = std::fs::read_to_string(manifest)
        .is_ok_and(|text| text.contains(&format!("\"version\": \"{version}\"")));
    if is_there {
        println!("{}: is there", client.name);
        return Ok(());
    }
    println!("{}: npm install {package}", client.name);
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-fund", "--no-audit", "--prefix"]).arg(folder).arg(package);
    let fix = "install Node 20 or newer with npm (Debian: apt-get install nodejs npm), or leave \
               this client out with --only";
    let output = npm.output().with_context(|| format!("npm is not on the path; {fix}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "npm cannot install {package}: {}", said.trim_end());
    Ok(())
}
