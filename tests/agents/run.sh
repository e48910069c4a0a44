#!/usr/bin/env bash
# The official MCP conformance suite over our HTTP door, then real agents over pipe and HTTP. Without a network but
# loopback where that can be had. Arguments: conformance, claude, codex, opencode, gemini (all of them without any).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export FOREIGN="$root/reports/agents"
bash "$root/tests/node/install.sh" "$root/tests/agents" "$FOREIGN"
cd "$root"
python=(.venv/bin/python -m tests.agents "$@")
if unshare -n true 2> /dev/null; then
  exec unshare -n sh -c 'ip link set lo up && exec "$@"' sh "${python[@]}"
fi
echo "no network namespace can be had: the agents could reach other hosts" >&2
exec "${python[@]}"
