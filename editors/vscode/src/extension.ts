// CodeForge for VS Code: connections to codeforge-ls, palette commands and one status bar item.

import * as vscode from "vscode";
import { answerApprovals, explainPolicy, rebuild, search, showHealth, showMap } from "./looking";
import { pickRun, rewind, showRun, startRun } from "./runs";
import { Servers } from "./server";

type Action = (folder: vscode.WorkspaceFolder) => Promise<void>;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const log = vscode.window.createOutputChannel("CodeForge", { log: true });
  const trace = vscode.window.createOutputChannel("CodeForge Trace");
  const servers = new Servers(log, trace);
  context.subscriptions.push(log, trace, servers, statusItem(servers));
  const actions: Record<string, Action> = {
    search: (folder) => search(servers, folder),
    map: (folder) => showMap(servers, folder),
    run: async (folder) => {
      const task = await vscode.window.showInputBox({ prompt: "What should the agent do?" });
      if (task) await startRun(servers, folder, task);
    },
    plan: (folder) => startPlan(servers, folder),
    cancel: async (folder) => {
      const run = await pickRun(servers, folder, (run) => ["pending", "running", "suspended"].includes(run.status));
      if (run) await servers.call(folder, "run.cancel", { run_id: run.id });
    },
    show: async (folder) => {
      const run = await pickRun(servers, folder, () => true);
      if (run) await showRun(servers, folder, run);
    },
    rewind: async (folder) => {
      const run = await pickRun(servers, folder, () => true);
      if (run) await rewind(servers, folder, run);
    },
    approvals: (folder) => answerApprovals(servers, folder),
    explain: (folder) => explainPolicy(servers, folder),
    index: (folder) => rebuild(servers, folder),
    health: (folder) => showHealth(servers, folder),
  };
  for (const [name, action] of Object.entries(actions)) {
    context.subscriptions.push(vscode.commands.registerCommand(`codeforge.ui.${name}`, () => guarded(servers, log, action)));
  }
  context.subscriptions.push(
    vscode.commands.registerCommand("codeforge.ui.restart", () => servers.restart()),
    vscode.commands.registerCommand("codeforge.ui.log", () => log.show(true)),
    vscode.workspace.onDidChangeWorkspaceFolders(() => start(servers)),
    vscode.workspace.onDidGrantWorkspaceTrust(() => start(servers)),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("codeforge.server")) void servers.restart();
    }),
  );
  await start(servers);
}

async function start(servers: Servers): Promise<void> {
  if (vscode.workspace.isTrusted) await servers.sync();
}

async function startPlan(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  const selected = editor?.document.getText(editor.selection) ?? "";
  const text = selected || (await vscode.window.showInputBox({ prompt: "Tasks, separated by ;" }))?.replaceAll(";", "\n");
  const tasks = (text ?? "").split("\n").map((line) => line.trim()).filter(Boolean);
  if (!tasks.length) return;
  const { plan_id } = await servers.call<{ plan_id: string }>(folder, "plan.start", { tasks });
  void vscode.window.showInformationMessage(`CodeForge: ${plan_id} has begun, ${tasks.length} tasks.`);
}

// Runs a command for the folder it concerns and shows an error as the server worded it.
async function guarded(servers: Servers, log: vscode.LogOutputChannel, action: Action): Promise<void> {
  try {
    const folder = await currentFolder(servers);
    if (folder) await action(folder);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    log.error(text);
    void vscode.window.showErrorMessage(`CodeForge: ${text}`);
  }
}

async function currentFolder(servers: Servers): Promise<vscode.WorkspaceFolder | undefined> {
  const uri = vscode.window.activeTextEditor?.document.uri;
  const own = uri && vscode.workspace.getWorkspaceFolder(uri);
  const folders = servers.folders();
  if (own && folders.includes(own)) return own;
  if (folders.length > 1) return vscode.window.showWorkspaceFolderPick();
  if (!folders.length) {
    const why = vscode.workspace.isTrusted ? "Open a folder first, or see the log." : "Trust this workspace first.";
    throw new Error(`CodeForge is not running. ${why}`);
  }
  return folders[0];
}

function statusItem(servers: Servers): vscode.Disposable {
  const item = vscode.window.createStatusBarItem("codeforge.status", vscode.StatusBarAlignment.Left, 100);
  item.name = "CodeForge";
  item.command = "codeforge.ui.health";
  item.text = "$(circle-outline) CodeForge";
  item.show();
  const subscription = servers.onStatus(({ folder, status }) => {
    const icon = status.health === "error" ? "$(error)" : status.quiescent ? "$(check)" : "$(sync~spin)";
    item.text = `${icon} CodeForge: ${status.message.slice(0, 40)}`;
    item.tooltip = `${folder.name}: ${status.message}`;
    item.backgroundColor = status.health === "error" ? new vscode.ThemeColor("statusBarItem.errorBackground") : undefined;
  });
  return vscode.Disposable.from(item, subscription);
}

export function deactivate(): void {
  // The context's subscriptions stop the clients.
}
