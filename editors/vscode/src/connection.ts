// One connection to codeforge-ls for one workspace folder: its process, a start that ends in time, and its end.

import { ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import * as vscode from "vscode";
import {
  CloseAction,
  ErrorAction,
  LanguageClient,
  LanguageClientOptions,
  MessageActionItem,
  ShowMessageRequest,
  ShowMessageRequestParams,
  Trace,
  WorkDoneProgress,
  WorkDoneProgressBegin,
  WorkDoneProgressEnd,
  WorkDoneProgressReport,
} from "vscode-languageclient/node";
import type { ApprovalNews, SaveRequest, ServerStatus } from "./protocol";
import { SAVE, saveDocument, SaveFeature } from "./saving";

const START_SECONDS = 30;
const STOP_SECONDS = 2;
const LAST_WORDS = 2000; // characters of standard error kept to say why a server ended

export type ProgressValue = WorkDoneProgressBegin | WorkDoneProgressReport | WorkDoneProgressEnd;

/** Where a connection's news goes. */
export interface Listener {
  status(status: ServerStatus): void;
  approval(news: ApprovalNews): void;
  ask(question: ShowMessageRequestParams, token: vscode.CancellationToken): Promise<MessageActionItem | null>;
  /** The server ended by itself after it had been started. */
  closed(why: string): void;
}

export interface Channels {
  log: vscode.LogOutputChannel;
  server: vscode.OutputChannel;
  trace: vscode.OutputChannel;
}

/** The client of vscode-languageclient without its own pop-ups: what failed is said once, by `Servers`. */
class QuietClient extends LanguageClient {
  override error(message: string, data?: unknown): void {
    super.error(message, data, false);
  }

  /** A client that never ran cannot be stopped, which is no fault. */
  override stop(timeout?: number): Promise<void> {
    return super.stop(timeout).catch((error: unknown) => this.outputChannel.appendLine(`stop: ${String(error)}`));
  }
}

export class Connection {
  private readonly client: QuietClient;
  private child: ChildProcess | undefined;
  private standardError = "";
  private state: "starting" | "running" | "ended" = "starting";

  constructor(
    private readonly folder: vscode.WorkspaceFolder,
    private readonly channels: Channels,
    private readonly listener: Listener,
  ) {
    const transports = () => (this.child ? Promise.resolve(this.child) : Promise.reject(new Error("not started")));
    this.client = new QuietClient("codeforge", `CodeForge (${folder.name})`, transports, this.options());
    this.client.registerFeature(new SaveFeature());
    keepCommandsToOurselves(this.client);
    this.client.onNotification("codeforge/status", (status: ServerStatus) => this.listener.status(status));
    this.client.onNotification("codeforge/approval", (news: ApprovalNews) => this.listener.approval(news));
    this.client.onRequest(ShowMessageRequest.type, (question, token) => this.listener.ask(question, token));
    this.client.onRequest(SAVE, (request: SaveRequest) => saveDocument(request));
  }

  /** Start the server. Throws an error that says why it cannot, in the server's own words where it has some. */
  async start(): Promise<void> {
    const settings = vscode.workspace.getConfiguration("codeforge", this.folder.uri);
    const command = settings.get<string>("server.path") || "codeforge-ls";
    const root = this.folder.uri.fsPath;
    const child = await spawned(command, ["--root", root, ...settings.get<string[]>("server.arguments", [])], root);
    this.child = child;
    child.stderr?.on("data", (data: Buffer) => (this.standardError = (this.standardError + data).slice(-LAST_WORDS)));
    try {
      await within(START_SECONDS, this.started(), `${command} did not answer within ${START_SECONDS} s`);
    } catch (error) {
      this.state = "ended";
      await finished(child, 0.5);
      throw new Error(this.lastWords() || (error instanceof Error ? error.message : String(error)));
    }
    this.state = "running";
  }

  /** End the session in order, and the process in any case. The daemon and its runs go on. */
  async stop(): Promise<void> {
    this.state = "ended";
    await this.client.stop(STOP_SECONDS * 1000);
    if (this.child) await finished(this.child, STOP_SECONDS);
  }

  /** Run an operation of the server. Throws its error, in its words. */
  call<T>(operation: string, argument: object, workDoneToken?: string): Promise<T> {
    const params = { command: `codeforge.${operation}`, arguments: [argument], workDoneToken };
    return this.client.sendRequest<T>("workspace/executeCommand", params);
  }

  /** Hand keys over. Meanwhile nothing is traced: a trace would show them. */
  async handOver(keys: Record<string, string | null>): Promise<void> {
    await this.client.setTrace(Trace.Off);
    try {
      await this.call("keys.set", { keys });
    } finally {
      const wanted = vscode.workspace.getConfiguration("codeforge", this.folder.uri).get<string>("trace.server", "off");
      await this.client.setTrace(Trace.fromString(wanted));
    }
  }

  /** Start a run or a plan and hear of its progress until it ends. */
  begin<T>(operation: string, argument: object, heard: (value: ProgressValue) => void): Promise<T> {
    const token = randomUUID();
    const subscription = this.client.onProgress(WorkDoneProgress.type, token, (value) => {
      heard(value);
      if (value.kind === "end") subscription.dispose();
    });
    return this.call<T>(operation, argument, token);
  }

  /** Hand over changed settings. */
  async configure(): Promise<void> {
    await this.client.sendNotification("workspace/didChangeConfiguration", { settings: { codeforge: this.settings() } });
  }

  // The promise of the first call is lost when the process ends during the start; a second call hands out the inner one,
  // which tells.
  private started(): Promise<void> {
    this.client.start().catch(() => undefined);
    return this.client.start();
  }

  private settings(): object {
    return vscode.workspace.getConfiguration("codeforge", this.folder.uri).get<object>("settings", {});
  }

  private options(): LanguageClientOptions {
    return {
      documentSelector: [{ scheme: "file", pattern: `${literal(this.folder.uri.fsPath)}/**/*` }],
      workspaceFolder: this.folder,
      diagnosticCollectionName: "codeforge",
      outputChannel: this.channels.server,
      traceOutputChannel: this.channels.trace,
      initializationOptions: () => ({ codeforge: this.settings() }),
      initializationFailedHandler: () => false,
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => {
          if (this.state === "running") {
            this.state = "ended";
            this.listener.closed(this.lastWords());
          }
          return { action: CloseAction.DoNotRestart, handled: true };
        },
      },
    };
  }

  private lastWords(): string {
    return this.standardError.trim().split("\n").pop()?.replace(/^codeforge: /, "") ?? "";
  }
}

// The client would register each server command as a VS Code command of the same name, and a second folder's client
// would fail on the first one's names. Our palette commands have names of their own.
function keepCommandsToOurselves(client: LanguageClient): void {
  const feature = client.getFeature("workspace/executeCommand") as unknown as { initialize: () => void; register: () => void };
  feature.initialize = () => undefined;
  feature.register = () => undefined;
}

async function spawned(command: string, args: string[], cwd: string): Promise<ChildProcess> {
  const child = spawn(command, args, { cwd, stdio: "pipe" });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.on("error", (error: NodeJS.ErrnoException) => {
      const missing = error.code === "ENOENT";
      reject(missing ? new Error(`${command} was not found. Run "pipx install codeforge-ls", or set codeforge.server.path.`) : error);
    });
  });
  return child;
}

// Waits for a process that should end by itself, then makes it end.
async function finished(child: ChildProcess, seconds: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
  await within(seconds, gone, "").catch(() => child.kill("SIGKILL"));
}

// Brackets and braces in a folder's name are no glob.
function literal(path: string): string {
  return path.replace(/[[\]{}*?]/g, (character) => (character === "]" || character === "}" ? character : `[${character}]`));
}

function within<T>(seconds: number, work: Promise<T>, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), seconds * 1000);
  });
  return Promise.race([work, limit]).finally(() => clearTimeout(timer));
}
