// The status bar item: how the server of the active folder is, and how many questions wait for the person.

import * as vscode from "vscode";
import type { ServerStatus } from "./protocol";

export class StatusItem implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem("codeforge.status", vscode.StatusBarAlignment.Left, 100);
  private readonly known = new Map<string, { folder: vscode.WorkspaceFolder; status: ServerStatus }>();
  private readonly subscriptions: vscode.Disposable;
  private questions = 0;

  constructor() {
    this.item.name = "CodeForge";
    this.draw();
    this.item.show();
    this.subscriptions = vscode.Disposable.from(
      vscode.window.onDidChangeActiveTextEditor(() => this.draw()),
      vscode.workspace.onDidGrantWorkspaceTrust(() => this.draw()),
      vscode.workspace.onDidChangeWorkspaceFolders(({ removed }) => {
        for (const folder of removed) this.known.delete(folder.uri.toString());
        this.draw();
      }),
    );
  }

  /** A server has news. */
  take(folder: vscode.WorkspaceFolder, status: ServerStatus): void {
    this.known.set(folder.uri.toString(), { folder, status });
    this.draw();
  }

  /** So many questions wait. */
  waiting(questions: number): void {
    this.questions = questions;
    this.draw();
  }

  dispose(): void {
    this.subscriptions.dispose();
    this.item.dispose();
  }

  private draw(): void {
    this.item.backgroundColor = undefined;
    this.item.tooltip = undefined;
    if (!vscode.workspace.isTrusted) return this.say("shield", "restricted", "workbench.trust.manage");
    if (this.questions) {
      this.item.backgroundColor = new vscode.ThemeColor("statusBarItem.warningBackground");
      return this.say("bell-dot", this.questions === 1 ? "1 question waits" : `${this.questions} questions wait`, "codeforge.ui.approvals");
    }
    const shown = this.current();
    if (!shown) return this.say("circle-outline", "no folder", "codeforge.ui.log");
    const { health, quiescent, message } = shown.status;
    this.item.tooltip = `${shown.folder.name}: ${message}`;
    if (health === "error") {
      this.item.backgroundColor = new vscode.ThemeColor("statusBarItem.errorBackground");
      return this.say("error", "not running", "codeforge.ui.restart");
    }
    const icon = quiescent ? (health === "warning" ? "warning" : "check") : "sync~spin";
    return this.say(icon, message.slice(0, 40), "codeforge.ui.health");
  }

  // The folder of the active editor, else one that is not well, else the first.
  private current(): { folder: vscode.WorkspaceFolder; status: ServerStatus } | undefined {
    const uri = vscode.window.activeTextEditor?.document.uri;
    const active = uri && vscode.workspace.getWorkspaceFolder(uri);
    const all = [...this.known.values()];
    const own = active && this.known.get(active.uri.toString());
    return own ?? all.find(({ status }) => status.health === "error") ?? all[0];
  }

  private say(icon: string, text: string, command: string): void {
    this.item.text = `$(${icon}) CodeForge: ${text}`;
    this.item.command = command;
  }
}
