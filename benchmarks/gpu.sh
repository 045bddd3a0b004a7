#!/usr/bin/env bash
# The CUDA tests and the GPU benchmark, from a bare checkout, in under two and a half minutes:
#
#   bash benchmarks/gpu.sh [--rehearse] [FOLDER]
#
# FOLDER (benchmarks/results by default) gets gpu-tests.txt, gpu.json and gpu.md. --rehearse runs
# everything on the CPU with a few rows, and needs a FOLDER. PYTHON selects another python3.
set -u

rehearse=""
out=""
for argument in "$@"; do
    case "$argument" in
        --rehearse) rehearse=yes ;;
        -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) echo "gpu.sh: unknown flag $argument; there is --rehearse and --help" >&2; exit 2 ;;
        *) out="$argument" ;;
    esac
done
if [ -n "$rehearse" ] && [ -z "$out" ]; then
    echo "gpu.sh: a rehearsal is not a result: name a folder for it" >&2
    exit 2
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)" || exit 1
out="${out:-$root/benchmarks/results}"
mkdir -p "$out" && out="$(cd "$out" && pwd)" || exit 1
cd "$root" || exit 1
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONDONTWRITEBYTECODE=1
python="${PYTHON:-python3}"
command -v "$python" >/dev/null || python=python

# (a) The tests, with the reference and with Triton. Override the developer settings of
# pyproject.toml (two processes, doctests of every module, warnings as errors), which assume
# packages that may be missing here and a specific torch.
log="$out/gpu-tests.txt"
chosen=(-m cuda -k "not compiled") # compiled ones take minutes
limit=31 # seconds per backend
if [ -n "$rehearse" ]; then
    chosen=(-k found)
    limit=150
fi
config=(-o addopts= -o filterwarnings=default --import-mode=importlib -p no:cacheprovider)
if ! "$python" -c "import hypothesis" 2>/dev/null; then
    config+=(--noconftest) # conftest.py needs it, these tests do not
fi
messages="$(mktemp)"
trap 'rm -f "$messages"' EXIT
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader >"$log" 2>/dev/null ||
    echo "no GPU" >"$log"
passed=yes
backends=(reference)
if "$python" -c "import triton" 2>/dev/null; then
    backends+=(triton)
fi
for backend in "${backends[@]}"; do
    [ "$backend" = reference ]
    export LPNESTED_TRITON=$?
    timeout --kill-after=5 "$limit" "$python" -m pytest "${config[@]}" "${chosen[@]}" \
        -v --tb=short --durations=5 --color=no tests/test_cuda.py >"$messages" 2>&1
    status=$?
    last="$(tail -n 1 "$messages" | sed 's/^=* *//; s/ *=*$//')"
    case "$status" in
        0) summary="done: $last" ;;
        124 | 137) summary="cut off after $limit seconds: $(grep -c PASSED "$messages") had passed" ;;
        *) summary="failed (status $status): $last" ;;
    esac
    { echo "CUDA tests, $backend, $summary"; echo; cat "$messages"; echo; } >>"$log"
    [ "$status" -eq 0 ] || passed=""
done
unset LPNESTED_TRITON

# (b) The benchmark.
flags=(--minutes 1.2)
limit=80 # only a safeguard: it ends by itself
if [ -n "$rehearse" ]; then
    flags=(--minutes 4 --device cpu --tiny)
    limit=300
fi
timeout --kill-after=5 "$limit" "$python" benchmarks/gpu.py "${flags[@]}" --out "$out"
benchmark=$?

echo
grep -E "^(CUDA tests, |FAILED|ERROR)" "$log" | head -n 40
[ "$benchmark" -eq 0 ] || echo "benchmark failed (status $benchmark)"
[ -n "$passed" ] && [ "$benchmark" -eq 0 ]
