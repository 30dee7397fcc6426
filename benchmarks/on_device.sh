#!/usr/bin/env bash
# What only an accelerator can tell, in at most eight minutes on one NVIDIA GPU and 16 cores, without a network: whether
# the fast tests pass there, and what time and memory the losses take. A step that fails does not stop the others.
#
#     benchmarks/on_device.sh FOLDER [WHEELS]
#
# writes results.json, results.md, tests.log and benchmarks.log to FOLDER. Wheels in the folder WHEELS are installed
# beside the packages of $PYTHON. `JAX_PLATFORMS=cpu` tries all steps on a CPU, at small sizes. The summary comes last. The
# exit status is 0 if all steps have passed.
set -uo pipefail
folder=$(mkdir -p "${1:?takes a folder for the results}" && cd "$1" && pwd)
wheels=${2:+$(cd "$2" && pwd)}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python=${PYTHON:-python3}
deadline=${DEADLINE:-470}
workers=${WORKERS:-$(nproc)}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export JAX_PLATFORMS=${JAX_PLATFORMS:-cuda,cpu}
quick=$([[ $JAX_PLATFORMS == cpu ]] && echo --quick)
if [[ $wheels ]]; then
  "$python" -m pip install --quiet --no-index --no-deps --target "$work/site" "$wheels"/*.whl
  PYTHONPATH=$PYTHONPATH:$work/site
fi
summary=()
status=0

# step NAME SECONDS LOG COMMAND...: runs a command for at most this long, and notes how it ended. The interrupt lets
# pytest report what it has found until then.
step() {
  local name=$1 limit=$2 log=$3 begin=$SECONDS outcome
  shift 3
  limit=$((limit < deadline - SECONDS ? limit : deadline - SECONDS))
  if ((limit < 15)); then
    summary+=("$(printf '%-14s %5s    left out, no time' "$name" "")")
    status=1
    return
  fi
  echo "== $name" | tee -a "$log"
  timeout --signal=INT --kill-after=15 "$limit" "$@" 2>&1 | tee -a "$log"
  case ${PIPESTATUS[0]} in
    0) outcome=passed ;;
    124 | 137) outcome="stopped after $limit s" status=1 ;;
    *) outcome="failed: $(grep -v '^ *$' "$log" | tail -1 | cut -c1-90)" status=1 ;;
  esac
  summary+=("$(printf '%-14s %4d s  %s' "$name" $((SECONDS - begin)) "$outcome")")
}

benchmark() {
  step "$1" "$2" "$folder/benchmarks.log" "$python" -m benchmarks "$1" --add --out "$folder" $quick
}

step device 60 "$folder/benchmarks.log" "$python" -c '
import jax, jax.numpy as jnp
x = jnp.ones((256, 256), jnp.bfloat16)
print(jax.__version__, jax.devices(), float((x @ x).sum()))'

# One process for each benchmark. Compiled programs are kept, because the memory of a program is that of a second
# compilation. Most of the memory is for JAX, and the rest for PyTorch.
export XLA_PYTHON_CLIENT_MEM_FRACTION=0.85 JAX_COMPILATION_CACHE_DIR=$work/cache
benchmark large_output 200
benchmark cross_entropy 70
unset XLA_PYTHON_CLIENT_MEM_FRACTION JAX_COMPILATION_CACHE_DIR

# Workers share the memory of the GPU, and take what they need. Other plugins of pytest may warn, which is an error here.
tests=${TESTS:-$(printf 'tests/test_%s.py ' registry_values registry_derivatives registry_masks large_output matmul \
  numerics kinks vectors reductions recorded)}
XLA_PYTHON_CLIENT_PREALLOCATE=false PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 step tests 170 "$folder/tests.log" \
  "$python" -m pytest -p xdist.plugin -p no:cacheprovider -n "$workers" --maxfail=60 --tb=short $tests

export XLA_PYTHON_CLIENT_MEM_FRACTION=0.85 JAX_COMPILATION_CACHE_DIR=$work/cache
benchmark elementwise 75
benchmark roofline 30

echo
cat "$folder/results.md" 2>/dev/null
echo
grep -hE '^(FAILED|ERROR) | (passed|failed)' "$folder/tests.log" 2>/dev/null | cut -c1-200 | tail -40
echo
printf '%s\n' "${summary[@]}"
exit $status
