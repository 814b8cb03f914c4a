#!/usr/bin/env bash
# The library's tests of what is unsafe (kernels, the pool of workers, the arena, vectors) under a sanitizer.
# Needs a nightly toolchain.
#
#   tools/asan.sh [FILTER...]                     memory: reads and writes past what was allocated, or after it was freed
#   SANITIZER=thread tools/asan.sh [FILTER...]    data races; the standard library is built anew, from its source
#                                                 (rustup +nightly component add rust-src)
set -euo pipefail
cd "$(dirname "$0")/.."
sanitizer=${SANITIZER:-address}
host=$(rustc -vV | sed -n 's/^host: //p')
filters=("$@")
[ $# -gt 0 ] || filters=(kernels:: workers:: backend::cpu:: simd:: check::)
std=()
# Without an instrumented standard library its locks look like races.
[ "$sanitizer" = address ] || std=(-Zbuild-std)
# --target keeps build scripts and procedural macros out of it. Leaks are not looked for: caches live as long as the process.
RUSTFLAGS="-Zsanitizer=$sanitizer" ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS:-}" \
    cargo +nightly test "${std[@]}" --target "$host" --target-dir "target/$sanitizer" --no-default-features --lib -- \
    "${filters[@]}"
