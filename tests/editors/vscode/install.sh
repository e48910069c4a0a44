#!/usr/bin/env bash
# Puts a real VS Code workbench (code-server from npm), Node 24 and Debian's Chromium in place; usage: install.sh DIR
set -euo pipefail
dest=${1:?usage: install.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)

if ! command -v chromium > /dev/null; then
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null
fi
# What code-server's own install script would do, less the compiling: the add-ons are optional at run time.
bash "$here/../../node/install.sh" "$here" "$dest" \
  npm --prefix node_modules/code-server/lib/vscode install --omit=dev --ignore-scripts --no-save --loglevel=error
