// What the server sends and answers, as far as this extension uses it.

export interface IndexStatus {
  state: string;
  percent: number;
  files: number;
  stale_files: number;
  languages: Record<string, number>;
}

export interface RepoMap {
  text: string;
  tokens: number;
  budget: number;
  files: number;
  symbols: number;
  cut: number;
  index: IndexStatus;
}

export interface Hit {
  path: string;
  start_line: number;
  end_line: number;
  symbol: string;
  kind: string;
  text: string;
}

export interface SearchAnswer {
  hits: Hit[];
  index: IndexStatus;
}

export interface Run {
  id: string;
  task: string;
  status: string;
  reason: string;
  output: string;
  step_count: number;
  tokens_in: number;
  tokens_out: number;
  cost_nano_usd: number;
  unpriced_calls: number;
}

export interface Plan {
  id: string;
  name: string;
  status: string;
  steps: { task: string; status: string; run_id: string | null; error: string }[];
}

export interface StoredEvent {
  seq: number;
  type: string;
  time: number;
  payload: Record<string, unknown>;
}

/** `codeforge/status` */
export interface ServerStatus {
  health: "ok" | "warning" | "error";
  quiescent: boolean;
  message: string;
  index: IndexStatus | null;
}

export interface Approval {
  id: string;
  tool: string;
  title: string;
  preview: string;
  command: string | null;
  offers: string[];
  decision: { reason: string; profile: string; file: string; line: number };
}

/** `codeforge/approval` */
export type ApprovalNews =
  | { state: "pending"; approval_id: string; approval: Approval }
  | { state: "answered"; approval_id: string; outcome: string; answered_by: string };

/** `codeforge/document/save`. With a version, only that version is saved: the person may have typed on. */
export interface SaveRequest {
  uri: string;
  version?: number | null;
}

export interface Restored {
  message: string;
  changed: string[];
  conflicts: string[];
}
