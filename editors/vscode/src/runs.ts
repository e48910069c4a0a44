// Runs and plans as a person sees them: start, summary, log, cancel and the way back.

import * as vscode from "vscode";
import type { Restored, Run, StoredEvent } from "./protocol";
import type { Servers } from "./server";
import type { Texts } from "./texts";
import { work } from "./work";

const PAGE = 1000; // events asked for at a time
const CANCELLABLE = ["pending", "running", "quality_gate", "suspended"];

/** Start a run, show it until it ends, then offer its log and the way back. */
export async function startRun(servers: Servers, texts: Texts, folder: vscode.WorkspaceFolder): Promise<void> {
  const task = await vscode.window.showInputBox({ prompt: "What should the agent do?", ignoreFocusOut: true });
  if (!task?.trim()) return;
  const { run } = await work(servers, folder, "run", shortened(task), { task });
  if (!run) return;
  const done = run.status === "completed";
  const text = done ? run.output : `The run is ${run.status}. ${run.reason}`;
  const show = done ? vscode.window.showInformationMessage : vscode.window.showWarningMessage;
  const answer = await show(`CodeForge: ${text.slice(0, 300)}`, "Show Run", "Rewind");
  if (answer === "Show Run") await showRun(servers, texts, folder, run);
  if (answer === "Rewind") await rewind(servers, folder, run);
}

/** Run the selected lines, or lines that are asked for, one after the other. */
export async function startPlan(servers: Servers, texts: Texts, folder: vscode.WorkspaceFolder): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  const selected = editor?.document.getText(editor.selection) ?? "";
  const prompt = "Tasks, separated by ;";
  const text = selected || (await vscode.window.showInputBox({ prompt, ignoreFocusOut: true }))?.replaceAll(";", "\n");
  const tasks = (text ?? "").split("\n").map((line) => line.trim()).filter(Boolean);
  if (!tasks.length) return;
  const { plan } = await work(servers, folder, "plan", `${tasks.length} tasks`, { tasks });
  if (!plan) return;
  const done = plan.steps.filter((step) => step.status === "completed").length;
  const error = plan.steps.find((step) => step.error)?.error ?? "";
  const message = `CodeForge: the plan is ${plan.status}, ${done} of ${plan.steps.length} tasks done. ${error}`.trim();
  const show = plan.status === "completed" ? vscode.window.showInformationMessage : vscode.window.showWarningMessage;
  if ((await show(message, "Show Plan")) === "Show Plan") await texts.show(`${plan.id}.json`, JSON.stringify(plan, null, 2));
}

/** Cancel a run that a person picks. */
export async function cancelRun(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  const run = await pickRun(servers, folder, (candidate) => CANCELLABLE.includes(candidate.status));
  if (run) await servers.call(folder, "run.cancel", { run_id: run.id });
}

/** Let a person pick one of the newest runs. */
export async function pickRun(
  servers: Servers,
  folder: vscode.WorkspaceFolder,
  wanted: (run: Run) => boolean = () => true,
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
export async function showRun(servers: Servers, texts: Texts, folder: vscode.WorkspaceFolder, run: Run): Promise<void> {
  const events: StoredEvent[] = [];
  for (let after = 0; ; ) {
    const page = await servers.call<{ events: StoredEvent[]; next_cursor: number }>(folder, "run.events", { run_id: run.id, after, limit: PAGE });
    events.push(...page.events);
    if (page.events.length < PAGE) break;
    after = page.next_cursor;
  }
  const lines = events.map((event) => `${event.seq}\t${new Date(event.time * 1000).toISOString()}\t${event.type}\n${JSON.stringify(event.payload, null, 2)}`);
  const cost = `${(run.cost_nano_usd / 1e9).toFixed(4)} USD${run.unpriced_calls ? " and calls without a known price" : ""}`;
  const spent = `${run.step_count} steps, ${run.tokens_in} tokens in, ${run.tokens_out} out, ${cost}`;
  const head = [run.id, run.task, `${run.status} ${run.reason}`.trim(), spent, "", run.output];
  await texts.show(`${run.id}.log`, `${head.join("\n")}\n\n${lines.join("\n\n")}\n`);
}

/** Put back what a run changed. */
export async function rewind(servers: Servers, folder: vscode.WorkspaceFolder, run: Run): Promise<void> {
  const choices = [
    { label: "To the start of the run", to: "first" },
    { label: "Only the last change", to: "last" },
  ];
  const picked = await vscode.window.showQuickPick(choices, { placeHolder: "How far? A safety checkpoint is taken first." });
  if (!picked) return;
  const answer = await servers.call<Restored>(folder, "checkpoint.restore", { run_id: run.id, to: picked.to });
  const show = answer.conflicts.length ? vscode.window.showWarningMessage : vscode.window.showInformationMessage;
  void show(`CodeForge: ${answer.message}`);
}

function shortened(task: string): string {
  const line = task.trim().split("\n", 1)[0] ?? "";
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}
