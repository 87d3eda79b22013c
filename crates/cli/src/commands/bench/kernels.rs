//! `sterna bench kernels`: the kernels of linear layers, each held against the ceiling that bounds
//! it.

mod layer;

use super::ceiling::thread_bytes;
use crate::compute::LevelArgs;
use crate::probes::KernelProbes;
use crate::show::{self, bad_input};
use layer::{Error, Layer, Way};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;
use sterna_formats::encodings;
use sterna_kernels::dot::FEW_ROWS;
use sterna_kernels::{ISAS, Level};
use sterna_measure::clock::RealClock;
use sterna_measure::machine::{Machine, Prober, Roof};
use sterna_measure::stats::median;
use sterna_runtime::Settings;

/// Measure the kernels of linear layers on random weights, each against its ceiling.
///
/// Each kernel is held against read bandwidth (its packed weights, read from memory) and the int8
/// or f32 peak, both probed right before each run; the share is of the one that it comes nearer to,
/// the median over the runs. The int8 and bf16 peaks are those of dots on vectors (vpdpbusd,
/// vdpbf16ps), which AMX tiles can pass.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  sterna bench kernels --encodings Q4_0,Q4_K --rows 1,16,512
  sterna bench kernels --shapes 4096x4096 --threads 1 --json
  sterna bench kernels --encodings BF16 --bf16-dot
  sterna bench kernels --assert     # is the kernel that would be picked the fastest there is?")]
pub struct Args {
    /// Encodings.
    #[arg(long, value_delimiter = ',', default_value = "Q8_0,Q4_0,Q4_K,Q6_K,TQ2_0,F16,BF16,F32")]
    encodings: Vec<String>,
    /// Rows of activations: tokens computed at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 128, 512])]
    rows: Vec<usize>,
    /// Matrices as OUTxIN, with a name before if you like.
    #[arg(long, value_delimiter = ',', default_value = SHAPES)]
    shapes: Vec<String>,
    /// Runs of each kernel.
    #[arg(short = 'r', long, default_value_t = 5)]
    repetitions: usize,
    /// Also run what is not picked, in turn with what is; exit with code 1 where the pick is more
    /// than 5% behind.
    #[arg(long)]
    assert: bool,
    /// Multiply BF16 weights by activations rounded to bf16, and show how far the results are from
    /// exact ones.
    #[arg(long)]
    bf16_dot: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    level: LevelArgs,
}

/// The large matrices of the two shapes that Sterna is raced on.
const SHAPES: &str = "tinyllama-1.1b attn_q 2048x2048,tinyllama-1.1b ffn_up 5632x2048,\
    tinyllama-1.1b ffn_down 2048x5632,110m ffn_up 2048x768,110m ffn_down 768x2048";

/// How far a pick may be behind another candidate.
const TOLERANCE: f64 = 1.05;

/// Length of a probe of one ceiling.
const PROBE: Duration = Duration::from_millis(30);

/// One kernel's figures.
#[derive(Serialize)]
struct Row {
    encoding: String,
    shape: String,
    rows: usize,
    threads: usize,
    /// The way that would be picked.
    pick: String,
    /// Median seconds of one pass over the matrix.
    seconds: f64,
    seconds_samples: Vec<f64>,
    ops_per_second: f64,
    /// Of packed weights.
    bytes_per_second: f64,
    ceiling: &'static str,
    /// Median, per second.
    ceiling_per_second: f64,
    share: f64,
    /// How far the results are from exact ones, where bf16 dots were asked for.
    error: Option<Error>,
    /// Median seconds of every way that was run, the pick among them.
    candidates: Vec<Candidate>,
}

#[derive(Serialize)]
struct Candidate {
    way: String,
    seconds: f64,
}

/// Runs the command.
///
/// # Errors
/// When an argument makes no sense.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let level = args.level.level()?;
    let bf16_dot = args.bf16_dot;
    let settings = Settings { bf16_dot, ..args.level.settings(1)? };
    settings.level().map_err(|error| bad_input(error.to_string()))?;
    let n_threads = args.level.threads()?.unwrap_or_else(|| Machine::detect().usable_cpus());
    if args.repetitions == 0 || args.rows.contains(&0) {
        return Err(bad_input("--repetitions and --rows must be at least 1"));
    }
    let start = |roof| Prober::start(roof, KernelProbes(level), n_threads, RealClock::new());
    let mut bandwidth = start(Roof::MemoryRead { thread_bytes: thread_bytes(n_threads) });
    let mut peaks = Roof::PEAKS.map(start);
    let mut found = Vec::new();
    for encoding in &args.encodings {
        let encoding = encodings::by_name(&encoding.to_uppercase()).ok_or_else(|| {
            bad_input(format!(
                "no encoding is called {encoding}; `sterna quantize --help` lists them"
            ))
        })?;
        for shape in &args.shapes {
            let (out, cols) = shape_of(shape)?;
            if !encoding.fits(cols) {
                eprintln!("note: rows of {cols} do not fit {encoding:?}: {shape} is left out");
                continue;
            }
            for &rows in &args.rows {
                let mut layer = Layer::new(encoding, bf16_dot, (out, cols), rows, n_threads)?;
                let pick = Way { level, few_rows: FEW_ROWS };
                let ways = if args.assert { candidates(pick, &layer) } else { vec![pick] };
                let peak = peaks.iter_mut().find(|peak| peak.roof() == layer.peak());
                let peak = peak.expect("each peak has its probe");
                let mut row = measure(&mut layer, &ways, args.repetitions, &mut bandwidth, peak)?;
                row.shape.clone_from(shape);
                row.error = layer.error(level);
                found.push(row);
            }
        }
    }
    let behind: Vec<String> = found.iter().filter_map(behind).collect();
    if args.json {
        show::json(&found)?;
    } else {
        print_table(&found);
    }
    for sentence in &behind {
        eprintln!("behind: {sentence}");
    }
    Ok(if behind.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// `OUTxIN` at the end of a shape's name.
fn shape_of(shape: &str) -> anyhow::Result<(usize, usize)> {
    let numbers = shape.split_whitespace().last().and_then(|last| last.split_once('x'));
    let parsed = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parsed
        .filter(|&(a, b): &(usize, usize)| a > 0 && b > 0 && a.saturating_mul(b) <= 1 << 30)
        .ok_or_else(|| bad_input(format!("shape {shape} is not like 2048x5632")))
}

/// The pick first, then every other way this CPU has.
fn candidates(pick: Way, layer: &Layer) -> Vec<Way> {
    let levels = ISAS.iter().skip(1).filter_map(|name| Level::by_name(name).ok());
    let needs_bf16 = layer.peak() == Roof::Bf16Peak;
    let mut ways = vec![pick];
    for level in levels.filter(|level| level.has_bf16_dots() || !needs_bf16) {
        for few_rows in [0, usize::MAX] {
            let way = Way { level, few_rows };
            if ways.iter().all(|known| known.name(layer) != way.name(layer)) {
                ways.push(way);
            }
        }
    }
    ways
}

/// Runs every way in turn, the ceilings probed before each round.
fn measure(
    layer: &mut Layer,
    ways: &[Way],
    repetitions: usize,
    bandwidth: &mut Prober,
    peak: &mut Prober,
) -> anyhow::Result<Row> {
    let clock = RealClock::new();
    let mut seconds = vec![Vec::new(); ways.len()];
    let (mut read_shares, mut peak_shares, mut reads, mut ops) = (vec![], vec![], vec![], vec![]);
    for &way in ways {
        layer.run(way, &clock);
    }
    for _ in 0..repetitions {
        let read = bandwidth.sample(PROBE).unwrap_or(f64::INFINITY);
        let top = peak.sample(PROBE).unwrap_or(f64::INFINITY);
        for (&way, seconds) in ways.iter().zip(&mut seconds) {
            seconds.push(layer.run(way, &clock));
        }
        let one = *seconds[0].last().expect("just pushed");
        read_shares.push(layer.bytes() / one / read);
        peak_shares.push(layer.ops() / one / top);
        reads.push(read);
        ops.push(top);
    }
    let one = median(&seconds[0]);
    let by_read = median(&read_shares) > median(&peak_shares);
    let (roof, share, per_second) = if by_read {
        (bandwidth.roof(), median(&read_shares), median(&reads))
    } else {
        (peak.roof(), median(&peak_shares), median(&ops))
    };
    let candidate = |(way, seconds): (&Way, &Vec<f64>)| Candidate {
        way: way.name(layer),
        seconds: median(seconds),
    };
    Ok(Row {
        encoding: layer.encoding_name().to_owned(),
        shape: String::new(),
        error: None,
        rows: layer.n_rows(),
        threads: layer.n_threads(),
        pick: ways[0].name(layer),
        seconds: one,
        ops_per_second: layer.ops() / one,
        bytes_per_second: layer.bytes() / one,
        ceiling: roof.name(),
        ceiling_per_second: per_second,
        share,
        candidates: ways.iter().zip(&seconds).map(candidate).collect(),
        seconds_samples: seconds.swap_remove(0),
    })
}

/// A sentence where the pick is too far behind.
fn behind(row: &Row) -> Option<String> {
    let best = row.candidates.iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
    (row.seconds > best.seconds * TOLERANCE).then(|| {
        format!(
            "{} {}, {} rows: {} takes {:.3} ms, {} takes {:.3} ms",
            row.encoding,
            row.shape,
            row.rows,
            row.pick,
            row.seconds * 1e3,
            best.way,
            best.seconds * 1e3
        )
    })
}

fn print_table(rows: &[Row]) {
    let headings =
        ["encoding", "matrix", "rows", "kernel", "ms", "Gop/s", "GB/s", "share of ceiling"];
    let mut table = show::table(&headings);
    for row in rows {
        let unit = if row.ceiling == "memory_read" { "GB/s read" } else { "Gop/s" };
        table.add_row([
            row.encoding.clone(),
            row.shape.clone(),
            row.rows.to_string(),
            row.pick.clone(),
            format!("{:.3}", row.seconds * 1e3),
            format!("{:.1}", row.ops_per_second / 1e9),
            format!("{:.2}", row.bytes_per_second / 1e9),
            format!("{:.0}% of {:.1} {unit}", row.share * 100.0, row.ceiling_per_second / 1e9),
        ]);
    }
    println!("{table}");
    for row in rows {
        if let Some(Error { mean, largest }) = row.error {
            println!(
                "{} {}, {} rows: bf16 dots differ from exact ones by {mean:.1e} (root mean \
                 square), at most {largest:.1e} of the results' root mean square",
                row.encoding, row.shape, row.rows
            );
        }
    }
    for row in rows.iter().filter(|row| row.candidates.len() > 1) {
        let words: Vec<String> =
            row.candidates.iter().map(|c| format!("{} {:.3} ms", c.way, c.seconds * 1e3)).collect();
        println!("{} {}, {} rows: {}", row.encoding, row.shape, row.rows, words.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_end_in_their_numbers() {
        assert_eq!(shape_of("110m ffn_up 2048x768").unwrap(), (2048, 768));
        assert_eq!(shape_of("64x32").unwrap(), (64, 32));
        for wrong in ["", "64", "0x5", "ax3", "99999999x99999999"] {
            assert!(shape_of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_slower_pick_is_said() {
        let candidate = |way: &str, seconds| Candidate { way: way.into(), seconds };
        let mut row = Row {
            encoding: "Q4_0".into(),
            shape: "64x32".into(),
            rows: 4,
            threads: 1,
            pick: "avx512 as packed".into(),
            seconds: 0.0011,
            seconds_samples: vec![0.0011],
            ops_per_second: 1.0,
            bytes_per_second: 1.0,
            ceiling: "int8_peak",
            ceiling_per_second: 2.0,
            share: 0.5,
            error: None,
            candidates: vec![candidate("avx512 as packed", 0.0011), candidate("avx2", 0.001)],
        };
        let sentence = behind(&row).unwrap();
        assert_eq!(
            sentence,
            "Q4_0 64x32, 4 rows: avx512 as packed takes 1.100 ms, avx2 takes 1.000 ms"
        );
        row.seconds = 0.00104;
        assert_eq!(behind(&row), None);
    }
}
