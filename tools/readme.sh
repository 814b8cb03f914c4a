#!/usr/bin/env bash
# Makes every picture of both READMEs with the embedded model, from the commands that they show. Needs a release build and
# ImageMagick (montage, convert) for laying pictures side by side.
set -euo pipefail
cd "$(dirname "$0")/.."
lienzo="$PWD/target/release/lienzo"
pictures="$PWD/.github/pictures"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$pictures"
cd "$work"
side_by_side() { montage "${@:2}" -filter point -resize 128x128 -tile x1 -geometry +4+4 "$pictures/$1"; }

# The contact sheet: twenty-four prompts, one seed, unselected. The last row is what the model finds hardest.
objects=("an apple" "a penguin on a light blue background" "a blue cat" "a rocket on a black background" "three bananas" "a sunflower"
  "a house on a green background" "an octopus" "a yellow star on a purple background" "a pizza" "a red umbrella"
  "a snowman on a blue background" "a butterfly on a yellow background" "a green car" "a big guitar" "a castle on a pink background"
  "a ghost on a black background" "a robot on an orange background" "two strawberries" "four balloons on a light blue background"
  "a key on the left" "a dog and a cat" "a red car and a blue cat on a yellow background" "three small frogs on a red background")
for i in "${!objects[@]}"; do
  "$lienzo" generate "${objects[$i]}" -s 7 -o "object-$i.png"
  labelled+=(-label "${objects[$i]}" "object-$i.png")
done
montage "${labelled[@]}" -filter point -resize 128x128 -tile 4x6 -geometry 230x140+4+4 -pointsize 12 "$pictures/sheet.png"

# From noise to picture.
"$lienzo" generate "a big pink star on a black background" -s 3 --steps 20 --preview every=4,vae,keep -o star.png
side_by_side preview.png star.preview-*.png star.png

# Steps and guidance.
"$lienzo" generate "two cats on a blue background" -s 3 --grid "steps=2,5,10,20 x cfg=1,3,6,12" -o grid.png
cp grid_grid.png "$pictures/steps-cfg.png"

# From a picture.
"$lienzo" generate "a red apple" -s 1 -o apple.png
"$lienzo" generate "a yellow banana" -i apple.png --strength 0.8 -s 4 -o banana.png
side_by_side img2img.png apple.png banana.png

# Inpainting: the right half of a picture is painted anew.
"$lienzo" generate "a dog and a cat on a blue background" -s 1 -o pets.png
convert -size 64x64 xc:black -fill white -draw "rectangle 36,0 63,63" -define png:exclude-chunks=date,time "$pictures/mask.png"
"$lienzo" generate "a dog and an apple on a blue background" -i pets.png --mask "$pictures/mask.png" --strength 1 -s 1 -o inpainted.png
side_by_side inpaint.png pets.png "$pictures/mask.png" inpainted.png

# Outpainting.
"$lienzo" generate "a penguin on a blue background" -s 1 -o penguin.png
"$lienzo" generate "a penguin on a blue background" -i penguin.png --outpaint left=32,right=32 -s 2 -o wide.png
convert wide.png -filter point -resize 256x128 "$pictures/outpaint.png"

# Larger: as drawn and four times as large.
"$lienzo" generate "a butterfly on a yellow background" -s 7 -o butterfly.png
"$lienzo" upscale butterfly.png -o butterfly4.png
montage butterfly.png butterfly4.png -filter point -resize 256x256 -tile x1 -geometry +4+4 "$pictures/upscale.png"
