// One server connection for each workspace folder: started, stopped and restarted one after the other.

import * as vscode from "vscode";
import { LanguageClient, LanguageClientOptions, ServerOptions, TransportKind } from "vscode-languageclient/node";
import type { RunEvent, ServerStatus } from "./protocol";

const START_SECONDS = 30;

export class Servers implements vscode.Disposable {
  private readonly clients = new Map<string, LanguageClient>();
  private queue: Promise<void> = Promise.resolve();
  private readonly statusEmitter = new vscode.EventEmitter<{ folder: vscode.WorkspaceFolder; status: ServerStatus }>();
  private readonly runEmitter = new vscode.EventEmitter<RunEvent>();
  readonly onStatus = this.statusEmitter.event;
  readonly onRunEvent = this.runEmitter.event;

  constructor(private readonly log: vscode.LogOutputChannel, private readonly trace: vscode.OutputChannel) {}

  /** Bring the connections in line with the open folders. */
  sync(): Promise<void> {
    return this.serial(async () => {
      const folders = vscode.workspace.workspaceFolders ?? [];
      const wanted = new Set(folders.map((folder) => folder.uri.toString()));
      for (const key of [...this.clients.keys()]) {
        if (!wanted.has(key)) await this.stopOne(key);
      }
      for (const folder of folders) {
        if (folder.uri.scheme === "file" && !this.clients.has(folder.uri.toString())) await this.startOne(folder);
      }
    });
  }

  /** Close all connections and open them again. The daemon and its runs go on meanwhile. */
  restart(): Promise<void> {
    return this.serial(async () => {
      for (const key of [...this.clients.keys()]) await this.stopOne(key);
    }).then(() => this.sync());
  }

  /** Run a command of the server of a folder. Throws an error with the server's own words. */
  async call<T>(folder: vscode.WorkspaceFolder, operation: string, argument: object = {}): Promise<T> {
    const client = this.clients.get(folder.uri.toString());
    if (!client) throw new Error(`CodeForge is not running for ${folder.name}. See "CodeForge: Show Log".`);
    return client.sendRequest<T>("workspace/executeCommand", { command: `codeforge.${operation}`, arguments: [argument] });
  }

  /** Ask the log of a run for events after a cursor. */
  folders(): vscode.WorkspaceFolder[] {
    return (vscode.workspace.workspaceFolders ?? []).filter((folder) => this.clients.has(folder.uri.toString()));
  }

  async dispose(): Promise<void> {
    await this.serial(async () => {
      for (const key of [...this.clients.keys()]) await this.stopOne(key);
    });
    this.statusEmitter.dispose();
    this.runEmitter.dispose();
  }

  private serial(work: () => Promise<void>): Promise<void> {
    this.queue = this.queue.then(work, work);
    return this.queue;
  }

  private async startOne(folder: vscode.WorkspaceFolder): Promise<void> {
    const settings = vscode.workspace.getConfiguration("codeforge", folder.uri);
    const command = settings.get<string>("server.path", "codeforge-ls");
    const root = folder.uri.fsPath;
    const server: ServerOptions = {
      command,
      args: ["--root", root, ...settings.get<string[]>("server.arguments", [])],
      transport: TransportKind.stdio,
      options: { cwd: root },
    };
    const options: LanguageClientOptions = {
      documentSelector: [{ scheme: "file", pattern: `${root}/**/*` }],
      workspaceFolder: folder,
      diagnosticCollectionName: "codeforge",
      outputChannel: this.log,
      traceOutputChannel: this.trace,
      initializationOptions: settings.get<object>("settings", {}),
      synchronize: { configurationSection: "codeforge.settings" },
    };
    const client = new LanguageClient("codeforge", `CodeForge (${folder.name})`, server, options);
    keepCommandsToOurselves(client);
    client.onNotification("codeforge/status", (status: ServerStatus) => this.statusEmitter.fire({ folder, status }));
    client.onNotification("codeforge/run/event", (event: RunEvent) => this.runEmitter.fire(event));
    this.clients.set(folder.uri.toString(), client);
    this.tell(folder, "ok", false, "starting");
    try {
      await within(START_SECONDS, client.start(), `${command} did not answer within ${START_SECONDS} s`);
    } catch (error) {
      this.clients.delete(folder.uri.toString());
      const text = error instanceof Error ? error.message : String(error);
      this.log.error(`could not start ${command} for ${root}: ${text}`);
      this.tell(folder, "error", true, text);
      const install = "How to install";
      const answer = await vscode.window.showErrorMessage(`CodeForge could not start: ${text}`, "Show Log", install);
      if (answer === "Show Log") this.log.show(true);
      if (answer === install) void vscode.window.showInformationMessage("pipx install codeforge-ls, or set codeforge.server.path.");
    }
  }

  private async stopOne(key: string): Promise<void> {
    const client = this.clients.get(key);
    this.clients.delete(key);
    await client?.stop(2000).catch((error) => this.log.warn(`stop: ${String(error)}`));
  }

  private tell(folder: vscode.WorkspaceFolder, health: ServerStatus["health"], quiescent: boolean, message: string): void {
    this.statusEmitter.fire({ folder, status: { health, quiescent, message, index: null } });
  }
}

// The client would register each server command as a VS Code command of the same name, and a second folder's client
// would fail on the first one's names. Our palette commands have names of their own.
function keepCommandsToOurselves(client: LanguageClient): void {
  const feature = client.getFeature("workspace/executeCommand") as unknown as { initialize: () => void; register: () => void };
  feature.initialize = () => undefined;
  feature.register = () => undefined;
}

function within<T>(seconds: number, work: Promise<T>, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), seconds * 1000);
  });
  return Promise.race([work, limit]).finally(() => clearTimeout(timer));
}
