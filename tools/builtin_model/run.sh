#!/bin/sh
# Makes the built-in model from nothing: environment, text, tokenizer, training, GGUF, measurement.
# Arguments go to `python -m tools.builtin_model` (see --help). PYTHON and BUILTIN_VENV may be set.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${BUILTIN_VENV:-"$here/build/venv"}
if [ ! -x "$venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/pip" install --quiet -r "$here/requirements.txt"
fi
cd "$here/../.."
exec "$venv/bin/python" -m tools.builtin_model "$@"
