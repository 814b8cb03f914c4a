#!/usr/bin/env python3
"""Lienzo beside PyTorch, OpenVINO and stable-diffusion.cpp on this machine: one command, interleaved, one table.

It makes a virtual environment with the peers, a full-size random Stable Diffusion 1.5 checkpoint, and OpenVINO's files,
unless they are there; then it runs every peer in turn, round after round, each in a process of its own with the same number
of threads, and writes benches/results/DATE-PROCESSOR-peers/{README.md,raw.csv}. Needs Python 3.10+, Rust and some 15 GB.
"""
import argparse
import csv
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

TOOLS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TOOLS)
PARTS = ["step", "decode", "text", "txt2img"]
PEERS = ["torch", "torch-cl", "openvino", "sdcpp"]
LABELS = {"lienzo": "Lienzo", "torch": "PyTorch", "torch-cl": "PyTorch, channels last", "openvino": "OpenVINO",
          "sdcpp": "stable-diffusion.cpp"}
# What each peer needs: the module to import and the package that brings it.
PACKAGES = {
    "torch": {"torch": "torch", "diffusers": "diffusers", "transformers": "transformers", "accelerate": "accelerate"},
    "openvino": {"openvino": "openvino"},
    "sdcpp": {"stable_diffusion_cpp": "stable-diffusion-cpp-python"},
}
FIELDS = ["round", "part", "peer", "precision", "threads", "isa", "size", "steps", "sample", "seconds", "wall_s",
          "load_s", "peak_rss_bytes", "output_rms"]


def say(text):
    print(text, file=sys.stderr, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="step,decode,text,txt2img", help="parts: step,decode,text,txt2img")
    parser.add_argument("--peers", default="torch,torch-cl,openvino,sdcpp", help="torch,torch-cl,openvino,sdcpp")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for everybody")
    parser.add_argument("--runs", type=int, default=3, help="rounds; every peer runs once in each, after a warm-up")
    parser.add_argument("--once", default="", help="peers that run in the first round only: the slowest, where time is short")
    parser.add_argument("--steps", type=int, default=20, help="of txt2img")
    parser.add_argument("--size", type=int, default=512, help="side of the picture")
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--isa", choices=["avx2"], help="force an instruction set on all who can be forced")
    parser.add_argument("--work", default=os.path.join(ROOT, "target", "peers"), help="environment, checkpoint, exports")
    parser.add_argument("--venv", help="an environment to use instead; what is missing is installed into it")
    parser.add_argument("--checkpoint", help="an original-layout .safetensors to use")
    parser.add_argument("--diffusers", help="the same weights as a diffusers folder")
    parser.add_argument("--lienzo", default=os.path.join(ROOT, "target", "release", "lienzo"), help="the binary")
    parser.add_argument("--out", help="folder of the results")
    args = parser.parse_args()
    args.parts = checked("--only", args.only, PARTS)
    args.names = checked("--peers", args.peers, PEERS)
    args.once = checked("--once", args.once, PEERS)
    if bool(args.checkpoint) != bool(args.diffusers):
        parser.error("--checkpoint and --diffusers hold the same weights: give both or neither")
    if min(args.threads, args.runs, args.steps) < 1 or args.size % 64:
        parser.error("threads, runs and steps are at least 1, the size a multiple of 64")
    return args


def checked(flag, text, known):
    chosen = [name for name in text.split(",") if name]
    wrong = [name for name in chosen if name not in known]
    if wrong:
        raise SystemExit(f"{flag} {wrong[0]}: not known; there are {', '.join(known)}")
    return [name for name in known if name in chosen]


def set_up(args):
    """An environment with every peer that can be installed; gives (python, peers, why others are missing)."""
    venv = args.venv or os.path.join(args.work, "venv")
    python = os.path.join(venv, "Scripts" if os.name == "nt" else "bin", "python")
    if not os.path.exists(python):
        say(f"making {venv}")
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    missing = {}

    def have(module):
        # Looking is enough: importing torch takes a while.
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{module}') is None)"
        return subprocess.run([python, "-c", code], capture_output=True).returncode == 0

    def install(package):
        say(f"installing {package}")
        command = [python, "-m", "pip", "install", "-q", package]
        if package == "torch" and platform.system() == "Linux":
            # The default package brings gigabytes of CUDA along.
            cpu = command + ["--index-url", "https://download.pytorch.org/whl/cpu"]
            if subprocess.run(cpu).returncode == 0:
                return
        subprocess.run(command)

    # diffusers makes the weights and the exports, so its packages are always wanted.
    wanted = ["torch"] + [name for name in ("openvino", "sdcpp") if name in args.names]
    for group in wanted:
        for module, package in PACKAGES[group].items():
            if not have(module):
                install(package)
            if not have(module):
                missing[group] = f"pip could not install {package}"
    if "torch" in missing:
        raise SystemExit(f"{missing['torch']}: without it there are no weights to compare on")
    return python, [name for name in args.names if name.split("-")[0] not in missing], missing


def prepare(args, python, peers):
    """The binary, the weights, OpenVINO's files."""
    if not os.path.exists(args.lienzo):
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
    if not args.checkpoint:
        args.checkpoint = os.path.join(args.work, "sd15-random-f16.safetensors")
        args.diffusers = os.path.join(args.work, "sd15-random-diffusers")
        if not os.path.exists(args.checkpoint):
            say("making random weights")
            subprocess.run([python, os.path.join(TOOLS, "make_full_weights.py"), args.work], check=True)
    if "openvino" in peers:
        say("exporting for OpenVINO")
        # Every part: txt2img needs them all.
        parts = PARTS[:3] if "txt2img" in args.parts else args.parts
        subprocess.run(worker(args, python, "openvino", ",".join(parts)) + ["--export"], check=True)


def worker(args, python, peer, part):
    command = [python, os.path.join(TOOLS, "peer_worker.py"), "--peer", peer, "--part", part, "--runs", "1"]
    for name in ("threads", "size", "steps", "precision", "diffusers", "checkpoint"):
        command += ["--" + name, str(getattr(args, name))]
    return command + ["--openvino", os.path.join(args.work, "openvino")]


def lienzo(args, part, scratch):
    size = ["-W", str(args.size), "-H", str(args.size)]
    shared = ["-t", str(args.threads), "--precision", args.precision]
    if part == "txt2img":
        return [args.lienzo, "generate", "a red apple on a blue background", "-m", args.checkpoint, *size, *shared,
                "--steps", str(args.steps), "--cfg-scale", "7.5", "-s", "1", "-o", scratch + ".png", "--overwrite"]
    return [args.lienzo, "bench", "--arch", "sd15", "--stage", part, *size, *shared, "--runs", "1", "--json", scratch + ".json"]


def environment(args):
    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), MKL_NUM_THREADS=str(args.threads), HF_HUB_OFFLINE="1")
    if args.isa == "avx2":
        env.update(LIENZO_ISA="avx2", ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", DNNL_MAX_CPU_ISA="AVX2",
                   MKL_ENABLE_INSTRUCTIONS="AVX2")
    return env


def spawn(command, env):
    """Runs a process to its end; gives its output, wall time and peak resident memory in bytes."""
    start = time.perf_counter()
    with open(os.path.join(env["PEERS_SCRATCH"], "output.txt"), "w+b") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - start
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    # Linux counts in KiB, macOS in bytes.
    rss = usage.ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:6])} ...: exit {process.returncode}\n{text[-2000:]}")
    return text, wall, rss


def measure(args, python, peer, part, env):
    """One process of one peer; gives {part: facts}: stable-diffusion.cpp's log tells about all parts at once."""
    scratch = os.path.join(env["PEERS_SCRATCH"], "lienzo")
    command = lienzo(args, part, scratch) if peer == "lienzo" else worker(args, python, peer, part)
    text, wall, rss = spawn(command, env)
    facts = {"wall_s": wall, "peak_rss_bytes": rss}
    if peer == "lienzo" and part == "txt2img":
        facts["runs_s"] = [wall]
        return {part: facts}
    if peer == "lienzo":
        with open(scratch + ".json", encoding="utf-8") as f:
            row = json.load(f)[0]
    else:
        row = json.loads(text.strip().splitlines()[-1])
    facts.update({key: row[key] for key in ("runs_s", "load_s", "output_rms") if key in row})
    if peer == "sdcpp":
        seconds = {"text": logged(text, "get_learned_condition"), "decode": logged(text, "decode_first_stage"),
                   "step": logged(text, "sampling") / row["steps"]}
        found = {name: {**facts, "runs_s": [value]} for name, value in seconds.items()}
        found["txt2img"] = {**facts, "runs_s": [wall]}
        return found if part == "txt2img" else {name: found[name] for name in ("step", "decode", "text")}
    if part == "txt2img":
        facts["runs_s"] = [wall]
    return {part: facts}


def logged(text, what):
    """Seconds that stable-diffusion.cpp says a stage took."""
    found = re.search(what + r" completed, taking ([0-9.]+) ?s", text)
    if not found:
        raise RuntimeError(f"no time of {what} in the log of stable-diffusion.cpp")
    return float(found[1])


def schedule(args, peers):
    """(peer, part) of one round. stable-diffusion.cpp runs once for all parts that are wanted."""
    for part in args.parts:
        for peer in ["lienzo"] + peers:
            once = "txt2img" if "txt2img" in args.parts else args.parts[0]
            if peer != "sdcpp" or part == once:
                yield peer, part


def rows(args, python, peers, env, raw):
    """Runs all rounds; gives {(part, peer): [facts]} and what failed."""
    found, failed = {}, {}
    for number in range(1, args.runs + 1):
        for peer, part in schedule(args, peers):
            if (peer, part) in failed or number > 1 and peer in args.once:
                continue
            try:
                measured = measure(args, python, peer, part, env)
            except (RuntimeError, OSError, ValueError, KeyError) as e:
                failed[peer, part] = str(e)
                say(f"round {number}: {part}: {LABELS[peer]} failed: {e}")
                continue
            for name, facts in measured.items():
                if name not in args.parts:
                    continue
                found.setdefault((name, peer), []).append(facts)
                for sample, seconds in enumerate(facts["runs_s"]):
                    line = {"round": number, "part": name, "peer": peer, "sample": sample, "seconds": seconds,
                            "isa": args.isa or "best", **facts}
                    line.update({key: getattr(args, key) for key in ("precision", "threads", "size", "steps")})
                    raw.writerow(line)
                say(f"round {number}: {name}: {LABELS[peer]} {facts['runs_s'][0]:.3f} s, "
                    f"{facts['peak_rss_bytes'] / 1e9:.2f} GB")
    return found, failed


def table(args, found):
    """Markdown: medians, the ratio to the fastest other, peak memory."""
    lines = ["| part | who | median s | rounds | of the fastest peer's | peak resident GB |", "|---|---|---|---|---|---|"]
    for part in args.parts:
        medians = {peer: statistics.median(s for f in all_facts for s in f["runs_s"])
                   for (name, peer), all_facts in found.items() if name == part}
        others = [m for peer, m in medians.items() if peer != "lienzo"]
        for peer, m in sorted(medians.items(), key=lambda item: item[1]):
            facts = found[part, peer]
            rss = max(f["peak_rss_bytes"] for f in facts) / 1e9
            ratio = f"{m / min(others):.2f}" if others else "-"
            lines.append(f"| {part} | {LABELS[peer]} | {m:.3f} | {len(facts)} | {ratio} | {rss:.2f} |")
    return "\n".join(lines)


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            return next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions(python, missing):
    """One line about each package."""
    code = ("import importlib.metadata as m\n"
            "for p in ('torch', 'diffusers', 'transformers', 'openvino', 'stable-diffusion-cpp-python'):\n"
            "    try: print(p, m.version(p))\n"
            "    except m.PackageNotFoundError: pass\n")
    have = subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.split("\n")
    return ", ".join(filter(None, have)) + "".join(f"; {peer} is missing: {why}" for peer, why in missing.items())


def report(args, python, missing, found, failed):
    def output(*command):
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    notes = [f"- {LABELS[peer]}, {part}: failed: `{why.splitlines()[-1][:200]}`" for (peer, part), why in failed.items()]
    return "\n".join([
        f"# Lienzo beside its peers, {datetime.date.today()}", "",
        f"{processor()}, {args.threads} threads, {platform.system()} {platform.release()}, Python {platform.python_version()}.",
        f"{output(args.lienzo, '--version')} at {output('git', 'rev-parse', '--short', 'HEAD')}; {versions(python, missing)}.", "",
        f"Command: `python3 tools/compare_peers.py {' '.join(sys.argv[1:])}`", "",
        f"{args.precision}, {args.size}x{args.size}, instruction set: {args.isa or 'the best of each'}. step: one guided U-Net "
        "evaluation (batch 2). decode: the VAE's decoder. text: CLIP on two prompts. "
        f"txt2img: the whole process, start and loading included, {args.steps} steps of Euler a.", "",
        table(args, found), "",
        "Every measurement is a process of its own; peers take turns in each round. Peak memory is the process's. "
        "stable-diffusion.cpp makes whole pictures only: its parts are read from its log, its memory is the whole run's, it "
        "evaluates the two halves of a step one after the other, keeps f16 weights, and cannot be forced to an instruction set.",
        *notes, ""])


def main():
    args = arguments()
    os.makedirs(args.work, exist_ok=True)
    python, peers, missing = set_up(args)
    prepare(args, python, peers)
    name = re.sub(r"[^a-z0-9]+", "-", processor().lower()).strip("-")
    name = f"{datetime.date.today()}-{name}-peers" + (f"-{args.isa}" if args.isa else "") + \
        ("-bf16" if args.precision == "bf16" else "")
    out = args.out or os.path.join(ROOT, "benches", "results", name)
    os.makedirs(out, exist_ok=True)
    env = dict(environment(args), PEERS_SCRATCH=os.path.join(args.work, "scratch"))
    os.makedirs(env["PEERS_SCRATCH"], exist_ok=True)
    with open(os.path.join(out, "raw.csv"), "w", newline="", encoding="utf-8") as f:
        raw = csv.DictWriter(f, FIELDS, extrasaction="ignore", lineterminator="\n")
        raw.writeheader()
        found, failed = rows(args, python, peers, env, raw)
    text = report(args, python, missing, found, failed)
    with open(os.path.join(out, "README.md"), "w", encoding="utf-8") as f:
        f.write(text)
    print(table(args, found))
    say(f"written: {out}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
