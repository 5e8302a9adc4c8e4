#!/bin/sh
# Prints how many instructions `Limiter::acquire` takes on a hot key: refused and admitted, with 1, 2 and 8 keys a call.
#
# Needs valgrind. Builds the benchmarks, unless their binary is given: benches/acquire.sh [BINARY]
# Each figure is the difference between two runs, divided by the calls that one makes more: what the process does before
# its first call is in neither.
set -eu
cd "$(dirname "$0")/.."

# Both more than fill the hour of 1500, so that every call counted is one on a ring at its full length.
FEW=20000
MANY=40000

binary=${1:-}
if [ -z "$binary" ]; then
    # Cargo itself says which binary it is: those of other profiles and older sources lie beside it.
    built=$(cargo bench --no-run --bench main --color never 2>&1) || { echo "$built" >&2; exit 1; }
    binary=$(echo "$built" | sed -n 's/.*Executable benches.main.rs (\(.*\))$/\1/p')
fi

instructions() {
    counted=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" acquire "$@" 2>&1) ||
        { echo "$counted" >&2; exit 1; }
    echo "$counted" | sed -n 's/.*Collected : //p'
}

for outcome in refused admitted; do
    for keys in 1 2 8; do
        few=$(instructions "$outcome" "$keys" "$FEW")
        many=$(instructions "$outcome" "$keys" "$MANY")
        each=$(((many - few) / (MANY - FEW)))
        if [ "$each" -le 0 ]; then
            echo "\`$binary\` makes no calls" >&2
            exit 1
        fi
        echo "$outcome, keys $keys: $each instructions"
    done
done
