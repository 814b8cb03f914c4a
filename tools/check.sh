#!/usr/bin/env bash
# What CI runs, and what to run before a commit: format, lints, documentation, tests.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --check
cargo clippy --release --all-targets -- -D warnings
# The library alone: neither the command nor graphics.
cargo clippy --release --no-default-features --lib -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps
cargo test --release
