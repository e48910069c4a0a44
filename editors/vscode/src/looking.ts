// Search, map, policy, index and health: short questions and their answers.

import * as vscode from "vscode";
import type { Hit, IndexStatus, RepoMap, SearchAnswer } from "./protocol";
import type { Servers } from "./server";
import type { Texts } from "./texts";

interface HitItem extends vscode.QuickPickItem {
  hit: Hit;
}

/** What the lens over a rule carries: the policy file and the rule's index. */
export interface RuleLens {
  uri: string;
  rule: number;
}

/** Ask for words and jump to a hit. */
export async function search(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  const value = editor?.document.getText(editor.selection) ?? "";
  const query = await vscode.window.showInputBox({ prompt: "Find code by words, names or a question", value });
  if (!query) return;
  const answer = await servers.call<SearchAnswer>(folder, "search", { query, limit: 30 });
  if (!answer.hits.length) {
    void vscode.window.showInformationMessage(`CodeForge: nothing found${completeness(answer.index)}.`);
    return;
  }
  const placeHolder = `${answer.hits.length} hits${completeness(answer.index)}`;
  const chosen = await vscode.window.showQuickPick(answer.hits.map(itemOf), { placeHolder, matchOnDescription: true });
  if (!chosen) return;
  const start = new vscode.Position(Math.max(0, chosen.hit.start_line - 1), 0);
  await vscode.window.showTextDocument(vscode.Uri.joinPath(folder.uri, chosen.hit.path), { selection: new vscode.Range(start, start) });
}

/** Show the repo map, drawn towards the open files. */
export async function showMap(servers: Servers, texts: Texts, folder: vscode.WorkspaceFolder): Promise<void> {
  const open = vscode.window.visibleTextEditors.map((editor) => editor.document.uri);
  const own = open.filter((uri) => uri.scheme === "file" && vscode.workspace.getWorkspaceFolder(uri) === folder);
  const focus = own.map((uri) => vscode.workspace.asRelativePath(uri, false));
  const map = await servers.call<RepoMap>(folder, "repomap", { budget_tokens: 4096, focus });
  await texts.show("repo map.txt", `${factsOf(map)}\n\n${map.text}`);
}

/** Ask what the policy says of a command. */
export async function explainPolicy(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  const command = await vscode.window.showInputBox({ prompt: "A command an agent might run" });
  if (!command) return;
  const answer = await servers.call<{ decision: string; profile: string; reason: string }>(folder, "policy.explain", { tool: "Bash", command });
  void vscode.window.showInformationMessage(`CodeForge: ${answer.decision} (${answer.profile}): ${answer.reason}`);
}

/** Try a rule of a policy file out: what its lens does. The server shows what came of it. */
export async function tryRule(servers: Servers, folder: vscode.WorkspaceFolder, lens: RuleLens): Promise<void> {
  const prompt = "A command or a path the rule is about; nothing: the rule's own examples";
  const input = await vscode.window.showInputBox({ prompt });
  if (input === undefined) return;
  await servers.call(folder, "policy.try", input ? { ...lens, input } : lens);
}

/** Show the health report as JSON. */
export async function showHealth(servers: Servers, texts: Texts, folder: vscode.WorkspaceFolder): Promise<void> {
  await texts.show("health.json", JSON.stringify(await servers.call(folder, "health", { deep: true }), null, 2));
}

/** Rebuild the index; the status bar shows how far it is. */
export async function rebuild(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  const status = await servers.call<IndexStatus>(folder, "index.build", { force: true });
  void vscode.window.showInformationMessage(`CodeForge: ${status.files} files indexed.`);
}

function factsOf(map: RepoMap): string {
  const shown = `${map.files} of ${map.index.files} files, ${map.symbols} definitions, ${map.tokens} of ${map.budget} tokens; ${map.cut} more definitions do not fit`;
  const languages = Object.entries(map.index.languages).sort(([, a], [, b]) => b - a);
  return `${shown}\n${languages.map(([name, files]) => `[${name} ${files}]`).join(" ")}`;
}

function itemOf(hit: Hit): HitItem {
  const detail = hit.text.split("\n").find((line) => line.trim())?.trim().slice(0, 120) ?? "";
  const name = hit.path.split("/").pop() || hit.path;
  return { label: hit.symbol || name, description: `${hit.path}:${hit.start_line}`, detail, hit };
}

function completeness(index: IndexStatus): string {
  return index.percent < 100 ? ` (the index is at ${index.percent.toFixed(0)} %)` : "";
}
