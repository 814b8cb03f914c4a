#!/bin/bash
# Kills a server at many seeded moments (kill -9) and checks that nothing is lost: tools/serve_kills.sh [KILLS] [SEED]
# The tests do this at a few moments; this is the long form.
set -eu
cd "$(dirname "$0")/.."
LIENZO_SERVER_KILLS="${1:-100}" LIENZO_KILL_SEED="${2:-1}" cargo test --release --test lienzo -- --nocapture \
    server::end::killed_at_any_moment
