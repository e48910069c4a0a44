#!/usr/bin/env bash
# The VS Code proof from scratch: workbench, .vsix, then the clicks. Screenshots and logs go to reports/vscode.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
export WORKBENCH="$root/reports/vscode/workbench" OUT="$root/reports/vscode" PROJECT="$root"
[ -x "$root/.venv/bin/codeforge" ] || { echo "run make editors: there is no .venv" >&2; exit 1; }
bash "$root/tests/editors/vscode/install.sh" "$WORKBENCH"
[ -n "${VSIX:-}" ] || make --no-print-directory -C "$root" vsix
export VSIX=${VSIX:-$root/editors/vscode/codeforge.vsix}
exec timeout 900 "$WORKBENCH/node" "$root/tests/editors/vscode/proof.mjs"
