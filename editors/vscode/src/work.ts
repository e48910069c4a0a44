// Runs and plans at work: a notification with Cancel that lives as long as they do, also across a restart.

import * as vscode from "vscode";
import type { Plan, Run } from "./protocol";
import type { Servers } from "./server";

const POLL = 4000; // milliseconds; progress that got lost with a connection is made good by asking
const MAX_FAILURES = 5;
const AT_WORK = new Set(["pending", "running", "quality_gate"]);

export interface Ended {
  run?: Run;
  plan?: Plan;
}

/** Start a run or a plan, show it, and answer how it ended. */
export async function work(
  servers: Servers,
  folder: vscode.WorkspaceFolder,
  kind: "run" | "plan",
  title: string,
  argument: object,
): Promise<Ended> {
  const options = { location: vscode.ProgressLocation.Notification, title: `CodeForge: ${title}`, cancellable: true };
  return vscode.window.withProgress(options, async (progress, token) => {
    let end: () => void = () => undefined;
    const told = new Promise<void>((resolve) => (end = resolve));
    let percentage = 0;
    const started = await servers.begin<Record<string, string>>(folder, `${kind}.start`, argument, (value) => {
      if (value.kind === "end") return end();
      const increment = Math.max(0, (value.percentage ?? 0) - percentage);
      percentage += increment;
      progress.report({ message: value.message, increment });
    });
    const id = { [`${kind}_id`]: started[`${kind}_id`] };
    const cancel = () => void servers.call(folder, `${kind}.cancel`, id).catch(() => undefined); // it has just ended
    token.onCancellationRequested(cancel);
    if (token.isCancellationRequested) cancel();
    return ended(servers, folder, kind, id, told);
  });
}

// The log is the truth: the end of the progress only says when to look.
async function ended(
  servers: Servers,
  folder: vscode.WorkspaceFolder,
  kind: "run" | "plan",
  id: object,
  told: Promise<void>,
): Promise<Ended> {
  for (let failures = 0; ; ) {
    await Promise.race([told, pause(failures ? POLL : POLL / 2)]);
    try {
      const found = await servers.call<Ended>(folder, `${kind}.get`, kind === "run" ? { ...id, limit: 1 } : id);
      if (!AT_WORK.has((found.run ?? found.plan)?.status ?? "")) return found;
      failures = 0;
      await pause(100); // told, but not written down yet
    } catch (error) {
      failures += 1;
      if (failures > MAX_FAILURES) throw error;
      await pause(POLL);
    }
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
