// Search, map, policy and health: short questions and their answers.

import * as vscode from "vscode";
import type { Approval, Hit, IndexStatus } from "./protocol";
import type { Servers } from "./server";

/** Ask for words and jump to a hit. */
export async function search(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  const value = editor?.document.getText(editor.selection) ?? "";
  const query = await vscode.window.showInputBox({ prompt: "Find code by words, names or a question", value });
  if (!query) return;
  const answer = await servers.call<{ hits: Hit[]; index: IndexStatus }>(folder, "search", { query, limit: 30 });
  const state = answer.index.percent < 100 ? ` (index ${answer.index.percent.toFixed(0)} %)` : "";
  const items = answer.hits.map((hit) => ({
    label: hit.symbol || hit.path.split("/").pop() || hit.path,
    description: `${hit.path}:${hit.start_line}`,
    detail: hit.text.split("\n").find((line) => line.trim())?.trim().slice(0, 120) ?? "",
    hit,
  }));
  const chosen = await vscode.window.showQuickPick(items, { placeHolder: `${items.length} hits${state}`, matchOnDescription: true });
  if (!chosen) return;
  const uri = vscode.Uri.joinPath(folder.uri, chosen.hit.path);
  const start = new vscode.Position(chosen.hit.start_line - 1, 0);
  await vscode.window.showTextDocument(uri, { selection: new vscode.Range(start, start) });
}

/** Show the repo map, drawn towards the open files. */
export async function showMap(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  const open = vscode.window.visibleTextEditors.map((editor) => editor.document.uri).filter((uri) => uri.scheme === "file");
  const focus = open.map((uri) => vscode.workspace.asRelativePath(uri, false));
  const map = await servers.call<{ text: string }>(folder, "repomap", { budget_tokens: 4096, focus });
  await showText(map.text, "plaintext");
}

/** Ask what the policy says of a command. */
export async function explainPolicy(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  const command = await vscode.window.showInputBox({ prompt: "A command an agent might run" });
  if (!command) return;
  const answer = await servers.call<{ decision: string; profile: string; reason: string }>(folder, "policy.explain", { tool: "Bash", command });
  void vscode.window.showInformationMessage(`CodeForge: ${answer.decision} (${answer.profile}): ${answer.reason}`);
}

/** Show the health report as JSON. */
export async function showHealth(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  await showText(JSON.stringify(await servers.call(folder, "health", { deep: true }), null, 2), "json");
}

/** Rebuild the index. */
export async function rebuild(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  const status = await servers.call<IndexStatus>(folder, "index.build", { force: true });
  void vscode.window.showInformationMessage(`CodeForge: ${status.files} files indexed.`);
}

/** Answer a question that a hidden message asked. */
export async function answerApprovals(servers: Servers, folder: vscode.WorkspaceFolder): Promise<void> {
  const { approvals } = await servers.call<{ approvals: Approval[] }>(folder, "approval.list");
  if (!approvals.length) {
    void vscode.window.showInformationMessage("CodeForge: nothing waits for you.");
    return;
  }
  const items = approvals.map((approval) => ({ label: approval.title, description: approval.decision.reason, detail: approval.id, approval }));
  const chosen = (await vscode.window.showQuickPick(items, { placeHolder: "Which question?" }))?.approval;
  if (!chosen) return;
  await showText(chosen.command ?? chosen.preview, chosen.command ? "shellscript" : "diff");
  const verdict = await vscode.window.showWarningMessage(`CodeForge: ${chosen.title}`, { modal: true, detail: chosen.decision.reason }, "Allow once", "Deny");
  const answer = verdict === "Allow once" ? "allow_once" : "deny";
  await servers.call(folder, "approval.answer", { approval_id: chosen.id, verdict: answer });
}

async function showText(content: string, language: string): Promise<void> {
  const document = await vscode.workspace.openTextDocument({ content, language });
  await vscode.window.showTextDocument(document, { preview: true });
}
