#!/bin/sh
# Trade the built-in market on paper: sets up what is missing, asks for no credentials.
# Arguments go to `emp run`, for example: examples/run_mock.sh --seconds 30 --json
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup runtime
exec .venv/bin/emp run --config examples/mock.yaml "$@"
