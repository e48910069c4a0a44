// The connections of all workspace folders: started, stopped and restarted one step after the other.

import * as vscode from "vscode";
import type { MessageActionItem, ShowMessageRequestParams } from "vscode-languageclient/node";
import { Channels, Connection, ProgressValue } from "./connection";
import type { ApprovalNews, ServerStatus } from "./protocol";

/** In a restricted workspace no server is started: its settings could name any program. */
export const RESTRICTED = "Trust this workspace first: in a restricted one CodeForge does not run.";

const MAX_RESTARTS = 5; // of a server that ends by itself, within the window
const RESTART_WINDOW = 180_000; // milliseconds

type Ask = (
  folder: vscode.WorkspaceFolder,
  question: ShowMessageRequestParams,
  token: vscode.CancellationToken,
) => Promise<MessageActionItem | null>;

export class Servers {
  private readonly connections = new Map<string, Connection>();
  private readonly failures = new Map<string, string>();
  private readonly crashes = new Map<string, number[]>();
  private readonly statusEmitter = new vscode.EventEmitter<{ folder: vscode.WorkspaceFolder; status: ServerStatus }>();
  private readonly approvalEmitter = new vscode.EventEmitter<{ folder: vscode.WorkspaceFolder; news: ApprovalNews }>();
  private readonly lostEmitter = new vscode.EventEmitter<string>();
  private queue: Promise<void> = Promise.resolve();
  private restarting: Promise<void> | undefined;
  private ended = false;
  readonly onStatus = this.statusEmitter.event;
  readonly onApproval = this.approvalEmitter.event;
  /** The connection of a folder, by its URI, has ended, and with it what it had told. */
  readonly onLost = this.lostEmitter.event;

  /** `ask` puts a question of the server to the person; `keys` gives those that VS Code keeps. */
  constructor(
    private readonly channels: Channels,
    private readonly ask: Ask,
    private readonly keys: () => Promise<Record<string, string>>,
  ) {}

  /** The folders that CodeForge can serve. */
  folders(): vscode.WorkspaceFolder[] {
    return (vscode.workspace.workspaceFolders ?? []).filter((folder) => folder.uri.scheme === "file");
  }

  /** Bring the connections in line with the open folders. A folder that failed before is tried again. */
  sync(): Promise<void> {
    return this.serial(async () => {
      const wanted = new Map(this.folders().map((folder) => [keyOf(folder), folder]));
      const gone = [...this.connections.keys()].filter((key) => !wanted.has(key));
      await Promise.all(gone.map((key) => this.stopOne(key)));
      const absent = [...wanted.values()].filter((folder) => !this.connections.has(keyOf(folder)));
      await Promise.all(absent.map((folder) => this.startOne(folder)));
    });
  }

  /** Close all connections and open them again. The daemon and its runs go on meanwhile. */
  restart(): Promise<void> {
    this.restarting ??= this.serial(async () => {
      this.restarting = undefined; // from here on a new wish is a new restart
      this.crashes.clear();
      this.failures.clear();
      await Promise.all([...this.connections.keys()].map((key) => this.stopOne(key)));
    }).then(() => this.sync());
    return this.restarting;
  }

  /** Run an operation for a folder. Throws an error with the server's own words. */
  async call<T>(folder: vscode.WorkspaceFolder, operation: string, argument: object = {}): Promise<T> {
    return (await this.connection(folder)).call<T>(operation, argument);
  }

  /** Start a run or a plan for a folder and hear of its progress until it ends. */
  async begin<T>(
    folder: vscode.WorkspaceFolder,
    operation: string,
    argument: object,
    heard: (value: ProgressValue) => void,
  ): Promise<T> {
    return (await this.connection(folder)).begin<T>(operation, argument, heard);
  }

  /** Hand changed settings to the servers. */
  async configure(): Promise<void> {
    await this.queue;
    await Promise.all([...this.connections.values()].map((connection) => connection.configure()));
  }

  /** Hand changed keys to the servers; null takes one back. */
  async handOver(keys: Record<string, string | null>): Promise<void> {
    await this.queue;
    await Promise.all([...this.connections.values()].map((connection) => connection.handOver(keys)));
  }

  /** Close all connections for good. */
  async close(): Promise<void> {
    await this.serial(async () => {
      this.ended = true;
      await Promise.all([...this.connections.keys()].map((key) => this.stopOne(key)));
    });
    this.statusEmitter.dispose();
    this.approvalEmitter.dispose();
    this.lostEmitter.dispose();
  }

  // Waits for a start or restart that is under way; a folder whose server failed is given another chance.
  private async connection(folder: vscode.WorkspaceFolder): Promise<Connection> {
    if (!vscode.workspace.isTrusted) throw new Error(RESTRICTED);
    await this.queue;
    if (!this.connections.has(keyOf(folder))) await this.sync();
    const connection = this.connections.get(keyOf(folder));
    if (!connection) throw new Error(this.failures.get(keyOf(folder)) ?? `CodeForge does not serve ${folder.name}.`);
    return connection;
  }

  private serial(work: () => Promise<void>): Promise<void> {
    this.queue = this.queue.then(() => (this.ended ? undefined : work())).catch((error) => this.channels.log.error(String(error)));
    return this.queue;
  }

  private async startOne(folder: vscode.WorkspaceFolder): Promise<void> {
    const key = keyOf(folder);
    const connection: Connection = new Connection(folder, this.channels, {
      status: (status) => this.statusEmitter.fire({ folder, status }),
      approval: (news) => this.approvalEmitter.fire({ folder, news }),
      ask: (question, token) => this.ask(folder, question, token),
      closed: (why) => this.reopen(folder, connection, why),
    });
    this.tell(folder, "ok", false, "starting");
    try {
      await connection.start();
      const keys = await this.keys();
      if (Object.keys(keys).length) await connection.handOver(keys);
      this.connections.set(key, connection);
      this.failures.delete(key);
      this.channels.log.info(`connected for ${folder.uri.fsPath}`);
    } catch (error) {
      this.fail(folder, error instanceof Error ? error.message : String(error));
    }
  }

  private async stopOne(key: string): Promise<void> {
    const connection = this.connections.get(key);
    this.connections.delete(key);
    if (!connection) return;
    await connection.stop();
    this.lostEmitter.fire(key);
  }

  private reopen(folder: vscode.WorkspaceFolder, connection: Connection, why: string): void {
    const key = keyOf(folder);
    const now = Date.now();
    const crashes = [...(this.crashes.get(key) ?? []), now].filter((time) => now - time < RESTART_WINDOW);
    this.crashes.set(key, crashes);
    this.channels.log.warn(`the connection for ${folder.uri.fsPath} ended: ${why || "no reason given"}`);
    void this.serial(async () => {
      if (this.connections.get(key) !== connection) return;
      await this.stopOne(key);
      if (crashes.length <= MAX_RESTARTS) await this.startOne(folder);
      else this.fail(folder, `the server ended ${crashes.length} times in three minutes: ${why}`);
    });
  }

  // Says it once for each new reason, and never holds up the queue until the message is read.
  private fail(folder: vscode.WorkspaceFolder, text: string): void {
    this.channels.log.error(`${folder.uri.fsPath}: ${text}`);
    this.tell(folder, "error", true, text);
    if (this.failures.get(keyOf(folder)) === text) return;
    this.failures.set(keyOf(folder), text);
    void vscode.window.showErrorMessage(`CodeForge could not start: ${text}`, "Try Again", "Show Log").then((answer) => {
      if (answer === "Try Again") void this.restart();
      if (answer === "Show Log") this.channels.server.show(true);
    });
  }

  private tell(folder: vscode.WorkspaceFolder, health: ServerStatus["health"], quiescent: boolean, message: string): void {
    this.statusEmitter.fire({ folder, status: { health, quiescent, message, index: null } });
  }
}

function keyOf(folder: vscode.WorkspaceFolder): string {
  return folder.uri.toString();
}
