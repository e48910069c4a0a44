// CodeForge for VS Code: puts the parts together and registers the palette commands.

import * as vscode from "vscode";
import { answerApprovals, Approvals } from "./approvals";
import type { Channels } from "./connection";
import { keptKeys, setKey } from "./keys";
import { explainPolicy, rebuild, RuleLens, search, showHealth, showMap, tryRule } from "./looking";
import { cancelRun, pickRun, rewind, showRun, startPlan, startRun } from "./runs";
import { RESTRICTED, Servers } from "./server";
import { StatusItem } from "./status";
import { Texts } from "./texts";

type Action = (folder: vscode.WorkspaceFolder) => Promise<void>;

let servers: Servers | undefined;

export function activate(context: vscode.ExtensionContext): void {
  const channels = openChannels();
  const texts = new Texts();
  const approvals = new Approvals(texts);
  const status = new StatusItem();
  const all = (servers = new Servers(
    channels,
    (_folder, question, token) => approvals.ask(question, token),
    () => keptKeys(context),
  ));
  all.onStatus((news) => status.take(news.folder, news.status));
  all.onApproval(({ folder, news }) => approvals.hear(folder.uri.toString(), news));
  all.onLost((folder) => approvals.forget(folder));
  approvals.onCount((count) => status.waiting(count));
  context.subscriptions.push(channels.log, channels.server, channels.trace, texts, approvals, status);

  const own: Record<string, Action> = { ...actions(all, texts, approvals), setKey: () => setKey(context, all) };
  for (const [name, action] of Object.entries(own)) {
    context.subscriptions.push(vscode.commands.registerCommand(`codeforge.ui.${name}`, () => guarded(all, channels, action)));
  }
  const ruleLens = (lens: RuleLens) => guarded(all, channels, (folder) => tryRule(all, folder, lens));
  context.subscriptions.push(
    vscode.commands.registerCommand("codeforge.policy.try", ruleLens), // as the server names it in the lens
    vscode.commands.registerCommand("codeforge.ui.restart", () => start(() => all.restart())),
    vscode.commands.registerCommand("codeforge.ui.log", () => channels.log.show(true)),
    vscode.commands.registerCommand("codeforge.ui.serverLog", () => channels.server.show(true)),
    vscode.workspace.onDidChangeWorkspaceFolders(() => start(() => all.sync())),
    vscode.workspace.onDidGrantWorkspaceTrust(() => start(() => all.sync())),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("codeforge.server")) void start(() => all.restart());
      else if (event.affectsConfiguration("codeforge.settings")) void start(() => all.configure());
    }),
  );
  void start(() => all.sync());
}

/** VS Code waits for this, not for the subscriptions: sessions end in order. */
export async function deactivate(): Promise<void> {
  await servers?.close();
}

function openChannels(): Channels {
  return {
    log: vscode.window.createOutputChannel("CodeForge", { log: true }),
    server: vscode.window.createOutputChannel("CodeForge Server"),
    trace: vscode.window.createOutputChannel("CodeForge Trace"),
  };
}

function actions(all: Servers, texts: Texts, approvals: Approvals): Record<string, Action> {
  return {
    search: (folder) => search(all, folder),
    map: (folder) => showMap(all, texts, folder),
    run: (folder) => startRun(all, texts, folder),
    plan: (folder) => startPlan(all, texts, folder),
    cancel: (folder) => cancelRun(all, folder),
    show: async (folder) => {
      const run = await pickRun(all, folder);
      if (run) await showRun(all, texts, folder, run);
    },
    rewind: async (folder) => {
      const run = await pickRun(all, folder);
      if (run) await rewind(all, folder, run);
    },
    approvals: (folder) => answerApprovals(all, texts, approvals, folder),
    explain: (folder) => explainPolicy(all, folder),
    index: (folder) => rebuild(all, folder),
    health: (folder) => showHealth(all, texts, folder),
  };
}

async function start(work: () => Promise<void>): Promise<void> {
  if (vscode.workspace.isTrusted) await work();
}

// Runs a command for the folder it concerns and shows an error as the server worded it.
async function guarded(all: Servers, channels: Channels, action: Action): Promise<void> {
  try {
    const folder = await currentFolder(all);
    if (folder) await action(folder);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    channels.log.error(text);
    void vscode.window.showErrorMessage(`CodeForge: ${text}`);
  }
}

async function currentFolder(all: Servers): Promise<vscode.WorkspaceFolder | undefined> {
  if (!vscode.workspace.isTrusted) throw new Error(RESTRICTED);
  const uri = vscode.window.activeTextEditor?.document.uri;
  const own = uri && vscode.workspace.getWorkspaceFolder(uri);
  const folders = all.folders();
  if (own && folders.includes(own)) return own;
  if (!folders.length) throw new Error("Open a folder first.");
  return folders.length > 1 ? vscode.window.showWorkspaceFolderPick() : folders[0];
}
