#!/usr/bin/env bash
# Gives broken files to every parser, each for so many seconds or 10 million inputs: tools/fuzz.sh [SECONDS] [TARGET]
# A target is pickles, zips, safetensors_files, pngs, jpegs, styles or parameters; without one, all run, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
export LIENZO_FUZZ_SECONDS="${1:-1200}"
cargo test --release --lib -- --nocapture --test-threads 1 "fuzz::${2:-}"
