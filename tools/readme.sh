#!/usr/bin/env bash
# Makes every picture of both READMEs with the embedded model, from the commands that they show. Needs a release build.
set -euo pipefail
cd "$(dirname "$0")/.."
lienzo="$PWD/target/release/lienzo"
pictures="$PWD/.github/pictures"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# The contact sheet: twelve prompts, one seed.
"$lienzo" generate "a red apple" -s 1 \
  --grid "prompt=a red apple|a small red car on a green background|two cats on a blue background|a rocket on a black background|three bananas|a yellow umbrella|a house on a light blue background|a green fish on an orange background|a big pink star on a black background|a pizza|a purple elephant on a yellow background|a tree on a yellow background x seed=1" \
  -o sheet.png

# From noise to picture.
"$lienzo" generate "a big pink star on a black background" -s 3 --steps 20 --preview every=4,vae,keep -o star.png

# Steps and guidance.
"$lienzo" generate "two cats on a blue background" -s 3 --grid "steps=2,5,10,20 x cfg=1,3,6,12" -o grid.png

# From a picture.
"$lienzo" generate "a red apple" -s 1 -o apple.png
"$lienzo" generate "a yellow pear" -i apple.png --strength 0.7 -s 4 -o pear.png
