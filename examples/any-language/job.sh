#!/bin/sh
# Counts the words of a text: a job in plain shell, to show the contract between Heavylift and any program.
#
#   HEAVYLIFT_JOB_PAYLOAD      the job's data, JSON as it was enqueued
#   HEAVYLIFT_JOB_RESULT_FILE  where the result goes: JSON, at most 4 KiB
#   exit code                  0 done; 64 failed and not worth a retry; 75 run me again later; others: failed
set -eu

result_file=${HEAVYLIFT_JOB_RESULT_FILE:-/dev/termination-log}

stop() {
    echo "stopping on SIGTERM" >&2
    exit 143 # so that a stopped job never counts as done
}
trap stop TERM

# One string field of a flat JSON object. Real jobs bring jq; this one shows that nothing is needed.
field() {
    printf '%s' "$HEAVYLIFT_JOB_PAYLOAD" | sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"
}

text=$(field text)
seconds=$(printf '%s' "$HEAVYLIFT_JOB_PAYLOAD" | sed -n 's/.*"seconds" *: *\([0-9][0-9]*\).*/\1/p')
if [ -z "$text" ]; then
    echo "the payload has no field \"text\": enqueue with --data '{\"text\": \"some words\"}'" >&2
    exit 64
fi

echo "job $HEAVYLIFT_JOB_ID, attempt $HEAVYLIFT_JOB_ATTEMPT: counting"
left=${seconds:-0}
while [ "$left" -gt 0 ]; do # a second at a time, beside us: a shell hears of a signal between its commands
    sleep 1 &
    wait "$!"
    left=$((left - 1))
done
printf '{"words": %d, "characters": %d}' "$(printf '%s' "$text" | wc -w)" "$(printf '%s' "$text" | wc -c)" >"$result_file"
