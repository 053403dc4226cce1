#!/usr/bin/env bash
# Runs everything that needs a GPU, in steps of at most ten minutes.
#
#   benchmarks/run_gpu.sh OUT [STEP...]      (PYTHON=python3.12 for another interpreter, DEVICE=cpu for a rehearsal)
#
#   needs       names the packages and tools that the steps lack here, with the versions wanted
#   build       builds the kernels for this GPU's architecture alone; the next call finds them again
#   tests       runs the ops' tests on the device, and tests of whole runs and of learners there
#   memcheck    runs a selection of these tests under compute-sanitizer, with torch's caching allocator off
#   racecheck   runs the same selection, and looks for races in our kernels
#   ops         times the ops against eager, torch.compile and their matrix products alone; it takes more than ten minutes,
#               so each op is a step too: dpgd, dual_target, distill, drift, transfer, overhead
#   phases      times ViT-B/16's phases against its plain passes
#   train       times a whole protocol on made data, by task and phase; where it was stopped, the next call goes on
#
# Without STEP, all steps run in this order. A step that fails does not stop the others, but the exit status tells. OUT gets the tables, row
# by row, and the logs. After each step, OUT/results.md sums up in one page, and OUT/results.tar.gz holds everything.
set -uo pipefail
ops=(dpgd dual_target distill drift transfer overhead)
all=(needs build tests memcheck racecheck "${ops[@]}" phases train)
[ $# -ge 1 ] || { sed -n '2,17p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
shift
steps=()
for name in "$@"; do
  if [ "$name" = ops ]; then steps+=("${ops[@]}"); else steps+=("$name"); fi
done
[ $# -gt 0 ] || steps=("${all[@]}")
for name in "${steps[@]}"; do
  [[ " ${all[*]} " == *" $name "* ]] || { echo "run_gpu.sh: there is no step $name; there are: ops ${all[*]}" >&2; exit 2; }
done
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
quick=()
[ "$device" = cuda ] || quick=(--quick)
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 SEGP_EXT_REQUIRE_NATIVE=1 SEGP_EXT_RESULTS=$out
failed=0
child=

pack() {
  "$python" scripts/gpu_page.py "$out" > "$out/results.md"
  (cd "$out" && tar czf .results.tar.gz --exclude=results.tar.gz ./* && mv .results.tar.gz results.tar.gz)
}
trap 'pack && echo "everything is in $out/results.tar.gz"' EXIT
trap '[ -z "$child" ] || kill "$child"; exit 143' TERM INT

# run SECONDS NAME COMMAND...: runs a step's command for at most SECONDS, with its output in OUT/NAME.log; notes how it went and its time. The
# command runs in the background, as a signal is not heard before what is in the foreground ends.
run() {
  local limit=$1 name=$2 begin=$SECONDS status=0 how=passed
  shift 2
  timeout --kill-after=10 "$limit" "$@" > "$out/$name.log" 2>&1 &
  child=$!
  wait "$child" || status=$?
  child=
  [ "$status" -eq 0 ] || { failed=1; how="FAILED ($status)"; }
  [ "$status" -ne 124 ] || how="STOPPED after $limit s"
  printf '%-10s %-20s %4d s  %s\n' "$name" "$how" $((SECONDS - begin)) \
    "$(grep -E 'passed|failed|missing|SUMMARY|architecture' "$out/$name.log" | tail -1)" | tee -a "$out/summary.txt"
  pack  # also now, as nothing can be done once this script is killed
}

# The sanitizers slow everything down a hundredfold: so only float32 (dtype0) and float16 (dtype2), and shapes that take every way through
# the kernels once. No graph is captured without the caching allocator.
few="$device and (dtype0 or dtype2 or opcheck) and not graph"
few+=" and (prime or non_contiguous or zero_vectors or channels_last or strided or piece_borders or larger)"
sanitizer=(compute-sanitizer --error-exitcode 9)
[ "$device" = cuda ] || sanitizer=(env)  # a rehearsal runs the same tests without it
memcheck=("${sanitizer[@]}") racecheck=("${sanitizer[@]}")
# torch asks the driver for more than it has; what it answers is no error of ours. Ours end in exceptions.
[ "$device" = cuda ] && memcheck+=(--tool memcheck --report-api-errors no) \
  && racecheck+=(--tool racecheck --kernel-name kernel_substring=segp)

for name in "${steps[@]}"; do
  case $name in
    needs) run 60 needs "$python" scripts/gpu_needs.py "$device" ;;
    build) run 580 build "$python" scripts/gpu_build.py "$device" ;;
    tests) run 580 tests "$python" -m pytest -q -m '' -n 4 --dist loadfile -p no:cacheprovider \
      --continue-on-collection-errors tests/ops tests/method/test_state.py tests/run/test_devices.py ;;
    memcheck) run 580 memcheck env PYTORCH_NO_CUDA_MEMORY_CACHING=1 "${memcheck[@]}" \
      "$python" -m pytest -q -m '' -p no:cacheprovider tests/ops -k "$few" ;;
    racecheck) run 580 racecheck "${racecheck[@]}" "$python" -m pytest -q -m '' -p no:cacheprovider tests/ops -k "$few" ;;
    dpgd | dual_target | distill | drift | transfer | overhead)
      run 580 "$name" "$python" -m "benchmarks.bench_$name" --device "$device" "${quick[@]}" ;;
    phases) run 300 phases "$python" -m benchmarks.end_to_end --model ViT-B-16 --device "$device" --precision bf16 --batch 128 --seconds 20 "${quick[@]}" ;;
    train) run 580 train "$python" -m benchmarks.whole_run --device "$device" --precision bf16 \
      --directory "build/whole_run-$device" "${quick[@]}" ;;
  esac
done
exit "$failed"
