// Runs as a person sees them: a notification with Cancel while it works, the summary and a way back when it ends.

import * as vscode from "vscode";
import type { Run, RunEvent } from "./protocol";
import type { Servers } from "./server";

const ENDED = ["run.completed", "run.suspended"];

/** Start a run and show it until it ends. */
export async function startRun(servers: Servers, folder: vscode.WorkspaceFolder, task: string): Promise<void> {
  const { run_id } = await servers.call<{ run_id: string }>(folder, "run.start", { task });
  await vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: "CodeForge", cancellable: true },
    async (progress, token) => {
      const ended = new Promise<void>((resolve) => {
        const subscription = servers.onRunEvent((news) => {
          if (news.run_id !== run_id) return;
          const message = describe(news);
          if (message) progress.report({ message });
          if (ENDED.includes(news.event.type)) {
            subscription.dispose();
            resolve();
          }
        });
        token.onCancellationRequested(() => {
          servers.call(folder, "run.cancel", { run_id }).then(undefined, () => undefined);
        });
      });
      const poll = endedInLog(servers, folder, run_id);
      await Promise.race([ended, poll.done]);
      poll.stop();
    },
  );
  await report(servers, folder, run_id);
}

// Notifications may be dropped when the editor is slow; the log is the truth.
function endedInLog(servers: Servers, folder: vscode.WorkspaceFolder, runId: string): { done: Promise<void>; stop: () => void } {
  let timer: NodeJS.Timeout | undefined;
  const done = new Promise<void>((resolve) => {
    timer = setInterval(() => {
      servers.call<{ run: Run }>(folder, "run.get", { run_id: runId, limit: 1 }).then(
        ({ run }) => {
          if (!["pending", "running", "quality_gate"].includes(run.status)) resolve();
        },
        () => resolve(),
      );
    }, 3000);
  });
  return { done, stop: () => clearInterval(timer) };
}

async function report(servers: Servers, folder: vscode.WorkspaceFolder, runId: string): Promise<void> {
  const { run } = await servers.call<{ run: Run }>(folder, "run.get", { run_id: runId, limit: 1 });
  const done = run.status === "completed";
  const text = done ? run.output : `Run ${run.status}: ${run.reason}`;
  const show = done ? vscode.window.showInformationMessage : vscode.window.showWarningMessage;
  const answer = await show(`CodeForge: ${text.slice(0, 300)}`, "Show Run", "Rewind");
  if (answer === "Show Run") await showRun(servers, folder, run);
  if (answer === "Rewind") await rewind(servers, folder, run);
}

function describe({ event }: RunEvent): string {
  const payload = event.payload;
  if (event.type === "run.toolcall.requested") {
    const given = (payload["arguments"] ?? {}) as Record<string, unknown>;
    const subject = given["command"] ?? given["path"] ?? given["query"] ?? given["pattern"] ?? "";
    return `${String(payload["tool"])} ${String(subject).slice(0, 80)}`;
  }
  if (event.type === "approval.requested") return "waits for your approval";
  return event.type === "agent.step_done" ? "thinking" : "";
}

/** Let a person pick one of the newest runs. */
export async function pickRun(
  servers: Servers,
  folder: vscode.WorkspaceFolder,
  wanted: (run: Run) => boolean,
): Promise<Run | undefined> {
  const { runs } = await servers.call<{ runs: Run[] }>(folder, "run.list", { limit: 50 });
  const items = runs.filter(wanted).map((run) => ({ label: run.task.slice(0, 80), description: run.status, detail: run.id, run }));
  if (!items.length) {
    void vscode.window.showInformationMessage("CodeForge: there is no such run.");
    return undefined;
  }
  return (await vscode.window.showQuickPick(items, { placeHolder: "Which run?" }))?.run;
}

/** Open the whole log of a run as a document. */
export async function showRun(servers: Servers, folder: vscode.WorkspaceFolder, run: Run): Promise<void> {
  const { events } = await servers.call<{ events: { seq: number; type: string; time: number; payload: object }[] }>(folder, "run.get", {
    run_id: run.id,
    limit: 2000,
  });
  const lines = events.map((event) => `${event.seq}\t${new Date(event.time * 1000).toISOString()}\t${event.type}\n${JSON.stringify(event.payload, null, 2)}`);
  const cost = `${(run.cost_nano_usd / 1e9).toFixed(4)} USD${run.unpriced_calls ? " and calls without a known price" : ""}`;
  const head = `${run.id}\n${run.task}\n${run.status} ${run.reason}\n${run.step_count} steps, ${run.tokens_in} tokens in, ${run.tokens_out} out, ${cost}\n\n${run.output}\n`;
  const document = await vscode.workspace.openTextDocument({ content: `${head}\n${lines.join("\n\n")}\n`, language: "plaintext" });
  await vscode.window.showTextDocument(document, { preview: true });
}

/** Put back what a run changed. */
export async function rewind(servers: Servers, folder: vscode.WorkspaceFolder, run: Run): Promise<void> {
  const to = await vscode.window.showQuickPick(
    [
      { label: "To the start of the run", to: "first" },
      { label: "Only the last change", to: "last" },
    ],
    { placeHolder: "How far? A safety checkpoint is taken first." },
  );
  if (!to) return;
  const answer = await servers.call<{ message: string; conflicts: string[] }>(folder, "checkpoint.restore", { run_id: run.id, to: to.to });
  const show = answer.conflicts.length ? vscode.window.showWarningMessage : vscode.window.showInformationMessage;
  void show(`CodeForge: ${answer.message}`);
}
