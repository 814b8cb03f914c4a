//! Measured rows go in; lines of a table, JSON and CSV come out.

use super::ceiling::Ceilings;
use super::kernels::Row;
use super::stage::{StageRequest, StageTimes};
use crate::backend::Encoding;
use serde_json::{Value, json};

/// What all rows of a run share.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The backend's name: `cpu, 2 threads, avx512`.
    pub device: String,
    /// What the processor calls itself, or nothing.
    pub processor: String,
    /// Threads.
    pub threads: usize,
    /// The CPU's instruction set, or the GPU's storage type.
    pub isa: String,
}

impl Machine {
    /// The machine and its ceilings, above the table.
    pub fn headline(&self, c: &Ceilings) -> String {
        format!(
            "{} ({})\nceilings: f32 FMA {:.1} GFLOP/s, read {:.1} GB/s, copy {:.1} GB/s (read + written)",
            self.device,
            self.processor,
            c.fma_peak * 1e-9,
            c.read * 1e-9,
            c.copy * 1e-9
        )
    }
}

/// The names above the columns of [`line()`].
pub fn header() -> String {
    format!(
        "{:<19} {:<43} {:<12} {:<7} {:>10} {:>8} {:>9} {:>7} {:>8}  error/bound",
        "op", "case", "variant", "isa", "median", "+/-", "GFLOP/s", "GB/s", "ceiling"
    )
}

/// A row of the table; `*` marks the variant that runs in a model.
pub fn line(row: &Row, machine: &Machine, ceilings: &Ceilings) -> String {
    let mark = if row.chosen { "*" } else { " " };
    let case = row.case.split_once('/').map_or(row.case.as_str(), |(_, case)| case);
    let variant = format!("{}{mark}", row.variant);
    let front = format!("{:<19} {case:<43} {variant:<12} {:<7}", row.op, machine.isa);
    let back = format!("{:.1e}/{:.1e}", row.error, row.bound);
    if row.failure.is_some() {
        return format!("{front} {:>47}  {back}", "WRONG, not timed");
    }
    let median = row.median();
    format!(
        "{front} {:>10} {:>8} {:>9.1} {:>7.1} {:>7.1}%  {back}",
        time(median),
        time(row.mad()),
        row.cost.flops as f64 / median * 1e-9,
        row.cost.bytes as f64 / median * 1e-9,
        100.0 * Ceilings { fma_peak: row.fma_peak, ..*ceilings }.share(row.cost.flops, row.cost.bytes, median)
    )
}

/// Seconds with a unit that leaves one to three digits before the point.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.3} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} us", s * 1e6),
    }
}

/// A row for `--json`.
pub fn json_row(row: &Row, machine: &Machine, ceilings: &Ceilings) -> Value {
    json!({
        "name": row.name(),
        "case": row.case,
        "variant": row.variant,
        "isa": machine.isa,
        "chosen": row.chosen,
        "device": machine.device,
        "processor": machine.processor,
        "threads": machine.threads,
        // A failed check leaves nothing timed: null.
        "median_s": finite(row.median()),
        "mad_s": finite(row.mad()),
        "runs_s": row.runs,
        "flops": row.cost.flops,
        "bytes": row.cost.bytes,
        "error": finite(row.error),
        "bound": row.bound,
        "status": if row.failure.is_some() { "fail" } else { "pass" },
        "fma_peak": finite(row.fma_peak),
        "read_bandwidth": ceilings.read,
        "copy_bandwidth": ceilings.copy,
    })
}

/// The row of a stage for `--json`; `name` is the model's.
pub fn json_stage(name: &str, request: &StageRequest, outcome: &StageTimes, machine: &Machine) -> Value {
    json!({
        "name": stage_name(name, request),
        "device": machine.device,
        "processor": machine.processor,
        "threads": machine.threads,
        "isa": machine.isa,
        "width": request.width,
        "height": request.height,
        "median_s": finite(outcome.median()),
        "mad_s": finite(outcome.mad()),
        "runs_s": outcome.runs,
        "load_s": outcome.load,
        "flops": outcome.cost.flops,
        "bytes": outcome.cost.bytes,
        // There is no f64 reference of a whole model here: `lienzo verify` compares those.
        "error": Value::Null,
        "peak_rss_bytes": outcome.peak_rss,
        "fma_peak": outcome.fma_peak,
        "output_rms": outcome.output_rms,
        // Where a queue is fed, as on a GPU; for one run.
        "encode_s": outcome.encoding.map(|e| e.host.as_secs_f64()),
        "dispatches": outcome.encoding.map(|e| e.dispatches),
        "submits": outcome.encoding.map(|e| e.submits),
    })
}

/// A run's work on the host, as a line of text.
pub fn encoding(e: &Encoding, name: &str) -> String {
    let host = time(e.host.as_secs_f64());
    format!("each {name}: {host} on the host to encode {} dispatches in {} submits", e.dispatches, e.submits)
}

/// `sd15/step/512x512`.
pub fn stage_name(model: &str, request: &StageRequest) -> String {
    format!("{model}/{}/{}x{}", request.part, request.width, request.height)
}

fn finite(v: f64) -> Value {
    if v.is_finite() { v.into() } else { Value::Null }
}

/// The first line of a CSV file.
pub const CSV_HEADER: &str =
    "name,device,isa,threads,chosen,sample,seconds,flops,bytes,error,bound,encode_s,dispatches,submits,fma_peak";

/// What the CSV lines of one row share.
pub struct CsvRow<'a> {
    /// The row's name.
    pub name: &'a str,
    /// Whether it is what a model runs.
    pub chosen: bool,
    /// Work.
    pub flops: u64,
    /// Least traffic.
    pub bytes: u64,
    /// Error and bound, where there is a reference.
    pub error: Option<(f64, f64)>,
    /// A run's work on the host, where a queue is fed.
    pub encoding: Option<Encoding>,
    /// The FMA peak in FLOP/s while the runs were taken.
    pub fma_peak: f64,
}

impl CsvRow<'_> {
    /// One line for every sample.
    pub fn lines(&self, machine: &Machine, runs: &[f64]) -> String {
        let error = self.error.map_or_else(|| ",".into(), |(error, bound)| format!("{error:e},{bound:e}"));
        let encoding = self
            .encoding
            .map_or_else(|| ",,".into(), |e| format!("{:e},{},{}", e.host.as_secs_f64(), e.dispatches, e.submits));
        let line = |(i, seconds): (usize, &f64)| {
            format!(
                "{},\"{}\",{},{},{},{i},{seconds:e},{},{},{error},{encoding},{:e}\n",
                self.name,
                machine.device,
                machine.isa,
                machine.threads,
                self.chosen,
                self.flops,
                self.bytes,
                self.fma_peak
            )
        };
        runs.iter().enumerate().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::stage::TimedStage;
    use crate::kernels::Cost;
    use std::time::Duration;

    fn machine() -> Machine {
        Machine { device: "cpu, 2 threads, avx2".into(), processor: "x".into(), threads: 2, isa: "avx2".into() }
    }

    fn row() -> Row {
        Row {
            case: "matmul/b2".into(),
            op: "matmul",
            variant: "panels",
            chosen: true,
            runs: vec![0.002, 0.001, 0.004],
            fma_peak: 2e12,
            cost: Cost { flops: 2_000_000_000, bytes: 1000 },
            error: 1e-7,
            bound: 2e-6,
            failure: None,
        }
    }

    const CEILINGS: Ceilings = Ceilings { fma_peak: 1e12, read: 1e10, copy: 1e10 };

    #[test]
    fn a_row_in_three_forms() {
        let line = line(&row(), &machine(), &CEILINGS);
        for part in ["panels*", "2.00 ms", "1000.0", "50.0%", "1.0e-7/2.0e-6"] {
            assert!(line.contains(part), "{line}");
        }
        let json = json_row(&row(), &machine(), &CEILINGS);
        assert_eq!(json["name"], "matmul/b2/panels");
        assert_eq!(json["median_s"], 0.002);
        assert_eq!(json["runs_s"].as_array().unwrap().len(), 3);
        let csv = CsvRow { name: "a/b", chosen: true, flops: 7, bytes: 8, error: None, encoding: None, fma_peak: 1e9 };
        let lines = csv.lines(&machine(), &[0.5, 0.25]);
        assert_eq!(lines.lines().nth(1).unwrap(), "a/b,\"cpu, 2 threads, avx2\",avx2,2,true,1,2.5e-1,7,8,,,,,,1e9");
        let spent = Encoding { host: Duration::from_micros(1500), dispatches: 412, submits: 3 };
        let with = CsvRow { encoding: Some(spent), ..csv }.lines(&machine(), &[0.5]);
        assert!(with.ends_with(",7,8,,,1.5e-3,412,3,1e9\n"), "{with}");
        assert_eq!(encoding(&spent, "step"), "each step: 1.50 ms on the host to encode 412 dispatches in 3 submits");
        assert_eq!(CSV_HEADER.split(',').count() + 2, lines.lines().next().unwrap().split(',').count());
    }

    #[test]
    fn a_stage_on_a_gpu_says_what_it_takes_on_the_host() {
        let spent = Encoding { host: Duration::from_millis(2), dispatches: 412, submits: 3 };
        let outcome = |encoding| StageTimes {
            runs: vec![0.5],
            load: 1.0,
            cost: Cost { flops: 1, bytes: 1 },
            fma_peak: 1.0,
            peak_rss: None,
            output_rms: 1.0,
            encoding,
            profile: None,
        };
        let request = StageRequest { part: TimedStage::Step, width: 512, height: 512, runs: 1, profile: false };
        let on_gpu = json_stage("sd15", &request, &outcome(Some(spent)), &machine());
        assert!(on_gpu["encode_s"] == 0.002 && on_gpu["dispatches"] == 412 && on_gpu["submits"] == 3, "{on_gpu}");
        let on_cpu = json_stage("sd15", &request, &outcome(None), &machine());
        assert!(on_cpu["encode_s"].is_null() && on_cpu["dispatches"].is_null() && on_cpu["submits"].is_null());
    }

    #[test]
    fn a_failed_row_has_no_time() {
        let failed = Row { runs: Vec::new(), error: f64::NAN, failure: Some("x".into()), ..row() };
        let json = json_row(&failed, &machine(), &CEILINGS);
        assert!(json["median_s"].is_null() && json["error"].is_null() && json["status"] == "fail");
        assert!(line(&failed, &machine(), &CEILINGS).contains("WRONG"));
    }

    #[test]
    fn names_and_times_are_readable() {
        let request = StageRequest { part: TimedStage::Step, width: 512, height: 384, runs: 1, profile: false };
        assert_eq!(stage_name("sd15", &request), "sd15/step/512x384");
        assert_eq!([2.5, 0.0125, 3.2e-6].map(time), ["2.500 s", "12.50 ms", "3.2 us"]);
    }
}
