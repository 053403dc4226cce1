#!/usr/bin/env bash
# Everything that needs a GPU, in one go: builds in place, runs the ops' tests on the device, again under
# compute-sanitizer's memcheck and racecheck (a smaller selection), then all micro-benchmarks and the phases of
# ViT-B/16 against their floors.
#
#   benchmarks/run_gpu.sh OUT        (PYTHON=python3.12 for another interpreter)
#
# Needs torch with CUDA, a toolkit of its major version, pytest and hypothesis. Logs, benchmark tables and plots, and a
# summary.txt go to OUT; a step that fails does not stop the others, but the exit status tells.
set -uo pipefail
[ $# -eq 1 ] || { echo "usage: benchmarks/run_gpu.sh OUT" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD SEGP_EXT_REQUIRE_NATIVE=1
failed=0
: > "$out/summary.txt"

# step NAME COMMAND...: runs a command with its output in OUT/NAME.log, and notes how it went and how long it took.
step() {
  local name=$1 begin=$SECONDS status=0
  shift
  "$@" > "$out/$name.log" 2>&1 || status=$?
  [ "$status" -eq 0 ] || failed=1
  printf '%-12s %-10s %4d s  %s\n' "$name" "$([ "$status" -eq 0 ] && echo passed || echo "FAILED ($status)")" \
    $((SECONDS - begin)) "$(grep -E 'passed|failed|ERROR SUMMARY|RACECHECK SUMMARY' "$out/$name.log" | tail -1)" \
    | tee -a "$out/summary.txt"
}

# float32 (dtype0) and float16 (dtype2), shapes that take every way through the kernels once; the sanitizers slow everything down a hundredfold.
few="cuda and (dtype0 or dtype2 or opcheck) and (prime or non_contiguous or zero_vectors or channels_last or strided or piece_borders)"

step device nvidia-smi
step build env SEGP_EXT_CUDA=1 "$python" setup.py build_ext --inplace
step tests "$python" -m pytest -q -m '' tests/ops
step memcheck compute-sanitizer --tool memcheck --error-exitcode 9 "$python" -m pytest -q -m '' tests/ops -k "$few"
step racecheck compute-sanitizer --tool racecheck --error-exitcode 9 "$python" -m pytest -q -m '' tests/ops -k "$few"
export SEGP_EXT_RESULTS=$out  # not among the tables of other machines
step benchmarks "$python" -m benchmarks --device cuda
step end_to_end "$python" -m benchmarks.end_to_end --model ViT-B-16 --device cuda --precision bf16 --batch 128 --seconds 20
echo "results in $out; exit status $failed"
exit "$failed"
