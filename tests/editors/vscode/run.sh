#!/usr/bin/env bash
# The VS Code proof: puts the workbench in place, then clicks. `make editors` has built the .vsix. Screenshots and logs go to
# reports/vscode. One argument, folder or folders, plays one of the two windows only.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
export WORKBENCH="$root/reports/vscode/workbench" OUT="$root/reports/vscode" PROJECT="$root"
export VSIX="$root/editors/vscode/codeforge.vsix"
[ -x "$root/.venv/bin/codeforge" ] || { echo "there is no .venv: run make editors" >&2; exit 1; }
bash "$root/tests/editors/vscode/install.sh" "$WORKBENCH"
exec timeout 900 "$WORKBENCH/node" "$root/tests/editors/vscode/proof.mjs" "$@"
