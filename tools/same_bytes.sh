#!/usr/bin/env bash
# Two revisions go in, one line for each of some 80 commands comes out: whether both write the same files, to the byte.
#
#   tools/same_bytes.sh OLD_REVISION [NEW_REVISION]     builds both (NEW is the working tree where it is not told)
#   tools/same_bytes.sh --binaries OLD NEW              takes two binaries
#
#   --expect FILE    names of commands, one a line, whose difference is meant; # begins a comment. One that is there and
#                    does not differ is said too: the list tells the truth or the run fails
#   --only WORDS     only the commands whose name contains one of these words, separated by commas
#   --keep           leaves both sides' files for a look, and says where
#   --list           prints the commands and stops
#
# Files, stdout and the exit code are compared; stderr holds times and is not. The exit code is 1 where anything differs
# that FILE does not name. Set CARGO_TARGET_DIR to keep the builds somewhere else than target/same_bytes.
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
binaries=() revisions=() expect= only= keep= list=
while [ $# -gt 0 ]; do
  case "$1" in
    --binaries) binaries=("$(realpath "$2")" "$(realpath "$3")"); shift 3 ;;
    --expect) expect="$(realpath "$2")"; shift 2 ;;
    --only) only="$2"; shift 2 ;;
    --keep) keep=1; shift ;;
    --list) list=1; shift ;;
    -*) sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 2 ;;
    *) revisions+=("$1"); shift ;;
  esac
done

# A NAME, then what follows `lienzo`. MODEL/ is the folder of the tiny model, IN/ that of the pictures made below.
# A NAME that ends in @ISA forces an instruction set.
commands() {
  local b="generate --device cpu -s 7" s="generate --device cpu -s 7 --steps 3" t="generate --device cpu -m MODEL/tiny-sd -s 7 --steps 3"
  local e="$b --steps 4"
  local apple='"a red apple on a blue background"'
  local sampler
  for sampler in "DPM++ 2M" "DPM++ SDE" "DPM++ 2M SDE" "DPM++ 2M SDE Heun" "DPM++ 2S a" "DPM++ 3M SDE" "Euler a" Euler LMS Heun \
    DPM2 "DPM2 a" "DPM fast" "DPM adaptive" Restart DDIM PLMS UniPC LCM; do
    echo "sampler-${sampler// /-} $b --steps 6 $apple --sampling-method \"$sampler\""
  done
  local schedule
  for schedule in uniform karras exponential polyexponential "sgm uniform" "kl optimal" ays simple normal ddim beta; do
    echo "schedule-${schedule// /-} $e $apple --sampling-method euler --scheduler \"$schedule\""
  done
  local rule
  for rule in leading linspace trailing webui; do
    echo "timesteps-$rule $e $apple --sampling-method ddim --timesteps $rule"
  done
  cat <<END
eta $e $apple --sampling-method ddim --eta 0.7
prediction-v $e $apple --prediction v
rng-cpu $e $apple --rng cpu
variation $e $apple --variation-seed 9 --variation-strength 0.3
guidance-off $e $apple --cfg-scale 1
guidance-twelve $e $apple --cfg-scale 12
negative $e $apple -n "a dog, (green:1.4)"
clip-skip $e $apple --clip-skip 2
no-metadata $e $apple --disable-image-metadata
embedded-model $e $apple
embedded-wide $e "two strawberries" -W 96 -H 64
threads-1 $e $apple -t 1
threads-2 $e $apple -t 2
threads-5 $e $apple -t 5
type-f32 $e $apple --type f32
precision-bf16 $e $apple --precision bf16
low-memory $t "a cat" --low-memory
scalar@scalar $b $apple --steps 2
avx2@avx2 $b $apple --steps 2
tiny-scalar@scalar $t "a cat" -W 64 -H 64
tiny-avx2@avx2 $t "a cat"
weights $e "(a red apple:1.3) [on] a ((blue)) background"
break $e "a red apple BREAK on a blue background"
and $e "a red apple AND a blue cat :0.7"
editing $b --steps 6 "a [red:green:0.5] [apple|pear] on a [blue background::0.3]"
long-prompt $t "a b c d e f g h i j k l m n o p q r s t u v w x y z, a b c d e f g h i j k l m n o p q r s t u v w x y z, a b c d e f g h i j k l m n o p q r s t u v w x y z, a b c d"
style $e "a red apple" --style photo
styles-file $e "a red apple" --styles IN/styles.csv --style shiny
embeddings $t "a shiny cat" --embd-dir IN/embeddings
img2img $e "a yellow banana" -i IN/apple.png --strength 0.8
img2img-low $e "a yellow banana" -i IN/apple.png --strength 0.3 --sampling-method ddim
img2img-crop $e "a yellow banana" -i IN/wide.png --resize-mode crop
img2img-fill $e "a yellow banana" -i IN/wide.png -W 64 -H 64 --resize-mode fill
img2img-just $e "a yellow banana" -i IN/wide.png -W 64 -H 64 --resize-mode just
inpaint $e "a yellow banana" -i IN/apple.png --mask IN/mask.png
inpaint-soft $e "a yellow banana" -i IN/apple.png --mask IN/mask.png --soft-mask --mask-blur 8
inpaint-invert $e "a yellow banana" -i IN/apple.png --mask IN/mask.png --mask-invert --mask-blur 0
inpaint-fill $e "a yellow banana" -i IN/apple.png --mask IN/mask.png --inpaint-fill fill --strength 1
inpaint-noise $e "a yellow banana" -i IN/apple.png --mask IN/mask.png --inpaint-fill latent-noise
inpaint-nothing $e "a yellow banana" -i IN/apple.png --mask IN/mask.png --inpaint-fill latent-nothing
inpaint-only-masked $e "a yellow banana" -i IN/wide.png --mask IN/wide-mask.png --only-masked --only-masked-padding 8 -W 64 -H 64
inpaint-ddim $t "a cat" -W 64 -H 64 -i IN/apple.png --mask IN/mask.png --sampling-method ddim
nine-channels $s -m IN/tiny-inpaint -W 64 -H 64 "a cat" -i IN/apple.png --mask IN/mask.png
nine-channels-text $s -m IN/tiny-inpaint -W 64 -H 64 "a cat"
outpaint $e "a red apple" -i IN/apple.png --outpaint left=32,right=16
outpaint-up $e "a red apple" -i IN/apple.png --outpaint up=24,down=40 --sampling-method ddim
grid $e "a red apple" --grid "steps=2,3 x cfg=1,4 x sampler=euler,heun" -o grid.png
grid-prompts $e "a red apple" --grid "prompt=a red cat|two dogs x seed=1,2" -o grid.png
batch $e $apple -b 3 -o p%d.png
batch-size $e $apple -b 5 --batch-size 3 -o p%03d.png
preview $e $apple --preview every=2,keep
preview-vae $e $apple --preview every=2,vae,keep
from-image generate --device cpu --from-image IN/apple.png
from-image-changed generate --device cpu --from-image IN/apple.png -s 9 --steps 3
resume $e $apple -b 3 -o p%d.png --resume
tiny-folder $t "a cat"
tiny-safetensors $s -m IN/tiny.safetensors "a cat"
tiny-ckpt $s -m IN/tiny.ckpt "a cat"
tiny-f32 $s -m IN/tiny-f32.safetensors "a cat" --type f32
tiny-vae $t "a cat" --vae MODEL/tiny-sd/vae/diffusion_pytorch_model.safetensors
tiny-wide $t "a cat" -W 192 -H 64 --batch-size 2 -b 2 -o p%d.png
convert convert MODEL/tiny-sd out.safetensors
convert-ckpt convert IN/tiny.ckpt out.safetensors --type f32
prompt prompt "(a red:1.2) [cat|dog] BREAK x AND [y:z:0.4]" --steps 10
samplers samplers
inspect inspect MODEL/tiny-sd --tensors
wrong-size generate a -W 63
wrong-sampler generate a --sampling-method eulr
END
}
if [ -n "$list" ]; then commands; exit; fi

# A revision to a binary: a worktree and a build folder of its own, both kept for the next time.
build() {
  local revision="$1" name="$2" target="${CARGO_TARGET_DIR:-$here/target/same_bytes}/$2" tree="$here"
  if [ -n "$revision" ]; then
    tree="$target/tree"
    git -C "$here" worktree prune
    if [ -d "$tree" ]; then git -C "$tree" checkout -q --detach "$(git -C "$here" rev-parse "$revision")"
    else git -C "$here" worktree add -q --detach "$tree" "$revision"; fi
  fi
  CARGO_TARGET_DIR="$target" cargo build --release --quiet --manifest-path "$tree/Cargo.toml" --bin lienzo >&2
  echo "$target/release/lienzo"
}
if [ ${#binaries[@]} = 0 ]; then
  [ ${#revisions[@]} -ge 1 ] || { sed -n '2,16s/^# \{0,1\}//p' "$0"; exit 2; }
  binaries=("$(build "${revisions[0]}" old)" "$(build "${revisions[1]:-}" new)")
fi

dir="$(mktemp -d)"
[ -n "$keep" ] || trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/in" "$dir/old" "$dir/new"
model="$here/tests/golden" old="${binaries[0]}" new="${binaries[1]}"
export LIENZO_CACHE_DIR="$dir/cache"

# What both are given: pictures and single files of the old binary's, masks, a pickled checkpoint, an inpainting model.
(
  cd "$dir/in"
  "$old" generate --device cpu "a red apple on a blue background" -s 1 --steps 8 -o apple.png
  "$old" generate --device cpu "a red apple on a blue background" -s 1 --steps 8 -W 128 -H 96 -o wide.png
  "$old" convert "$model/tiny-sd" tiny.safetensors
  "$old" convert "$model/tiny-sd" tiny-f32.safetensors --type f32
  python3 "$here/tools/same_bytes.py" "$model/tiny-sd"
) >"$dir/in.log" 2>&1 || { cat "$dir/in.log"; exit 1; }

# Runs one command in a folder of its own; stdout and the exit code become files beside what it wrote.
one() {
  local binary="$1" folder="$2" name="$3" line="$4"
  mkdir -p "$folder"
  (
    cd "$folder"
    line="${line//MODEL\//$model/}"
    eval "set -- ${line//IN\//$dir/in/}"
    case "$name" in *@*) export LIENZO_ISA="${name#*@}" ;; esac
    if [ "$name" = resume ]; then
      "$binary" "$@" >stdout 2>"$folder.err" || true
      rm -f p2.png
    fi
    local code=0
    "$binary" "$@" >stdout 2>"$folder.err" </dev/null || code=$?
    echo "$code" >exit-code
  )
}

meant() { [ -n "$expect" ] && sed 's/#.*//; s/[[:space:]]*$//' "$expect" | grep -qxF -- "$1"; }
asked() {
  [ -n "$only" ] || return 0
  local word
  for word in ${only//,/ }; do case "$1" in *"$word"*) return 0 ;; esac; done
  return 1
}

same=0 differ=0 expected=0
while read -r -u 3 name line; do
  asked "$name" || continue
  one "$old" "$dir/old/$name" "$name" "$line"
  one "$new" "$dir/new/$name" "$name" "$line"
  # Paths of this run's own folders say nothing.
  found="$(diff -rq "$dir/old/$name" "$dir/new/$name" | sed "s#$dir/##g" | tr '\n' ';' || true)"
  files="$(find "$dir/new/$name" -type f ! -name stdout ! -name exit-code | wc -l) files, exit $(cat "$dir/new/$name/exit-code")"
  code="$(cat "$dir/old/$name/exit-code")"
  if [ "$code" != 0 ] && [ "${name#wrong-}" = "$name" ]; then
    echo "BROKEN   $name: the old binary's exit code is $code"; tail -n 3 "$dir/old/$name.err"; differ=$((differ + 1))
  elif [ -z "$found" ] && meant "$name"; then echo "SAME     $name: $files, though the list says that it differs"; differ=$((differ + 1))
  elif [ -z "$found" ]; then echo "same     $name: $files"; same=$((same + 1))
  elif meant "$name"; then echo "expected $name: $found"; expected=$((expected + 1))
  else echo "DIFFER   $name: $found"; tail -n 3 "$dir/new/$name.err"; differ=$((differ + 1)); fi
done 3< <(commands)
echo "$same the same, $differ differ, $expected differ as expected"
[ -z "$keep" ] || echo "the files are in $dir"
[ $((same + expected)) -gt 0 ] && [ "$differ" = 0 ]
