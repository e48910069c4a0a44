// Questions of the gate: a message with what may be answered and a look at the change; closing it means deny.

import * as vscode from "vscode";
import type { MessageActionItem, ShowMessageRequestParams } from "vscode-languageclient/node";
import type { Approval, ApprovalNews } from "./protocol";
import type { Servers } from "./server";
import type { Texts } from "./texts";

const DENY = "Deny";
const ANSWERS: Record<string, string> = {
  "Allow once": "allow_once",
  "Allow for this run": "allow_run",
  "Always allow": "allow_always",
};
const SHOW = "Show";
// A message cuts the titles of its buttons where five do not fit beside each other.
const SHORT: Record<string, string> = { "Allow for this run": "This run", "Always allow": "Always" };
const MESSAGE_LENGTH = 300; // VS Code shows a message as one line and cuts it somewhere after that

/** The questions that wait, as the servers tell them. */
export class Approvals implements vscode.Disposable {
  private readonly open = new Map<string, { folder: string; approval: Approval }>();
  private readonly emitter = new vscode.EventEmitter<number>();
  readonly onCount = this.emitter.event;

  constructor(private readonly texts: Texts) {}

  /** A server tells of a question. `folder` is the URI of the folder it serves. */
  hear(folder: string, news: ApprovalNews): void {
    if (news.state === "pending") this.open.set(news.approval_id, { folder, approval: news.approval });
    else this.open.delete(news.approval_id);
    this.emitter.fire(this.open.size);
  }

  /** The connection of a folder ended; the next one tells again what still waits. */
  forget(folder: string): void {
    for (const [id, question] of this.open) {
      if (question.folder === folder) this.open.delete(id);
    }
    this.emitter.fire(this.open.size);
  }

  /** `window/showMessageRequest`. The server counts null as deny. A message cannot be taken back: an answer to a
   * question that was settled meanwhile is told to be too late. */
  async ask(question: ShowMessageRequestParams, token: vscode.CancellationToken): Promise<MessageActionItem | null> {
    const id = /\[([^\][]+)\]\s*$/.exec(question.message)?.[1] ?? "";
    const approval = this.open.get(id)?.approval;
    const titles = (question.actions ?? []).map((action) => short(action.title));
    if (!approval) return chosen(question, await vscode.window.showWarningMessage(question.message, ...titles));
    const isSettled = () => token.isCancellationRequested || !this.open.has(id);
    let answer = await vscode.window.showWarningMessage(shortly(approval), ...titles, SHOW);
    if (answer === SHOW && !isSettled()) {
      const shown = await this.show(approval);
      answer = await vscode.window.showWarningMessage(shortly(approval), ...titles); // all of it is beside
      void this.texts.close(shown);
    }
    if (answer && isSettled()) {
      void vscode.window.showInformationMessage("CodeForge: that question was settled meanwhile; your answer changes nothing.");
    }
    return chosen(question, answer);
  }

  /** Open the diff or the command, whole, beside what the person works on. */
  show(approval: Approval): Promise<vscode.Uri> {
    const isCommand = approval.command !== null;
    const text = approval.command ?? approval.preview;
    return this.texts.show(isCommand ? "command.sh" : "change.diff", text, { viewColumn: vscode.ViewColumn.Beside, preserveFocus: true });
  }

  dispose(): void {
    this.emitter.dispose();
  }
}

/** Answer a question whose message is hidden, as Do Not Disturb does. */
export async function answerApprovals(
  servers: Servers,
  texts: Texts,
  approvals: Approvals,
  folder: vscode.WorkspaceFolder,
): Promise<void> {
  const waiting = (await servers.call<{ approvals: Approval[] }>(folder, "approval.list")).approvals;
  if (!waiting.length) {
    void vscode.window.showInformationMessage("CodeForge: nothing waits for you.");
    return;
  }
  const items = waiting.map((approval) => ({ label: approval.title, description: approval.decision.reason, detail: approval.id, approval }));
  const picked = (await vscode.window.showQuickPick(items, { placeHolder: "Which question?" }))?.approval;
  if (!picked) return;
  const shown = await approvals.show(picked);
  const { reason, profile } = picked.decision;
  const detail = [`${reason} (profile ${profile})`, place(picked)].filter(Boolean).join("\n");
  const offered = Object.keys(ANSWERS)
    .filter((title) => picked.offers.includes(ANSWERS[title] ?? ""))
    .map((title): vscode.MessageItem => ({ title }));
  const deny: vscode.MessageItem = { title: DENY, isCloseAffordance: true };
  const answer = await vscode.window.showWarningMessage(`CodeForge: ${picked.title}`, { modal: true, detail }, ...offered, deny);
  await texts.close(shown);
  const verdict = ANSWERS[answer?.title ?? ""] ?? "deny";
  await servers.call(folder, "approval.answer", { approval_id: picked.id, verdict });
}

function shortly(approval: Approval): string {
  const subject = approval.command === null ? approval.title : `${approval.title}: ${approval.command}`;
  const line = visible(approval.title.includes(approval.command ?? "\0") ? approval.title : subject);
  const cut = line.length > MESSAGE_LENGTH ? `${line.slice(0, MESSAGE_LENGTH)}… (“${SHOW}” has the rest)` : line;
  const rule = place(approval).replace(/^.*[\\/]/, ""); // a folder would push the buttons out of sight
  return `CodeForge: ${cut} [${visible([approval.decision.reason, rule].filter(Boolean).join(", "))}]`;
}

/** Where the rule stands that asks; empty for the built-in guard. */
function place({ decision: { file, line } }: Approval): string {
  return file && line ? `${file}:${line}` : file;
}

function short(title: string): string {
  return SHORT[title] ?? title;
}

// Characters that would hide or turn around what the person reads are shown by their number.
function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    character === "\n" ? " ⏎ " : `\\u${character.codePointAt(0)?.toString(16).padStart(4, "0")}`,
  );
}

function chosen(question: ShowMessageRequestParams, title: string | undefined): MessageActionItem | null {
  return question.actions?.find((action) => short(action.title) === title) ?? null;
}
