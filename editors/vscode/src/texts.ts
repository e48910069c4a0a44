// Answers shown as read-only documents, which nobody is asked to save.

import * as vscode from "vscode";

const SCHEME = "codeforge";

export class Texts implements vscode.TextDocumentContentProvider, vscode.Disposable {
  private readonly texts = new Map<string, string>();
  private readonly subscriptions: vscode.Disposable;
  private count = 0;

  constructor() {
    this.subscriptions = vscode.Disposable.from(
      vscode.workspace.registerTextDocumentContentProvider(SCHEME, this),
      vscode.workspace.onDidCloseTextDocument((document) => this.texts.delete(document.uri.toString())),
    );
  }

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.texts.get(uri.toString()) ?? "This answer is no longer kept. Ask again.";
  }

  /** Show a text under a file name, whose ending gives the language. */
  async show(name: string, text: string, options: vscode.TextDocumentShowOptions = {}): Promise<vscode.Uri> {
    this.count += 1;
    const uri = vscode.Uri.from({ scheme: SCHEME, path: `/${this.count}/${name.replaceAll("/", "_")}` });
    this.texts.set(uri.toString(), text);
    await vscode.window.showTextDocument(uri, { preview: true, ...options });
    return uri;
  }

  /** Close the tabs of a text that is of no use any more. */
  async close(uri: vscode.Uri): Promise<void> {
    const tabs = vscode.window.tabGroups.all.flatMap((group) => group.tabs);
    const own = tabs.filter((tab) => tab.input instanceof vscode.TabInputText && tab.input.uri.toString() === uri.toString());
    await vscode.window.tabGroups.close(own, true);
  }

  dispose(): void {
    this.subscriptions.dispose();
    this.texts.clear();
  }
}
